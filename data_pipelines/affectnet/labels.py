"""AffectNet's codes: which annotations are labels, and why others are none."""

from __future__ import annotations

from typing import Any

import numpy as np

from data_pipelines.photographs import Rejected

# Classes beyond the eight expressions.
_OTHERS = {8: "class 8 (none)", 9: "class 9 (uncertain)", 10: "class 10 (no face)"}
_NOT_ANNOTATED = -2  # of valence and arousal
_N_POINTS = 68


def labels(emotion: float, valence: float, arousal: float, name: str) -> dict[str, Any]:
    """Labels of one image as a record takes them; -2 leaves valence and arousal out.

    Raises:
      Rejected: no expression, or numbers that AffectNet does not use.
    """
    if emotion in _OTHERS:
        raise Rejected(_OTHERS[int(emotion)], name)
    if emotion not in range(8):
        raise Rejected("unknown class", f"{name}: class {emotion:g}")
    if _NOT_ANNOTATED in (valence, arousal):
        return dict(emotion=int(emotion))
    if not (abs(valence) <= 1 and abs(arousal) <= 1):  # also where one is not a number
        raise Rejected(
            "valence or arousal out of range", f"{name}: valence {valence:g}, arousal {arousal:g}"
        )
    return dict(emotion=int(emotion), valence=valence, arousal=arousal)


def marks(numbers: np.ndarray, name: str) -> np.ndarray:
    """[68, 2] points of 136 numbers x1, y1, x2, y2 ...

    Raises:
      Rejected: another count, or numbers that are not finite.
    """
    if numbers.size != 2 * _N_POINTS or not np.isfinite(numbers).all():
        raise Rejected(
            "landmarks unusable", f"{name}: expected 136 finite numbers, found {numbers.size}"
        )
    return numbers.reshape(_N_POINTS, 2).astype(np.float32)
