"""Exact closest points on a triangle mesh, by a k-d tree over the triangles' centres."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.spatial import KDTree

from fields_jax.geometry.nearest import nearest_weights

_FIRST_TRIED = 8  # candidates per point at first; fourfold for the points they do not settle


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

    The triangles with the nearest centres are tried. A triangle reaches no further from its centre
    than the mesh's widest one, so once the next centre lies further than the best distance plus
    that reach no other triangle can be closer; until then more are tried. Meshes with a few huge
    triangles among small ones are therefore slow, never wrong.

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
    reach = np.linalg.norm(corners - centres[:, None], axis=-1).max()
    tree = KDTree(centres)
    face = np.zeros(len(queries), np.int64)
    barycentric, distance = np.zeros((len(queries), 3)), np.full(len(queries), np.inf)
    open_, tried = np.arange(len(queries)), min(_FIRST_TRIED, len(faces))
    while len(open_):
        bound, candidates = (
            values.reshape(len(open_), -1) for values in tree.query(queries[open_], tried)
        )
        best = _best(corners[candidates], queries[open_])
        face[open_] = np.take_along_axis(candidates, best.face[:, None], axis=1)[:, 0]
        barycentric[open_], distance[open_] = best.barycentric, best.distance
        unsettled = best.distance > bound[:, -1] - reach
        open_ = open_[unsettled] if tried < len(faces) else open_[:0]
        tried = min(4 * tried, len(faces))
    return Closest(face, barycentric, distance)


def _best(corners: Float[np.ndarray, "Q C 3 3"], queries: Float[np.ndarray, "Q 3"]) -> Closest:
    """The closest of each query's C triangles; `face` is the number of the candidate."""
    weights = nearest_weights(corners, queries[:, None])
    found = np.einsum("qck,qckd->qcd", weights, corners)
    distance = np.linalg.norm(found - queries[:, None], axis=-1)
    face = np.argmin(distance, axis=1)
    rows = np.arange(len(queries))
    return Closest(face, weights[rows, face], distance[rows, face])
