"""The "scatter" backend: patches of triangles, all samples in one integer scatter-min.

Every triangle is cut into jobs, patches of a few pixels of its bounding box. A fixed number of job
slots is filled by one cumulative sum and all samples of all slots are tested at once.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from fields_jax.render.jobs import assign
from fields_jax.render.triangles import DepthTest, Triangles, cover

# Rows and columns of a job. On a CPU, with a head at 64, 112 and 224 pixels, none from (2, 2) to
# (4, 4) was faster.
PATCH = (4, 2)


def shape(size: tuple[int, int]) -> tuple[int, ...]:
    """Shape of the buffers: pixels row by row."""
    return (size[0] * size[1],)


def image(buffer, size: tuple[int, int]):
    """A buffer as an image [H, W]."""
    return buffer.reshape(size)


def count(triangles: Triangles):
    """Jobs of each triangle [F]."""
    left, top, right, bottom = triangles.box.T
    jobs = ((right - left) // PATCH[1] + 1) * ((bottom - top) // PATCH[0] + 1)
    return jnp.where(triangles.drawn, jobs, 0)


def most(size: tuple[int, int]) -> int:
    """Jobs of a triangle that fills the frame."""
    return -(-size[0] // PATCH[0]) * -(-size[1] // PATCH[1])


def draw(triangles: Triangles, jobs, ends, first, budget, size, buffers, test: DepthTest, face_0):
    """Draws the jobs first ... first + budget - 1 into the buffers.

    Args:
      triangles: F triangles.
      jobs: [F] what `count` returned.
      ends: [F] its cumulative sum.
      first, budget: the jobs to draw.
      size: (height, width).
      buffers: of `test`.
      test: the depth test.
      face_0: index of the first triangle in the whole mesh.
    """
    owner, rank, used = assign(jobs, ends, first, budget)
    left, top, right, bottom = triangles.box[owner].T
    columns = (right - left) // PATCH[1] + 1
    shift = jnp.arange(PATCH[0] * PATCH[1], dtype=jnp.int32)[:, None]
    column = left + jax.lax.rem(rank, columns) * PATCH[1] + shift % PATCH[1]
    row = top + jax.lax.div(rank, columns) * PATCH[0] + shift // PATCH[1]
    inside, z = cover(triangles.corners[owner].T, column, row)
    inside &= used & (column <= right) & (row <= bottom)
    pixel = jnp.where(inside, row * size[1] + column, size[0] * size[1])
    return test.keep(buffers, pixel, test.values(inside, z, face_0 + owner))
