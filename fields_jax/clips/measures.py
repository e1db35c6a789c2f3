"""How steady a clip is, and whether smoothing delays it."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float

_MOST_LAG = 10  # frames
_LEAST_FRAMES = 12  # that a lag is measured on


def jitter(
    points: Float[np.ndarray, "T N D"],
    unit: Float[np.ndarray, " T"],
    seen: Bool[np.ndarray, " T"],
) -> float | None:
    """Mean length of the points' second difference from frame to frame, in units.

    Args:
      points: of each frame.
      unit: of length in each frame, such as the inter-ocular distance.
      seen: frames that count; a difference needs three in a row.

    Returns:
      None where no three frames are in a row.
    """
    three = seen[:-2] & seen[1:-1] & seen[2:]
    if not three.any():
        return None
    second = np.linalg.norm(points[:-2] - 2 * points[1:-1] + points[2:], axis=-1).mean(axis=-1)
    return float((second / unit[1:-1])[three].mean())


def lag(before: Float[np.ndarray, "T K"], after: Float[np.ndarray, "T K"]) -> float | None:
    """By how many frames a smoothed movement comes late, by cross-correlation.

    The shift at which the smoothed movement fits the original best, between frames by a parabola.

    Args:
      before: of T frames in a row.
      after: the same, smoothed.

    Returns:
      None for short or still clips.
    """
    count = len(before)
    most = min(_MOST_LAG, count // 4)
    if count < _LEAST_FRAMES:
        return None
    one, other = before - before.mean(axis=0), after - after.mean(axis=0)
    power = np.sqrt((one**2).sum() * (other**2).sum())
    if power < 1e-9:
        return None
    shifts = np.arange(-most, most + 1)
    likeness = np.array([_likeness(one, other, shift) for shift in shifts])
    best = int(likeness.argmax())
    if best in (0, len(shifts) - 1):
        return float(shifts[best])
    left, middle, right = likeness[best - 1 : best + 2]
    bend = left - 2 * middle + right
    return float(shifts[best] + (0.5 * (left - right) / bend if bend < 0 else 0.0))


def _likeness(one: np.ndarray, other: np.ndarray, shift: int) -> float:
    """Correlation of `one` with `other` read `shift` frames later."""
    count = len(one)
    a = one[max(0, -shift) : count - max(0, shift)]
    b = other[max(0, shift) : count - max(0, -shift)]
    return float((a * b).sum() / np.sqrt(max((a**2).sum() * (b**2).sum(), 1e-30)))
