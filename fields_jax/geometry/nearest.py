"""Nearest points on a triangle mesh, in numpy."""

from __future__ import annotations

import numpy as np


def nearest_on_triangles(
    corners: np.ndarray, targets: np.ndarray, tried: int = 24
) -> tuple[np.ndarray, np.ndarray]:
    """The points of triangles [T, 3, 3] nearest to targets: rows [N], barycentric weights [N, 3].

    Only the `tried` triangles with the nearest centres are looked at.
    """
    centre = corners.mean(1)
    distance = ((targets**2).sum(1)[:, None] + (centre**2).sum(1)) - 2 * targets @ centre.T
    close = np.argsort(distance, axis=1, kind="stable")[:, :tried]
    weights = nearest_weights(corners[close], targets[:, None])
    found = np.einsum("nkc,nkcd->nkd", weights, corners[close])
    gap = ((found - targets[:, None]) ** 2).sum(-1)
    best = np.argmin(np.round(gap, 12), axis=1)
    pick = np.arange(len(targets))
    return close[pick, best], weights[pick, best]


def nearest_weights(triangles: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Barycentric weights [..., 3] of the points of triangles [..., 3, 3] nearest to targets."""
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
