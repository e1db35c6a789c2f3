"""Coloured faces: the head under lights, as a jitted function of a batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from data_pipelines.synthetic.surface import Surface
from fields_jax.flame import flame
from fields_jax.geometry.normals import vertex_normals
from fields_jax.render import interpolate, project, rasterize
from fields_jax.types import FlameCoefficients, FlameModel

_IRIS = 0.49  # radius: 5.9 mm of an eyeball of 12 mm radius
_IRIS_EDGE = 0.015  # over which colours of the eye blend, in radii of the eyeball
_SKIN_SHINE, _EYE_SHINE, _EYE_GLOSS = 12, 64, 0.9  # exponents of the highlights; their strength
_FOLD = 0.0008  # metres by which a crease lies below its surroundings that is dark at relief 1
_RIDGE = 0.008  # metres from one wrinkle to the next
_FEW = 8  # neighbours that most vertices have at most
_SQUEEZE = 0.12  # relative shortening of the skin at which wrinkles are deep
_HIGHEST = jax.lax.Precision.HIGHEST


class Lights(NamedTuple):
    """Directional lights and the ambient light from above and below.

    Attributes:
      direction: [B, L, 3] unit vectors towards the lights; z points to the viewer.
      colour: [B, L, 3] linear.
      sky: [B, 2, 3] ambient light from above, from below.
      gloss: [B] strength of the skin's highlights.
      nearness: [B] 1 / metres from the camera to the face; 0 is far away.
    """

    direction: Float[Array, "B L 3"]
    colour: Float[Array, "B L 3"]
    sky: Float[Array, "B 2 3"]
    gloss: Float[Array, " B"]
    nearness: Float[Array, " B"]


class Skin(NamedTuple):
    """Batched fields of `appearance.Appearance` that the renderer reads."""

    albedo: Float[Array, "B V 3"]
    thickness: Float[Array, "B V"]
    iris: Float[Array, "B 3"]
    pupil: Float[Array, " B"]
    relief: Float[Array, " B"]
    wrinkles: Float[Array, " B"]


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
    around = rings(np.asarray(model.faces), surface.points)
    bare = jnp.asarray(1 - surface.weight["eyeballs"], jnp.float32)

    @jax.jit
    def render(coefficients, framing, skin, lights):
        head = flame(model, coefficients)
        middle = head.vertices[:, model.face_vertices].mean(axis=1, keepdims=True)
        nearness = lights.nearness[:, None, None]
        normals = vertex_normals(head.vertices, model.faces)
        # Hair lies on top of the scalp; its own relief shows in the normals of the second round.
        haired = head.vertices + skin.thickness[..., None] * normals
        normals = vertex_normals(haired, model.faces)
        shade = 1 - bare[None] * _creases(around, model, coefficients.shape, haired, normals, skin)
        face = _seen_near(head.vertices[:, model.face_vertices], middle, nearness)
        camera = _frame(face, framing)
        points = project(_seen_near(haired, middle, nearness), camera)
        fragments = rasterize(points, model.faces, fine_size, cull=True)
        shape = haired.shape[:2]
        attributes = jnp.concatenate(
            [
                normals,
                skin.albedo,
                (openness[None] * shade)[..., None],
                jnp.broadcast_to(eye_axis, (*shape, 2)),
            ],
            axis=-1,
        )
        pixels = interpolate(fragments, points, model.faces, attributes)
        covered = (fragments.face_index >= 0).astype(pixels.dtype)[:, None]
        on_eye = is_eye[fragments.face_index][:, None]
        shaded = _shade(jnp.moveaxis(pixels, -1, 1), on_eye, skin, lights)
        layers = jnp.concatenate([shaded * covered, covered], axis=1)
        layers = _shrink(layers, image_size)

        def seen(places):
            return project(_seen_near(places, middle, nearness), camera)[..., :2]

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


class Ring:
    """The neighbours of some vertices, as a table.

    Attributes:
      rows: [N] the vertices.
      neighbours: [N, R] vertices; short rows are filled up with the vertex itself.
      share: [N, R] 1 / how many neighbours there are, 0 for what fills up.
      along: [N, R, 2] share of each edge that runs across (x) and down (y) the face.
      stripes: [N, 2] in [0, 1], 1 in the furrows of wrinkles that run down and across.
    """

    def __init__(
        self,
        edges: Int[np.ndarray, "E 2"],
        points: Float[np.ndarray, "V 3"],
        rows: Int[np.ndarray, " N"],
    ):
        """From both directions of every edge, in order, and the template, metres."""
        counts = np.bincount(edges[:, 0], minlength=len(points))
        column = np.arange(len(edges)) - np.repeat(np.cumsum(counts) - counts, counts)
        chosen = np.isin(edges[:, 0], rows)
        width = counts[rows].max(initial=1)
        table = np.tile(np.arange(len(points))[:, None], (1, width))
        table[edges[chosen, 0], column[chosen]] = edges[chosen, 1]
        table = table[rows]
        used = np.arange(width) < counts[rows, None]
        step = points[table] - points[rows, None]
        length = np.maximum(np.linalg.norm(step, axis=-1), 1e-9)
        along = (step[..., :2] / length[..., None]) ** 2 * used[..., None]
        along /= np.maximum(along.sum(axis=1, keepdims=True), 1e-9)
        self.rows = rows
        self.neighbours = jnp.asarray(table)
        self.share = jnp.asarray(used / np.maximum(counts[rows], 1)[:, None], jnp.float32)
        self.along = jnp.asarray(along, jnp.float32)
        bent = points[rows, :2] + 0.25 * _RIDGE * np.sin(points[rows, 1::-1] / 0.011)
        self.stripes = jnp.asarray(
            (0.5 + 0.5 * np.cos(2 * np.pi / _RIDGE * bent)) ** 2, jnp.float32
        )

    def steps(self, vertices: Float[Array, "B V 3"]) -> Float[Array, "B N R 3"]:
        """From each of these vertices to its neighbours."""
        return vertices[:, self.neighbours] - vertices[:, self.rows, None]


def rings(faces: Int[np.ndarray, "F 3"], points: Float[np.ndarray, "V 3"]) -> tuple[Ring, Ring]:
    """The neighbours of all vertices: of the many that have few, and of the few that have many.

    In one table, as wide as the poles of eyeballs need, five of six entries would be empty.
    """
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    edges = np.unique(np.concatenate([edges, edges[:, ::-1]]), axis=0)
    many = np.bincount(edges[:, 0], minlength=len(points)) > _FEW
    few, others = np.flatnonzero(~many), np.flatnonzero(many)
    return Ring(edges, points, few), Ring(edges, points, others)


def _creases(
    around: tuple[Ring, ...],
    model: FlameModel,
    shape: Float[Array, "B S"],
    vertices: Float[Array, "B V 3"],
    normals: Float[Array, "B V 3"],
    skin: Skin,
) -> Float[Array, "B V"]:
    """How dark creases are, 0 to 0.8: where the skin lies low, and in wrinkles of squeezed skin."""
    basis = model.shape_basis[..., : shape.shape[-1]]
    rest = model.template[None] + jnp.einsum("vck,bk->bvc", basis, shape, precision=_HIGHEST)
    dark = []
    for ring in around:
        now, before = ring.steps(vertices), ring.steps(rest)
        inward = (now * ring.share[None, ..., None]).sum(axis=2)
        hollow = jnp.sum(inward * normals[:, ring.rows], axis=-1) / _FOLD
        length, resting = (jnp.linalg.norm(each, axis=-1) for each in (now, before))
        shortened = 1 - length / jnp.maximum(resting, 1e-6)
        squeezed = jnp.einsum("bvr,vrc->bvc", shortened, ring.along, precision=_HIGHEST) / _SQUEEZE
        furrows = jnp.sum(jnp.clip(squeezed, 0, 1) * ring.stripes[None], axis=-1)
        dark.append(
            skin.relief[:, None] * jnp.clip(hollow, -0.5, 1) + skin.wrinkles[:, None] * furrows
        )
    place = np.argsort(np.concatenate([ring.rows for ring in around]))
    return jnp.clip(jnp.concatenate(dark, axis=1)[:, place], -0.3, 0.8)


def _seen_near(
    points: Float[Array, "B N 3"], middle: Float[Array, "B 1 3"], nearness: Float[Array, "B 1 1"]
) -> Float[Array, "B N 3"]:
    """Points moved to where a camera in front of `middle`, 1 / nearness away, sees them."""
    offset = points - middle
    closer = 1 / jnp.maximum(1 - nearness * offset[..., 2:], 0.2)
    return jnp.concatenate([middle[..., :2] + closer * offset[..., :2], points[..., 2:]], axis=-1)


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
    return jnp.einsum("bchw,ih,jw->bijc", image, weights, weights, precision=_HIGHEST)
