"""What all backends of the rasteriser share: triangles in pixels, coverage, and the depth test.

All evaluate the same expressions on the same numbers and compare the same keys, so that they find
the same faces bit for bit. Nothing here depends on more than one face: what a pixel shows is
decided by the faces that cover it, whatever the others are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, UInt32

# Bounding boxes grow by this many pixels: far more than rounding can move an edge, so that only
# the edge functions decide.
_MARGIN = 1e-3
# Square pixels, and depth: below both, the product of two edges and a depth is finite.
_LARGEST = 2.0**90
_DEEPEST = 2.0**27
# Pixels. An edge is measured from an end that is nearer than this, if it has one: farther off,
# rounding to the vertex's coordinates would swallow those of a pixel.
_FAR = 2.0**14
EMPTY = np.uint32(0xFFFFFFFF)


class Frame(NamedTuple):
    """What is drawn of a mesh.

    Attributes:
      size: (height, width) in pixels.
      cull: whether faces that turn their back are dropped.
      near: the smallest depth that is drawn, or None.
    """

    size: tuple[int, int]
    cull: bool
    near: Float[Array, ""] | None


class Triangles(NamedTuple):
    """The triangles of one image, ready to draw.

    Attributes:
      corners: [F, 10] x, y, z of the three vertices, in ascending order of vertex index, those far
        off the screen last, and the unit of the three z, which is 1 unless they are huge. Two
        faces then compute their common edge by the same operations on the same numbers.
      box: [F, 4] first column, first row, last column, last row of the bounding box in the frame.
      drawn: [F] false for a triangle that cannot be seen.
    """

    corners: Float[Array, "F 10"]
    box: Int[Array, "F 4"]
    drawn: Bool[Array, " F"]


def prepare(points: Float[Array, "V 3"], faces: Int[Array, "F 3"], frame: Frame) -> Triangles:
    """Triangles of vertices in pixels, ready to draw."""
    count, size = points.shape[0], frame.size
    rank = jnp.arange(count, dtype=jnp.int32) + count * far(points[:, 0], points[:, 1])
    a, b, c = (rank[faces[:, corner]] for corner in range(3))
    low, high = jnp.minimum(jnp.minimum(a, b), c), jnp.maximum(jnp.maximum(a, b), c)
    ordered = jnp.stack([low, a + b + c - low - high, high], axis=1).reshape(-1)
    corners = points[jnp.where(ordered < count, ordered, ordered - count)].reshape(-1, 9)
    x, y, z = ([corners[:, place] for place in range(axis, 9, 3)] for axis in range(3))

    first, last = [], []
    for coordinate, limit in ((x, size[1]), (y, size[0])):
        # Clipped as floats: the cast of a huge or a missing number is undefined.
        start = jnp.ceil(_least(coordinate) - _MARGIN)
        stop = jnp.floor(_greatest(coordinate) + _MARGIN)
        first.append(jnp.clip(jnp.nan_to_num(start), 0, limit).astype(jnp.int32))
        last.append(jnp.clip(jnp.nan_to_num(stop), -1, limit - 1).astype(jnp.int32))

    area = (x[1] - x[0]) * (y[2] - y[0]) - (y[1] - y[0]) * (x[2] - x[0])
    drawn = drawable(x, y, z) & (area != 0)
    drawn &= (first[0] <= last[0]) & (first[1] <= last[1])
    if frame.near is not None:
        drawn &= _greatest(z) >= frame.near
    if frame.cull:
        # Sorting a face's vertices turned it over if the permutation was odd. With y down, faces
        # that are counter-clockwise from outside have negative area.
        odd = ((a > b) ^ (b > c)) ^ (a > c)
        drawn &= jnp.where(odd, -area, area) < 0
    unit = jnp.where(_greatest([jnp.abs(depth) for depth in z]) > _DEEPEST, 2.0**100, 1)[:, None]
    scaled = jnp.where(np.arange(9) % 3 == 2, corners / unit, corners)
    corners = jnp.concatenate([scaled, unit], axis=1)
    triangles = Triangles(corners, jnp.stack([*first, *last], axis=1), drawn)
    # Asks for one computation that is stored: a second one, fused elsewhere, might round another
    # way. XLA's CPU backend drops the request before it fuses; there nothing depends on it.
    return jax.lax.optimization_barrier(triangles)


def _least(values):
    return jnp.minimum(jnp.minimum(values[0], values[1]), values[2])


def _greatest(values):
    return jnp.maximum(jnp.maximum(values[0], values[1]), values[2])


def far(x, y):
    """Whether points in pixels are so far off the screen that edges are not measured from them."""
    return (jnp.abs(x) > _FAR) | (jnp.abs(y) > _FAR)


def drawable(x, y, z):
    """Whether faces can be drawn, given x, y (pixels) and z of their three corners, each [F].

    They can if their coordinates are finite and their bounding box not too large to compute with.
    """
    wide, high = (_greatest(v) - _least(v) for v in (x, y))
    # A sum is not finite where one of its terms is not.
    finite = jnp.isfinite(sum([*x, *y])) & jnp.isfinite(z[0]) & jnp.isfinite(z[1])
    return finite & jnp.isfinite(z[2]) & (wide * high < _LARGEST)


def columns_of(table: Array) -> list[Array]:
    """The columns [N, 1] of a table [N, K]."""
    return [table[:, k : k + 1] for k in range(table.shape[1])]


def cover(corners, column, row, near):
    """Whether triangles cover pixel centres (edges included, `near` or beyond), and their depth.

    Args:
      corners: the ten numbers of `Triangles.corners`.
      column, row: pixels, of shapes that broadcast with the coordinates'.
      near: the smallest depth that is drawn, or None.
    """
    ax, ay, az, bx, by, bz, cx, cy, cz, unit = corners
    x, y = column.astype(jnp.float32), row.astype(jnp.float32)
    # Each edge is measured from its first vertex in the order of `Triangles.corners`.
    ab = (bx - ax) * (y - ay) - (by - ay) * (x - ax)
    bc = (cx - bx) * (y - by) - (cy - by) * (x - bx)
    ac = (cx - ax) * (y - ay) - (cy - ay) * (x - ax)
    area = ab + bc - ac
    inside = ((ab >= 0) & (bc >= 0) & (ac <= 0)) | ((ab <= 0) & (bc <= 0) & (ac >= 0))
    z = (bc * az - ac * bz + ab * cz) / jnp.where(area == 0, 1, area)
    # Rounding in a sliver must not carry its depth out of the triangle.
    z = jnp.clip(z, jnp.minimum(jnp.minimum(az, bz), cz), jnp.maximum(jnp.maximum(az, bz), cz))
    z *= unit
    inside &= area != 0
    return (inside if near is None else inside & (z >= near)), z


class Samples(NamedTuple):
    """Depths and faces at pixels: of samples, or in buffers the nearest of each pixel so far.

    Depths are compared to the last bit, by one integer minimum, and the lowest of the faces at the
    smallest depth by another. Neither depends on the order of the samples.

    Attributes:
      key: the depth as an integer of the same order; `EMPTY` where there is none.
      face: the face. In buffers `EMPTY` where there is none.
    """

    key: UInt32[Array, "..."]
    face: UInt32[Array, "..."]


def depth_key(z: Float[Array, "..."]) -> UInt32[Array, "..."]:
    """Depths as integers of the same order; none is `EMPTY`."""
    bits = jax.lax.bitcast_convert_type(jnp.where(z == 0, 0, z), jnp.uint32)
    return jnp.where(z < 0, ~bits, bits | jnp.uint32(2**31))


def sampled(inside, z, face) -> Samples:
    """What `cover` found for faces."""
    key = jnp.where(inside, depth_key(z), EMPTY)
    return Samples(key, jnp.broadcast_to(face.astype(jnp.uint32), key.shape))


def nothing(shape: tuple[int, ...]) -> Samples:
    """Buffers of a shape that hold no face."""
    return Samples(jnp.full(shape, EMPTY), jnp.full(shape, EMPTY))


def nearest(samples: Samples, axis: int) -> Samples:
    """The nearest of the samples along an axis."""
    key = jnp.min(samples.key, axis=axis, keepdims=True)
    face = jnp.min(jnp.where(samples.key == key, samples.face, EMPTY), axis=axis)
    return Samples(jnp.squeeze(key, axis), face)


def keep(buffers: Samples, samples: Samples, lower: Callable, held: Callable) -> Samples:
    """The buffers with the nearer of what they hold and of samples.

    Args:
      buffers: what was kept so far.
      samples: what is added.
      lower: (buffer, values) -> the buffer, at most the values at their samples' places.
      held: buffer -> what it holds at the samples' places.
    """
    key = lower(buffers.key, samples.key)
    face = jnp.where(key < buffers.key, EMPTY, buffers.face)
    won = (samples.key != EMPTY) & (samples.key == held(key))
    return Samples(key, lower(face, jnp.where(won, samples.face, EMPTY)))


def face_index(face: UInt32[Array, "..."]) -> Int[Array, "..."]:
    """Face indices, -1 where there is none."""
    return jax.lax.bitcast_convert_type(face, jnp.int32)
