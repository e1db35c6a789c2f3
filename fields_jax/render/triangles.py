"""What all backends of the rasteriser share: triangles in pixels, coverage, and the depth test.

All evaluate the same expressions on the same numbers and compare the same keys, so that they find
the same faces bit for bit.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, UInt32

# Bounding boxes grow by this many pixels: far more than rounding can move an edge, so that only
# the edge functions decide.
_MARGIN = 1e-3
_PACKED_FACES = 2**16  # above, a 32-bit key has too few bits left for the depth
EMPTY = np.uint32(0xFFFFFFFF)


class Triangles(NamedTuple):
    """The triangles of one image, ready to draw.

    Attributes:
      corners: [F, 9] x, y, z of the three vertices, in ascending order of vertex index. Two faces
        then compute their common edge by the same operations on the same numbers.
      box: [F, 4] first column, first row, last column, last row of the bounding box in the frame.
      drawn: [F] false for a triangle that cannot be seen.
    """

    corners: Float[Array, "F 9"]
    box: Int[Array, "F 4"]
    drawn: Bool[Array, " F"]


def prepare(
    points: Float[Array, "V 3"], faces: Int[Array, "F 3"], size: tuple[int, int], cull: bool
) -> Triangles:
    """Triangles of vertices [V, 3] in pixels for a frame of `size` (height, width)."""
    low, high = jnp.min(faces, axis=1), jnp.max(faces, axis=1)
    middle = jnp.sum(faces, axis=1) - low - high
    ordered = jnp.stack([low, middle, high], axis=1)
    corners = points[ordered.reshape(-1)].reshape(-1, 9)
    x, y = corners[:, 0::3].T, corners[:, 1::3].T

    first, last = [], []
    for coordinate, limit in ((x, size[1]), (y, size[0])):
        # Clipped as floats: the cast of a huge or a missing number is undefined.
        start = jnp.ceil(jnp.min(coordinate, axis=0) - _MARGIN)
        stop = jnp.floor(jnp.max(coordinate, axis=0) + _MARGIN)
        first.append(jnp.clip(jnp.nan_to_num(start), 0, limit).astype(jnp.int32))
        last.append(jnp.clip(jnp.nan_to_num(stop), -1, limit - 1).astype(jnp.int32))

    area = (x[1] - x[0]) * (y[2] - y[0]) - (y[1] - y[0]) * (x[2] - x[0])
    # The area of a face with absurd coordinates overflows, and its depths would not be numbers.
    drawn = jnp.all(jnp.isfinite(corners), axis=1) & jnp.isfinite(area) & (area != 0)
    drawn &= (first[0] <= last[0]) & (first[1] <= last[1])
    if cull:
        # Sorting a face's vertices turned it over if the permutation was odd. With y down, faces
        # that are counter-clockwise from outside have negative area.
        a, b, c = faces.T
        odd = ((a > b) ^ (b > c)) ^ (a > c)
        drawn &= jnp.where(odd, -area, area) < 0
    triangles = Triangles(corners, jnp.stack([*first, *last], axis=1), drawn)
    # Computed once and stored: a second computation, fused elsewhere, might round another way.
    return jax.lax.optimization_barrier(triangles)


def cover(corners, column, row):
    """Whether triangles cover pixel centres, edges included, and the depth there.

    Args:
      corners: the nine coordinates of `Triangles.corners`.
      column, row: pixels, of shapes that broadcast with the coordinates'.
    """
    ax, ay, az, bx, by, bz, cx, cy, cz = corners
    x, y = column.astype(jnp.float32), row.astype(jnp.float32)
    # Each edge is measured from its vertex of lower index, by one expression.
    ab = (bx - ax) * (y - ay) - (by - ay) * (x - ax)
    bc = (cx - bx) * (y - by) - (cy - by) * (x - bx)
    ac = (cx - ax) * (y - ay) - (cy - ay) * (x - ax)
    area = ab + bc - ac
    inside = ((ab >= 0) & (bc >= 0) & (ac <= 0)) | ((ab <= 0) & (bc <= 0) & (ac >= 0))
    z = (bc * az - ac * bz + ab * cz) / jnp.where(area == 0, 1, area)
    # Rounding in a sliver must not carry its depth out of the triangle.
    z = jnp.clip(z, jnp.minimum(jnp.minimum(az, bz), cz), jnp.maximum(jnp.maximum(az, bz), cz))
    return inside & (area != 0), z


class DepthTest(NamedTuple):
    """How depths of one image become integers, and integers buffers of the nearest face.

    Up to 2^16 faces depth and face share a 32-bit key, so that one integer minimum decides.
    Beyond, the depth is kept whole and the lowest face of the smallest depth beside it: exact, at
    two minima. Neither depends on the order of the samples.

    Attributes:
      near, scale: of the packed depth.
      id_bits: bits of the face in a packed key; 0 where depth and face are apart.
    """

    near: Float[Array, ""]
    scale: Float[Array, ""]
    id_bits: int

    @property
    def levels(self) -> int:
        """Packed depths are 0 ... levels; the last value of a key means empty."""
        return 2 ** min(32 - self.id_bits, 24) - 2  # float32 holds 24 bits

    def level(self, z) -> UInt32[Array, "..."]:
        """Depths as integers of the same order; none is `EMPTY`."""
        if self.id_bits:
            return jnp.clip((z - self.near) * self.scale, 0, self.levels).astype(jnp.uint32)
        bits = jax.lax.bitcast_convert_type(jnp.where(z == 0, 0, z), jnp.uint32)
        return jnp.where(z < 0, ~bits, bits | jnp.uint32(2**31))

    def empty(self, shape: tuple[int, ...]) -> tuple[Array, ...]:
        """Buffers of a shape that hold no face."""
        return (jnp.full(shape, EMPTY, jnp.uint32),) * (1 if self.id_bits else 2)

    def values(self, inside, z, face) -> tuple[Array, ...]:
        """What samples put into the buffers; `EMPTY` where they are not inside."""
        level, face = self.level(z), jnp.broadcast_to(face.astype(jnp.uint32), z.shape)
        if self.id_bits:
            return (jnp.where(inside, (level << self.id_bits) | face, EMPTY),)
        return jnp.where(inside, level, EMPTY), jnp.where(inside, face, EMPTY)

    def nearest(self, values: tuple[Array, ...], axis: int) -> tuple[Array, ...]:
        """The nearest of the samples along an axis."""
        least = jnp.min(values[0], axis=axis, keepdims=True)
        if self.id_bits:
            return (jnp.squeeze(least, axis),)
        face = jnp.min(jnp.where(values[0] == least, values[1], EMPTY), axis=axis)
        return jnp.squeeze(least, axis), face

    def keep(self, buffers: tuple[Array, ...], place, values: tuple[Array, ...]):
        """The buffers with the nearer of what they hold and of values at rows `place`."""
        nearest = buffers[0].at[place].min(values[0], mode="drop")
        if self.id_bits:
            return (nearest,)
        kept = jnp.where(nearest < buffers[0], EMPTY, buffers[1])
        won = values[0] == nearest.at[place].get(mode="fill", fill_value=0)
        return nearest, kept.at[place].min(jnp.where(won, values[1], EMPTY), mode="drop")

    def read(self, buffers: tuple[Array, ...]) -> Int[Array, "..."]:
        """Face indices, -1 where empty."""
        if not self.id_bits:
            return jax.lax.bitcast_convert_type(buffers[1], jnp.int32)  # empty reads as -1
        face = (buffers[0] & (2**self.id_bits - 1)).astype(jnp.int32)
        return jnp.where(buffers[0] == EMPTY, -1, face)


def depth_test(triangles: Triangles) -> DepthTest:
    """The depth test of one image; packed depths span the range of its own triangles."""
    count = triangles.drawn.shape[0]
    id_bits = max(1, (count - 1).bit_length()) if count <= _PACKED_FACES else 0
    z, drawn = triangles.corners[:, 2::3], triangles.drawn[:, None]
    near = jnp.min(jnp.where(drawn, z, jnp.inf))
    span = jnp.maximum(jnp.max(jnp.where(drawn, z, -jnp.inf)) - near, 1e-30)
    test = DepthTest(near, span, id_bits)
    return test._replace(scale=test.levels / span)
