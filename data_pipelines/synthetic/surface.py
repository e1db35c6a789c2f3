"""Where lips, brows, hair and eyes are on the head, as a weight of every vertex."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from fields_jax.geometry.normals import vertex_normals
from fields_jax.landmark_schemes import (
    BROW_PAIR_68,
    EYE_PAIR_68,
    MOUTH_CORNERS_68,
    NOSE_BASE_68,
    NOSE_TIP_68,
)
from fields_jax.render import project, rasterize
from fields_jax.types import FlameModel, LandmarkEmbedding

# Regions that skin does not cover.
_NOT_SKIN = ("left_eyeball", "right_eyeball", "mouth_interior", "teeth")

# Softness in metres of the borders of lips, beard and hair; reach of brows, lashes, blush and eye
# shadow.
_LIP_EDGE, _BEARD_EDGE, _HAIR_EDGE = 0.0008, 0.005, 0.004
_BROW_REACH, _LASH_REACH, _BLUSH_REACH, _LID_REACH = 0.004, 0.0016, 0.02, 0.007
# Openness of teeth and mouth when the mouth is open; at rest they see nothing.
TEETH_OPENNESS, MOUTH_OPENNESS = 0.35, 0.12

# Wavelength in metres of each kind of noise, and how much finer it is along x, y and z.
NOISES = {
    "blotches": (0.06, (1, 1, 1)),
    "freckles": (0.009, (1, 1, 1)),
    "strands": (0.012, (1, 0.3, 1)),
    "lumps": (0.05, (1, 1, 1)),
}
_WAVES = 48  # of each kind

_SKY_DIRECTIONS = 48  # from which the openness of each vertex is judged
_SKY_SIZE = 160  # pixels of those views
SKY_SCALE = 6.0  # of those views; frames 33 cm
_SKY_BIAS = 0.003  # metres a vertex may lie behind what hides it


class Surface(NamedTuple):
    """Static facts of the head's skin.

    Attributes:
      points: [V, 3] template, metres.
      weight: [V] in [0, 1] of lips, brows, lashes, lids, blush, beard, eyeballs, mouth, gums and
        teeth.
      scalp_distance: [V] metres from the border of the scalp, negative inside it.
      openness: [V] fraction of the sky that the surface sees, weighted by the cosine.
      eye_direction: [V, 3] from the centre of its eyeball, unit length; 0 off the eyeballs.
      waves: for each kind of NOISES, [V, W] waves whose random sums are smooth functions of space.
    """

    points: Float[np.ndarray, "V 3"]
    weight: dict[str, Float[np.ndarray, " V"]]
    scalp_distance: Float[np.ndarray, " V"]
    openness: Float[np.ndarray, " V"]
    eye_direction: Float[np.ndarray, "V 3"]
    waves: dict[str, Float[np.ndarray, "V W"]]

    def noise(self, rng: np.random.Generator, kind: str) -> Float[np.ndarray, " V"]:
        """A random smooth function of the place on the head, of about unit variance."""
        waves = self.waves[kind]
        weights = rng.standard_normal(waves.shape[1], np.float32)
        return np.einsum("vw,w->v", waves, weights)  # faster here than BLAS with its threads

    def hair(self, growth: float) -> Float[np.ndarray, " V"]:
        """Weight of hair when the hairline is `growth` metres beyond the scalp's border."""
        return _soft_step(growth - self.scalp_distance, _HAIR_EDGE)


def describe(head: FlameModel, teeth: Int[np.ndarray, " T"]) -> Surface:
    """The surface of a head; `teeth` are the vertices of its teeth."""
    points = np.asarray(head.template, np.float64)
    regions = {name: np.asarray(index) for name, index in head.regions.items()} | {"teeth": teeth}
    openness = sky_openness(head)
    openness[teeth] = TEETH_OPENNESS
    openness[regions["mouth_interior"]] += MOUTH_OPENNESS
    scalp = signed_distance(points, regions["scalp"])
    for hairless in ("left_ear", "right_ear", *_NOT_SKIN):
        scalp[regions[hairless]] = 1.0
    return Surface(
        points=points,
        weight=_weights(head, points, regions),
        scalp_distance=scalp,
        openness=openness,
        eye_direction=_eye_directions(points, regions),
        waves={kind: plane_waves(points * stretch, w) for kind, (w, stretch) in NOISES.items()},
    )


def _weights(
    head: FlameModel, points: np.ndarray, regions: dict[str, np.ndarray]
) -> dict[str, Float[np.ndarray, " V"]]:
    landmarks = _embedded(head, points, head.static_68)
    lid_margins = _embedded(head, points, head.landmarks_203)[:48]
    part = {name: _indicator(index, len(points)) for name, index in regions.items()}
    skin = 1 - sum(part[name] for name in _NOT_SKIN)
    ears = part["left_ear"] + part["right_ear"]

    lips = _soft_step(-signed_distance(points, regions["lips"]), _LIP_EDGE) * skin
    brows = np.concatenate([_along(landmarks[brow]) for brow in BROW_PAIR_68])
    cheeks = [
        0.5 * (landmarks[corner] + landmarks[eye].mean(axis=0)) * (1.3, 1, 1)  # and outwards
        for corner, eye in zip(MOUTH_CORNERS_68, EYE_PAIR_68, strict=True)
    ]
    blush = _near(points, np.array([*cheeks, landmarks[NOSE_TIP_68]]), _BLUSH_REACH)
    below_nose = _soft_step(landmarks[NOSE_BASE_68, 1] - 0.002 - points[:, 1], _BEARD_EDGE)
    return {
        "lips": lips,
        "brows": np.minimum(1, 1.7 * _near(points, brows, _BROW_REACH)) * skin,
        "lashes": _near(points, lid_margins, _LASH_REACH) * skin,
        "lids": _near(points, lid_margins, _LID_REACH) * skin,
        "blush": np.maximum(blush, 0.8 * ears) * skin,
        "beard": below_nose * part["face"] * skin * (1 - lips),
        "eyeballs": part["left_eyeball"] + part["right_eyeball"],
        "mouth": part["mouth_interior"],
        "gums": np.zeros(len(points)),
        "teeth": part["teeth"],
    }


def signed_distance(
    points: Float[np.ndarray, "V 3"], region: Int[np.ndarray, " R"]
) -> Float[np.ndarray, " V"]:
    """Metres from the border of a vertex set, negative inside."""
    inside = _indicator(region, len(points)).astype(bool)
    outside = _nearest(points[~inside], points[inside])
    within = _nearest(points[inside], points[~inside])
    distance = np.empty(len(points))
    distance[~inside], distance[inside] = outside, -within
    # The border runs half an edge from the vertices on either side of it.
    return distance + 0.5 * (within.min() - outside.min())


def sky_openness(head: FlameModel, scale: float = SKY_SCALE) -> Float[np.ndarray, " V"]:
    """How open the template is to light from all around: 1 on a convex hull, near 0 in folds.

    The head is rendered from directions spread evenly over the sphere; a vertex that faces a
    direction and lies at the depth rendered there sees it.

    Args:
      head: its template is looked at.
      scale: of those views; they frame 2 / scale metres.
    """
    index = np.arange(_SKY_DIRECTIONS) + 0.5
    polar, azimuth = np.arccos(1 - 2 * index / _SKY_DIRECTIONS), np.pi * (1 + 5**0.5) * index
    towards = np.stack(
        [np.sin(polar) * np.cos(azimuth), np.cos(polar), np.sin(polar) * np.sin(azimuth)], axis=-1
    )
    template, faces = jnp.asarray(head.template)[None], jnp.asarray(head.faces)
    normals = vertex_normals(template, faces)[0]
    centre = 0.5 * (template.min(axis=1) + template.max(axis=1))[:, None]

    @jax.jit
    def visible(direction):
        side = jnp.cross(jnp.array([0.3, 1.0, 0.2], template.dtype), direction)
        side /= jnp.linalg.norm(side)
        axes = jnp.stack([side, jnp.cross(direction, side), direction], axis=1)
        view = jnp.matmul(template - centre, axes, precision=jax.lax.Precision.HIGHEST)
        view = project(view, jnp.array([[scale, 0, 0]], template.dtype))
        depth = rasterize(view, faces, _SKY_SIZE).depth[0]
        pixel = jnp.clip((view[0, :, :2] + 1) / 2 * _SKY_SIZE, 0, _SKY_SIZE - 1).astype(jnp.int32)
        seen = view[0, :, 2] <= depth[pixel[:, 1], pixel[:, 0]] + _SKY_BIAS * scale
        cosine = jnp.maximum(jnp.sum(normals * direction[None], axis=1), 0)
        return cosine * seen, cosine

    seen, facing = zip(*(visible(jnp.asarray(d, jnp.float32)) for d in towards), strict=True)
    return np.asarray(sum(seen) / jnp.maximum(sum(facing), 1e-6), np.float64)


def plane_waves(points: Float[np.ndarray, "V 3"], wavelength: float) -> Float[np.ndarray, "V W"]:
    """Cosines and sines along fixed random directions."""
    directions = np.random.default_rng(0).standard_normal((3, _WAVES))
    phase = points @ (directions / np.linalg.norm(directions, axis=0)) * (2 * np.pi / wavelength)
    waves = np.concatenate([np.cos(phase), np.sin(phase)], axis=1) / np.sqrt(_WAVES)
    return waves.astype(np.float32)


def _eye_directions(points: np.ndarray, regions: dict[str, np.ndarray]) -> np.ndarray:
    direction = np.zeros_like(points)
    for eyeball in ("left_eyeball", "right_eyeball"):
        ball = points[regions[eyeball]]
        offset = ball - 0.5 * (ball.min(axis=0) + ball.max(axis=0))
        direction[regions[eyeball]] = offset / np.linalg.norm(offset, axis=1, keepdims=True)
    return direction


def _embedded(head: FlameModel, points: np.ndarray, embedding: LandmarkEmbedding) -> np.ndarray:
    corners = points[np.asarray(head.faces)[np.asarray(embedding.face_index)]]
    return (corners * np.asarray(embedding.barycentric)[..., None]).sum(axis=-2)


def _along(line: Float[np.ndarray, "N 3"], steps: int = 8) -> Float[np.ndarray, "M 3"]:
    """Points along a line through some points, closely spaced."""
    share = np.arange(steps)[:, None, None] / steps
    return np.concatenate([(line[:-1] + share * np.diff(line, axis=0)).reshape(-1, 3), line[-1:]])


def _indicator(region: np.ndarray, size: int) -> np.ndarray:
    indicator = np.zeros(size)
    indicator[region] = 1
    return indicator


def _near(points: np.ndarray, centres: np.ndarray, reach: float) -> np.ndarray:
    return np.exp(-((_nearest(points, centres) / reach) ** 2))


def _nearest(points: np.ndarray, targets: np.ndarray, chunk: int = 512) -> np.ndarray:
    """Distance from each point to the nearest target."""
    squares = np.einsum("nc,nc->n", targets, targets)
    parts = [
        (squares - 2 * part @ targets.T).min(axis=1) + np.einsum("nc,nc->n", part, part)
        for part in (points[i : i + chunk] for i in range(0, len(points), chunk))
    ]
    return np.sqrt(np.maximum(np.concatenate(parts), 0))


def _soft_step(x: np.ndarray, width: float) -> np.ndarray:
    return 0.5 * (1 + np.tanh(x / (2 * width)))
