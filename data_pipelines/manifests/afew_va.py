"""AFEW-VA: film clips with valence, arousal and 68 landmarks in every frame."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from etils import epath
from PIL import Image

from data_pipelines.building import table_cells
from data_pipelines.manifests.left_out import LeftOut
from fields_jax.errors import MissingFile, UserError, quoted
from fields_jax.files import read_json
from fields_jax.photos.kinds import IMAGE_SUFFIXES

EXPECTED = (
    'clips such as 001/001.json, {"frames": {"00000": {"valence": 3, "arousal": -2, "landmarks": '
    "[[x, y], ...]}}}, with their frames 001/00000.png"
)

_SCALE = 10  # labels are whole numbers from -10 to 10
# Frames of this size were squeezed to 3/4 of their width. Landmarks are in pixels of the file.
_SQUEEZED, _PIXEL_ASPECT = (720, 576), 4 / 3


def rows(source: epath.Path, left_out: LeftOut) -> Iterator[dict[str, Any]]:
    """One row per frame; frames of a clip share a `subject`, so that they share a split.

    Args:
      source: folder of the clips NNN/NNN.json, or of folders of clips.
      left_out: counts what is left out.

    Raises:
      MissingFile: there is no clip.
    """
    clips = list(_clips(source))
    if not clips:
        raise MissingFile(f"{source}: no clips such as 001/001.json in it")
    for clip in clips:
        try:
            frames = _frames(clip)
        except UserError as error:
            left_out.add("annotation unreadable", error)
            continue
        pictures = (p for p in sorted(clip.iterdir()) if p.suffix.lower() in IMAGE_SUFFIXES)
        there = {path.stem: path for path in pictures}
        aspect = _pixel_aspect(next(iter(there.values()), None))
        for number, known in sorted(frames.items()):
            where = f"{clip / clip.name}.json, frame {number}"
            if number not in there:
                left_out.add("image missing", where)
                continue
            try:
                labels = _labels(known)
            except UserError as error:
                left_out.add("labels out of range", f"{where}: {error}")
                continue
            if not labels:
                left_out.add("no label", where)
                continue
            image = there[number].relative_to(source).as_posix()
            yield dict(image=image, subject=clip.name, pixel_aspect=aspect, **labels)


def _clips(folder: epath.Path, depth: int = 2) -> Iterator[epath.Path]:
    for path in sorted(folder.iterdir()):
        if path.is_dir() and (path / f"{path.name}.json").exists():
            yield path
        elif path.is_dir() and depth > 1:
            yield from _clips(path, depth - 1)


def _frames(clip: epath.Path) -> dict[str, Any]:
    table = clip / f"{clip.name}.json"
    frames = read_json(table).get("frames")
    if not isinstance(frames, dict):
        raise UserError(f"{table}: `frames` must be an object, is {quoted(frames)}")
    return frames


def _labels(known: Any) -> dict[str, Any]:
    """The labels of a frame: valence and arousal, landmarks, or all of them.

    Raises:
      UserError: a value that AFEW-VA does not use.
    """
    if not isinstance(known, dict):
        raise UserError(f"{quoted(known)} are no labels")
    labels: dict[str, Any] = {}
    for name in ("valence", "arousal"):
        value = table_cells.number(known.get(name))
        if value is not None and not abs(value) <= _SCALE:
            raise UserError(f"{name} {value:g} is not in [-{_SCALE}, {_SCALE}]")
        if value is not None:
            labels[name] = value / _SCALE
    labels = labels if len(labels) == 2 else {}
    if (marks := table_cells.points_68(known.get("landmarks"))) is not None:
        labels["landmarks_68"] = marks.tolist()
    return labels


def _pixel_aspect(frame: epath.Path | None) -> float:
    """Pixel aspect of a clip, by the header of one frame; `prepare` will report a damaged one."""
    if frame is None:
        return 1.0
    try:
        with frame.open("rb") as file:
            return _PIXEL_ASPECT if Image.open(file).size == _SQUEEZED else 1.0
    except Exception:  # formats are read by parsers of their own, with errors of their own
        return 1.0
