"""Outlines with gradients: pixels on both sides of a visible outline are blended.

Every edge whose faces all lie on one side of it on the screen is an outline. Where it crosses the
line between two neighbouring pixel centres, the pixel that the surface ends in is blended with its
neighbour by the share the surface covers. Crossings are found edge by edge, along rows and along
columns. A steep edge counts where it crosses rows, a flat one where it crosses columns; the
crossings times what each moves add up to the length of the edge times its shift, the exact change
of the covered area. Triangles much smaller than a pixel are therefore as good as large ones.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from fields_jax.render.camera import at_least_single, to_pixels
from fields_jax.render.interpolate import map_images
from fields_jax.render.jobs import Pass, assign
from fields_jax.render.rasterize import check_faces, near_depth
from fields_jax.render.triangles import drawable, far
from fields_jax.types import Fragments

# Scan lines per row and per column of pixels. Edges of a fine mesh are shorter than a pixel and
# one line misses most of them: the sum over the outline then has the noise of a sample.
_LINES = 4
_BUDGET = 8192  # crossings per pass; a head at 224 pixels has about this many
_ID_BITS = 12  # of the contest's key: tells edges apart that cross at the same place
_ROUNDING = 64  # levels of the contest's key, 2e-4 pixels: more than float32 rounds a crossing


def antialias(
    image: Float[Array, "B H W C"],
    fragments: Fragments,
    vertices: Float[Array, "B V 3"],
    faces: Int[Array, "F 3"],
    *,
    cull: bool = False,
    near: float | None = None,
) -> Float[Array, "B H W C"]:
    """The image with smooth outlines, through which gradients reach the vertices' x and y.

    Blends the outline of the object and the outlines inside it, where one part hides another. Faces
    that touch must share their vertices: an edge with only one face is an outline. A pixel in a gap
    narrower than itself may be blended from several sides. Where the plane at `near` cuts through a
    face there is no edge, and that border is not blended.

    Args:
      image: [B, H, W, C] floats, what was shaded; for a mask, 1 where `fragments.face_index` >= 0.
      fragments: what `rasterize` returned for these vertices and faces.
      vertices: [B, V, 3] as `project` returns them.
      faces: [F, 3].
      cull, near: what was passed to `rasterize`.

    Returns:
      [B, H, W, C] of the image's type. Computed in float32 at least, gradients too.

    Raises:
      ValueError: shapes that do not belong together, an image that is not of floats, a `near` that
        is not a number.
    """
    if image.ndim != 4 or image.shape[:3] != fragments.face_index.shape:
        raise ValueError(
            f"image of shape {image.shape} for face indices of shape {fragments.face_index.shape}: "
            "expected [B, H, W, C] and [B, H, W]"
        )
    if not jnp.issubdtype(image.dtype, jnp.floating):
        raise ValueError(f"image of type {image.dtype}: expected floats")
    if vertices.ndim != 3 or vertices.shape[-1] != 3 or vertices.shape[0] != image.shape[0]:
        raise ValueError(
            f"vertices of shape {vertices.shape} for {image.shape[0]} images: expected [B, V, 3]"
        )
    check_faces(faces, vertices.shape[1])
    # Computed here where the faces are known: XLA is slow at sorting constants.
    with jax.ensure_compile_time_eval():
        edges = _edges(jnp.asarray(faces, jnp.int32))
    inputs = at_least_single(image), fragments, at_least_single(vertices)
    return _antialias(*inputs, near_depth(near), edges, cull).astype(image.dtype)


@partial(jax.jit, static_argnums=5)
def _antialias(image, fragments, vertices, near, edges, cull):
    points = to_pixels(vertices, image.shape[1:3])
    xy, z = points[..., :2], jax.lax.stop_gradient(points[..., 2])
    depth = jnp.where(fragments.face_index >= 0, fragments.depth, jnp.inf)
    return _blend(image, xy, z, depth, near, edges, cull)


class _Edges(NamedTuple):
    """The sides of all faces, sorted so that sides between the same two vertices are adjacent.

    Attributes:
      ends: [2, N] the lower and the higher vertex.
      apex: [N] the face's third vertex.
      turned: [N] the face lists its vertices so that the side runs from higher to lower.
      edge: [N] number of the edge, ascending; all sides of an edge have the same.
    """

    ends: Int[Array, "2 N"]
    apex: Int[Array, " N"]
    turned: Int[Array, " N"]
    edge: Int[Array, " N"]


def _edges(faces: Int[Array, "F 3"]) -> _Edges:
    tail, head = faces.T.reshape(-1), jnp.roll(faces, -1, axis=1).T.reshape(-1)
    apex = jnp.roll(faces, -2, axis=1).T.reshape(-1)
    low, high = jnp.minimum(tail, head), jnp.maximum(tail, head)
    turned = (tail > head).astype(jnp.int32)
    low, high, apex, turned = jax.lax.sort((low, high, apex, turned), num_keys=2)
    new = (jnp.diff(low) != 0) | (jnp.diff(high) != 0)
    edge = jnp.concatenate([jnp.zeros(1, jnp.int32), jnp.cumsum(new, dtype=jnp.int32)])
    return _Edges(jnp.stack([low, high]), apex, turned, edge)


class _Outline(NamedTuple):
    """The outline's edges of one image, first as seen along rows, then along columns.

    Attributes:
      ends: [2, N] the vertices at either end; the first is not far off the screen, if one is not.
      line: [2N, 6] across, along and z of both ends, across being y in the first half, then x.
      side: [2N] 1 where the surface lies at smaller "along", else -1.
      first: [2N] the first scan line that crosses the edge.
      jobs: [2N] the number of lines that do; 0 for edges that are not outlines.
    """

    ends: Int[Array, "2 N"]
    line: Float[Array, "N 6"]
    side: Float[Array, " N"]
    first: Int[Array, " N"]
    jobs: Int[Array, " N"]


def _outline(xy, z, edges, size, cull) -> _Outline:
    points = jnp.concatenate([xy, z[:, None]], axis=1)
    # Starts at an end that is not far off the screen, if there is one: see `Triangles.corners`.
    swapped = far(xy[:, 0], xy[:, 1])[edges.ends[0]]
    ends = jnp.where(swapped, edges.ends[::-1], edges.ends)
    a, b, apex = points[ends[0]], points[ends[1]], points[edges.apex]
    run, rise = b[:, 0] - a[:, 0], b[:, 1] - a[:, 1]
    turn = run * (apex[:, 1] - a[:, 1]) - rise * (apex[:, 0] - a[:, 0])
    # The faces that `rasterize` does not draw have no outline either.
    drawn = drawable(*([corner[:, axis] for corner in (a, b, apex)] for axis in range(3)))
    if cull:
        drawn &= jnp.where((edges.turned > 0) != swapped, -turn, turn) < 0
    count = edges.edge.shape[0]
    on = [
        jnp.zeros(count, jnp.int32)
        .at[edges.edge]
        .max((drawn & (sign * turn > 0)).astype(jnp.int32))
        for sign in (1, -1)
    ]
    first_side = jnp.concatenate([jnp.ones(1, bool), jnp.diff(edges.edge) != 0])
    left, right = (flag[edges.edge] for flag in on)
    outline = (left != right) & first_side
    # y down: the surface lies to the side of larger turn, at larger x for an edge that goes up.
    inward = jnp.where(left > 0, 1, -1)

    halves = []
    for axis, (limit, sign) in enumerate(((size[0], 1), (size[1], -1))):
        across, along = 1 - axis, axis
        low = jnp.minimum(a[:, across], b[:, across])
        high = jnp.maximum(a[:, across], b[:, across])
        # Lines at (s + 1/2) / LINES - 1/2; the half-open range counts a shared vertex once.
        begin, end = (
            jnp.clip(
                jnp.nan_to_num(jnp.ceil((value + 0.5) * _LINES - 0.5)), 0, limit * _LINES
            ).astype(jnp.int32)
            for value in (low, high)
        )
        forward = jnp.where(b[:, across] > a[:, across], 1, -1)
        columns = [a[:, across], a[:, along], a[:, 2], b[:, across], b[:, along], b[:, 2]]
        side = (inward * forward * sign).astype(xy.dtype)
        jobs = jnp.where(outline, end - begin, 0)
        halves.append((jnp.stack(columns, axis=1), side, begin, jobs))
    return _Outline(ends, *(jnp.concatenate(pair) for pair in zip(*halves, strict=True)))


class _Crossings(NamedTuple):
    """Where scan lines cross the outline, one entry per job slot.

    Attributes:
      inner, outer: [J] flat pixels inside and outside of the surface, out of range if unused.
      place: [J] the pair of pixels and its scan line, as a row of the contest's buffer.
      key: [J] rank in the contest of the pair: the farthest out wins.
      share: [J] how far the surface reaches from inner to outer, less one half.
      weight: [J] pixels of the outline that the crossing stands for; 0 where the other axis
        counts the edge, which still hides what lies behind it.
      u: [J] where on the edge the crossing lies, 0 to 1.
      half: [J] row of `_Outline`.
    """

    inner: Int[Array, " J"]
    outer: Int[Array, " J"]
    place: Int[Array, " J"]
    key: Int[Array, " J"]
    share: Float[Array, " J"]
    weight: Float[Array, " J"]
    u: Float[Array, " J"]
    half: Int[Array, " J"]


def _cross(outline, ends, first, depth, near) -> _Crossings:
    """The crossings of job slots first ... first + _BUDGET - 1."""
    height, width = depth.shape
    pixels, count = height * width, outline.jobs.shape[0] // 2
    owner, rank, used = assign(Pass(outline.jobs, ends, first, _BUDGET))
    by_rows = owner < count
    line = outline.first[owner] + rank
    p0, q0, z0, p1, q1, z1 = outline.line[owner].T
    u = jnp.clip(((line + 0.5) / _LINES - 0.5 - p0) / jnp.where(p1 == p0, 1, p1 - p0), 0, 1)
    crossing, z = q0 + u * (q1 - q0), z0 + u * (z1 - z0)
    limit = jnp.where(by_rows, width, height)
    below = jnp.floor(jnp.clip(crossing, -3, limit + 2)).astype(jnp.int32)
    side = outline.side[owner]
    outward = side.astype(jnp.int32)

    middle = line // _LINES
    place = jnp.where(side > 0, below, below + 1)[None] + outward[None] * jnp.arange(-1, 3)[:, None]
    row, column = jnp.where(by_rows, middle, place), jnp.where(by_rows, place, middle)
    if near is not None:
        used &= z >= near  # which leaves out all edges of faces that are wholly nearer
    seen = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    pixel = jnp.where(seen, row * width + column, pixels)
    z_at = depth.reshape(-1).at[pixel].get(mode="fill", fill_value=jnp.nan)
    inner = outer = jnp.full_like(owner, pixels)
    reach = jump = jnp.zeros_like(crossing)
    # Along the middle line of the pixels the outline may lie one pixel farther out or in than along
    # this one: it lies where the depth jumps, not between two pixels of one surface.
    for k in (1, 2, 0):
        step = z_at[k + 1] - z_at[k]
        chosen = used & jnp.isfinite(z_at[k]) & (z < z_at[k + 1]) & (step > jump)
        inner, outer = jnp.where(chosen, pixel[k], inner), jnp.where(chosen, pixel[k + 1], outer)
        reach = jnp.where(chosen, (crossing - place[k]) * side, reach)
        jump = jnp.where(chosen, step, jump)
    crosses, runs = jnp.abs(p1 - p0), jnp.abs(q1 - q0)
    counts = jnp.where(by_rows, crosses >= runs, crosses > runs)
    lane = 2 * jnp.where(by_rows, 0, 1) + (side > 0)
    place = (inner * _LINES + line % _LINES) * 4 + lane
    level = (jnp.clip((reach + 1) / 3, 0, 1) * (2.0 ** (32 - _ID_BITS) - 2)).astype(jnp.uint32) + 1
    key = (level << _ID_BITS) | (owner % 2**_ID_BITS).astype(jnp.uint32)
    place = jnp.where(jump > 0, place, pixels * _LINES * 4)
    return _Crossings(inner, outer, place, key, reach - 0.5, counts / _LINES, u, owner)


def _passes(outline, depth, near, step, state):
    """Runs step(crossings, state) -> state over all crossings, _BUDGET at a time."""
    ends = jnp.cumsum(outline.jobs, dtype=jnp.int32)

    def body(carry):
        index, state = carry
        return index + 1, step(_cross(outline, ends, index * _BUDGET, depth, near), state)

    return jax.lax.while_loop(lambda c: c[0] * _BUDGET < ends[-1], body, (jnp.int32(0), state))[1]


def _winners(outline, depth, near):
    """The contest of all crossings of a pair of pixels on a scan line.

    Outlines that others hide, inner rims and the like, lie farther in than the one that is seen.
    """
    buffer = jnp.zeros(depth.size * _LINES * 4, jnp.uint32)

    def step(c, best):
        return best.at[c.place].max(c.key, mode="drop")

    return _passes(outline, depth, near, step, buffer)


def _won(crossings, best):
    held = best.at[crossings.place].get(mode="fill", fill_value=0)
    same_edge = (held ^ crossings.key) % 2**_ID_BITS == 0
    # Computed twice, in programs that XLA may round in different ways.
    step = (held >> _ID_BITS).astype(jnp.int32) - (crossings.key >> _ID_BITS).astype(jnp.int32)
    return jnp.where(same_edge & (jnp.abs(step) <= _ROUNDING), crossings.weight, 0)


@partial(jax.custom_vjp, nondiff_argnums=(6,))
def _blend(image, xy, z, depth, near, edges, cull):
    blend = partial(_blend_forward, near=near, edges=edges, cull=cull)
    return map_images(blend, 1, image, xy, z, depth)


def _blend_vjp_forward(image, xy, z, depth, near, edges, cull):
    return _blend(image, xy, z, depth, near, edges, cull), (image, xy, z, depth, near, edges)


def _blend_vjp_backward(cull, residuals, cotangent):
    image, xy, z, depth, near, edges = residuals
    pull = partial(_blend_backward, near=near, edges=edges, cull=cull)
    d_image, d_xy = map_images(pull, 1, image, xy, z, depth, cotangent)
    return d_image, d_xy, jnp.zeros_like(z), jnp.zeros_like(depth), None, None


_blend.defvjp(_blend_vjp_forward, _blend_vjp_backward)


def _rows(table, pixel):
    return table.reshape(-1, table.shape[-1]).at[pixel].get(mode="fill", fill_value=0)


def _blend_forward(image, xy, z, depth, near, edges, cull):
    outline = _outline(xy, z, edges, depth.shape, cull)
    best = _winners(outline, depth, near)

    def step(c, total):
        weight = _won(c, best)
        contrast = _rows(image, c.inner) - _rows(image, c.outer)
        change = (weight * c.share)[:, None] * contrast
        total = total.at[c.outer].add(jnp.where(c.share[:, None] > 0, change, 0), mode="drop")
        return total.at[c.inner].add(jnp.where(c.share[:, None] > 0, 0, change), mode="drop")

    start = image.reshape(depth.size, -1)
    return _passes(outline, depth, near, step, start).reshape(image.shape)


def _blend_backward(image, xy, z, depth, cotangent, near, edges, cull):
    outline = _outline(xy, z, edges, depth.shape, cull)
    best = _winners(outline, depth, near)
    count = edges.edge.shape[0]

    def step(c, state):
        d_image, d_xy = state
        weight = _won(c, best)
        g_inner, g_outer = _rows(cotangent, c.inner), _rows(cotangent, c.outer)
        outward, inward = weight * jnp.maximum(c.share, 0), weight * jnp.maximum(-c.share, 0)
        g = outward[:, None] * g_outer - inward[:, None] * g_inner
        d_image = d_image.at[c.inner].add(g, mode="drop").at[c.outer].add(-g, mode="drop")

        contrast = _rows(image, c.inner) - _rows(image, c.outer)
        slope_of = jnp.where((c.share > 0)[:, None], g_outer, g_inner)
        d_along = outline.side[c.half] * weight * jnp.sum(slope_of * contrast, axis=1)
        p0, q0, _, p1, q1, _ = outline.line[c.half].T
        d_across = -d_along * (q1 - q0) / jnp.where(p1 == p0, 1, p1 - p0)
        by_rows = (c.half < count)[:, None]
        pull = jnp.stack([d_along, d_across], axis=1)
        pull = jnp.where(by_rows, pull, pull[:, ::-1])
        ends = outline.ends[:, c.half % count]
        target = jnp.where(c.inner < depth.size, ends, xy.shape[0])
        for end, part in zip(target, (1 - c.u, c.u), strict=True):
            d_xy = d_xy.at[end].add(part[:, None] * pull, mode="drop")
        return d_image, d_xy

    start = cotangent.reshape(depth.size, -1), jnp.zeros_like(xy)
    d_image, d_xy = _passes(outline, depth, near, step, start)
    return d_image.reshape(image.shape), d_xy
