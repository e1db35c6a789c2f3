"""Closest points on triangles and on triangle meshes.

`closest_points` is exact, over a whole mesh by a k-d tree; `closest_weights` (numpy) and
`closest_on_triangles` (JAX) do one triangle for each point. They order their operations
differently, and recorded numbers depend on that, so neither can replace the other.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

_FIRST_TRIED = 8  # candidates per point at first; four times as many where these do not suffice
_AT_ONCE = 16384  # queries, which bounds the memory


class Closest(NamedTuple):
    """Closest points of Q queries.

    Attributes:
      face: [Q] row of the triangle.
      barycentric: [Q, 3] weights of its corners.
      distance: [Q] in the unit of the points.
    """

    face: Int[np.ndarray, " Q"]
    barycentric: Float[np.ndarray, "Q 3"]
    distance: Float[np.ndarray, " Q"]


def closest_points(
    vertices: Float[np.ndarray, "V 3"],
    faces: Int[np.ndarray, "F 3"],
    queries: Float[np.ndarray, "Q 3"],
) -> Closest:
    """The point of the mesh closest to each query, computed in float64.

    A triangle reaches no further from its centre than its farthest corner. Triangles of similar
    reach share a tree of their centres, and those with the nearest centres are tried: once the next
    centre lies further than the best distance plus the reach no other triangle of the tree can be
    closer. Of triangles at equal distance the one with the nearest centre in its tree is told.

    Raises:
      ValueError: a mesh without triangles, or values that are not finite.
    """
    vertices, queries = np.asarray(vertices, np.float64), np.asarray(queries, np.float64)
    if len(faces) == 0:
        raise ValueError("closest points of a mesh without triangles")
    if not (np.isfinite(vertices).all() and np.isfinite(queries).all()):
        raise ValueError("closest points need finite vertices and points; drop the others first")
    corners = vertices[faces]
    centres = corners.mean(axis=1)
    reach = np.linalg.norm(corners - centres[:, None], axis=-1).max(axis=1)
    # Octaves above the median reach; all smaller triangles together.
    typical = np.median(reach) or 1.0
    octave = np.ceil(np.log2(np.maximum(reach / typical, 1.0))).astype(np.int64)
    groups = [np.flatnonzero(octave == each) for each in np.unique(octave)]
    groups = [_group(corners, centres, reach, rows) for rows in groups]
    count = len(queries)
    found = Closest(np.zeros(count, np.int64), np.zeros((count, 3)), np.full(count, np.inf))
    for start in range(0, count, _AT_ONCE):
        rows = slice(start, start + _AT_ONCE)
        part = Closest(*(column[rows] for column in found))
        for group in groups:
            _search(group, queries[rows], part)
    return found


class _Group(NamedTuple):
    """Triangles of similar reach: their rows in the mesh, corners, reach, and the centres' tree."""

    rows: Int[np.ndarray, " G"]
    corners: Float[np.ndarray, "G 3 3"]
    reach: Float[np.ndarray, " G"]
    tree: Any


def _group(
    corners: Float[np.ndarray, "F 3 3"],
    centres: Float[np.ndarray, "F 3"],
    reach: Float[np.ndarray, " F"],
    rows: Int[np.ndarray, " G"],
) -> _Group:
    from scipy.spatial import KDTree  # half a second, and some users of this module need no tree

    return _Group(rows, corners[rows], reach[rows], KDTree(centres[rows]))


def _search(group: _Group, queries: Float[np.ndarray, "Q 3"], best: Closest) -> None:
    """Updates `best` in place where a triangle of the group is closer."""
    size, widest = len(group.rows), group.reach.max()
    open_ = np.arange(len(queries))
    done, tried = 0, min(_FIRST_TRIED, size)
    if np.isfinite(best.distance).any():  # most queries need only see that the group is far away
        nearest, _ = group.tree.query(queries)
        open_ = np.flatnonzero(nearest - widest < best.distance)
    while len(open_):
        away, candidate = (
            values.reshape(len(open_), -1) for values in group.tree.query(queries[open_], tried)
        )
        for column in range(done, tried):
            triangle = candidate[:, column]
            hope = np.flatnonzero(away[:, column] - group.reach[triangle] < best.distance[open_])
            if len(hope):
                _improve(group, triangle[hope], queries, open_[hope], best)
        unsettled = best.distance[open_] > away[:, -1] - widest
        open_ = open_[unsettled] if tried < size else open_[:0]
        done, tried = tried, min(4 * tried, size)


def _improve(
    group: _Group,
    triangle: Int[np.ndarray, " H"],
    queries: Float[np.ndarray, "Q 3"],
    rows: Int[np.ndarray, " H"],
    best: Closest,
) -> None:
    """Tries one triangle of the group for each of some rows of the queries."""
    corners, points = group.corners[triangle], queries[rows]
    weights = closest_weights(corners, points)
    distance = np.linalg.norm(np.einsum("hk,hkd->hd", weights, corners) - points, axis=-1)
    closer = distance < best.distance[rows]
    chosen = rows[closer]
    best.face[chosen] = group.rows[triangle[closer]]
    best.barycentric[chosen], best.distance[chosen] = weights[closer], distance[closer]


def closest_of_nearest(
    corners: Float[np.ndarray, "T 3 3"], targets: Float[np.ndarray, "N 3"], tried: int = 24
) -> tuple[Int[np.ndarray, " N"], Float[np.ndarray, "N 3"]]:
    """The points of T triangles closest to targets: rows of triangles and barycentric weights.

    Only the `tried` triangles with the nearest centres are tested. Distances that agree to 12
    decimals count as equal and the first wins, so that mirrored targets get mirrored triangles.
    """
    centre = corners.mean(1)
    distance = ((targets**2).sum(1)[:, None] + (centre**2).sum(1)) - 2 * targets @ centre.T
    close = np.argsort(distance, axis=1, kind="stable")[:, :tried]
    weights = closest_weights(corners[close], targets[:, None])
    found = np.einsum("nkc,nkcd->nkd", weights, corners[close])
    gap = ((found - targets[:, None]) ** 2).sum(-1)
    best = np.argmin(np.round(gap, 12), axis=1)
    pick = np.arange(len(targets))
    return close[pick, best], weights[pick, best]


def closest_weights(
    triangles: Float[np.ndarray, "*T 3 3"], targets: Float[np.ndarray, "*#T 3"]
) -> Float[np.ndarray, "*T 3"]:
    """Barycentric weights of the points of triangles closest to targets; leading axes broadcast."""
    origin = triangles[..., 0, :]
    one, two, offset = (
        triangles[..., 1, :] - origin,
        triangles[..., 2, :] - origin,
        targets - origin,
    )
    aa, ab, bb = (one * one).sum(-1), (one * two).sum(-1), (two * two).sum(-1)
    ap, bp = (one * offset).sum(-1), (two * offset).sum(-1)
    area = np.maximum(aa * bb - ab * ab, 1e-30)
    v, w = (bb * ap - ab * bp) / area, (aa * bp - ab * ap) / area
    options = [np.stack([1 - v - w, v, w], -1)]
    for start, end in ((0, 1), (1, 2), (2, 0)):
        along = triangles[..., end, :] - triangles[..., start, :]
        from_start = targets - triangles[..., start, :]
        length = np.maximum((along * along).sum(-1), 1e-30)
        share = np.clip((from_start * along).sum(-1) / length, 0, 1)
        edge = np.zeros_like(triangles[..., 0])
        edge[..., start], edge[..., end] = 1 - share, share
        options.append(edge)
    options = np.stack(options, -2)  # [..., 4, 3]: inside, then the three edges
    found = np.einsum("...ik,...kd->...id", options, triangles)
    gap = ((found - targets[..., None, :]) ** 2).sum(-1)
    gap[..., 0] = np.where((options[..., 0, :] >= 0).all(-1), gap[..., 0], np.inf)
    best = np.argmin(gap, -1)[..., None, None]
    return np.take_along_axis(options, best, -2)[..., 0, :]


def closest_on_triangles(
    corners: Float[Array, "*N 3 3"], points: Float[Array, "*#N 3"]
) -> tuple[Float[Array, "*N 3"], Float[Array, "*N"]]:
    """Barycentric weights of the points of triangles closest to others, and squared distances.

    Where the foot of the perpendicular lies outside, the closest point is on one of the edges.
    Leading axes broadcast, but their number is the same.
    """
    a = corners[..., 0, :]
    one, two, offset = corners[..., 1, :] - a, corners[..., 2, :] - a, points - a
    aa, ab, bb = _dot(one, one), _dot(one, two), _dot(two, two)
    ap, bp = _dot(one, offset), _dot(two, offset)
    area = jnp.maximum(aa * bb - ab * ab, 1e-24)
    v, w = (bb * ap - ab * bp) / area, (aa * bp - ab * ap) / area
    along_one, along_two = _share(ap, aa), _share(bp, bb)
    across = _share(_dot(two - one, offset - one), aa - 2 * ab + bb)
    zero = jnp.zeros_like(v)
    # Pairs (v, w) of the inside and of the edges ab, ac and bc.
    v = jnp.stack([v, along_one, zero, 1 - across])
    w = jnp.stack([w, zero, along_two, across])
    gap = v[..., None] * one[None] + w[..., None] * two[None] - offset[None]
    squared = _dot(gap, gap)
    outside = (v[0] < 0) | (w[0] < 0) | (v[0] + w[0] > 1)
    squared = squared.at[0].set(jnp.where(outside, jnp.inf, squared[0]))
    best = jnp.argmin(squared, axis=0)[None]
    v, w, squared = (jnp.take_along_axis(x, best, axis=0)[0] for x in (v, w, squared))
    return jnp.stack([1 - v - w, v, w], axis=-1), squared


def _dot(a: Float[Array, "*#N 3"], b: Float[Array, "*#N 3"]) -> Float[Array, "*N"]:
    return jnp.sum(a * b, axis=-1)


def _share(along: Float[Array, "*N"], length: Float[Array, "*N"]) -> Float[Array, "*N"]:
    return jnp.clip(along / jnp.maximum(length, 1e-18), 0, 1)
