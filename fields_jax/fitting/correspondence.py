"""Which scan points belong to which places of a posed face, in numpy."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.spatial import KDTree

from fields_jax.fitting.closest_point import Closest, closest_points
from fields_jax.fitting.surface import Matches

_FACING = np.cos(np.deg2rad(60))  # normals that differ by more belong to different surfaces
_ON_BORDER = 1e-6  # weight below which a corner does not carry a point


def match(
    vertices: Float[np.ndarray, "V 3"],
    triangles: Int[np.ndarray, "F 3"],
    border: Bool[np.ndarray, " V"],
    points: Float[np.ndarray, "N 3"],
    normals: Float[np.ndarray, "N 3"] | None,
    reach: float,
) -> tuple[Matches, Float[np.ndarray, " N"]]:
    """Matches of scan points, and their distances in the unit of the points.

    Points further than `reach`, those whose closest place is on the border (neck, hair, eyeballs
    lie beyond it) and those that face another way get weight 0. Rows that are not finite stand for
    no point; theirs and the border's distances are NaN.
    """
    real = np.isfinite(points).all(axis=1)
    points = np.where(real[:, None], points, vertices.mean(axis=0))
    closest = closest_points(vertices, triangles, points)
    corners = triangles[closest.face]
    normal = _unit(_interpolate(_vertex_normals(vertices, triangles), corners, closest))
    carried_inside = (closest.barycentric > _ON_BORDER) & ~border[corners]
    judged = real & carried_inside.any(axis=1)
    kept = judged & (closest.distance < reach)
    if normals is not None:
        kept &= np.einsum("nd,nd->n", normal, _unit(normals)) > _FACING
    matches = Matches(
        corners=corners.astype(np.int32),
        barycentric=closest.barycentric.astype(np.float32),
        normal=normal.astype(np.float32),
        target=points.astype(np.float32),
        weight=kept.astype(np.float32),
    )
    return matches, np.where(judged, closest.distance, np.nan)


def covered(
    vertices: Float[np.ndarray, "V 3"], points: Float[np.ndarray, "N 3"], reach: float
) -> float:
    """Share of the vertices with a scan point within `reach`."""
    distance, _ = KDTree(points).query(vertices)
    return float(np.mean(distance < reach))


def rigid(
    source: Float[np.ndarray, "N 3"], target: Float[np.ndarray, "N 3"]
) -> tuple[Float[np.ndarray, "3 3"], Float[np.ndarray, "3"], float]:
    """Rotation and translation that carry one point set to another, in least squares.

    By singular values (Umeyama 1991). The third value is the scale between the sets, which the
    first two leave out.
    """
    a, b = source - source.mean(axis=0), target - target.mean(axis=0)
    u, size, v = np.linalg.svd(b.T @ a)
    size[2] *= np.sign(np.linalg.det(u @ v))
    rotation = u @ np.diag([1, 1, np.sign(np.linalg.det(u @ v))]) @ v
    return rotation, target.mean(axis=0) - rotation @ source.mean(axis=0), size.sum() / (a**2).sum()


def _vertex_normals(
    vertices: Float[np.ndarray, "V 3"], triangles: Int[np.ndarray, "F 3"]
) -> Float[np.ndarray, "V 3"]:
    a, b, c = (vertices[triangles[:, i]] for i in range(3))
    areas = np.cross(b - a, c - a)
    normals = np.zeros_like(vertices)
    for i in range(3):
        np.add.at(normals, triangles[:, i], areas)
    return _unit(normals)


def _interpolate(
    values: Float[np.ndarray, "V 3"], corners: Int[np.ndarray, "N 3"], closest: Closest
) -> Float[np.ndarray, "N 3"]:
    return np.einsum("nc,ncd->nd", closest.barycentric, values[corners])


def _unit(vectors: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, "N 3"]:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)
