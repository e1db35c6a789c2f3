"""AffectNet's codes: which annotations are labels, and why others are not."""

from __future__ import annotations

from typing import Any

import numpy as np

from data_pipelines.building import table_cells
from data_pipelines.building.photographs import Rejected
from fields_jax.errors import UserError

# Classes beyond the eight expressions.
_OTHERS = {8: "class 8 (none)", 9: "class 9 (uncertain)", 10: "class 10 (no face)"}


def labels(
    emotion: float | None, valence: float | None, arousal: float | None, name: str
) -> dict[str, Any]:
    """Labels of one image as a record takes them; unknown ones are left out, -2 among them.

    Raises:
      Rejected: no expression, nothing known, or numbers that AffectNet does not use.
    """
    if emotion in _OTHERS:
        raise Rejected(_OTHERS[int(emotion)], name)
    if emotion is not None and emotion not in range(8):
        raise Rejected("unknown class", f"{name}: class {emotion:g}")
    try:
        known = table_cells.affect(valence, arousal)
    except UserError as error:
        raise Rejected("valence or arousal out of range", f"{name}: {error}") from error
    if emotion is None and not known:
        raise Rejected("no label", name)
    return known if emotion is None else dict(emotion=int(emotion), **known)


def marks(numbers: Any, name: str) -> np.ndarray | None:
    """[68, 2] points of 136 numbers x1, y1, x2, y2 ...; None where none are given.

    Raises:
      Rejected: another count, or numbers that are not finite.
    """
    try:
        return table_cells.points_68(numbers)
    except UserError as error:
        raise Rejected("landmarks unusable", f"{name}: {error}") from error
