"""Meshes for the rasteriser's tests, and a float64 loop over triangles to judge it by."""

from __future__ import annotations

import numpy as np


def soup(rng, *, batch=4, triangles=120, spread=0.5):
    """Loose triangles of all sizes, some leaving the frame: vertices [B, 3T, 3], faces [T, 3]."""
    centre = rng.uniform(-1.1, 1.1, (batch, triangles, 1, 3))
    extent = spread * rng.uniform(0.02, 1, (batch, triangles, 1, 1)) ** 3
    corners = centre + extent * rng.normal(size=(batch, triangles, 3, 3))
    faces = rng.permutation(3 * triangles).reshape(triangles, 3)
    return corners.reshape(batch, -1, 3).astype(np.float32), faces


def sphere(subdivisions=3):
    """A unit icosphere, counter-clockwise from outside in x right, y up, z to the viewer."""
    golden = (1 + 5**0.5) / 2
    points = [[0, i, j * golden] for i in (-1, 1) for j in (-1, 1)]
    points = np.array([np.roll(point, shift) for shift in range(3) for point in points], float)
    triples = np.array(np.meshgrid(*[range(12)] * 3, indexing="ij")).reshape(3, -1).T
    edges = np.linalg.norm(points[triples] - points[np.roll(triples, 1, axis=1)], axis=-1)
    faces = triples[np.all(np.isclose(edges, 2), axis=1) & (triples[:, 0] == triples.min(axis=1))]
    a, b, c = (points[faces[:, k]] for k in range(3))
    faces = faces[np.sum(np.cross(b - a, c - a) * a, axis=1) > 0]
    for _ in range(subdivisions):
        middles, split = {}, []
        points = list(points)
        for face in faces.tolist():
            middle = []
            for edge in zip(face, face[1:] + face[:1], strict=True):
                if frozenset(edge) not in middles:
                    middles[frozenset(edge)] = len(points)
                    points.append(np.mean([points[i] for i in edge], axis=0))
                middle.append(middles[frozenset(edge)])
            a, b, c, ab, bc, ca = *face, *middle
            split += [[a, ab, ca], [b, bc, ab], [c, ca, bc], [ab, bc, ca]]
        points, faces = np.array(points), np.array(split)
    return points / np.linalg.norm(points, axis=1, keepdims=True), faces


def posed_spheres(rng, zooms=(0.5, 0.8, 0.95, 4.0)):
    """Turned and bulging spheres as `project` returns them, one per zoom."""
    points, faces = sphere()
    vertices = []
    for zoom in zooms:
        turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
        turn *= np.sign(np.linalg.det(turn))
        bulge = 1 + 0.1 * np.sin(5 * points @ rng.normal(size=(3, 1)))
        vertices.append(zoom * (points * bulge) @ turn.T * [1, -1, -1])
    return np.array(vertices, np.float32), faces


def oracle(vertices, faces, size, *, cull=False, margin=1e-4, bits=16):
    """One image by a float64 loop over triangles.

    Returns:
      Face indices, depths and the pixels in doubt: those within `margin` pixels of an edge that
      could matter, or with two depths closer than float32 input and `bits` bits can tell apart.
    """
    height, width = size
    points = vertices.astype(np.float64)
    points[:, :2] = (points[:, :2] + 1) * [width / 2, height / 2] - 0.5
    used = points[np.unique(faces)]
    quantum = 2.0**-bits * np.ptp(used[np.isfinite(used).all(axis=1), 2])
    face_index = np.full(size, -1)
    depth, tolerance = np.full(size, np.inf), np.zeros(size)
    doubt = np.zeros(size, bool)
    for face, triangle in enumerate(faces):
        corner = points[triangle]
        if not np.isfinite(corner).all():
            continue
        (ax, ay), (bx, by), (cx, cy) = corner[:, :2]
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        if area == 0 or (cull and area > 0):
            continue
        low = np.clip(np.floor(corner[:, :2].min(axis=0)) - 1, 0, [width, height]).astype(int)
        high = np.clip(np.ceil(corner[:, :2].max(axis=0)) + 2, 0, [width, height]).astype(int)
        if np.any(low >= high):
            continue
        window = np.s_[low[1] : high[1], low[0] : high[0]]
        row, column = np.mgrid[window]
        distances, z, slope = [], 0, np.zeros(2)
        for k in range(3):
            tail, head = corner[k - 2, :2], corner[k - 1, :2]
            edge = head - tail
            cross = edge[0] * (row - tail[1]) - edge[1] * (column - tail[0])
            z = z + cross / area * corner[k, 2]
            slope += np.array([-edge[1], edge[0]]) / area * corner[k, 2]
            distances.append(np.sign(area) * cross / max(np.hypot(*edge), 1e-300))
        inside = np.min(distances, axis=0)
        # The slope of a sliver is no measure of its depths: those lie between its corners'.
        allowed = quantum + min(margin * np.abs(slope).sum(), np.ptp(corner[:, 2]))
        seen, slack, unsure = depth[window], tolerance[window], doubt[window]
        near = (inside > -margin) & (z <= seen + allowed + slack)
        unsure |= near & ((inside < margin) | (z >= seen - allowed - slack))
        won = (inside >= 0) & (z < seen)
        # A clear win removes the doubts of what it hides.
        unsure &= ~((inside >= margin) & (z < seen - allowed - slack))
        face_index[window][won], seen[won], slack[won] = face, z[won], allowed
    return face_index, depth, doubt
