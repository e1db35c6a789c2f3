"""Reads cells of other people's tables: texts, numbers, labels, or nothing.

Tables come from the authors of sets, from spreadsheets and from pandas, which write the same value
in many ways: 1 as 1.0, and unknown values as an empty cell, NaN, None, NA or a number out of range.
Here a known value is kept, an unknown one becomes None, and anything else raises an error.
"""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np

from fields_jax.emotions import EMOTIONS
from fields_jax.errors import UserError, quoted

# What pandas reads as missing, in any case, and what it writes for it.
_UNKNOWN = frozenset(
    {"", "nan", "-nan", "na", "n/a", "#n/a", "#na", "none", "null", "nil", "nat", "<na>"}
    | {"1.#ind", "-1.#ind", "1.#qnan", "-1.#qnan"}
)
# Numbers that stand for "unknown": ours for a class or a level; AffectNet's and Aff-Wild2's for
# valence and arousal.
NO_CLASS = -1
NO_AFFECT = (-2, -5)

_INTEGRAL = re.compile(r"([+-]?\d+)\.0*")  # as pandas writes integers beside missing values
_BETWEEN_NUMBERS = re.compile(r"[;,\s\[\]()]+")
_N_POINTS = 68


def is_unknown(cell: Any) -> bool:
    """Whether a cell is empty: None, NaN, or one of the words for it."""
    if isinstance(cell, float):
        return math.isnan(cell)
    return cell is None or (isinstance(cell, str) and cell.strip().casefold() in _UNKNOWN)


def text(cell: Any) -> str | None:
    """A name; 7, 7.0 and "7.0" are the same one, "7".

    Raises:
      UserError: neither a text nor a number.
    """
    if is_unknown(cell):
        return None
    if isinstance(cell, bool) or not isinstance(cell, (str, int, float)):
        raise UserError(f"{quoted(cell)} is no name")
    name = _storable(str(cell).strip())
    return integral[1] if (integral := _INTEGRAL.fullmatch(name)) else name


def path(cell: Any) -> str | None:
    """A path with slashes, also if another system wrote it with backslashes.

    Raises:
      UserError: not a text, or one that cannot be the name of a file.
    """
    if is_unknown(cell):
        return None
    if not isinstance(cell, str):
        raise UserError(f"{quoted(cell)} is no path")
    return _storable(cell.strip().replace("\\", "/"))


def number(cell: Any) -> float | None:
    """A finite number, given as such or as text.

    Raises:
      UserError: none.
    """
    if is_unknown(cell):
        return None
    given = not isinstance(cell, bool) and isinstance(cell, (str, int, float))
    try:
        value = float(cell) if given and "_" not in str(cell) else math.nan
    except (ValueError, OverflowError):
        value = math.nan
    if not math.isfinite(value):
        raise UserError(f"{quoted(cell)} is no number")
    return value


def whole(cell: Any) -> int | None:
    """A whole number, also if written as 1.0.

    Raises:
      UserError: none.
    """
    value = number(cell)
    if value is not None and not value.is_integer():
        raise UserError(f"{quoted(cell)} is no whole number")
    return None if value is None else int(value)


def emotion(cell: Any) -> int | None:
    """A row of `EMOTIONS` by its name or number.

    Raises:
      UserError: neither.
    """
    name = cell.strip().casefold() if isinstance(cell, str) else cell
    if name in EMOTIONS:
        return EMOTIONS.index(name)
    try:
        found = whole(cell)
    except UserError:
        found = len(EMOTIONS)
    if found is None or found == NO_CLASS:
        return None
    if not 0 <= found < len(EMOTIONS):
        raise UserError(f"emotion {quoted(cell)} is no name or number of AffectNet's")
    return found


def level(cell: Any) -> int | None:
    """How strong an intended expression is: 0, 1 or 2.

    Raises:
      UserError: another number, or none.
    """
    found = whole(cell)
    if found is None or found == NO_CLASS:
        return None
    if found not in (0, 1, 2):
        raise UserError(f"level {quoted(cell)} is not 0, 1 or 2")
    return found


def affect(valence: Any, arousal: Any) -> dict[str, float]:
    """Valence and arousal as labels; neither if one of the two is unknown.

    Raises:
      UserError: one is not a number in [-1, 1].
    """
    known = {}
    for name, cell in (("valence", valence), ("arousal", arousal)):
        value = number(cell)
        if value is None or value in NO_AFFECT:
            continue
        if not -1 <= value <= 1:
            raise UserError(f"{name} {quoted(cell)} is not in [-1, 1]")
        known[name] = value
    return known if len(known) == 2 else {}


def points_68(cell: Any) -> np.ndarray | None:
    """[68, 2] float32 of 136 numbers x1, y1, x2 ..., or of 68 pairs, as text or as a list.

    Raises:
      UserError: other numbers, or some that are not finite.
    """
    if is_unknown(cell):
        return None
    if isinstance(cell, str):
        cell = [part for part in _BETWEEN_NUMBERS.split(cell) if part]
    try:
        with np.errstate(over="ignore", invalid="ignore"):
            numbers = np.array(cell, np.float64).astype(np.float32)
    except (ValueError, TypeError, OverflowError):
        raise UserError(f"{quoted(cell)} are no landmarks") from None
    if numbers.shape not in ((2 * _N_POINTS,), (_N_POINTS, 2)):
        raise UserError(f"68 landmarks are 136 numbers, found {numbers.size}")
    if not np.isfinite(numbers).all():
        raise UserError("some of the 68 landmarks are not finite")
    return numbers.reshape(_N_POINTS, 2)


def _storable(name: str) -> str:
    """A name that files and records can have."""
    if "\0" in name or any("\ud800" <= sign <= "\udfff" for sign in name):
        raise UserError(f"{quoted(name)} is no name")
    return name
