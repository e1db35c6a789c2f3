"""Coloured faces: the head under lights, as a jitted function of a batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from data_pipelines.synthetic.surface import Surface
from fields_jax.flame import flame
from fields_jax.geometry.normals import vertex_normals
from fields_jax.render import interpolate, project, rasterize
from fields_jax.types import FlameCoefficients, FlameModel

_IRIS = 0.49  # radius: 5.9 mm of an eyeball of 12 mm radius
_IRIS_EDGE = 0.015  # over which colours of the eye blend, in radii of the eyeball
_SKIN_SHINE, _EYE_SHINE, _EYE_GLOSS = 12, 64, 0.9  # exponents of the highlights; their strength


class Lights(NamedTuple):
    """Directional lights and the ambient light from above and below.

    Attributes:
      direction: [B, L, 3] unit vectors towards the lights; z points to the viewer.
      colour: [B, L, 3] linear.
      sky: [B, 2, 3] ambient light from above, from below.
      gloss: [B] strength of the skin's highlights.
    """

    direction: Float[Array, "B L 3"]
    colour: Float[Array, "B L 3"]
    sky: Float[Array, "B 2 3"]
    gloss: Float[Array, " B"]


class Skin(NamedTuple):
    """Batched fields of `appearance.Appearance` that the renderer reads."""

    albedo: Float[Array, "B V 3"]
    thickness: Float[Array, "B V"]
    iris: Float[Array, "B 3"]
    pupil: Float[Array, " B"]


class Picture(NamedTuple):
    """Rendered heads; points in [-1, 1] over the image, x right, y down.

    Attributes:
      radiance: [B, H, W, 3] linear, times coverage.
      coverage: [B, H, W] fraction of the pixel that the head covers.
      outline: [B, K, 2] the vertices of the face mask.
      neck: [B, 2] the middle of the neck's lower end.
      landmarks_68, landmarks_105, landmarks_203: [B, N, 2].
    """

    radiance: Float[Array, "B H W 3"]
    coverage: Float[Array, "B H W"]
    outline: Float[Array, "B K 2"]
    neck: Float[Array, "B 2"]
    landmarks_68: Float[Array, "B 68 2"]
    landmarks_105: Float[Array, "B 105 2"]
    landmarks_203: Float[Array, "B 203 2"]


def make_renderer(
    model: FlameModel, surface: Surface, image_size: int, fine_size: int
) -> Callable[[FlameCoefficients, Float[Array, "B 3"], Skin, Lights], Picture]:
    """Builds the jitted function (coefficients, framing, skin, lights) -> Picture.

    `framing` is [B, 3]: the mean of the face box's width and height as a fraction of the image, and
    the place of the box's centre in [-1, 1]. The camera of `coefficients` is not used. The face
    box is that of the face mask's vertices. Pixels are averages of a picture of `fine_size`.
    """
    openness = jnp.asarray(surface.openness, jnp.float32)
    eye_axis = jnp.asarray(surface.eye_direction[:, :2], jnp.float32)
    is_eye = jnp.asarray(surface.weight["eyeballs"] > 0)[model.faces[:, 0]]

    @jax.jit
    def render(coefficients, framing, skin, lights):
        head = flame(model, coefficients)
        camera = _frame(head.vertices[:, model.face_vertices], framing)
        normals = vertex_normals(head.vertices, model.faces)
        # Hair lies on top of the scalp; its own relief shows in the normals of the second round.
        haired = head.vertices + skin.thickness[..., None] * normals
        normals = vertex_normals(haired, model.faces)
        points = project(haired, camera)
        fragments = rasterize(points, model.faces, fine_size, cull=True)
        fixed = jnp.concatenate([openness[:, None], eye_axis], axis=1)
        fixed = jnp.broadcast_to(fixed, (*haired.shape[:2], 3))
        attributes = jnp.concatenate([normals, skin.albedo, fixed], axis=-1)
        pixels = interpolate(fragments, points, model.faces, attributes)
        covered = (fragments.face_index >= 0).astype(pixels.dtype)[:, None]
        on_eye = is_eye[fragments.face_index][:, None]
        shaded = _shade(jnp.moveaxis(pixels, -1, 1), on_eye, skin, lights)
        layers = jnp.concatenate([shaded * covered, covered], axis=1)
        layers = _shrink(layers, image_size)

        def seen(landmarks):
            return project(landmarks, camera)[..., :2]

        return Picture(
            radiance=layers[..., :3],
            coverage=layers[..., 3],
            outline=seen(head.vertices[:, model.face_vertices]),
            neck=seen(head.vertices[:, model.regions["boundary"]]).mean(axis=1),
            landmarks_68=seen(head.landmarks_68),
            landmarks_105=seen(head.landmarks_105),
            landmarks_203=seen(head.landmarks_203),
        )

    return render


def _frame(face: Float[Array, "B K 3"], framing: Float[Array, "B 3"]) -> Float[Array, "B 3"]:
    """The camera that shows the face box at the wanted size and place."""
    low, high = face[..., :2].min(axis=1), face[..., :2].max(axis=1)
    scale = 2 * framing[:, :1] / (high - low).mean(axis=1, keepdims=True)
    place = framing[:, 1:] * jnp.array([[1, -1]], framing.dtype)
    return jnp.concatenate([scale, place / scale - (low + high) / 2], axis=1)


def _shade(
    pixels: Float[Array, "B 9 H W"], on_eye: Bool[Array, "B 1 H W"], skin: Skin, lights: Lights
) -> Float[Array, "B 3 H W"]:
    """Linear colour of normals, albedo, openness and place on the eye: light and highlights.

    Channels lead the pixels: XLA's loops over short trailing axes are slow on CPUs.
    """
    normals, albedo, openness, eye = jnp.split(pixels, (3, 6, 7), axis=1)
    normals *= jax.lax.rsqrt(jnp.maximum(jnp.sum(normals**2, axis=1, keepdims=True), 1e-12))
    albedo = jnp.where(on_eye, _eye_colour(eye, albedo, skin), albedo)

    up = 0.5 * (1 + normals[:, 1:2])
    above, below = lights.sky[:, 0, :, None, None], lights.sky[:, 1, :, None, None]
    diffuse = up * above + (1 - up) * below
    highlight = jnp.zeros_like(diffuse)
    gloss = jnp.where(on_eye, _EYE_GLOSS, lights.gloss[:, None, None, None])
    for index in range(lights.direction.shape[1]):
        direction = lights.direction[:, index, :, None, None]
        colour = lights.colour[:, index, :, None, None]
        halfway = direction + jnp.array([0, 0, 1], direction.dtype)[None, :, None, None]
        halfway *= jax.lax.rsqrt(jnp.sum(halfway**2, axis=1, keepdims=True))
        cosine = jax.nn.relu(jnp.sum(normals * direction, axis=1, keepdims=True))
        mirror = jax.nn.relu(jnp.sum(normals * halfway, axis=1, keepdims=True))
        lobe = jnp.where(on_eye, mirror**_EYE_SHINE, mirror**_SKIN_SHINE)
        diffuse += cosine * colour
        highlight += (cosine > 0) * lobe * colour
    return openness * (albedo * diffuse + gloss * highlight)


def _eye_colour(axis, sclera, skin):
    """Pupil, iris with a dark limbus, sclera: by the distance from the eyeball's axis."""
    radius = jnp.sqrt(jnp.sum(axis**2, axis=1, keepdims=True))
    pupil, iris = skin.pupil[:, None, None, None], skin.iris[..., None, None]

    def beyond(edge):
        return jax.nn.sigmoid((radius - edge) / _IRIS_EDGE)

    coloured = iris * (1 - 0.6 * beyond(0.82 * _IRIS)) * beyond(pupil)
    return coloured + (sclera - coloured) * beyond(_IRIS)


def _shrink(image: Float[Array, "B C H W"], size: int) -> Float[Array, "B s s C"]:
    """Averages over the pixels of a finer image, one axis after the other."""
    fine = image.shape[-1]
    edges, pixel = np.linspace(0, fine, size + 1), np.arange(fine)
    overlap = np.minimum(edges[1:, None], pixel + 1) - np.maximum(edges[:-1, None], pixel)
    weights = jnp.asarray(np.maximum(overlap, 0) * (size / fine), image.dtype)
    highest = jax.lax.Precision.HIGHEST
    return jnp.einsum("bchw,ih,jw->bijc", image, weights, weights, precision=highest)
