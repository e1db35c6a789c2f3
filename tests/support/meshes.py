"""Meshes for the rasteriser's tests, and a float64 loop over triangles to compare with."""

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


def dome(rng, batch=2, rings=5, spokes=9):
    """A bumpy cap facing the viewer: vertices [B, V, 3] in metres, y up, and faces [F, 3]."""
    ring, spoke = np.mgrid[1 : rings + 1, :spokes]
    angle = 2 * np.pi * (spoke + ring / 2) / spokes
    polar = 1.4 * ring / rings
    cap = np.stack(
        [np.sin(polar) * np.cos(angle), np.sin(polar) * np.sin(angle), np.cos(polar)], axis=-1
    )
    points = np.concatenate([[[0, 0, 1]], cap.reshape(-1, 3)])
    faces = [[0, 1 + i, 1 + (i + 1) % spokes] for i in range(spokes)]
    for inner in range(1, 1 + (rings - 1) * spokes, spokes):
        for i in range(spokes):
            a, b = inner + i, inner + (i + 1) % spokes
            faces += [[a, a + spokes, b], [b, a + spokes, b + spokes]]
    bump = rng.normal(scale=0.03, size=(batch, len(points), 3))
    return 0.1 * (points + bump), np.array(faces)


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


# Wild vertices: the axes along which they go far, and how far. The first entry changes nothing.
WILD = [([], 0)]
WILD += [
    (axes, value) for axes in ([0], [1], [2]) for value in (100, 1e4, 1e10, 1e20, 1e37, np.inf)
]
WILD += [
    ([2], 3e38),
    ([0, 1], 1e10),
    ([0, 1], 1e20),
    ([0, 2], 1e20),
    ([0, 1, 2], 1e10),
    ([2], np.nan),
]


def wild_spheres(rng):
    """Images of one sphere, with five vertices wild in each way of `WILD`, now up, now down.

    Returns:
      Vertices, faces, and which faces have a wild vertex; none has two.
    """
    vertices, faces = posed_spheres(rng, zooms=(0.8,))
    vertices = vertices.repeat(len(WILD), axis=0)
    rows = rng.choice(12, 5, replace=False)  # the icosahedron's
    for image, (axes, value) in zip(vertices, WILD, strict=True):
        image[np.ix_(rows, axes)] = np.float32(value) * rng.choice([-1, 1], (5, len(axes)))
    return vertices, faces, np.isin(faces, rows).any(axis=1)


def oracle(vertices, faces, size, *, cull=False, near=-np.inf, margin=1e-4):
    """One image by a float64 loop over triangles.

    Returns:
      Face indices, depths and the pixels in doubt: those within `margin` pixels of an edge that
      could matter, or with two depths, or a depth and `near`, closer than float32 can tell apart.
    """
    height, width = size
    points = vertices.astype(np.float64)
    points[:, :2] = (points[:, :2] + 1) * [width / 2, height / 2] - 0.5
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
        distances, z, size_of_z, slope = [], 0, 0, np.zeros(2)
        for k in range(3):
            tail, head = corner[k - 2, :2], corner[k - 1, :2]
            edge = head - tail
            cross = edge[0] * (row - tail[1]) - edge[1] * (column - tail[0])
            z = z + cross / area * corner[k, 2]
            size_of_z = size_of_z + np.abs(cross / area * corner[k, 2])
            slope += np.array([-edge[1], edge[0]]) / area * corner[k, 2]
            distances.append(np.sign(area) * cross / max(np.hypot(*edge), 1e-300))
        inside = np.min(distances, axis=0)
        # The slope of a sliver may exceed its range of depths, which lie between its corners'.
        allowed = min(margin * np.abs(slope).sum(), np.ptp(corner[:, 2])) + 2.0**-22 * size_of_z
        seen, slack, unsure = depth[window], tolerance[window], doubt[window]
        possible = (inside > -margin) & (z <= seen + allowed + slack) & (z >= near - allowed)
        sure = (inside >= margin) & (z < seen - allowed - slack) & (z > near + allowed)
        won = (inside >= 0) & (z < seen) & (z >= near)
        # A face that is clearly in front removes the doubts of the faces behind it.
        unsure[possible], unsure[sure] = True, False
        face_index[window][won], seen[won], slack[won] = face, z[won], allowed[won]
    return face_index, depth, doubt
