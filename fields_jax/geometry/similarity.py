"""Motions that carry one set of points to another."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float


def rigid_motion(
    source: Float[np.ndarray, "N 3"], target: Float[np.ndarray, "N 3"]
) -> tuple[Float[np.ndarray, "3 3"], Float[np.ndarray, "3"], float]:
    """Rotation and translation that carry one point set to another, in least squares.

    By singular values (Umeyama 1991). The third value is the scale between the sets, which the
    first two leave out.
    """
    a, b = source - source.mean(axis=0), target - target.mean(axis=0)
    u, size, v = np.linalg.svd(b.T @ a)
    proper = np.array([1, 1, np.sign(np.linalg.det(u @ v))])
    rotation = (u * proper) @ v
    shift = target.mean(axis=0) - rotation @ source.mean(axis=0)
    return rotation, shift, float((size * proper).sum() / (a**2).sum())
