"""The "sorted" backend: no scatter or gather of single elements, for TPUs, which do them serially.

Pairs of a triangle and a tile it may touch are sorted by tile. Chunks of a tile's triangles are
tested against all its pixels at once, and whole rows of pixels go into the image by a minimum.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from fields_jax.render.jobs import Pass
from fields_jax.render.triangles import (
    Frame,
    Samples,
    Triangles,
    cover,
    face_index,
    keep,
    nearest,
    nothing,
    sampled,
)

_TILE = 8  # pixels along either side
_CHUNK = 8  # triangles tested together


def _tiles(size: tuple[int, int]) -> tuple[int, int]:
    return -(-size[0] // _TILE), -(-size[1] // _TILE)


def start(size: tuple[int, int]) -> Samples:
    """Empty buffers: a row of pixels for each tile."""
    return nothing((most(size), _TILE * _TILE))


def faces(buffers: Samples, size: tuple[int, int]):
    """The faces in the buffers as an image."""
    down, across = _tiles(size)
    whole = face_index(buffers.face).reshape(down, across, _TILE, _TILE).transpose(0, 2, 1, 3)
    return whole.reshape(down * _TILE, across * _TILE)[: size[0], : size[1]]


def count(triangles: Triangles):
    """Jobs of each triangle [F]: the tiles that its bounding box touches."""
    left, top, right, bottom = (triangles.box // _TILE).T
    return jnp.where(triangles.drawn, (right - left + 1) * (bottom - top + 1), 0)


def most(size: tuple[int, int]) -> int:
    """Jobs of a triangle that fills the frame."""
    down, across = _tiles(size)
    return down * across


def draw(triangles: Triangles, work: Pass, buffers: Samples, frame: Frame, first_face) -> Samples:
    """Draws the jobs of a pass into the buffers; see `Backend.draw`."""
    tiles, across, budget = buffers.key.shape[0], _tiles(frame.size)[1], work.budget
    owner, rank, used = _assign(work)
    left, top, right, _ = (triangles.box[owner] // _TILE).T
    columns = right - left + 1
    tile = (top + jax.lax.div(rank, columns)) * across + left + jax.lax.rem(rank, columns)
    tile, owner = jax.lax.sort((jnp.where(used, tile, tiles), owner), num_keys=2)

    begin = _at_most(tile, jnp.arange(-1, tiles, dtype=jnp.int32))
    chunks = -(-jnp.diff(begin) // _CHUNK)
    # Every tile has at most one chunk that is not full.
    slots = -(-budget // _CHUNK) + min(tiles, budget)
    chunk_ends = jnp.cumsum(chunks, dtype=jnp.int32)
    place, chunk, taken = _assign(Pass(chunks, chunk_ends, jnp.int32(0), slots))
    member = (begin[place] + chunk * _CHUNK)[:, None] + jnp.arange(_CHUNK, dtype=jnp.int32)[None]
    real = taken[:, None] & (member < begin[place + 1][:, None])
    face = owner[jnp.minimum(member, budget - 1)]

    pixel = jnp.arange(_TILE * _TILE, dtype=jnp.int32)[None, None]
    column = (place % across * _TILE)[:, None, None] + pixel % _TILE
    row = (place // across * _TILE)[:, None, None] + pixel // _TILE
    inside, z = cover(
        jnp.moveaxis(triangles.corners[face], -1, 0)[..., None], column, row, frame.near
    )
    first_x, first_y, last_x, last_y = jnp.moveaxis(triangles.box[face], -1, 0)[..., None]
    inside &= (column >= first_x) & (column <= last_x) & (row >= first_y) & (row <= last_y)
    inside &= real[..., None]
    rows = nearest(sampled(inside, z, (first_face + face)[..., None]), axis=1)
    place = jnp.where(taken, place, tiles)
    return keep(
        buffers,
        rows,
        lambda buffer, rows: buffer.at[place].min(rows, mode="drop"),
        lambda buffer: buffer.at[place].get(mode="fill", fill_value=0),
    )


def _assign(work: Pass):
    """`jobs.assign` by sorting."""
    jobs, ends, first, budget = work
    slots = first + jnp.arange(budget, dtype=jnp.int32)
    owner = jnp.minimum(_at_most(ends, slots), jobs.shape[0] - 1)
    return owner, slots - (ends - jobs)[owner], slots < ends[-1]


def _at_most(values: Int[Array, " N"], queries: Int[Array, " Q"]) -> Int[Array, " Q"]:
    """For each query the number of values up to it, both ascending: a merge by two sorts."""
    keys = jnp.concatenate([values, queries])
    asked = jnp.concatenate([jnp.zeros_like(values), jnp.ones_like(queries)])
    _, asked = jax.lax.sort((keys, asked), num_keys=2)
    below = jnp.cumsum(1 - asked, dtype=jnp.int32)
    _, below = jax.lax.sort((1 - asked, below), num_keys=2)
    return below[: queries.shape[0]]
