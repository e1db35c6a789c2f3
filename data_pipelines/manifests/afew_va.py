"""AFEW-VA: film clips with valence, arousal and 68 landmarks in every frame."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

from etils import epath
from PIL import Image

_SCALE = 10  # labels are whole numbers from -10 to 10
# Frames of this size were squeezed to 3/4 of their width. Landmarks are in pixels of the file.
_SQUEEZED, _PIXEL_ASPECT = (720, 576), 4 / 3


def rows(source: epath.Path, skipped: Counter) -> Iterator[dict[str, Any]]:
    """One row per frame; frames of a clip share a `subject`, so that they share a split.

    Args:
      source: folder of the clips NNN/NNN.json, or of folders of clips.
      skipped: counts what is left out, by reason.

    Raises:
      FileNotFoundError: there is no clip.
    """
    clips = list(_clips(source))
    if not clips:
        raise FileNotFoundError(f"{source}: no clips such as 001/001.json in it")
    for clip in clips:
        try:
            frames = json.loads((clip / f"{clip.name}.json").read_text())["frames"].items()
        except (ValueError, KeyError, AttributeError, OSError):
            skipped["annotation unreadable"] += 1
            continue
        there = {path.stem: path for path in sorted(clip.iterdir()) if path.suffix == ".png"}
        aspect = _pixel_aspect(next(iter(there.values()), None))
        for number, known in sorted(frames):
            if number not in there:
                skipped["image missing"] += 1
            elif row := _labels(known):
                image = there[number].relative_to(source).as_posix()
                yield dict(image=image, subject=clip.name, pixel_aspect=aspect, **row)
            else:
                skipped["labels out of range"] += 1


def _clips(folder: epath.Path, depth: int = 2) -> Iterator[epath.Path]:
    for path in sorted(folder.iterdir()):
        if path.is_dir() and (path / f"{path.name}.json").exists():
            yield path
        elif path.is_dir() and depth > 1:
            yield from _clips(path, depth - 1)


def _labels(known: Any) -> dict[str, Any] | None:
    try:
        valence, arousal = known["valence"] / _SCALE, known["arousal"] / _SCALE
        marks = [[float(x), float(y)] for x, y in known["landmarks"]]
    except (TypeError, KeyError, ValueError):
        return None
    if not (abs(valence) <= 1 and abs(arousal) <= 1) or len(marks) != 68:
        return None
    return dict(valence=valence, arousal=arousal, landmarks_68=marks)


def _pixel_aspect(frame: epath.Path | None) -> float:
    """Of a clip, from the header of one frame; a damaged one is named when the set is prepared."""
    try:
        with frame.open("rb") as file:
            return _PIXEL_ASPECT if Image.open(file).size == _SQUEEZED else 1.0
    except (OSError, AttributeError):
        return 1.0
