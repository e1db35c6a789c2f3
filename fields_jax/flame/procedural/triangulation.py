"""Triangulation of scattered points: Delaunay in a plane, refined by edge flips in space."""

from __future__ import annotations

import numpy as np


def delaunay(points: np.ndarray) -> np.ndarray:
    """Delaunay triangles, counter-clockwise, of distinct points [N, 2]; [T, 3] indices.

    Points are inserted one by one into a huge triangle; the triangles whose circumcircle holds the
    new point are replaced by a fan around it (Bowyer 1981, Watson 1981). Every test runs over all
    triangles at once, which suits the few thousand points of a head.
    """
    count = len(points)
    centre, size = points.mean(0), np.ptp(points, axis=0).max()
    corners = centre + 1e3 * size * np.array([[-1.0, -1.0], [1.0, -1.0], [0.0, 1.0]])
    points = np.concatenate([points, corners])
    capacity = 2 * count + 8
    triangles = np.zeros((capacity, 3), np.int64)
    circles = np.full((capacity, 3), -1.0)  # centre and squared radius; -1 marks a free slot
    triangles[0] = (count, count + 1, count + 2)
    circles[0] = _circumcircles(points[triangles[:1]])[0]
    used = 1
    for index in range(count):
        offset = circles[:used, :2] - points[index]
        bad = np.flatnonzero((offset**2).sum(1) < circles[:used, 2])
        edges = {
            (int(triangles[row, k]), int(triangles[row, (k + 1) % 3]))
            for row in bad
            for k in range(3)
        }
        rim = sorted(edge for edge in edges if edge[::-1] not in edges)
        slots = np.concatenate([bad, np.arange(used, used + len(rim) - len(bad))])
        used += len(rim) - len(bad)
        triangles[slots] = [(*edge, index) for edge in rim]
        circles[slots] = _circumcircles(points[triangles[slots]])
    found = triangles[:used]
    return found[(found < count).all(1)]


def _circumcircles(corners: np.ndarray) -> np.ndarray:
    """Centres and squared radii [T, 3] of triangles [T, 3, 2]."""
    origin = corners[:, 0]
    b, c = corners[:, 1] - origin, corners[:, 2] - origin
    twice_area = 2 * (b[:, 0] * c[:, 1] - b[:, 1] * c[:, 0])
    bb, cc = (b**2).sum(1), (c**2).sum(1)
    centre = np.stack([c[:, 1] * bb - b[:, 1] * cc, b[:, 0] * cc - c[:, 0] * bb], 1)
    centre = centre / twice_area[:, None]
    return np.concatenate([origin + centre, (centre**2).sum(1, keepdims=True)], 1)


def flip_edges(
    faces: np.ndarray, plane: np.ndarray, space: np.ndarray, passes: int = 6
) -> np.ndarray:
    """Flips edges until opposite angles in space sum to at most pi (Delaunay on the surface).

    Args:
      faces: [T, 3] counter-clockwise in the plane.
      plane: [N, 2]; a flip is made only where its quadrilateral is strictly convex here.
      space: [N, 3] the points on the surface.
      passes: sweeps over all edges at most.

    Returns:
      [T, 3] faces with the same vertices and boundary.
    """
    faces = faces.copy()
    for _ in range(passes):
        if not _flip_sweep(faces, plane, space):
            break
    return faces


def _flip_sweep(faces: np.ndarray, plane: np.ndarray, space: np.ndarray) -> bool:
    """One sweep, in place; each face takes part in one flip at most."""
    start, end = faces.ravel(), np.roll(faces, -1, axis=1).ravel()
    apex = np.roll(faces, -2, axis=1).ravel()
    half_edge = {edge: k for k, edge in enumerate(zip(start.tolist(), end.tolist(), strict=True))}
    twin = np.array([half_edge.get((b, a), -1) for a, b in half_edge])
    inner = np.flatnonzero((twin >= 0) & (start < end))
    a, b, c, d = start[inner], end[inner], apex[inner], apex[twin[inner]]
    excess = _angle(space, c, a, b) + _angle(space, d, a, b) - np.pi
    convex = (_area(plane, c, a, d) > 1e-6) & (_area(plane, d, b, c) > 1e-6)
    flips = np.flatnonzero((excess > 1e-6) & convex)
    touched = np.zeros(len(faces), bool)
    for k in flips[np.argsort(-excess[flips], kind="stable")]:
        one, other = inner[k] // 3, twin[inner[k]] // 3
        new = (int(c[k]), int(d[k]))
        joined = new in half_edge or new[::-1] in half_edge
        if not (touched[one] or touched[other] or joined):
            faces[one], faces[other] = (c[k], a[k], d[k]), (d[k], b[k], c[k])
            touched[one] = touched[other] = True
    return bool(touched.any())


def _angle(points: np.ndarray, apex: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    one, other = points[a] - points[apex], points[b] - points[apex]
    return np.arctan2(np.linalg.norm(np.cross(one, other), axis=1), (one * other).sum(1))


def _area(plane: np.ndarray, a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    one, other = plane[b] - plane[a], plane[c] - plane[a]
    return one[:, 0] * other[:, 1] - one[:, 1] * other[:, 0]


def spread(
    candidates: np.ndarray, spacing: np.ndarray, fixed: np.ndarray, fixed_gap: np.ndarray
) -> np.ndarray:
    """Chooses candidates that keep their distance (dart throwing, in the order given).

    Args:
      candidates: [N, 3] points in the order in which they are tried.
      spacing: [N] distance each keeps from the candidates chosen before it.
      fixed: [M, 3] points that are there already.
      fixed_gap: [M] distance kept from each of those.

    Returns:
      Indices of the chosen candidates.
    """
    chosen: list[int] = []
    taken = np.zeros((len(candidates), 3))
    blocked = np.zeros(len(candidates), bool)
    for point, gap in zip(fixed, fixed_gap, strict=True):
        blocked |= ((candidates - point) ** 2).sum(1) < gap**2
    for index in np.flatnonzero(~blocked):
        near = ((taken[: len(chosen)] - candidates[index]) ** 2).sum(1)
        if not len(chosen) or near.min() >= spacing[index] ** 2:
            taken[len(chosen)] = candidates[index]
            chosen.append(int(index))
    return np.array(chosen)
