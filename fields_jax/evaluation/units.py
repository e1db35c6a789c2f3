"""Units of the lengths in files that do not say theirs, checked against the size of a head."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from fields_jax.errors import UserError

UNITS = {"mm": 1e-3, "cm": 1e-2, "m": 1.0}  # in metres
# Diagonal in metres of the box around the middle 98 % of the points: from the middle of a child's
# face to a head with its shoulders. Neighbouring units of `UNITS` never fit both by a factor of 10
# for what people scan, 0.15 to 0.6 m.
_SMALLEST, _LARGEST = 0.06, 1.2


def diagonal(points: Float[np.ndarray, "N 3"]) -> float:
    """Of the box around the middle 98 % of the points, in their unit."""
    low, high = np.percentile(points, [1, 99], axis=0)
    return float(np.linalg.norm(high - low))


def in_metres(
    points: Float[np.ndarray, "N 3"], unit: str, name: str, flag: str
) -> Float[np.ndarray, "N 3"]:
    """Points of a face or a head in metres.

    Args:
      points: [N, 3] in the unit.
      unit: of `UNITS`.
      name: of the file, for messages.
      flag: that says the unit, such as "--scan_unit"; "" where the unit is given.

    Raises:
      UserError: nothing of that size is a head; the units that fit are named.
    """
    size = diagonal(points)
    if _SMALLEST <= size * UNITS[unit] <= _LARGEST:
        return points * UNITS[unit]
    told = f"{flag}=" if flag else "it would be one in "
    fitting = [each for each, metres in UNITS.items() if _SMALLEST <= size * metres <= _LARGEST]
    remedy = (
        " or ".join(f"{told}{each} ({1e3 * size * UNITS[each]:.3g} mm)" for each in fitting)
        or "no unit of mm, cm and m makes it a head"
    )
    raise UserError(
        f"{name} spans {size:.3g} {unit}, which no head does: the unit is wrong; {remedy}"
    )
