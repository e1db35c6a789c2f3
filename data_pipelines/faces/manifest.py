"""Manifests: a CSV or JSONL table of photographs with the labels each has.

Columns (all but `image` may be absent, and any cell empty, NaN, None or NA):
  image         path below the source folder
  id            names the record; default: image
  split         train or test; default: that of another row of the subject, or else by `subject` or
                `image`, see `in_test`
  emotion       0..7 or a name of `emotions.EMOTIONS`; -1 is unknown
  valence, arousal   in [-1, 1]; -2 and -5 are unknown, and with one of them so is the other
  subject       any name, -1 is unknown; photographs of one subject stay in one split
  level         0, 1, 2; -1 is unknown
  landmarks     file of mediapipe's 478 or of 68 points, below the source folder; default: the one
                beside the photograph
  landmarks_68  136 numbers x1;y1;x2;y2 ... in pixels of the photograph (JSONL: a list)
  landmarks_203 .npy of [203, 2] below the source folder
  pixel_aspect  width of a pixel over its height, for frames stored squeezed
Numbers may be written as floats. A column without a name, such as pandas' index, is ignored.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import re
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from etils import epath

from data_pipelines.building import table_cells
from data_pipelines.building.photo_builder import Catalogue
from data_pipelines.building.photographs import Rejected, Sample
from data_pipelines.building.summary import Summary
from fields_jax.errors import MissingFile, UserError, quoted
from fields_jax.files import parse_json, read_lines

COLUMNS = (
    *("image", "id", "split", "emotion", "valence", "arousal", "subject", "level"),
    *("landmarks", "landmarks_68", "landmarks_203", "pixel_aspect"),
)
SPLITS = ("train", "test")

_UNNAMED = re.compile(r"(unnamed: \d+)?")  # pandas' index, as it writes it and as it reads it
_LONGEST_CELL = 200  # lines that a quoted cell may have, such as a printed array of 68 points


def in_test(name: str, share: float) -> bool:
    """Whether a subject or photograph is for testing; depends on its name and the share only."""
    digest = hashlib.sha256(name.encode()).digest()
    return int.from_bytes(digest[:8], "big") < share * 2**64


def catalogue(manifest: epath.Path, source: epath.Path, test_share: float) -> Catalogue:
    """The photographs of a manifest.

    Args:
      manifest: the table, .csv or .jsonl.
      source: folder that its paths are relative to.
      test_share: fraction of the subjects (or photographs) for `test` where no split is given.

    Raises:
      MissingFile: there is no such file.
      UserError: another kind of file, no column `image`, columns that are unknown, named twice or
        without their partner, or not one row that can be used.
    """
    found = Catalogue({split: [] for split in SPLITS})
    subjects: dict[str, int] = {}
    told = _told_splits(manifest)
    for number, row in _rows(manifest):
        where = f"{manifest}, line {number}"
        try:
            if row is None:
                raise Rejected("row unreadable", where)
            row.pop(None, None)
            _refuse_unknown(row, where)
            split, sample = _sample(row, source, test_share, subjects, told, where)
            found.splits[split].append(sample)
        except Rejected as error:
            found.reject("train", error.reason, error.detail)
    if not any(found.splits.values()):
        raise UserError(
            f"{manifest}: not one row that can be used{_because(found)}; each should name in "
            f"`image` a photograph below {source}"
        )
    return found


def _told_splits(manifest: epath.Path) -> dict[str, str]:
    """The splits of subjects, by rows that tell one; the first of a subject counts."""
    told: dict[str, str] = {}
    for _, row in _rows(manifest):
        with contextlib.suppress(UserError):  # said where the row is read
            subject, split = _subject((row or {}).get("subject")), _split((row or {}).get("split"))
            if subject and split:
                told.setdefault(subject, split)
    return told


def _subject(cell: Any) -> str | None:
    subject = table_cells.text(cell)
    return None if subject == str(table_cells.NO_CLASS) else subject


def _because(found: Catalogue) -> str:
    rejects = [reject for split in found.rejects.values() for reject in split]
    reasons = ", ".join(f"{name}: {n}" for name, n in Summary(rejects=rejects).reasons().items())
    return f" ({reasons}; first: {rejects[0][1]})" if rejects else ", it has none"


def _rows(manifest: epath.Path) -> Iterator[tuple[int, dict[str | None, Any] | None]]:
    """(line, row) of the table, by the names of `_column`; None for rows that do not parse."""
    if not manifest.exists():
        raise MissingFile(f"{manifest}: no such manifest")
    if manifest.suffix not in (".csv", ".jsonl"):
        raise UserError(f"{manifest}: a manifest is a .csv or a .jsonl file")
    lines = enumerate(read_lines(manifest), start=1)
    if manifest.suffix == ".jsonl":
        yield from ((number, _parsed(line)) for number, line in lines if line.strip())
        return
    header = _cells(next(lines, (1, ""))[1])[0] or []
    names = [_column(name) for name in header]
    if "image" not in names:
        raise UserError(f"{manifest}: its first line names no column `image`")
    _refuse_unknown(filter(None, names), str(manifest))
    known = [name for name in names if name]
    if twice := [name for name in known if known.count(name) > 1]:
        raise UserError(f"{manifest}: column {twice[0]} is there twice")
    if ("valence" in known) != ("arousal" in known):
        raise UserError(f"{manifest}: valence and arousal come together or not at all")
    for number, row in _records(lines, len(header)):
        yield number, None if row is None else dict(zip(names, row, strict=True))


def _column(name: Any) -> str | None:
    """A column by its name in any case; None for one that has no name."""
    name = str(name).strip().casefold()
    return None if _UNNAMED.fullmatch(name) else name


def _refuse_unknown(names: Iterable[str], where: str) -> None:
    for name in names:
        if name not in COLUMNS:
            raise UserError(f"{where}: unknown column {quoted(name)}; known: {', '.join(COLUMNS)}")


def _records(
    lines: Iterator[tuple[int, str]], width: int
) -> Iterator[tuple[int, list[str] | None]]:
    """(line, cells) of each row; None where it is not of this width.

    A quoted cell may span some lines. A stray quote, which nothing closes, spoils only its line.
    """
    ahead: deque[tuple[int, str]] = deque()
    while True:
        if not ahead and (first := next(lines, None)):
            ahead.append(first)
        if not ahead:
            return
        number, line = ahead.popleft()
        if not line.strip():
            continue
        row, is_open = _cells(line)
        if is_open:
            row, taken = _continued(line, lines, ahead, width)
            for _ in range(taken):
                ahead.popleft()
        yield number, row if row is not None and len(row) == width else None


def _continued(
    line: str, lines: Iterator[tuple[int, str]], ahead: deque[tuple[int, str]], width: int
) -> tuple[list[str] | None, int]:
    """Cells of a row, and the number of further lines that its last, quoted cell spans.

    None and 0 if no number of lines makes a row of this width.
    """
    parts = [line]
    while len(parts) < _LONGEST_CELL:
        if len(parts) > len(ahead):
            if (further := next(lines, None)) is None:
                break
            ahead.append(further)
        parts.append(ahead[len(parts) - 1][1])
        if '"' not in parts[-1]:  # nothing else ends the cell
            continue
        row, is_open = _cells("\n".join(parts))
        if not is_open:
            return (row, len(parts) - 1) if row and len(row) == width else (None, 0)
    return None, 0


def _cells(text: str) -> tuple[list[str] | None, bool]:
    """Cells of one row, None where its quotes are wrong, and whether one is still open."""
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    except csv.Error as error:
        return None, "unexpected end of data" in str(error)
    return ([cell.strip() for cell in rows[0]] if len(rows) == 1 else None), False


def _parsed(line: str) -> dict[str | None, Any] | None:
    try:
        return {_column(key): cell for key, cell in parse_json(line, "line").items()}
    except UserError:
        return None


def _sample(
    row: dict[str, Any],
    source: epath.Path,
    test_share: float,
    subjects: dict[str, int],
    told: Mapping[str, str],
    where: str,
) -> tuple[str, Sample]:
    """Split and photograph of one row.

    Raises:
      Rejected: a cell that does not fit its column.
    """
    try:
        image, subject, name = (
            read(row.get(key))
            for key, read in (
                ("image", table_cells.path),
                ("subject", _subject),
                ("id", table_cells.text),
            )
        )
        if image is None:
            raise UserError("no image")
        known = told.get(subject or "", "")
        split = _split(row.get("split")) or known or SPLITS[in_test(subject or image, test_share)]
        if known and split != known:
            raise UserError(f"subject {quoted(subject)} is in {known} by another row")
    except UserError as error:
        raise Rejected("row unreadable", f"{where}: {error}") from error
    try:
        labels, aspect = _labels(row), _aspect(row.get("pixel_aspect"))
        marks = table_cells.points_68(row.get("landmarks_68"))
        files = {key: table_cells.path(row.get(key)) for key in ("landmarks", "landmarks_203")}
    except UserError as error:
        raise Rejected("labels unreadable", f"{where}: {error}") from error
    if subject is not None:
        labels["subject"] = subjects.setdefault(subject, len(subjects))
    below = {key: str(source / file) if file else "" for key, file in files.items()}
    return split, Sample(
        name or image,
        str(source / image),
        marks,
        below["landmarks"],
        below["landmarks_203"],
        aspect,
        labels,
    )


def _split(cell: Any) -> str | None:
    name = table_cells.text(cell)
    if name is not None and name.casefold() not in SPLITS:
        raise UserError(f"split {quoted(name)} is neither train nor test")
    return name and name.casefold()


def _labels(row: dict[str, Any]) -> dict[str, Any]:
    labels = {key: getattr(table_cells, key)(row.get(key)) for key in ("emotion", "level")}
    known = {key: value for key, value in labels.items() if value is not None}
    return known | table_cells.affect(row.get("valence"), row.get("arousal"))


def _aspect(cell: Any) -> float:
    aspect = table_cells.number(cell)
    if aspect is not None and not 0.1 <= aspect <= 10:
        raise UserError(f"pixel_aspect {aspect:g} is not in [0.1, 10]")
    return 1.0 if aspect is None else aspect
