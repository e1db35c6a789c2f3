"""Displacements of a mesh that bend little: a thin plate drawn to targets.

Minimises over the displacements d [V, 3], with m the areas around the vertices,

    sum_v m_v w_v |d_v - t_v|^2  +  sum_p a_p |(B d)_p - t_p|^2  +  l^4 d' L' M^-1 L d

where B d are the displacements of points inside triangles and L is the cotangent Laplacian
(Pinkall and Polthier 1993): the last term is the integral of the squared Laplacian of d, which is 0
for displacements that are linear over a flat surface. Details of d much finer than the length l are
smoothed away. All terms are areas times squared lengths, so that neither the unit of length nor
the density of the mesh matters.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy.sparse as sparse
from jaxtyping import Float, Int
from scipy.sparse.linalg import splu

# Cotangents of slivers, which would make the plate rigid or soft there; 0.1 and 10 are those of 84
# and 6 degrees.
_COTANGENTS = (0.02, 10.0)
_ANCHOR = 1e-6  # weight of d = 0 everywhere, which settles components that nothing draws


class Plate(NamedTuple):
    """A mesh at rest.

    Attributes:
      area: [V] a third of the triangles around each vertex.
      bending: [V, V] L' M^-1 L.
    """

    area: Float[np.ndarray, " V"]
    bending: sparse.csc_array


class Pulls(NamedTuple):
    """What draws points of the mesh to where.

    Attributes:
      points: [P, V] rows of barycentric weights.
      area: [P] weight of each.
      target: [P, 3] displacement it is drawn to.
    """

    points: sparse.csr_array
    area: Float[np.ndarray, " P"]
    target: Float[np.ndarray, "P 3"]


def plate(vertices: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"]) -> Plate:
    """The tables of a mesh at rest; vertices of no triangle hang on their anchors alone."""
    corners = vertices[faces]
    doubled = np.linalg.norm(
        np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1
    )
    area = np.bincount(faces.ravel(), np.repeat(doubled / 6, 3), len(vertices))
    used = np.maximum(area, 1e-6 * area.mean())
    rows, columns, weights = [], [], []
    for k in range(3):
        i, j = faces[:, (k + 1) % 3], faces[:, (k + 2) % 3]
        one, two = corners[:, (k + 1) % 3] - corners[:, k], corners[:, (k + 2) % 3] - corners[:, k]
        cotangent = (one * two).sum(1) / np.maximum(doubled, 1e-12 * doubled.mean())
        rows += [i, j]
        columns += [j, i]
        weights += 2 * [np.clip(cotangent, *_COTANGENTS) / 2]
    size = (len(vertices), len(vertices))
    joined = (np.concatenate(weights), (np.concatenate(rows), np.concatenate(columns)))
    adjacency = sparse.coo_array(joined, shape=size).tocsr()
    laplacian = sparse.diags_array(adjacency.sum(axis=1)) - adjacency
    bending = laplacian.T @ sparse.diags_array(1 / used) @ laplacian
    return Plate(area, bending.tocsc())


def pulls(
    faces: Int[np.ndarray, "P 3"],
    barycentric: Float[np.ndarray, "P 3"],
    area: Float[np.ndarray, " P"],
    target: Float[np.ndarray, "P 3"],
    count: int,
) -> Pulls:
    """Points of triangles, given by their corners, drawn to displacements."""
    rows = np.repeat(np.arange(len(faces)), 3)
    points = sparse.csr_array(
        (barycentric.ravel(), (rows, faces.ravel())), shape=(len(faces), count)
    )
    return Pulls(points, area, target)


def displaced(
    rest: Plate,
    weight: Float[np.ndarray, " V"],
    target: Float[np.ndarray, "V 3"],
    others: list[Pulls],
    length: float,
) -> Float[np.ndarray, "V 3"]:
    """The displacements of least energy.

    Args:
      rest: the mesh.
      weight: of each vertex, 0 for none.
      target: its displacement.
      others: pulls at points of triangles.
      length: l, in the mesh's unit.
    """
    pull = rest.area * weight
    matrix = length**4 * rest.bending + sparse.diags_array(pull + _ANCHOR * rest.area.mean())
    right = pull[:, None] * target
    for each in others:
        scaled = each.points.T @ sparse.diags_array(each.area)
        matrix = matrix + scaled @ each.points
        right = right + scaled @ each.target
    # Symmetric and positive: pivoting would only make the factors larger.
    factors = splu(
        matrix.tocsc(),
        permc_spec="MMD_AT_PLUS_A",
        diag_pivot_thresh=0.0,
        options={"SymmetricMode": True},
    )
    return factors.solve(right)
