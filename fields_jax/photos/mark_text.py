"""Landmarks as text: rows of x and y, in the many ways that programs write them."""

from __future__ import annotations

import re

import numpy as np
from etils import epath
from jaxtyping import Float

from fields_jax.errors import UserError, quoted
from fields_jax.files import read_text

# Fewer rows of numbers than this are a caption's or a note's; the coarsest landmarks are 5 points.
_FEWEST_ROWS = 5
_ONE_ROW = 2 * 68  # numbers: a row with all coordinates of a face is not a note either
_LARGEST = 2**17  # characters; 478 points of three numbers as numpy writes them take 36,000
_LONGEST_NUMBER = 40  # characters

_APART = re.compile(r"[\s,;:(){}\[\]]+")
_NUMBER = re.compile(
    r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:e[-+]?[0-9]{1,4})?|[-+]?(?:nan|inf)", re.IGNORECASE
)
_DECLARED = re.compile(r"n_points\D{0,9}([0-9]{1,9})", re.IGNORECASE)


def read_rows(path: epath.PathLike) -> Float[np.ndarray, "N C"]:
    """The points of a .txt or .pts, a row of two or three numbers for each.

    Numbers are separated by blanks, tabs, commas, semicolons or brackets. Lines of words and the
    number of rows may come before the first row; `#` begins a comment. A first column that counts
    the rows, from 0 or from 1, is left out.

    Raises:
      FileNotFoundError: there is no such file.
      UserError: something else is in it; the message names the file and the line.
    """
    rows, declared = _parsed(_text(path), str(path))
    rows = _without_count(rows, declared, str(path))
    if not rows:
        raise UserError(f"{path}: not lines of x and y (there are no rows of numbers in it)")
    width = len(rows[0][1])
    for number, row in rows:
        if len(row) != width:
            raise _no_row(path, number, f"{len(row)} numbers, {width} before")
    table = _without_index(np.array([row for _, row in rows]), str(path))
    if table.shape[1] not in (2, 3):
        raise UserError(
            f"{path}: not lines of x and y (there are {len(rows)} rows of {width} numbers)"
        )
    return table


def is_prose(path: epath.PathLike) -> bool:
    """Whether a text holds no landmarks, since it has hardly any row of numbers.

    Raises:
      FileNotFoundError: there is no such file.
      UserError: it cannot be read, or is too large for a caption and for landmarks.
    """
    rows = [row for row in map(_numbers, _text(path).splitlines()) if row]
    return len(rows) < _FEWEST_ROWS and max(map(len, rows), default=0) < _ONE_ROW


def _text(path: epath.PathLike) -> str:
    text = read_text(path)
    if len(text) > _LARGEST:
        raise UserError(f"{path} is larger than {_LARGEST >> 10} KiB, which no landmark file is")
    if 2 * text.count("\0") + 2 > len(text) > 2:  # UTF-16 without its mark, of plain signs
        return text.replace("\0", "")
    return text


def _parsed(text: str, source: str) -> tuple[list[tuple[int, list[float]]], int | None]:
    """Rows of numbers, each with the number of its line, and the count of rows in the header."""
    rows: list[tuple[int, list[float]]] = []
    declared, begun = None, False
    for number, line in enumerate(text.splitlines(), start=1):
        row = _numbers(line)
        if row:
            rows.append((number, row))
            begun |= len(row) > 1
        elif row is None:
            if begun:
                raise _no_row(source, number, quoted(line))
            said = _DECLARED.search(line)
            declared = int(said[1]) if said else declared
    return rows, declared


def _numbers(line: str) -> list[float] | None:
    """The numbers of a line; None where it has words."""
    cells = [cell for cell in _APART.split(line.partition("#")[0]) if cell]
    if all(len(cell) <= _LONGEST_NUMBER and _NUMBER.fullmatch(cell) for cell in cells):
        return [float(cell) for cell in cells]
    return None


def _without_count(
    rows: list[tuple[int, list[float]]], declared: int | None, source: str
) -> list[tuple[int, list[float]]]:
    """The rows without a first line that only gives their number.

    That line is a single number, or the numbers of rows and columns: these only if they are right,
    since two numbers could be a point as well.

    Raises:
      UserError: there are more or fewer than are said to be.
    """
    head, rest = (rows[0][1], rows[1:]) if rows else ([], [])
    if len(head) == 1 and len(rest) > 1 and len(rest[0][1]) > 1:
        rows, declared = rest, head[0]
    elif len(rest) >= _FEWEST_ROWS and head == [len(rest), len(rest[0][1])]:
        rows = rest
    if declared is not None and declared != len(rows):
        raise UserError(f"{source} says that it has {declared:g} points and has {len(rows)}")
    return rows


def _without_index(table: Float[np.ndarray, "N C"], source: str) -> Float[np.ndarray, "N D"]:
    """The table without a first column that counts its rows."""
    if table.shape[1] < 3:
        return table
    first = table[:, 0]
    for start in (0, 1):
        count = np.arange(start, start + len(first))
        if np.array_equal(first, count):
            return table[:, 1:]
        if np.array_equal(np.sort(first), count):
            raise UserError(f"{source}: its first column numbers the points, out of order")
    return table


def _no_row(source: epath.PathLike, line: int, said: str) -> UserError:
    return UserError(f"{source}: not lines of x and y (line {line}: {said})")
