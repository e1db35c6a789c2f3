"""Manifests: a CSV or JSONL table of photographs with the labels each has.

Columns (all but `image` may be absent, a cell may be empty):
  image         path below the source folder
  id            names the record; default: image
  split         train or test; default: by `subject`, or else by `image`, see `in_test`
  emotion       0..7 or a name of `spec.EMOTIONS`
  valence, arousal   in [-1, 1]
  subject       any name; photographs of one subject stay in one split
  level         0, 1, 2
  landmarks     file of mediapipe's 478 or of 68 points, below the source folder; default: the one
                beside the photograph
  landmarks_68  136 numbers x1;y1;x2;y2 ... in pixels of the photograph (JSONL: a list)
  landmarks_203 .npy of [203, 2] below the source folder
  pixel_aspect  width of a pixel over its height, for frames stored squeezed
"""

from __future__ import annotations

import csv
import hashlib
import itertools
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
from etils import epath

from data_pipelines import spec
from data_pipelines.photo_builder import Catalogue
from data_pipelines.photographs import Rejected, Sample
from fields_jax.files import read_lines

COLUMNS = (
    *("image", "id", "split", "emotion", "valence", "arousal", "subject", "level"),
    *("landmarks", "landmarks_68", "landmarks_203", "pixel_aspect"),
)
SPLITS = ("train", "test")


def in_test(name: str, share: float) -> bool:
    """Whether a subject or photograph is for testing: by its name alone, the same for ever."""
    digest = hashlib.sha256(name.encode()).digest()
    return int.from_bytes(digest[:8], "big") < share * 2**64


def catalogue(manifest: epath.Path, source: epath.Path, test_share: float) -> Catalogue:
    """The photographs of a manifest.

    Args:
      manifest: the table, .csv or .jsonl.
      source: folder that its paths are relative to.
      test_share: share of the subjects (or photographs) for `test` where no split is given.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: another kind of file, no column `image`, or columns that are unknown.
    """
    found = Catalogue({split: [] for split in SPLITS})
    subjects: dict[str, int] = {}
    for number, row in _rows(manifest):
        where = f"{manifest}, line {number}"
        try:
            if not isinstance(row, dict):
                raise Rejected("row unreadable", where)
            if unknown := [str(key) for key in row if key not in COLUMNS]:
                raise ValueError(
                    f"{where}: unknown column {unknown[0]!r}; known: {', '.join(COLUMNS)}"
                )
            known = {key: value for key, value in row.items() if value not in ("", None)}
            split, sample = _sample(known, source, test_share, subjects, where)
            found.splits[split].append(sample)
        except Rejected as error:
            found.reject("train", error.reason, error.detail)
    return found


def _rows(manifest: epath.Path) -> Iterator[tuple[int, Any]]:
    """(line, row) of the table; None for a row that does not parse."""
    if not manifest.exists():
        raise FileNotFoundError(f"{manifest}: no such manifest")
    if manifest.suffix not in (".csv", ".jsonl"):
        raise ValueError(f"{manifest}: a manifest is a .csv or a .jsonl file")
    rows = enumerate(read_lines(manifest), start=1)
    if manifest.suffix == ".jsonl":
        yield from ((number, _parsed(line)) for number, line in rows if line.strip())
        return
    header = _cells(next(rows, (1, ""))[1]) or []
    if "image" not in header:
        raise ValueError(f"{manifest}: its first line names no column `image`")
    if unknown := [name for name in header if name not in COLUMNS]:
        raise ValueError(f"{manifest}: unknown column {unknown[0]!r}; known: {', '.join(COLUMNS)}")
    for number, line in rows:
        if line.strip():
            cells = _cells(line)
            whole = cells is not None and len(cells) == len(header)
            yield number, dict(zip(header, cells, strict=True)) if whole else None


def _cells(line: str) -> list[str] | None:
    """Cells of one line; a stray quote spoils its own line only."""
    try:
        return [cell.strip() for cell in next(csv.reader([line], strict=True))]
    except (csv.Error, StopIteration):
        return None


def _parsed(line: str) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return None


def _sample(
    row: dict[str, Any], source: epath.Path, test_share: float, subjects: dict[str, int], where: str
) -> tuple[str, Sample]:
    """Split and photograph of one row.

    Raises:
      Rejected: a cell that is not what its column wants.
    """
    image = str(row.get("image", ""))
    if not image:
        raise Rejected("row unreadable", f"{where}: no image")
    subject = str(row["subject"]) if "subject" in row else None
    split = row.get("split") or SPLITS[in_test(subject or image, test_share)]
    if split not in SPLITS:
        raise Rejected("row unreadable", f"{where}: split {split!r} is neither train nor test")
    try:
        labels = _labels(row)
        aspect = float(row.get("pixel_aspect", 1.0))
        marks = _marks(row["landmarks_68"]) if "landmarks_68" in row else None
        if not 0.1 <= aspect <= 10:
            raise ValueError(f"pixel_aspect {aspect:g}")
    except (ValueError, TypeError) as error:
        raise Rejected("labels unreadable", f"{where}: {error}") from error
    if subject is not None:
        labels["subject"] = subjects.setdefault(subject, len(subjects))
    files = {
        key: str(source / str(row[key])) if key in row else ""
        for key in ("landmarks", "landmarks_203")
    }
    return split, Sample(
        str(row.get("id", image)),
        str(source / image),
        marks,
        files["landmarks"],
        files["landmarks_203"],
        aspect,
        labels,
    )


def _labels(row: dict[str, Any]) -> dict[str, Any]:
    labels: dict[str, Any] = {}
    if "emotion" in row:
        name = str(row["emotion"]).lower()
        known = [i for i, emotion in enumerate(spec.EMOTIONS) if name in (emotion, str(i))]
        if not known:
            raise ValueError(f"emotion {row['emotion']!r} is no name or number of AffectNet's")
        labels["emotion"] = known[0]
    for key in ("valence", "arousal"):
        if key in row:
            labels[key] = float(row[key])
    if ("valence" in labels) != ("arousal" in labels):
        raise ValueError("valence and arousal come together or not at all")
    if any(not abs(labels.get(key, 0)) <= 1 for key in ("valence", "arousal")):
        raise ValueError("valence and arousal must be in [-1, 1]")
    if "level" in row:
        labels["level"] = int(row["level"])
    return labels


def _marks(given: str | list) -> np.ndarray:
    if isinstance(given, str):
        given = given.split(";")
    elif given and isinstance(given[0], list):
        given = list(itertools.chain(*given))
    marks = np.array(given, np.float32)
    if marks.shape != (136,) or not np.isfinite(marks).all():
        raise ValueError(f"landmarks_68 must be 136 numbers, found {marks.size}")
    return marks.reshape(68, 2)
