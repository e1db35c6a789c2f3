"""A clip read frame by frame: decode, find, follow, read; the persons it shows."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from fields_jax.clips.decode import Frame, Source
from fields_jax.clips.person import Person, Rows
from fields_jax.clips.watching import Sighting, Watcher
from fields_jax.errors import UserError
from fields_jax.progress import Progress

# A face that is seen in fewer frames is a false alarm or a passer-by; in a clip of few frames, in
# fewer than half of them.
FEWEST = 5


class Reader(Protocol):
    """Reads faces: by networks or by a fit of their landmarks.

    Attributes:
      batch_size: faces that are read at once.
      size: pixels of the crops that the cameras belong to.
      scale: side of the crops in face boxes.
    """

    batch_size: int
    size: int
    scale: float

    def begin(self) -> None:
        """Forgets the faces of the clip before: tracks are numbered anew in each."""

    def __call__(self, sightings: Sequence[Sighting]) -> list[Mapping[str, Any] | str]:
        """The columns of each face, or a reason why it cannot be read.

        They are its coefficients, the crop's camera, the fields of `Evidence`, "marked" (1 where
        the face was found by landmarks), and any of "probabilities", "valence" and "arousal".
        """
        ...


class Stages:
    """How long each stage of the work has taken.

    Attributes:
      seconds: by the name of the stage.
    """

    def __init__(self) -> None:
        """Starts at zero."""
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Adds the time that the block takes."""
        begun = time.perf_counter()
        try:
            yield
        finally:
            passed = time.perf_counter() - begun
            self.seconds[name] = self.seconds.get(name, 0.0) + passed

    def timed(self, name: str, frames: Iterator[Frame]) -> Iterator[Frame]:
        """Frames, with the time that each takes to come."""
        while True:
            with self.stage(name):
                frame = next(frames, None)
            if frame is None:
                return
            yield frame


class ReadClip(NamedTuple):
    """What was read of a clip.

    Attributes:
      persons: in the order of first sight.
      frames: number of frames.
      seconds: from the first to the last.
      rate: frames per second where none is missing; None of a single frame.
      passers: faces that are left out, since they are seen in too few frames.
      refused: why faces were not read, by reason: how often.
    """

    persons: list[Person]
    frames: int
    seconds: float
    rate: float | None
    passers: int
    refused: dict[str, int]


def read_clip(source: Source, watcher: Watcher, read: Reader, stages: Stages) -> ReadClip:
    """Reads a clip in memory that does not grow with its pictures.

    Args:
      source: the clip.
      watcher: of its faces.
      read: what reads them.
      stages: told how long it takes.

    Raises:
      UserError: the clip shows no frame, or no face; the line names it.
    """
    read.begin()
    times: dict[int, float] = {}
    people: dict[int, Rows] = {}
    waiting: list[Sighting] = []
    refused: dict[str, int] = {}

    def work(count: int) -> None:
        batch, waiting[:count] = waiting[:count], []
        with stages.stage("read"):
            answers = read(batch)
        for sighting, columns in zip(batch, answers, strict=True):
            if isinstance(columns, str):
                refused[columns] = refused.get(columns, 0) + 1
            else:
                people.setdefault(sighting.track, Rows()).add(sighting, columns)

    line = Progress(source.length, "frames", of=source.name)
    for frame in stages.timed("decode", source.frames()):
        times[frame.index] = frame.time
        with stages.stage("find"):
            waiting += watcher.look(frame)
        while len(waiting) >= read.batch_size:
            work(read.batch_size)
        line.step()
    if waiting:
        work(len(waiting))
    for reason, count in watcher.refused.items():
        refused[reason] = refused.get(reason, 0) + count
    if not people:
        why = f": {next(iter(refused))}" if refused else ""
        raise UserError(f"{source.path}: no face found in {len(times)} frames{why}")
    fewest = min(FEWEST, -(-len(times) // 2))
    kept = [people[number] for number in sorted(people) if len(people[number]) >= fewest]
    if not kept:
        raise UserError(
            f"{source.path}: no face is seen in as many as {fewest} of {len(times)} frames"
        )
    persons = [rows.person(times, read.scale, read.size) for rows in kept]
    passers = len(people) - len(kept)
    told = len(times), max(times.values()), rate_of(list(times.values()))
    return ReadClip(persons, *told, passers, refused)


def rate_of(times: Sequence[float]) -> float | None:
    """`ReadClip.rate`: of the mean step, for some clocks count whole milliseconds, without gaps."""
    steps = np.diff(times)
    steps = steps[steps < 1.5 * np.median(steps)] if len(steps) else steps
    return float(1 / steps.mean()) if len(steps) else None
