"""Which face each pixel shows: an exact rasteriser made of gathers and integer minima.

Triangles are cut into jobs of equal cost. A fixed number of job slots is drawn at once, and
triangles that do not fit into the slots are drawn by further passes, so the number of slots is a
matter of speed only: no triangle is ever lost.
"""

from __future__ import annotations

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from fields_jax.platforms import per_platform
from fields_jax.render import patches
from fields_jax.render.backends import BACKENDS, by_platform
from fields_jax.render.camera import at_least_single, image_shape, to_pixels
from fields_jax.render.interpolate import map_images, surface
from fields_jax.render.jobs import ROW, Pass, cumulative
from fields_jax.render.triangles import (
    EMPTY,
    Frame,
    Triangles,
    cover,
    depth_key,
    prepare,
)
from fields_jax.types import Fragments

_CHUNK_SAMPLES = 2**17  # per chunk of images on a CPU: what fits its cache
_MOST_JOBS = 2**30  # per group of faces; one more pass of jobs still fits an int32


def rasterize(
    vertices: Float[Array, "B V 3"],
    faces: Int[Array, "F 3"],
    image_size: int | tuple[int, int],
    *,
    cull: bool = False,
    near: float | None = None,
    backend: str = "auto",
    jobs: int | None = None,
) -> Fragments:
    """The nearest face at every pixel centre.

    Pixel (i, j) samples x = (2j+1)/W - 1, y = (2i+1)/H - 1. Edges belong to both their faces, so
    that a closed mesh has no holes. Depths are compared to the last bit of float32; where they are
    equal, as in a face that is listed twice, the lowest face index wins. Nothing here has a
    gradient: see `interpolate` and, for outlines, `antialias`.

    What a pixel shows depends on the faces that cover it and on nothing else: a vertex, wherever
    it is, changes only pixels that its own faces cover or leave. Faces with a coordinate that is
    not finite, without area, or with a bounding box above 2^90 square pixels are not drawn. All
    backends return the same faces.

    Args:
      vertices: [B, V, 3] as `project` returns them: x right, y down in [-1, 1], smaller z nearer.
        Any floats; those of less than 32 bits are cast to float32 before anything is computed.
      faces: [F, 3] integers. Their range is checked unless they are traced.
      image_size: pixels, square, or (height, width).
      cull: drop the faces that turn their back (clockwise on the screen).
      near: the smallest depth that is drawn, in the units of z. Nearer parts of a face are cut off
        pixel by pixel. None cuts nothing, as weak perspective needs: its camera has no position
        along z. Where z is the distance from a camera, pass a value above 0, and split faces with
        corners on both sides of a perspective camera before projecting: the division by z mirrors
        the corners behind it.
      backend: "scatter", patches of triangles by scatter-mins; "sorted", triangles sorted by tile,
        for TPUs; "reference", which is slow and obvious; "auto", "sorted" on TPUs and
        "scatter" elsewhere; or another name in `backends.BACKENDS`.
      jobs: patches or tiles drawn per pass and image, a matter of speed and memory only; the
        default is `default_jobs`. "reference" does not read it.

    Returns:
      Fragments; empty pixels have face_index -1, barycentric 0 and depth 0. `passes` counts the
      passes over the job slots. Weights and depths are float64 for vertices in float64, else
      float32.

    Raises:
      ValueError: an unknown backend, vertices that are not floats [B, V, 3], faces that are not
        integers [F, 3] in the range of V, a size or a number of jobs that is not positive, a
        `near` that is not a number.
    """
    if vertices.ndim != 3 or vertices.shape[-1] != 3:
        raise ValueError(f"vertices of shape {vertices.shape}: expected [B, V, 3]")
    if not jnp.issubdtype(vertices.dtype, jnp.floating):
        raise ValueError(f"vertices of type {vertices.dtype}: expected floats")
    check_faces(faces, vertices.shape[1])
    if backend not in (known := ("auto", *BACKENDS, "reference")):
        raise ValueError(f"unknown backend {backend!r}; known: {', '.join(known)}")
    if jobs is not None and jobs < 1:
        raise ValueError(f"jobs is {jobs}: at least 1 is needed")
    size = image_shape(image_size)
    slots = default_jobs(faces.shape[0], size) if jobs is None else jobs
    points = to_pixels(at_least_single(jax.lax.stop_gradient(vertices)), size)
    faces, near = jnp.asarray(faces, jnp.int32), near_depth(near)
    return _rasterize(points, faces, near, size, cull, backend, slots)


def check_faces(faces: Int[Array, "F 3"], vertices: int) -> None:
    """Refuses faces that are not integers [F, 3] from 0 to vertices - 1.

    Raises:
      ValueError: what is wrong with them. The range of traced faces cannot be known.
    """
    if faces.ndim != 2 or faces.shape[-1] != 3 or not faces.shape[0]:
        raise ValueError(f"faces of shape {faces.shape}: expected [F, 3] with F > 0")
    if not jnp.issubdtype(faces.dtype, jnp.integer):
        raise ValueError(f"faces of type {faces.dtype}: expected integers")
    if not isinstance(faces, jax.core.Tracer):
        known = np.asarray(faces)
        low, high = int(known.min()), int(known.max())
        if low < 0 or high >= vertices:
            raise ValueError(f"faces name vertices {low} to {high}, but there are {vertices}")


def near_depth(near: float | None) -> Float[Array, ""] | None:
    """The smallest depth to draw as the backends compare it.

    Raises:
      ValueError: not one number. The value of a traced one cannot be known.
    """
    if near is None:
        return None
    traced = isinstance(near, jax.core.Tracer)
    if jnp.ndim(near) or (not traced and np.isnan(near)):
        raise ValueError(f"near is {near}: expected a number or None")
    return jnp.asarray(near, jnp.float32)


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


@partial(jax.jit, static_argnums=(3, 4, 5, 6))
def _rasterize(points, faces, near, size, cull, backend, jobs):
    samples = jobs * patches.PATCH[0] * patches.PATCH[1]

    def find_all(find, **options):
        find = partial(find, faces=faces, frame=Frame(size, cull, near), **options)
        return partial(map_images, find, _CHUNK_SAMPLES // samples)

    single = points.astype(jnp.float32)
    if backend == "reference":
        index, passes = find_all(_reference)(single)
    else:
        drawers = by_platform(backend).items()
        index, passes = per_platform(
            single, **{name: find_all(_draw, drawer=drawer, jobs=jobs) for name, drawer in drawers}
        )
    barycentric, depth = map_images(partial(surface, faces=faces), 1, points, index)
    return Fragments(face_index=index, barycentric=barycentric, depth=depth, passes=passes)


def _draw(points, *, faces, frame, drawer, jobs):
    """One image's face indices [H, W] and the passes it took."""
    triangles = prepare(points, faces, frame)
    start = drawer.start(frame.size), jnp.int32(0)
    draw = partial(_draw_group, drawer=drawer, budget=jobs, frame=frame)

    count, group = faces.shape[0], max(1, _MOST_JOBS // drawer.most(frame.size))
    if count <= group:
        buffers, passes = draw(start, triangles, 0)
    else:
        # Jobs of all faces together might overflow an int32, as those of a head at 1024 pixels.
        groups = -(-count // group)
        padded = [(0, groups * group - count)]
        members = Triangles(
            *(
                jnp.pad(array, padded + [(0, 0)] * (array.ndim - 1)).reshape(
                    groups, group, *array.shape[1:]
                )
                for array in triangles
            )
        )

        def step(state, item):
            return draw(state, *item), None

        firsts = jnp.arange(groups, dtype=jnp.int32) * group
        (buffers, passes), _ = jax.lax.scan(step, start, (members, firsts))
    return drawer.faces(buffers, frame.size), passes


def _draw_group(state, triangles, first_face, *, drawer, budget, frame):
    """Draws triangles into the buffers, `budget` jobs per pass."""
    buffers, passes = state
    jobs = drawer.count(triangles)
    ends = cumulative(jobs, ROW * drawer.most(frame.size))

    def draw_pass(state):
        index, buffers = state
        work = Pass(jobs, ends, index * budget, budget)
        return index + 1, drawer.draw(triangles, work, buffers, frame, first_face)

    taken, buffers = jax.lax.while_loop(
        lambda state: state[0] * budget < jnp.maximum(ends[-1], 1),
        draw_pass,
        (jnp.int32(0), buffers),
    )
    return buffers, passes + taken


def _reference(points, *, faces, frame):
    """One triangle after the other over the whole frame."""
    triangles = prepare(points, faces, frame)
    row, column = jnp.mgrid[: frame.size[0], : frame.size[1]]

    def draw(face, buffers):
        nearest, index = buffers
        left, top, right, bottom = triangles.box[face]
        inside, z = cover(triangles.corners[face], column, row, frame.near)
        inside &= (column >= left) & (column <= right) & (row >= top) & (row <= bottom)
        key = depth_key(z)
        nearer = inside & triangles.drawn[face] & (key < nearest)
        return jnp.where(nearer, key, nearest), jnp.where(nearer, face, index)

    empty = jnp.full(frame.size, EMPTY), jnp.full(frame.size, -1, jnp.int32)
    _, index = jax.lax.fori_loop(0, jnp.int32(faces.shape[0]), draw, empty)
    return index, jnp.int32(1)
