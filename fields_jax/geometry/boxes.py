"""Boxes along the axes, (x0, y0, x1, y1), in numpy."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float


class Overlap(NamedTuple):
    """What two sets of boxes share.

    Attributes:
      union: [A, B] intersection over union.
      smaller: [A, B] intersection over the smaller box.
    """

    union: Float[np.ndarray, "A B"]
    smaller: Float[np.ndarray, "A B"]


def overlap(one: Float[np.ndarray, "A 4"], other: Float[np.ndarray, "B 4"]) -> Overlap:
    """The overlap of every box with every other; empty boxes share nothing."""
    one, other = np.asarray(one, np.float64)[:, None], np.asarray(other, np.float64)[None]
    sides = np.minimum(one[..., 2:], other[..., 2:]) - np.maximum(one[..., :2], other[..., :2])
    shared = np.maximum(sides, 0).prod(axis=-1)
    areas = [np.maximum(box[..., 2:] - box[..., :2], 0).prod(axis=-1) for box in (one, other)]
    union, smaller = areas[0] + areas[1] - shared, np.minimum(*areas)
    return Overlap(shared / np.maximum(union, 1e-9), shared / np.maximum(smaller, 1e-9))
