"""Folders and files of BP4D, and the fold of each subject."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator

from etils import epath

from fields_jax.errors import MissingFile
from fields_jax.photos.kinds import IMAGE_SUFFIXES

# The three folds by subject of BP4D-Spontaneous that action-unit papers share (ME-GraphAU's lists).
_FOLDS = """
F001 M007 F018 F008 F002 M004 F010 F009 M012 M001 F016 M014 F023 M008
M011 F003 M010 M002 F005 F022 M018 M017 F013 M016 F020 F011 M013 M005
F007 F015 F006 F019 M006 M009 F012 M003 F004 F021 F017 M015 F014
"""
FOLDS = tuple(tuple(line.split()) for line in _FOLDS.strip().splitlines())

_FRAMES = ("2D+3D", "BP4D-training", "RawData/2D+3D", ".")
_SUBJECT, _TASK = re.compile(r"[FM]\d{3}"), re.compile(r"T(\d+)")


@dataclasses.dataclass(frozen=True)
class Sequence:
    """One task of one subject.

    Attributes:
      subject: such as "F001".
      task: such as "T1".
      folder: of its frames.
    """

    subject: str
    task: str
    folder: epath.Path

    @property
    def name(self) -> str:
        """The stem of this sequence's files of features, codes and fits."""
        return f"{self.subject}_{self.task}"

    def frames(self) -> Iterator[tuple[int, epath.Path]]:
        """(number, picture) of every frame, in order; numbers have gaps where a face was hidden."""
        pictures = (p for p in self.folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES)
        yield from sorted((int(p.stem), p) for p in pictures if p.stem.isdecimal())


def sequences(folder: epath.Path, tasks: int) -> tuple[list[Sequence], list[tuple[str, str]]]:
    """The sequences below a folder, and (reason, detail) of other things that are there.

    Args:
      folder: of the unpacked release.
      tasks: number of tasks of the release; folders of other tasks are reported.

    Raises:
      MissingFile: there are no sequences at all.
    """
    found, rejects = [], []
    for base in (folder / name for name in _FRAMES):
        subjects = sorted(base.iterdir()) if base.is_dir() else []
        for path in subjects:
            if not _SUBJECT.fullmatch(path.stem):
                continue
            if path.suffix == ".zip" and not path.with_suffix("").is_dir():
                rejects.append(("subject still zipped", f"{path}: unpack it beside itself"))
            elif path.is_dir():
                _tasks(path, tasks, found, rejects)
        if found:
            return found, rejects
    because = f"; {rejects[0][1]}" if rejects else ""
    raise MissingFile(f"{folder}: no sequences such as 2D+3D/F001/T1/0000.jpg in it{because}")


def _tasks(
    subject: epath.Path, tasks: int, found: list[Sequence], rejects: list[tuple[str, str]]
) -> None:
    for path in sorted(subject.iterdir()):
        task = _TASK.fullmatch(path.name)
        if not task or not path.is_dir():
            continue
        if 1 <= int(task[1]) <= tasks:
            found.append(Sequence(subject.name, path.name, path))
        else:
            rejects.append(("no such task", str(path)))


def find_beside(folder: epath.Path, *names: str) -> epath.Path | None:
    """The first path that exists, in the folder or in its RawData."""
    candidates = (folder / base / name for base in (".", "RawData") for name in names)
    return next((path for path in candidates if path.exists()), None)
