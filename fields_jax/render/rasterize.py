"""Which face each pixel shows: an exact rasteriser made of gathers and one scatter-min.

Every triangle is cut into jobs, patches of a few pixels of its bounding box. A fixed number of job
slots is filled by one cumulative sum, all samples of all slots are tested at once, and one
scatter-min of (depth, face) keys keeps the nearest. Triangles that do not fit into the slots are
drawn by further passes, so the number of slots is a matter of speed only.
"""

from __future__ import annotations

import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from fields_jax.render.camera import image_shape, to_pixels
from fields_jax.render.interpolate import map_images, surface
from fields_jax.types import Fragments

# Rows and columns of a job. On a CPU, with a head at 64, 112 and 224 pixels, none from (2, 2) to
# (4, 4) was faster.
_PATCH = (4, 2)
# Bounding boxes grow by this many pixels: far more than rounding can move an edge, so that only
# the edge functions decide.
_MARGIN = 1e-3
_PACKED_FACES = 2**16  # above, a 32-bit key has too few bits left for the depth
_CHUNK_SAMPLES = 2**18  # per chunk of images on a CPU: what fits its cache
_MOST_JOBS = 2**30  # per group of faces; with a pass more it still fits an int32
_EMPTY = np.uint32(0xFFFFFFFF)


def rasterize(
    vertices: Float[Array, "B V 3"],
    faces: Int[Array, "F 3"],
    image_size: int | tuple[int, int],
    *,
    cull: bool = False,
    backend: str = "auto",
    jobs: int | None = None,
) -> Fragments:
    """The nearest face at every pixel centre.

    Pixel (i, j) samples x = (2j+1)/W - 1, y = (2i+1)/H - 1. Edges belong to both their faces, so
    that a closed mesh has no holes; where depths are equal the lowest face index wins. A face with
    a vertex that is not finite, or without a finite area, is not drawn. Nothing here has a
    gradient: see `interpolate`.

    Args:
      vertices: [B, V, 3] as `project` returns them: x right, y down in [-1, 1], smaller z nearer.
      faces: [F, 3].
      image_size: pixels, square, or (height, width).
      cull: drop the faces that turn their back (clockwise on the screen).
      backend: "scatter"; "reference", which is slow and obvious; "auto", the fastest.
      jobs: patches drawn per pass and image by "scatter", a matter of speed and memory only; the
        default is `default_jobs`.

    Returns:
      Fragments. "scatter" resolves depths to 2^-16 of the image's own range of z or better.

    Raises:
      ValueError: an unknown backend, shapes other than [B, V, 3] and [F, 3], a bad size.
    """
    if vertices.ndim != 3 or vertices.shape[-1] != 3:
        raise ValueError(f"vertices of shape {vertices.shape}: expected [B, V, 3]")
    if faces.ndim != 2 or faces.shape[-1] != 3 or not faces.shape[0]:
        raise ValueError(f"faces of shape {faces.shape}: expected [F, 3] with F > 0")
    if backend not in _BACKENDS:
        raise ValueError(f"unknown backend {backend!r}; known: {', '.join(_BACKENDS)}")
    if jobs is not None and jobs < 1:
        raise ValueError(f"jobs is {jobs}: at least 1 is needed")
    size = image_shape(image_size)
    slots = default_jobs(faces.shape[0], size) if jobs is None else jobs
    points = to_pixels(jax.lax.stop_gradient(vertices), size)
    return _rasterize(points, jnp.asarray(faces, jnp.int32), size, cull, backend, slots)


def default_jobs(faces: int, size: tuple[int, int]) -> int:
    """Job slots with which a head or a face takes one to three passes.

    A layer of patches over the frame, and what the outlines of small triangles cut off patches:
    about half the need of a head that spans nine tenths of the frame, fitted to the FLAME topology
    (9,976 faces, and its 3,408 of the face) at 32 to 448 pixels. Needs differ fourfold between
    meshes and zooms; a few full passes are faster on a CPU than one that is half empty.
    """
    pixels = size[0] * size[1]
    slots = 0.1 * pixels + 0.25 * math.sqrt(pixels * faces)
    # An odd multiple of 128: rows a power of two apart evict each other from a CPU's cache, which
    # doubled the time of 8,192 slots.
    return 128 * (math.ceil(slots / 128) | 1)


@partial(jax.jit, static_argnums=(2, 3, 4, 5))
def _rasterize(points, faces, size, cull, backend, jobs):
    find = partial(_BACKENDS[backend], faces=faces, size=size, cull=cull, jobs=jobs)
    samples = jobs * _PATCH[0] * _PATCH[1]
    face_index, passes = map_images(find, _CHUNK_SAMPLES // samples, points.astype(jnp.float32))
    barycentric, depth = map_images(partial(surface, faces=faces), 1, points, face_index)
    return Fragments(face_index=face_index, barycentric=barycentric, depth=depth, passes=passes)


class _Triangles(NamedTuple):
    """The triangles of one image, ready to draw.

    Attributes:
      corners: [F, 9] x, y, z of the three vertices, in ascending order of vertex index. Two faces
        then compute their common edge by the same operations on the same numbers.
      box: [F, 3] first column, first row and patches per row of the bounding box.
      jobs: [F] patches of the bounding box; 0 for a triangle that cannot be seen.
    """

    corners: Float[Array, "F 9"]
    box: Int[Array, "F 3"]
    jobs: Int[Array, " F"]


def _prepare(points, faces, size, cull) -> _Triangles:
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
    columns = -(-(last[0] - first[0] + 1) // _PATCH[1])
    rows = -(-(last[1] - first[1] + 1) // _PATCH[0])

    area = (x[1] - x[0]) * (y[2] - y[0]) - (y[1] - y[0]) * (x[2] - x[0])
    # The area of a face with absurd coordinates overflows, and its depths would not be numbers.
    drawn = jnp.all(jnp.isfinite(corners), axis=1) & jnp.isfinite(area) & (area != 0)
    drawn &= (columns > 0) & (rows > 0)
    if cull:
        # Sorting a face's vertices turned it over if the permutation was odd. With y down, faces
        # that are counter-clockwise from outside have negative area.
        a, b, c = faces.T
        odd = ((a > b) ^ (b > c)) ^ (a > c)
        drawn &= jnp.where(odd, -area, area) < 0
    box = jnp.stack([first[0], first[1], jnp.maximum(columns, 1)], axis=1)
    triangles = _Triangles(corners, box, jnp.where(drawn, columns * rows, 0))
    # Computed once and stored: a second computation, fused elsewhere, might round another way.
    return jax.lax.optimization_barrier(triangles)


def _scatter(points, *, faces, size, cull, jobs):
    """One image's face indices [H, W] and the passes it took."""
    triangles = _prepare(points, faces, size, cull)
    count, pixels = faces.shape[0], size[0] * size[1]
    if count <= _PACKED_FACES:
        buffers, keep, read = _packed_depth_test(triangles, pixels)
    else:
        buffers, keep, read = _exact_depth_test(pixels)

    patches = -(-size[0] // _PATCH[0]) * -(-size[1] // _PATCH[1])
    group = max(1, _MOST_JOBS // patches)
    passes = jnp.int32(0)
    for begin in range(0, count, group):
        members = _Triangles(*(array[begin : begin + group] for array in triangles))
        buffers, taken = _draw(members, begin, jobs, size, buffers, keep)
        passes += taken
    return read(buffers).reshape(size), passes


def _draw(triangles, first_face, budget, size, buffers, keep):
    """Draws triangles into the buffers, `budget` jobs per pass."""
    ends = jnp.cumsum(triangles.jobs, dtype=jnp.int32)
    total = ends[-1]

    def draw_pass(state):
        index, buffers = state
        owner, rank, used = _assign(triangles.jobs, ends, index * budget, budget)
        pixel, z = _sample(triangles, owner, rank, used, size)
        return index + 1, keep(buffers, pixel, z, first_face + owner)

    passes, buffers = jax.lax.while_loop(
        lambda state: state[0] * budget < jnp.maximum(total, 1),
        draw_pass,
        (jnp.int32(0), buffers),
    )
    return buffers, passes


def _assign(jobs, ends, first, budget):
    """Shares out the job slots first ... first + budget - 1.

    Returns:
      For each slot its triangle, which of the triangle's jobs it is, and whether it is used.
    """
    begins = ends - jobs
    present = (jobs > 0) & (ends > first)
    slot = jnp.where(present, jnp.maximum(begins - first, 0), budget)
    owner = jnp.zeros(budget, jnp.int32)
    owner = owner.at[slot].max(jnp.arange(jobs.shape[0], dtype=jnp.int32), mode="drop")
    owner = jax.lax.cummax(owner)
    slots = first + jnp.arange(budget, dtype=jnp.int32)
    return owner, slots - begins[owner], slots < ends[-1]


def _sample(triangles, owner, rank, used, size):
    """Tests the pixels of the jobs' patches against their triangles.

    Returns:
      Flat pixel indices [P, J], out of range where the triangle misses, and depths [P, J].
    """
    left, top, columns = triangles.box[owner].T
    height, width = size
    shift = jnp.arange(_PATCH[0] * _PATCH[1], dtype=jnp.int32)[:, None]
    column = left + jax.lax.rem(rank, columns) * _PATCH[1] + shift % _PATCH[1]
    row = top + jax.lax.div(rank, columns) * _PATCH[0] + shift // _PATCH[1]
    inside, z = _cover(triangles.corners[owner].T, column, row)
    inside &= used & (column < width) & (row < height)
    return jnp.where(inside, row * width + column, height * width), z


def _cover(corners, column, row):
    """Whether triangles cover pixel centres, edges included, and the depth there.

    Args:
      corners: the nine coordinates of `_Triangles.corners`.
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


def _packed_depth_test(triangles, pixels):
    """Depth and face in one 32-bit key, so that one integer scatter-min decides.

    Its result does not depend on the order of the samples: equal on every run and platform.

    Returns:
      Empty buffers, a function that keeps the nearest samples, one that reads the face indices.
    """
    id_bits = max(1, (triangles.jobs.shape[0] - 1).bit_length())
    levels = 2 ** min(32 - id_bits, 24) - 2  # float32 holds 24 bits; the last level means empty
    z = triangles.corners[:, 2::3]
    drawn = (triangles.jobs > 0)[:, None]
    near = jnp.min(jnp.where(drawn, z, jnp.inf))
    scale = levels / jnp.maximum(jnp.max(jnp.where(drawn, z, -jnp.inf)) - near, 1e-30)

    def keep(buffers, pixel, z, face):
        depth = jnp.clip((z - near) * scale, 0, levels).astype(jnp.uint32)
        key = (depth << id_bits) | face.astype(jnp.uint32)
        return (buffers[0].at[pixel].min(key, mode="drop"),)

    def read(buffers):
        face = (buffers[0] & (2**id_bits - 1)).astype(jnp.int32)
        return jnp.where(buffers[0] == _EMPTY, -1, face)

    return (jnp.full(pixels, _EMPTY, jnp.uint32),), keep, read


def _exact_depth_test(pixels):
    """Depth first, then the lowest face of that depth: any number of faces, every bit of depth.

    Returns:
      As `_packed_depth_test`.
    """

    def keep(buffers, pixel, z, face):
        bits = jax.lax.bitcast_convert_type(jnp.where(z == 0, 0, z), jnp.uint32)
        depth = jnp.where(z < 0, ~bits, bits | jnp.uint32(2**31))  # ordered as z is
        nearest = buffers[0].at[pixel].min(depth, mode="drop")
        winner = depth == nearest.at[pixel].get(mode="fill", fill_value=0)
        kept = jnp.where(nearest < buffers[0], _EMPTY, buffers[1])
        face = jnp.broadcast_to(face.astype(jnp.uint32), pixel.shape)
        return nearest, kept.at[jnp.where(winner, pixel, pixels)].min(face, mode="drop")

    def read(buffers):
        return jax.lax.bitcast_convert_type(buffers[1], jnp.int32)  # empty reads as -1

    return (jnp.full(pixels, _EMPTY, jnp.uint32),) * 2, keep, read


def _reference(points, *, faces, size, cull, jobs):
    """One triangle after the other over the whole frame; `jobs` has no meaning here."""
    del jobs
    triangles = _prepare(points, faces, size, cull)
    row, column = jnp.mgrid[: size[0], : size[1]]

    def draw(face, buffers):
        depth, face_index = buffers
        inside, z = _cover(triangles.corners[face], column, row)
        nearer = inside & (triangles.jobs[face] > 0) & ((face_index < 0) | (z < depth))
        return jnp.where(nearer, z, depth), jnp.where(nearer, face, face_index)

    empty = jnp.zeros(size, jnp.float32), jnp.full(size, -1, jnp.int32)
    _, face_index = jax.lax.fori_loop(0, jnp.int32(faces.shape[0]), draw, empty)
    return face_index, jnp.int32(1)


_BACKENDS = {"auto": _scatter, "scatter": _scatter, "reference": _reference}
