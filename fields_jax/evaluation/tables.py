"""CSV tables of other people's numbers: read strictly, every complaint names file, row and remedy.

Rows count as spreadsheets count them: the names of the columns are row 1.
"""

from __future__ import annotations

import csv
import dataclasses
import difflib
import io
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NoReturn

import numpy as np
from etils import epath
from numpy.typing import NDArray

from fields_jax.disk import writing
from fields_jax.emotions import EMOTIONS, N_EMOTIONS
from fields_jax.errors import UserError, quoted
from fields_jax.files import read_text, write_whole

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

NO_CLASS = -1  # of an example without a class label
# How data sets and papers call the classes, beside `EMOTIONS` themselves.
SYNONYMS = {
    **dict(neutrality="neutral", happiness="happy", joy="happy", sadness="sad"),
    **dict(surprised="surprise", astonishment="surprise", fearful="fear", afraid="fear"),
    **dict(disgusted="disgust", angry="anger", contemptuous="contempt"),
}
# AffectNet's ids beyond the classes, and what marks a missing label in AffectNet and Aff-Wild2.
_NO_CLASSES = {8: "AffectNet's None", 9: "AffectNet's Uncertain", 10: "AffectNet's Non-face"}
_FAR_SHARE = 0.05  # of predictions beyond twice the range, above which the scale is another
_SENTINELS = {-2: "AffectNet's mark of no annotation", -5: "Aff-Wild2's mark of no annotation"}


@dataclasses.dataclass(frozen=True)
class Table:
    """The cells of a CSV as text.

    Attributes:
      path: of the file, for messages.
      columns: cells of each column by its name, all equally long.
      lines: row of each record in a spreadsheet.
    """

    path: str
    columns: Mapping[str, Sequence[str]]
    lines: Sequence[int]

    def __len__(self) -> int:
        return len(self.lines)

    def refuse(self, index: int, complaint: str) -> NoReturn:
        """Raises a UserError about a record."""
        raise UserError(f"{self.path}, row {self.lines[index]}: {complaint}")


def read_table(path: str, known: Collection[str], prefixes: Collection[str] = ()) -> Table:
    """Reads a CSV with commas, whose first row names the columns.

    Args:
      path: the file.
      known: names that a column may have.
      prefixes: beginnings of further names, such as "p_".

    Raises:
      UserError: no such file, no record, a row of another length, or a column that is unknown or
        there twice.
    """
    text = read_text(path)
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows, lines = [], []
    try:
        for row in reader:
            if any(cell.strip() for cell in row):
                rows.append([cell.strip() for cell in row])
                lines.append(reader.line_num)
    except csv.Error as error:
        raise UserError(f"{path}, row {reader.line_num} is no CSV ({error})") from error
    if not rows:
        raise UserError(f"{path} is empty: write the names of the columns, then a row per example")
    names = rows[0]
    _check_names(path, names, known, prefixes)
    if len(rows) == 1:
        raise UserError(f"{path} names columns and holds no example: write a row for each")
    for row, line in zip(rows, lines, strict=True):
        if len(row) != len(names):
            raise UserError(
                f"{path}, row {line} has {len(row)} cells, the first row {len(names)}: "
                "quote cells that hold commas, and write decimal points"
            )
    columns = dict(zip(names, zip(*rows[1:], strict=True), strict=True))
    return Table(path, columns, lines[1:])


def numbers(table: Table, name: str, *, optional: bool = False) -> Floats:
    """A column of numbers [N]; where `optional`, NaN for an empty cell.

    Raises:
      UserError: a cell holds no finite number, or nothing.
    """
    found = np.empty(len(table))
    for index, cell in enumerate(table.columns[name]):
        if not cell and optional:
            found[index] = math.nan
            continue
        found[index] = _number(table, index, name, cell)
    return found


def affect(table: Table, name: str, *, label: bool) -> Floats:
    """A column of valence or arousal [N] in [-1, 1]; a label's empty cells are NaN.

    Predictions may lie outside: they are clipped where they are scored, as everywhere.

    Raises:
      UserError: no number, a mark of "not annotated", or another scale.
    """
    found = numbers(table, name, optional=label)
    # A network without bounds may be far off once; a column of another scale is so often.
    rescaled = np.mean(np.abs(found) > 2) > _FAR_SHARE
    for index in np.flatnonzero(np.abs(found) > 1):
        value = found[index]
        if value in _SENTINELS:
            cure = "leave the cell empty" if label else "predict a number for every example"
            table.refuse(index, f"{name} is {value:g}, {_SENTINELS[value]}: {cure}")
        if label or (rescaled and abs(value) > 2):
            table.refuse(
                index,
                f"{name} is {value:g}, outside [-1, 1]: rescale the column (AFEW-VA's -10..10: "
                "divide by 10)",
            )
    return found


def classes(table: Table, name: str, *, label: bool) -> tuple[Ints, bool]:
    """A column of emotion classes, names or AffectNet's ids.

    Returns:
      [N] ids, `NO_CLASS` for a label's empty cells; and whether they were written as ids.

    Raises:
      UserError: another name, an id outside 0..7, or a prediction that is missing.
    """
    by_name = {name: index for index, name in enumerate(EMOTIONS)}
    by_name |= {other: by_name[name] for other, name in SYNONYMS.items()}
    found, written_as_ids = np.full(len(table), NO_CLASS), False
    for index, cell in enumerate(table.columns[name]):
        if not cell and label:
            continue
        if cell.lower() in by_name:
            found[index] = by_name[cell.lower()]
            continue
        if cell and not _is_number(cell):
            table.refuse(index, f"{name} is {quoted(cell)}: known are {', '.join(EMOTIONS)}")
        value = _number(table, index, name, cell)
        if value not in range(N_EMOTIONS):
            told = _NO_CLASSES.get(int(value), _SENTINELS.get(int(value), "no class"))
            cure = "leave the cell empty" if label else "predict one of the classes"
            table.refuse(index, f"{name} is {cell}, {told} (ids are AffectNet's 0..7): {cure}")
        found[index], written_as_ids = int(value), True
    return found, written_as_ids


def identifiers(table: Table, name: str) -> list[str]:
    """A column of texts none of which is missing or there twice.

    Raises:
      UserError: one is.
    """
    first: dict[str, int] = {}
    for index, cell in enumerate(table.columns[name]):
        if not cell:
            table.refuse(index, f"the {name} is missing: write one for every example")
        if cell in first:
            row = table.lines[first[cell]]
            table.refuse(index, f"{name} {quoted(cell)} is that of row {row} too: keep one of them")
        first[cell] = index
    return list(first)


def texts(table: Table, name: str) -> list[str]:
    """A column of texts none of which is missing.

    Raises:
      UserError: one is.
    """
    for index, cell in enumerate(table.columns[name]):
        if not cell:
            table.refuse(index, f"the {name} is missing: write it for every example, or for none")
    return list(table.columns[name])


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table for a terminal: names at the left edge, cells at the right of their column.

    Args:
      rows: of text, the first holding the titles; all of one length.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        row[0].ljust(widths[0])
        + "".join(f"  {cell:>{width}}" for cell, width in zip(row[1:], widths[1:], strict=True))
        for row in rows
    ]


def write_files(out: str, files: Mapping[str, str]) -> None:
    """Writes texts by the names of their files into the folder `out`, which is made.

    Raises:
      DiskError: one of them cannot be written.
    """
    target = epath.Path(out)
    with writing(target, instead="another --out"):
        for name, text in files.items():
            write_whole(target / name, text)


def csv_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as a CSV; None and NaN become empty cells.

    Args:
      rows: at least one; the first has every column.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({key: "" if _is_missing(value) else value for key, value in row.items()})
    return text.getvalue()


def _check_names(
    path: str, names: list[str], known: Collection[str], prefixes: Collection[str]
) -> None:
    if len(names) == 1 and ";" in names[0]:
        raise UserError(f"{path}, row 1: semicolons part the columns; save it with commas")
    for index, name in enumerate(names):
        if name in names[:index]:
            raise UserError(f"{path}, row 1: two columns are called {quoted(name)}; keep one")
        if name not in known and not name.startswith(tuple(prefixes)):
            meant = difflib.get_close_matches(name.lower(), known, n=1)
            hint = f"did you mean {meant[0]}? " if meant else ""
            listed = ", ".join([*known, *(f"{prefix}..." for prefix in prefixes)])
            raise UserError(
                f"{path}, row 1: unknown column {quoted(name)}: {hint}rename or remove it; known "
                f"are {listed}"
            )


def _number(table: Table, index: int, name: str, cell: str) -> float:
    if cell.endswith("%") and _is_number(cell.rstrip("% ")):
        table.refuse(index, f"{name} is {quoted(cell)}: write a fraction without the percent sign")
    if not cell:
        table.refuse(index, f"{name} is missing: predict a value for every example")
    if not _is_number(cell):
        table.refuse(index, f"{name} is {quoted(cell)}, no number: write one, such as 0.25")
    value = float(cell)
    if not math.isfinite(value):
        table.refuse(index, f"{name} is {quoted(cell)}, not finite: write a number or drop the row")
    return value


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))
