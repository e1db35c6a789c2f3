"""The "scatter" backend: patches of triangles, all samples in two integer scatter-mins.

Every triangle is cut into jobs, patches of a few pixels of its bounding box. A fixed number of job
slots is filled by one cumulative sum and all samples of all slots are tested at once.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp

from fields_jax.render.jobs import Pass, assign
from fields_jax.render.triangles import Frame, Samples, Triangles, cover, keep, sampled

# Rows and columns of a job. On a CPU, with a head at 64, 112 and 224 pixels, none from (2, 2) to
# (4, 4) was faster.
PATCH = (4, 2)


_WINDOWS = jax.lax.ScatterDimensionNumbers(
    update_window_dims=(1, 2), inserted_window_dims=(), scatter_dims_to_operand_dims=(0, 1)
)


def shape(size: tuple[int, int]) -> tuple[int, ...]:
    """Shape of the buffers: the frame, and a margin for patches that reach beyond it."""
    return size[0] + PATCH[0] - 1, size[1] + PATCH[1] - 1


def image(buffer, size: tuple[int, int]):
    """A buffer as an image [H, W]."""
    return buffer[: size[0], : size[1]]


def count(triangles: Triangles):
    """Jobs of each triangle [F]."""
    left, top, right, bottom = triangles.box.T
    jobs = ((right - left) // PATCH[1] + 1) * ((bottom - top) // PATCH[0] + 1)
    return jnp.where(triangles.drawn, jobs, 0)


def most(size: tuple[int, int]) -> int:
    """Jobs of a triangle that fills the frame."""
    return -(-size[0] // PATCH[0]) * -(-size[1] // PATCH[1])


def draw(triangles: Triangles, work: Pass, buffers: Samples, frame: Frame, first_face) -> Samples:
    """Draws the jobs of a pass into the buffers.

    Args:
      triangles: F triangles.
      work: the pass, over the jobs that `count` returned for them.
      buffers: of `shape`.
      frame: what is drawn.
      first_face: index of the first triangle in the whole mesh.
    """
    owner, rank, used = assign(work)
    left, top, right, bottom = triangles.box[owner].T
    columns = (right - left) // PATCH[1] + 1
    left += jax.lax.rem(rank, columns) * PATCH[1]
    top += jax.lax.div(rank, columns) * PATCH[0]
    # A job's samples lie side by side, and scattered by patch they cost half as much as one by one.
    shift = jnp.arange(PATCH[0] * PATCH[1], dtype=jnp.int32)[None]
    column, row = left[:, None] + shift % PATCH[1], top[:, None] + shift // PATCH[1]
    inside, z = cover(triangles.corners[owner].T[..., None], column, row, frame.near)
    inside &= used[:, None] & (column <= right[:, None]) & (row <= bottom[:, None])
    samples = sampled(inside, z, (first_face + owner)[:, None])
    samples = Samples(*(values.reshape(-1, *PATCH) for values in samples))
    place = jnp.stack([top, left], axis=1)
    return keep(buffers, samples, partial(_lower, place=place), partial(_held, place=place))


def _lower(buffer, patches, place):
    return jax.lax.scatter_min(buffer, place, patches, _WINDOWS, mode="drop")


def _held(buffer, place):
    return jax.vmap(lambda corner: jax.lax.dynamic_slice(buffer, corner, PATCH))(place)
