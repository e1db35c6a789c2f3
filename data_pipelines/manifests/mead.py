"""MEAD: actors who play emotions at three levels, seen from seven sides.

Its videos must be taken apart first, each into a folder of frames of its own name:
  ffmpeg -i 001.mp4 -q:v 2 001/%05d.jpg
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from etils import epath

from data_pipelines.manifests.left_out import LeftOut
from fields_jax.errors import MissingFile
from fields_jax.photos.kinds import IMAGE_SUFFIXES

# MEAD's names as numbers of AffectNet's classes.
EMOTIONS = {
    "neutral": 0,
    "happy": 1,
    "sad": 2,
    "surprised": 3,
    "fear": 4,
    "disgusted": 5,
    "angry": 6,
    "contempt": 7,
}
EXPECTED = "frames such as M003/video/front/angry/level_3/001/00001.jpg"
# SMIRK's split by actor. Its validation actors belong to neither of our splits.
TEST = ("M005", "M022", "M028", "W029", "W033")
VALIDATION = ("M013", "M023", "M042", "W018", "W028")

_ACTOR, _LEVEL = re.compile(r"[MW]\d{3}"), re.compile(r"level_([123])")


def rows(source: epath.Path, left_out: LeftOut) -> Iterator[dict[str, Any]]:
    """One row per frame. Neutral clips have no level.

    Args:
      source: folder of the actors.
      left_out: counts what is left out.

    Raises:
      MissingFile: there is no actor, or no frame of any.
    """
    actors = [path for path in sorted(source.iterdir()) if _ACTOR.fullmatch(path.name)]
    if not actors:
        raise MissingFile(f"{source}: no actors such as M003/video/front in it")
    found = False
    for actor in actors:
        if actor.name in VALIDATION:
            left_out.add("actor of SMIRK's validation", actor)
            continue
        split = "test" if actor.name in TEST else "train"
        for image, labels in _frames(actor / "video", left_out):
            found = True
            path = image.relative_to(source).as_posix()
            yield dict(image=path, split=split, subject=actor.name, **labels)
    if not found:
        raise MissingFile(
            f"{source}: no frames; take each NNN.mp4 apart into a folder NNN beside it"
        )


def _frames(folder: epath.Path, left_out: LeftOut) -> Iterator[tuple[epath.Path, dict[str, Any]]]:
    for level in _below(folder, 3):
        emotion = EMOTIONS.get(level.parent.name.strip().casefold())
        strength = _LEVEL.fullmatch(level.name.strip().casefold())
        if emotion is None or not strength:
            left_out.add("folder of no known emotion and level", level)
            continue
        labels = dict(emotion=emotion)
        if emotion:
            labels["level"] = int(strength[1]) - 1
        for clip in sorted(level.iterdir()):
            if clip.is_dir():
                pictures = (p for p in sorted(clip.iterdir()) if p.suffix.lower() in IMAGE_SUFFIXES)
                yield from ((picture, labels) for picture in pictures)
            elif clip.suffix.lower() == ".mp4" and not clip.with_suffix("").is_dir():
                left_out.add("video not taken apart", clip)


def _below(folder: epath.Path, depth: int) -> Iterator[epath.Path]:
    """Folders that many levels down: view, emotion, level."""
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.is_dir():
            yield from [path] if depth == 1 else _below(path, depth - 1)
