"""Aff-Wild2 (ABAW): frames of videos with valence and arousal, expressions, or both."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from etils import epath

from data_pipelines.building import table_cells
from data_pipelines.manifests.left_out import LeftOut
from fields_jax.errors import MissingFile, UserError
from fields_jax.files import read_lines

# ABAW's numbers: neutral, anger, disgust, fear, happiness, sadness, surprise; 7 is "other".
EMOTIONS = {0: 0, 1: 6, 2: 5, 3: 4, 4: 1, 5: 2, 6: 3}

EXPECTED = (
    "tables such as VA_Estimation_Challenge/Train_Set/VIDEO.txt, a line `0.1,-0.3` for each frame "
    "below a header, or EXPR_..._Challenge/Train_Set/VIDEO.txt, a class 0 to 7 in each line, with "
    "the frames cropped_aligned/VIDEO/00001.jpg"
)

_OTHER = 7
_FRAMES = "cropped_aligned"
_SPLITS = {"Train_Set": "train", "Validation_Set": "test"}


def rows(source: epath.Path, left_out: LeftOut) -> Iterator[dict[str, Any]]:
    """One row per frame with a label; a video that any challenge validates on is for testing.

    Args:
      source: folder with `cropped_aligned` and the annotations.
      left_out: counts what is left out.

    Raises:
      MissingFile: frames or annotations are missing.
    """
    if not (source / _FRAMES).is_dir():
        raise MissingFile(f"{source / _FRAMES}: no such folder; it should hold the frames")
    tables: dict[str, dict[str, epath.Path]] = {}
    testing: set[str] = set()
    for kind, split, file in _tables(source):
        tables.setdefault(file.stem, {})[kind] = file
        if split == "test":
            testing.add(_video(file.stem))
    if not tables:
        raise MissingFile(
            f"{source}: no annotations such as VA_Estimation_Challenge/Train_Set/VIDEO.txt in it"
        )
    for name, files in sorted(tables.items()):
        folder = source / _FRAMES / name
        if not folder.is_dir():
            left_out.add("video without frames", folder)
            continue
        there = {int(p.stem): p.name for p in folder.iterdir() if p.stem.isdecimal()}
        affect = _affect(files["VA"], left_out) if "VA" in files else {}
        emotions = _emotions(files["EXPR"], left_out) if "EXPR" in files else {}
        video = _video(name)
        split = "test" if video in testing else "train"
        for number in sorted(affect.keys() | emotions.keys()):
            if number not in there:
                left_out.add("image missing", f"{folder}/{number:05d}.jpg")
                continue
            labels = affect.get(number, {}) | emotions.get(number, {})
            image = f"{_FRAMES}/{name}/{there[number]}"
            yield dict(image=image, split=split, subject=video, **labels)


def _tables(source: epath.Path) -> Iterator[tuple[str, str, epath.Path]]:
    """(VA or EXPR, split, file) of every annotated video."""
    for base in (source, *sorted(p for p in source.iterdir() if "Annotations" in p.name)):
        for challenge in sorted(base.iterdir()) if base.is_dir() else ():
            kind = re.match(r"(VA|EXPR)_\w+_Challenge", challenge.name)
            for folder, split in _SPLITS.items() if kind else ():
                if (challenge / folder).is_dir():
                    files = sorted((challenge / folder).glob("*.txt"))
                    yield from ((kind[1], split, file) for file in files)


def _video(name: str) -> str:
    """A video's name without the suffix that tells its two people apart."""
    return re.sub(r"_(left|right)$", "", name)


def _affect(file: epath.Path, left_out: LeftOut) -> dict[int, dict[str, Any]]:
    """Valence and arousal by the number of the frame, counted from 1."""
    found = {}
    for number, where, row in _frames(file):
        if len(row) != 2:
            left_out.add("row unreadable", f"{where}: {len(row)} cells, expected 2")
            continue
        try:
            valence, arousal = map(table_cells.number, row)
        except UserError as error:
            left_out.add("row unreadable", f"{where}: {error}")
            continue
        try:
            known = table_cells.affect(valence, arousal)
        except UserError as error:
            left_out.add("valence or arousal out of range", f"{where}: {error}")
            continue
        if known:
            found[number] = known
        else:
            left_out.add("no valence and arousal (-5)", where)
    return found


def _emotions(file: epath.Path, left_out: LeftOut) -> dict[int, dict[str, Any]]:
    found = {}
    for number, where, row in _frames(file):
        try:
            label = table_cells.whole(row[0])
        except UserError as error:
            left_out.add("row unreadable", f"{where}: {error}")
            continue
        if label in EMOTIONS:
            found[number] = dict(emotion=EMOTIONS[label])
        elif label in (None, table_cells.NO_CLASS):
            left_out.add("no expression (-1)", where)
        else:
            left_out.add("other expression" if label == _OTHER else f"class {label}", where)
    return found


def _frames(file: epath.Path) -> Iterator[tuple[int, str, list[str]]]:
    """(frame, where, cells) of each line below the header; frames and lines count alike from 1."""
    above = 1
    for line, text in enumerate(read_lines(file), start=1):
        row = text.split(",")
        if line == 1:
            above = 0 if _is_numbers(row) else 1
        if line > above and text.strip():
            yield line - above, f"{file}, line {line}", row


def _is_numbers(row: list[str]) -> bool:
    """Whether the first line belongs to a frame, as in copies without a header."""
    try:
        return None not in [table_cells.number(cell) for cell in row]
    except UserError:
        return False
