"""Aff-Wild2 (ABAW): frames of videos with valence and arousal, expressions, or both."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

from etils import epath

from fields_jax.files import read_lines

# ABAW's numbers: neutral, anger, disgust, fear, happiness, sadness, surprise; 7 is "other".
EMOTIONS = {0: 0, 1: 6, 2: 5, 3: 4, 4: 1, 5: 2, 6: 3}

_OTHER, _NO_EMOTION, _NO_AFFECT = 7, -1, -5
_FRAMES = "cropped_aligned"
_SPLITS = {"Train_Set": "train", "Validation_Set": "test"}


def rows(source: epath.Path, skipped: Counter) -> Iterator[dict[str, Any]]:
    """One row per frame with a label; a video that any challenge validates on is for testing.

    Args:
      source: folder with `cropped_aligned` and the annotations.
      skipped: counts what is left out, by reason.

    Raises:
      FileNotFoundError: frames or annotations are missing.
    """
    if not (source / _FRAMES).is_dir():
        raise FileNotFoundError(f"{source / _FRAMES}: no such folder; it should hold the frames")
    tables: dict[str, dict[str, epath.Path]] = {}
    testing: set[str] = set()
    for kind, split, file in _tables(source):
        tables.setdefault(file.stem, {})[kind] = file
        if split == "test":
            testing.add(_video(file.stem))
    if not tables:
        raise FileNotFoundError(
            f"{source}: no annotations such as VA_Estimation_Challenge/Train_Set/VIDEO.txt in it"
        )
    for name, files in sorted(tables.items()):
        folder = source / _FRAMES / name
        if not folder.is_dir():
            skipped["video without frames"] += 1
            continue
        there = {int(p.stem): p.name for p in folder.iterdir() if p.stem.isdecimal()}
        affect = _affect(files["VA"], skipped) if "VA" in files else {}
        emotions = _emotions(files["EXPR"], skipped) if "EXPR" in files else {}
        video = _video(name)
        split = "test" if video in testing else "train"
        for number in sorted(affect.keys() | emotions.keys()):
            if number not in there:
                skipped["image missing"] += 1
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
    """Without the side that tells two people in one video apart."""
    return re.sub(r"_(left|right)$", "", name)


def _affect(file: epath.Path, skipped: Counter) -> dict[int, dict[str, Any]]:
    """Valence and arousal by the number of the frame, which counts from 1."""
    found = {}
    for number, cells in _frames(file):
        try:
            valence, arousal = (float(cell) for cell in cells)
        except ValueError:
            skipped["row unreadable"] += 1
            continue
        if abs(valence) <= 1 and abs(arousal) <= 1:
            found[number] = dict(valence=valence, arousal=arousal)
        elif _NO_AFFECT in (valence, arousal):
            skipped["no valence and arousal (-5)"] += 1
        else:
            skipped["valence or arousal out of range"] += 1
    return found


def _emotions(file: epath.Path, skipped: Counter) -> dict[int, dict[str, Any]]:
    found = {}
    for number, cells in _frames(file):
        label = cells[0].strip()
        if not label.removeprefix("-").isdecimal():
            skipped["row unreadable"] += 1
        elif int(label) in EMOTIONS:
            found[number] = dict(emotion=EMOTIONS[int(label)])
        elif int(label) == _NO_EMOTION:
            skipped["no expression (-1)"] += 1
        else:
            skipped["other expression" if int(label) == _OTHER else f"class {label}"] += 1
    return found


def _frames(file: epath.Path) -> Iterator[tuple[int, list[str]]]:
    """(frame, cells) of each line below the header; line and frame number agree from 1."""
    rows = list(read_lines(file))[1:]
    yield from ((number, row.split(",")) for number, row in enumerate(rows, 1) if row.strip())
