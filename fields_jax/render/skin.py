"""Skin pixels that SMIRK leaves in the masked image, so that its synthesiser knows the colours.

Points are drawn on the visible mesh. Their pixels, with some noise, are copied into the blacked-out
face: where they were, or where a changed expression moves them. Every random number is keyed by
sample, so that a batch may be split over devices in any way.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, Int, Key

from fields_jax.geometry.normals import vertex_normals
from fields_jax.types import FlameModel

# How often each part of the face is drawn from (SMIRK); a later row overrules an earlier one. A
# triangle belongs to a part as soon as one of its vertices does. SMIRK has two more lists, which
# are not published as vertices: on FLAME this table and its weights agree on 97 % of the triangles,
# the rest being borders of nose and lips, which it weighs 1.
_WEIGHTS = (("face", 1.0), ("lips", 0.5), ("nose", 0.5), ("eye_region", 1.0), ("forehead", 1.0))
_GRAZING = 0.05  # largest z of a visible triangle's normal; the viewer looks along +z (SMIRK)
_PATCH_RADIUS, _PATCH_SIZE = 5, 224  # dropped squares are 11 pixels wide at 224 (SMIRK)


@dataclasses.dataclass(frozen=True)
class SkinSettings:
    """How much skin is kept; `config.skin` holds it with SMIRK's values as defaults.

    Attributes:
      share: points drawn, as a fraction of the image's pixels.
      noise: relative standard deviation of each colour.
      drop: probability that a pixel of a 224 px image blacks out the square around it; scaled at
        other sizes so that the same fraction of pixels is lost.
      cycle_drop: the same for a painted head that is not the photograph's.
    """

    share: float
    noise: float
    drop: float
    cycle_drop: float


@struct.dataclass
class SkinPoints:
    """Points on the mesh.

    Attributes:
      triangle: [B, P] rows of the faces.
      barycentric: [B, P, 3].
      found: [B] False where no triangle is visible; the points then lie nowhere.
    """

    triangle: Int[Array, "B P"]
    barycentric: Float[Array, "B P 3"]
    found: Bool[Array, " B"]


def keep_skin(
    keys: Key[Array, " B"],
    head: FlameModel,
    masked: Float[Array, "B H W 3"],
    image: Float[Array, "B H W 3"],
    before: Float[Array, "B V 3"],
    after: Float[Array, "B V 3"],
    *,
    settings: SkinSettings,
    drop: float,
) -> Float[Array, "B H W 3"]:
    """The masked image with pixels of the face returned to it; a constant to the gradient.

    Args:
      keys: one for each sample.
      head: FLAME or the procedural head.
      masked: the image without the face.
      image: the photograph.
      before: the head in the photograph, projected.
      after: the head to be painted, projected.
      settings: sizes.
      drop: `settings.drop` or `settings.cycle_drop`.
    """
    masked, image, before, after = jax.lax.stop_gradient((masked, image, before, after))
    rows, columns = image.shape[1:3]
    both = jax.vmap(jax.random.split)(keys)
    points = sample_skin(both[:, 0], head, before, int(settings.share * rows * columns))
    source, target = (
        pixels_of(points, head.faces, projected, (rows, columns)) for projected in (before, after)
    )
    return paste_skin(both[:, 1], masked, image, source, target, noise=settings.noise, drop=drop)


def sample_skin(
    keys: Key[Array, " B"], head: FlameModel, projected: Float[Array, "B V 3"], count: int
) -> SkinPoints:
    """Draws visible points of the face, evenly over the image, with repetition.

    Args:
      keys: one of each sample.
      head: the head; its `face_vertices`, `regions` and `faces` are read.
      projected: [B, V, 3] the whole head as the camera sees it.
      count: P.
    """
    weight = _visible_area(head, projected)
    triangle, barycentric = jax.vmap(_draw, (0, 0, None))(keys, weight, count)
    return SkinPoints(triangle, barycentric, weight.sum(axis=1) > 0)


def pixels_of(
    points: SkinPoints,
    faces: Int[Array, "F 3"],
    projected: Float[Array, "B V 3"],
    size: tuple[int, int],
) -> Int[Array, "B P 2"]:
    """(row, column) under each point, at the border for points outside the image.

    Points without a visible triangle get a row and column beyond the last.
    """
    corners = jnp.asarray(faces)[points.triangle]
    flat = projected[..., :2]
    position = jax.vmap(lambda v, i: v[i])(flat, corners)  # [B, P, 3, 2]
    point = jnp.sum(position * points.barycentric[..., None], axis=2)
    end = jnp.array(size)[None, None]
    pixel = jnp.floor((point[..., ::-1] + 1) / 2 * end).astype(jnp.int32)
    return jnp.where(points.found[:, None, None], jnp.clip(pixel, 0, end - 1), end)


def paste_skin(
    keys: Key[Array, " B"],
    masked: Float[Array, "B H W 3"],
    image: Float[Array, "B H W 3"],
    source: Int[Array, "B P 2"],
    target: Int[Array, "B P 2"],
    *,
    noise: float,
    drop: float,
) -> Float[Array, "B H W 3"]:
    """Copies pixels of `image` at `source` to `masked` at `target`.

    Every channel is multiplied by 1 + noise N(0, 1); squares around random pixels are left out, and
    so are channels that are not above 0.

    Args:
      keys: one of each sample.
      masked: what is pasted into.
      image: what is copied from.
      source, target: (row, column) of each point; outside the image for none.
      noise: relative deviation.
      drop: see `SkinSettings`.
    """
    rows, columns = image.shape[1:3]
    pasted = jax.vmap(_copy)(image, source, target)
    both = jax.vmap(jax.random.split)(keys)
    draw = jax.vmap(lambda key: jax.random.normal(key, image.shape[1:], image.dtype))
    pasted *= 1 + noise * draw(both[:, 0])

    radius = round(_PATCH_RADIUS * rows / _PATCH_SIZE)
    width, reference = 2 * radius + 1, 2 * _PATCH_RADIUS + 1
    chance = min(drop * (reference / width) ** 2, 1.0)
    toss = jax.vmap(lambda key: jax.random.bernoulli(key, chance, (rows, columns)))
    dropped = dilate(toss(both[:, 1]).astype(image.dtype), radius)
    pasted *= 1 - dropped[..., None]
    return jnp.where(pasted > 0, pasted, masked)


def dilate(mask: Float[Array, "B H W"], radius: int) -> Float[Array, "B H W"]:
    """Maximum over a square window, one axis after the other; a constant to the gradient."""
    mask = jax.lax.stop_gradient(mask)
    for axis in (1, 2):
        window = [1, 1, 1]
        window[axis] = 2 * radius + 1
        mask = jax.lax.reduce_window(
            mask, -jnp.inf, jax.lax.max, window, window_strides=(1, 1, 1), padding="SAME"
        )
    return mask


def _visible_area(head: FlameModel, projected: Array) -> Float[Array, "B F"]:
    faces = jnp.asarray(head.faces)
    normals = vertex_normals(projected, faces)[..., 2]
    visible = normals[:, faces].mean(axis=-1) < _GRAZING
    a, b, c = (projected[:, faces[:, k], :2] for k in range(3))
    u, v = b - a, c - a
    area = jnp.abs(u[..., 0] * v[..., 1] - u[..., 1] * v[..., 0]) / 2
    return visible * area * _part_weight(head).astype(area.dtype)[None]


def _part_weight(head: FlameModel) -> Float[Array, " F"]:
    parts = {**head.regions, "face": head.face_vertices}
    weight = jnp.zeros(len(head.faces))
    for name, value in _WEIGHTS:
        if name in parts:
            inside = jnp.zeros(len(head.template), bool).at[parts[name]].set(True)
            weight = jnp.where(inside[jnp.asarray(head.faces)].any(axis=1), value, weight)
    return weight


def _draw(key: Array, weight: Float[Array, " F"], count: int) -> tuple[Array, Array]:
    """Triangles in proportion to their weight and uniform points in them."""
    triangle_key, point_key = jax.random.split(key)
    cumulative = jnp.cumsum(weight)
    share = jax.random.uniform(triangle_key, (count,), weight.dtype)
    triangle = jnp.searchsorted(cumulative, share * cumulative[-1], side="right")
    # Rounding can reach the sum itself, behind the last triangle that has a weight.
    triangle = jnp.minimum(triangle, jnp.searchsorted(cumulative, cumulative[-1]))
    uv = jax.random.uniform(point_key, (count, 2), weight.dtype)
    uv = jnp.where(uv.sum(axis=1, keepdims=True) > 1, 1 - uv, uv)
    return triangle, jnp.column_stack([1 - uv.sum(axis=1), uv])


def _copy(image: Array, source: Array, target: Array) -> Array:
    """One image's pixels copied onto black; where several land on one place, the last one stays."""
    order = jnp.arange(1, len(source) + 1)
    last = jnp.zeros(image.shape[:2], order.dtype)
    last = last.at[target[:, 0], target[:, 1]].max(order, mode="drop")
    colours = image[source[:, 0], source[:, 1]]
    return jnp.where(last[..., None] > 0, colours[last - 1], 0)
