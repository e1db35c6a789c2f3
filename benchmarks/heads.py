"""Heads in random poses to render."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float


def posed(
    points: Float[np.ndarray, "V 3"], batch: int, seed: int = 0
) -> Float[np.ndarray, "B V 3"]:
    """The head over four fifths of the frame, yaw up to 60 degrees, pitch up to 20: [B, V, 3]."""
    points = points - (points.max(axis=0) + points.min(axis=0)) / 2
    points = 0.8 * points / np.abs(points).max()
    turned = []
    for yaw, pitch in np.random.default_rng(seed).uniform(-1, 1, (batch, 2)):
        (cy, sy), (cp, sp) = ((np.cos(a), np.sin(a)) for a in (yaw * np.pi / 3, pitch * np.pi / 9))
        by_yaw = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
        by_pitch = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
        turned.append(points @ (by_pitch @ by_yaw).T * [1, -1, -1])
    return np.array(turned, np.float32)
