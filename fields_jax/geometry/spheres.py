"""Spheres through points, such as the skin of an eyeball."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float


def fit_sphere(points: Float[np.ndarray, "N 3"]) -> tuple[Float[np.ndarray, "3"], float]:
    """Centre and radius of the sphere that fits points, in least squares of |p|^2 - r^2."""
    mean = points.mean(0)
    local = points - mean
    system = np.concatenate([2 * local, np.ones((len(points), 1))], axis=1)
    *centre, rest = np.linalg.lstsq(system, (local**2).sum(1), rcond=None)[0]
    return mean + centre, float(np.sqrt(rest + np.dot(centre, centre)))
