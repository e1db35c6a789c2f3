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

from fields_jax.render.camera import to_pixels
from fields_jax.render.interpolate import map_images
from fields_jax.render.jobs import assign
from fields_jax.render.rasterize import check_faces
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
) -> Float[Array, "B H W C"]:
    """The image with smooth outlines, through which gradients reach the vertices' x and y.

    Works on the outline of the object and on those in front of other parts of it. Faces that touch
    must share their vertices: an edge that only one face knows is an outline. A pixel in a gap
    that is narrower than itself may be blended from several sides.

    Args:
      image: [B, H, W, C] what was shaded; for a mask, 1 where `fragments.face_index` >= 0.
      fragments: what `rasterize` returned for these vertices and faces.
      vertices: [B, V, 3] as `project` returns them.
      faces: [F, 3].
      cull: what was passed to `rasterize`.

    Raises:
      ValueError: shapes that do not belong together.
    """
    if image.ndim != 4 or image.shape[:3] != fragments.face_index.shape:
        raise ValueError(
            f"image of shape {image.shape} for face indices of shape {fragments.face_index.shape}: "
            "expected [B, H, W, C] and [B, H, W]"
        )
    if vertices.ndim != 3 or vertices.shape[-1] != 3 or vertices.shape[0] != image.shape[0]:
        raise ValueError(
            f"vertices of shape {vertices.shape} for {image.shape[0]} images: expected [B, V, 3]"
        )
    check_faces(faces, vertices.shape[1])
    # Computed here where the faces are known: XLA is slow at sorting constants.
    with jax.ensure_compile_time_eval():
        edges = _edges(jnp.asarray(faces, jnp.int32))
    return _antialias(image, fragments, vertices, edges, cull)


@partial(jax.jit, static_argnums=4)
def _antialias(image, fragments, vertices, edges, cull):
    points = to_pixels(vertices, image.shape[1:3])
    depth = jnp.where(fragments.face_index >= 0, fragments.depth, jnp.inf)
    return _blend(image, points[..., :2], jax.lax.stop_gradient(points[..., 2]), depth, edges, cull)


class _Edges(NamedTuple):
    """The sides of all faces, those between the same two vertices next to each other.

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
      line: [2N, 6] across, along and z of both ends, across being y in the first half, then x.
      side: [2N] 1 where the surface lies at smaller "along", else -1.
      first: [2N] the first scan line that crosses the edge.
      jobs: [2N] the number of lines that do; 0 for edges that are not outlines.
    """

    line: Float[Array, "N 6"]
    side: Float[Array, " N"]
    first: Int[Array, " N"]
    jobs: Int[Array, " N"]


def _outline(xy, z, edges, size, cull) -> _Outline:
    points = jnp.concatenate([xy, z[:, None]], axis=1)
    a, b, apex = points[edges.ends[0]], points[edges.ends[1]], points[edges.apex]
    run, rise = b[:, 0] - a[:, 0], b[:, 1] - a[:, 1]
    turn = run * (apex[:, 1] - a[:, 1]) - rise * (apex[:, 0] - a[:, 0])
    # The faces that `rasterize` does not draw have no outline either.
    drawn = jnp.isfinite(turn) & jnp.all(jnp.isfinite(jnp.stack([a, b, apex])), axis=(0, 2))
    if cull:
        drawn &= jnp.where(edges.turned > 0, -turn, turn) < 0
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
        halves.append(_Outline(jnp.stack(columns, axis=1), side, begin, jobs))
    return _Outline(*(jnp.concatenate(pair) for pair in zip(*halves, strict=True)))


class _Crossings(NamedTuple):
    """Where scan lines cross the outline, one entry per job slot.

    Attributes:
      near, far: [J] flat pixels inside and outside of the surface, out of range if unused.
      place: [J] the pair of pixels and its scan line, as a row of the contest's buffer.
      key: [J] rank in the contest of the pair: the farthest out wins.
      share: [J] how far the surface reaches from near to far, less one half.
      weight: [J] pixels of the outline that the crossing stands for; 0 where the other axis
        counts the edge, which still hides what lies behind it.
      u: [J] where on the edge the crossing lies, 0 to 1.
      half: [J] row of `_Outline`.
    """

    near: Int[Array, " J"]
    far: Int[Array, " J"]
    place: Int[Array, " J"]
    key: Int[Array, " J"]
    share: Float[Array, " J"]
    weight: Float[Array, " J"]
    u: Float[Array, " J"]
    half: Int[Array, " J"]


def _cross(outline, ends, first, depth) -> _Crossings:
    """The crossings of job slots first ... first + _BUDGET - 1."""
    height, width = depth.shape
    pixels, count = height * width, outline.jobs.shape[0] // 2
    owner, rank, used = assign(outline.jobs, ends, first, _BUDGET)
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
    place = jnp.where(side > 0, below, below + 1) + outward * jnp.arange(-1, 3)[:, None]
    row, column = jnp.where(by_rows, middle, place), jnp.where(by_rows, place, middle)
    seen = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    pixel = jnp.where(seen, row * width + column, pixels)
    z_at = depth.reshape(-1).at[pixel].get(mode="fill", fill_value=jnp.nan)
    near = far = jnp.full_like(owner, pixels)
    reach = jump = jnp.zeros_like(crossing)
    # The outline may pass the pixels' own line, the middle one, a pixel farther out or in: where
    # the depth jumps, not between two pixels of one surface.
    for k in (1, 2, 0):
        step = z_at[k + 1] - z_at[k]
        chosen = used & jnp.isfinite(z_at[k]) & (z < z_at[k + 1]) & (step > jump)
        near, far = jnp.where(chosen, pixel[k], near), jnp.where(chosen, pixel[k + 1], far)
        reach = jnp.where(chosen, (crossing - place[k]) * side, reach)
        jump = jnp.where(chosen, step, jump)
    crosses, runs = jnp.abs(p1 - p0), jnp.abs(q1 - q0)
    counts = jnp.where(by_rows, crosses >= runs, crosses > runs)
    lane = 2 * jnp.where(by_rows, 0, 1) + (side > 0)
    place = (near * _LINES + line % _LINES) * 4 + lane
    level = (jnp.clip((reach + 1) / 3, 0, 1) * (2.0 ** (32 - _ID_BITS) - 2)).astype(jnp.uint32) + 1
    key = (level << _ID_BITS) | (owner % 2**_ID_BITS).astype(jnp.uint32)
    place = jnp.where(jump > 0, place, pixels * _LINES * 4)
    return _Crossings(near, far, place, key, reach - 0.5, counts / _LINES, u, owner)


def _passes(outline, depth, step, state):
    """Runs step(crossings, state) -> state over all crossings, _BUDGET at a time."""
    ends = jnp.cumsum(outline.jobs, dtype=jnp.int32)

    def body(carry):
        index, state = carry
        return index + 1, step(_cross(outline, ends, index * _BUDGET, depth), state)

    return jax.lax.while_loop(lambda c: c[0] * _BUDGET < ends[-1], body, (jnp.int32(0), state))[1]


def _winners(outline, depth):
    """The contest of all crossings of a pair of pixels on a scan line.

    Outlines that others hide, inner rims and the like, lie farther in than the one that is seen.
    """
    buffer = jnp.zeros(depth.size * _LINES * 4, jnp.uint32)
    return _passes(outline, depth, lambda c, best: best.at[c.place].max(c.key, mode="drop"), buffer)


def _won(crossings, best):
    held = best.at[crossings.place].get(mode="fill", fill_value=0)
    same_edge = (held ^ crossings.key) % 2**_ID_BITS == 0
    # Computed twice, in programs that XLA may round in different ways.
    step = (held >> _ID_BITS).astype(jnp.int32) - (crossings.key >> _ID_BITS).astype(jnp.int32)
    return jnp.where(same_edge & (jnp.abs(step) <= _ROUNDING), crossings.weight, 0)


@partial(jax.custom_vjp, nondiff_argnums=(5,))
def _blend(image, xy, z, depth, edges, cull):
    return map_images(partial(_blend_forward, edges=edges, cull=cull), 1, image, xy, z, depth)


def _blend_vjp_forward(image, xy, z, depth, edges, cull):
    return _blend(image, xy, z, depth, edges, cull), (image, xy, z, depth, edges)


def _blend_vjp_backward(cull, residuals, cotangent):
    image, xy, z, depth, edges = residuals
    pull = partial(_blend_backward, edges=edges, cull=cull)
    d_image, d_xy = map_images(pull, 1, image, xy, z, depth, cotangent)
    return d_image, d_xy, jnp.zeros_like(z), jnp.zeros_like(depth), None


_blend.defvjp(_blend_vjp_forward, _blend_vjp_backward)


def _rows(table, pixel):
    return table.reshape(-1, table.shape[-1]).at[pixel].get(mode="fill", fill_value=0)


def _blend_forward(image, xy, z, depth, edges, cull):
    outline = _outline(xy, z, edges, depth.shape, cull)
    best = _winners(outline, depth)

    def step(c, total):
        weight = _won(c, best)
        contrast = _rows(image, c.near) - _rows(image, c.far)
        change = (weight * c.share)[:, None] * contrast
        total = total.at[c.far].add(jnp.where(c.share[:, None] > 0, change, 0), mode="drop")
        return total.at[c.near].add(jnp.where(c.share[:, None] > 0, 0, change), mode="drop")

    return _passes(outline, depth, step, image.reshape(depth.size, -1)).reshape(image.shape)


def _blend_backward(image, xy, z, depth, cotangent, edges, cull):
    outline = _outline(xy, z, edges, depth.shape, cull)
    best = _winners(outline, depth)
    count = edges.edge.shape[0]

    def step(c, state):
        d_image, d_xy = state
        weight = _won(c, best)
        g_near, g_far = _rows(cotangent, c.near), _rows(cotangent, c.far)
        outward, inward = weight * jnp.maximum(c.share, 0), weight * jnp.maximum(-c.share, 0)
        g = outward[:, None] * g_far - inward[:, None] * g_near
        d_image = d_image.at[c.near].add(g, mode="drop").at[c.far].add(-g, mode="drop")

        contrast = _rows(image, c.near) - _rows(image, c.far)
        slope_of = jnp.where((c.share > 0)[:, None], g_far, g_near)
        d_along = outline.side[c.half] * weight * jnp.sum(slope_of * contrast, axis=1)
        p0, q0, _, p1, q1, _ = outline.line[c.half].T
        d_across = -d_along * (q1 - q0) / jnp.where(p1 == p0, 1, p1 - p0)
        by_rows = (c.half < count)[:, None]
        pull = jnp.stack([d_along, d_across], axis=1)
        pull = jnp.where(by_rows, pull, pull[:, ::-1])
        ends = edges.ends[:, c.half % count]
        target = jnp.where(c.near < depth.size, ends, xy.shape[0])
        for end, part in zip(target, (1 - c.u, c.u), strict=True):
            d_xy = d_xy.at[end].add(part[:, None] * pull, mode="drop")
        return d_image, d_xy

    start = cotangent.reshape(depth.size, -1), jnp.zeros_like(xy)
    d_image, d_xy = _passes(outline, depth, step, start)
    return d_image.reshape(image.shape), d_xy
