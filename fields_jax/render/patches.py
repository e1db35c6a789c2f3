"""The "scatter" backend: patches of triangles, all samples in two integer scatter-mins.

Every triangle is cut into jobs, patches of a few pixels of its bounding box. A fixed number of job
slots is filled by one cumulative sum and all samples of all slots are tested at once. On CPUs
`packed` keeps the samples, by one minimum.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from fields_jax.render.jobs import Pass, assign
from fields_jax.render.triangles import (
    Frame,
    Samples,
    Triangles,
    columns_of,
    cover,
    face_index,
    keep,
    nothing,
    sampled,
)

# Rows and columns of a job. On a CPU, with a head at 64, 112 and 224 pixels, none from (2, 2) to
# (4, 4) was faster.
PATCH = (4, 2)

_EXACT_QUOTIENTS = 2**20  # float32 quotients of smaller integers and a half are exact enough


_WINDOWS = jax.lax.ScatterDimensionNumbers(
    update_window_dims=(1, 2), inserted_window_dims=(), scatter_dims_to_operand_dims=(0, 1)
)


def start(size: tuple[int, int]) -> Samples:
    """Empty buffers."""
    return nothing(shape(size))


def shape(size: tuple[int, int]) -> tuple[int, int]:
    """Shape of the buffers: the frame, and a margin for patches that reach beyond it."""
    return size[0] + PATCH[0] - 1, size[1] + PATCH[1] - 1


def faces(buffers: Samples, size: tuple[int, int]):
    """The faces in the buffers as an image."""
    return face_index(buffers.face)[: size[0], : size[1]]


def count(triangles: Triangles):
    """Jobs of each triangle [F]."""
    left, top, right, bottom = triangles.box.T
    jobs = ((right - left) // PATCH[1] + 1) * ((bottom - top) // PATCH[0] + 1)
    return jnp.where(triangles.drawn, jobs, 0)


def most(size: tuple[int, int]) -> int:
    """Jobs of a triangle that fills the frame."""
    return -(-size[0] // PATCH[0]) * -(-size[1] // PATCH[1])


def draw(triangles: Triangles, work: Pass, buffers: Samples, frame: Frame, first_face) -> Samples:
    """Draws the jobs of a pass into the buffers; see `Backend.draw`."""
    samples, place = test(triangles, work, frame, first_face)
    return keep(buffers, samples, partial(lower, place=place), partial(_held, place=place))


def test(triangles: Triangles, work: Pass, frame: Frame, first_face):
    """Tests all samples of the jobs of a pass.

    Returns:
      Samples [S, *PATCH], and the row and column [S, 2] of each job's first.
    """
    owner, rank, used = assign(work)
    # Numbers of jobs are columns, [S, 1]: a transpose would be a pass over memory of its own.
    left, top, right, bottom = columns_of(triangles.box[owner])
    across = (right - left) // PATCH[1] + 1
    down = quotient(rank[:, None], across, most(frame.size))
    left += (rank[:, None] - down * across) * PATCH[1]
    top += down * PATCH[0]
    # A job's samples lie side by side, and scattered by patch they cost half as much as one by one.
    shift = np.arange(PATCH[0] * PATCH[1], dtype=np.int32)[None]
    column, row = left + shift % PATCH[1], top + shift // PATCH[1]
    inside, z = cover(columns_of(triangles.corners[owner]), column, row, frame.near)
    inside &= used[:, None] & (column <= right) & (row <= bottom)
    samples = sampled(inside, z, (first_face + owner)[:, None])
    samples = Samples(*(values.reshape(-1, *PATCH) for values in samples))
    return samples, jnp.concatenate([top, left], axis=1)


def quotient(rank, across, most):
    """The quotient of integers of which the first is less than `most`."""
    if most > _EXACT_QUOTIENTS:
        return jax.lax.div(rank, across)
    # Half a step off a whole quotient, so that rounding does not change it. CPUs have no
    # instruction that divides vectors of integers.
    return ((rank.astype(jnp.float32) + 0.5) / across.astype(jnp.float32)).astype(jnp.int32)


def lower(buffer, patches, place):
    """The buffer, at most the patches at their places."""
    return jax.lax.scatter_min(buffer, place, patches, _WINDOWS, mode="drop")


def _held(buffer, place):
    return jax.vmap(lambda corner: jax.lax.dynamic_slice(buffer, corner, PATCH))(place)
