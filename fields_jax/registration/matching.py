"""Closest points of a surface among those that face the same way, in numpy.

Lips touch, lids nearly do, and a mouth's lining lies a millimetre behind its skin: there the
closest point is often on the wrong side. So points are compared in six dimensions, their place and
`turn` times their normal, in which opposite sides lie 2 `turn` apart.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.spatial import KDTree

from fields_jax.geometry.closest_points import closest_weights
from fields_jax.geometry.normals import summed_normals


class Match(NamedTuple):
    """What Q points were matched with.

    Attributes:
      face: [Q] row of the triangle.
      barycentric: [Q, 3] weights of its corners.
      offset: [Q, 3] from the point to its match.
      facing: [Q] cosine of the angle between the two normals.
      border: [Q] the match lies on an open edge, beyond which the surface may have gone on.
    """

    face: Int[np.ndarray, " Q"]
    barycentric: Float[np.ndarray, "Q 3"]
    offset: Float[np.ndarray, "Q 3"]
    facing: Float[np.ndarray, " Q"]
    border: Bool[np.ndarray, " Q"]


class Oriented(NamedTuple):
    """A mesh with what matching needs of it.

    Attributes:
      vertices: [V, 3].
      faces: [F, 3].
      normals: [V, 3] of unit length; 0 where the faces around a vertex have no area.
      border: [V] on an open edge, or on none at all.
    """

    vertices: Float[np.ndarray, "V 3"]
    faces: Int[np.ndarray, "F 3"]
    normals: Float[np.ndarray, "V 3"]
    border: Bool[np.ndarray, " V"]


def oriented(vertices: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"]) -> Oriented:
    """A mesh with its normals and open edges."""
    edges, count = np.unique(
        np.sort(faces[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=1),
        axis=0,
        return_counts=True,
    )
    border = np.ones(len(vertices), bool)
    border[faces] = False
    border[edges[count == 1]] = True
    return Oriented(vertices, faces, unit_normals(vertices, faces), border)


def unit_normals(
    vertices: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"]
) -> Float[np.ndarray, "V 3"]:
    """Area-weighted normals of vertices, of length 1 or 0."""
    if not len(faces):
        return np.zeros_like(vertices)
    return _unit(summed_normals(vertices, faces))


def match(
    target: Oriented,
    points: Float[np.ndarray, "Q 3"],
    normals: Float[np.ndarray, "Q 3"],
    turn: float,
    tried: int,
) -> Match:
    """The points of a mesh nearest in place and direction.

    Args:
      target: the mesh; normals vary linearly over its triangles.
      points: to be matched, in the mesh's unit of length.
      normals: of the points, of unit length.
      turn: the length that a difference of normals of 1 counts as.
      tried: how many triangles, those with the nearest centres, are looked at for each point.
    """
    corners = target.vertices[target.faces]
    corner_normals = target.normals[target.faces]
    centres = np.concatenate([corners.mean(1), turn * _unit(corner_normals.mean(1))], axis=1)
    tried = min(tried, len(target.faces))
    _, near = KDTree(centres).query(np.concatenate([points, turn * normals], axis=1), tried)
    near = near.reshape(len(points), tried)
    weights = closest_weights(corners[near], points[:, None])
    offset = np.einsum("qck,qckd->qcd", weights, corners[near]) - points[:, None]
    found = _unit(np.einsum("qck,qckd->qcd", weights, corner_normals[near]))
    facing = (found * normals[:, None]).sum(-1)
    best = np.argmin((offset**2).sum(-1) + (turn * (1 - facing)) ** 2, axis=1)
    rows = np.arange(len(points))
    face, weights = near[rows, best], weights[rows, best]
    touched = np.where(weights > 1e-6, target.border[target.faces[face]], True)
    return Match(face, weights, offset[rows, best], facing[rows, best], touched.all(1))


def at(
    values: Float[np.ndarray, "V ..."],
    faces: Int[np.ndarray, "F 3"],
    face: Int[np.ndarray, " Q"],
    barycentric: Float[np.ndarray, "Q 3"],
) -> Float[np.ndarray, "Q ..."]:
    """Values of vertices at points of triangles."""
    flat = values.reshape(len(values), -1)
    total = sum(barycentric[:, k, None] * flat[faces[face, k]] for k in range(3))
    return total.reshape(len(face), *values.shape[1:])


def _unit(vectors: Float[np.ndarray, "*N 3"]) -> Float[np.ndarray, "*N 3"]:
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.where(length > 0, length, 1)
