"""What is known of one person of a clip, frame by frame."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from fields_jax.clips.smoothing import ROTATIONS, VECTORS, Space, between
from fields_jax.clips.watching import Sighting
from fields_jax.photos import crops
from fields_jax.types import FlameCoefficients

ROTATED = {"jaw": 1, "pose": 1, "neck": 1, "eyes": 2}  # coefficients, each so many axis-angles
CAMERA, GAZE = "camera", "eyes"


@dataclasses.dataclass(frozen=True)
class Person:
    """One person of a clip over T frames.

    Attributes:
      frames: [T] numbers of the frames, one after the other.
      times: [T] seconds.
      seen: [T] whether the face was read; where it was not, the frame is interpolated.
      coefficients: [T, ...] by the names of FlameCoefficients, without the camera.
      place: [T, 3] where the head's origin is: logarithm of pixels per metre, x and y in pixels of
        the frame.
      boxes: [T, 4] of the face, pixels of the frame.
      readings: [T, ...] other columns, such as "valence"; NaN where not seen.
      scale: side of the crops in face boxes.
      size: pixels of the crops.
    """

    frames: Int[np.ndarray, " T"]
    times: Float[np.ndarray, " T"]
    seen: Bool[np.ndarray, " T"]
    coefficients: Mapping[str, Float[np.ndarray, "T _"]]
    place: Float[np.ndarray, "T 3"]
    boxes: Float[np.ndarray, "T 4"]
    readings: Mapping[str, np.ndarray]
    scale: float
    size: int

    @property
    def matrices(self) -> Float[np.ndarray, "T 3 3"]:
        """From pixels of each frame to those of its crop."""
        return np.stack([crops.crop_matrix(box, self.scale, self.size) for box in self.boxes])

    @property
    def camera(self) -> Float[np.ndarray, "T 3"]:
        """Of each crop; see `FlameCoefficients`."""
        return camera_at(self.place, self.matrices, self.size)

    def flame(self) -> FlameCoefficients:
        """All coefficients with the cameras of the crops."""
        return FlameCoefficients(**self.coefficients, camera=self.camera)


def together(persons: Sequence[Person]) -> list[FlameCoefficients]:
    """`Person.flame` of each, to be stacked: eyes look ahead where the gaze of others is known."""
    found = [person.flame() for person in persons]
    if all(each.eyes is None for each in found):
        return found
    return [
        each.replace(eyes=np.zeros((len(each.pose), 6), np.float32)) if each.eyes is None else each
        for each in found
    ]


class Rows:
    """The frames in which one face was read, as they come."""

    def __init__(self) -> None:
        """Starts without frames."""
        self._frames: list[tuple[int, float]] = []
        self._boxes: list[np.ndarray] = []
        self._columns: dict[str, list[np.ndarray]] = {}

    def __len__(self) -> int:
        return len(self._frames)

    def add(self, sighting: Sighting, columns: Mapping[str, Any]) -> None:
        """Adds a frame.

        Args:
          sighting: of the face.
          columns: its coefficients, the crop's camera and other readings, by name; the gaze is NaN
            where it is not known.
        """
        self._frames.append((sighting.frame.index, sighting.frame.time))
        self._boxes.append(np.asarray(sighting.face.box, np.float32))
        for name, value in columns.items():
            self._columns.setdefault(name, []).append(np.asarray(value))

    def person(self, all_times: Mapping[int, float], scale: float, size: int) -> Person:
        """The person; frames in which it was lost, and gazes between known ones, are interpolated.

        Args:
          all_times: of all frames of the clip, by their numbers.
          scale, size: of the crops.
        """
        found, times = (np.array(column) for column in zip(*self._frames, strict=True))
        columns = {name: np.stack(values) for name, values in self._columns.items()}
        names = {field.name for field in dataclasses.fields(FlameCoefficients)} - {CAMERA}
        boxes = np.stack(self._boxes)
        matrices = np.stack([crops.crop_matrix(box, scale, size) for box in boxes])
        person = Person(
            frames=found.astype(np.int64),
            times=times.astype(np.float64),
            seen=np.ones(len(found), bool),
            coefficients=_with_gaze(
                {n: np.float32(v) for n, v in columns.items() if n in names}, times
            ),
            place=place_of(columns[CAMERA], matrices, size),
            boxes=boxes,
            readings={n: v for n, v in columns.items() if n not in (*names, CAMERA)},
            scale=scale,
            size=size,
        )
        return _bridged(person, all_times)


def place_of(
    camera: Float[np.ndarray, "T 3"], matrices: Float[np.ndarray, "T 3 3"], size: int
) -> Float[np.ndarray, "T 3"]:
    """Where cameras of crops see the head's origin in their frames; see `Person.place`."""
    camera, matrices = np.asarray(camera, np.float64), np.asarray(matrices, np.float64)
    zoom, shift = matrices[:, 0, 0], matrices[:, :2, 2]
    scale = camera[:, 0]
    inside = (scale[:, None] * camera[:, 1:] * (1, -1) + 1) * size / 2
    middle = (inside - shift) / zoom[:, None]
    return np.column_stack([np.log(np.maximum(scale * size / 2 / zoom, 1e-9)), middle])


def camera_at(
    place: Float[np.ndarray, "T 3"], matrices: Float[np.ndarray, "T 3 3"], size: int
) -> Float[np.ndarray, "T 3"]:
    """The cameras of crops that see the head's origin there: the inverse of `place_of`."""
    matrices = np.asarray(matrices, np.float64)
    zoom, shift = matrices[:, 0, 0], matrices[:, :2, 2]
    scale = np.exp(place[:, 0]) * zoom * 2 / size
    inside = 2 * (place[:, 1:] * zoom[:, None] + shift) / size - 1
    return np.column_stack([scale, inside * (1, -1) / scale[:, None]]).astype(np.float32)


def spaces(name: str, width: int) -> list[tuple[slice, Space]]:
    """The parts of a quantity's columns and the space that each lies in."""
    if name in ROTATED:
        return [(slice(3 * i, 3 * i + 3), ROTATIONS) for i in range(ROTATED[name])]
    return [(slice(0, width), VECTORS)]


def _bridged(person: Person, all_times: Mapping[int, float]) -> Person:
    """The person with the frames between those that it is seen in."""
    first, last = person.frames[0], person.frames[-1]
    frames = np.array([n for n in sorted(all_times) if first <= n <= last])
    if len(frames) == len(person.frames):
        return person
    times = np.array([all_times[n] for n in frames], np.float64)
    rows = np.searchsorted(frames, person.frames)
    seen = np.zeros(len(frames), bool)
    seen[rows] = True

    def blank(values: np.ndarray) -> np.ndarray:
        full = np.full((len(frames), *values.shape[1:]), np.nan, np.float32)
        full[rows] = values
        return full

    return dataclasses.replace(
        person,
        frames=frames,
        times=times,
        seen=seen,
        coefficients={n: _filled(n, v, rows, times) for n, v in person.coefficients.items()},
        place=_filled("place", person.place, rows, times),
        boxes=_filled("boxes", person.boxes, rows, times),
        readings={n: blank(v) for n, v in person.readings.items()},
    )


def _with_gaze(
    coefficients: dict[str, np.ndarray], times: Float[np.ndarray, " T"]
) -> dict[str, np.ndarray]:
    """The coefficients with a gaze in every frame, or without any where none is known.

    Behind a lid the eye goes straight from where it was to where it is next.
    """
    gaze = coefficients.pop(GAZE, None)
    rows = [] if gaze is None else np.flatnonzero(np.isfinite(gaze).all(axis=1))
    if len(rows):
        coefficients[GAZE] = _filled(GAZE, gaze[rows], rows, times)
    return coefficients


def _filled(
    name: str,
    values: Float[np.ndarray, "K _"],
    rows: Int[np.ndarray, " K"],
    times: Float[np.ndarray, " T"],
) -> Float[np.ndarray, "T _"]:
    """A quantity in all T frames: known in some, interpolated between, held before and after."""
    full = np.zeros((len(times), *values.shape[1:]), values.dtype)
    full[: rows[0]], full[rows[-1] :], full[rows] = values[0], values[-1], values
    for part, space in spaces(name, values.shape[1]):
        for before, after in itertools.pairwise(rows):
            inside = slice(before + 1, after)
            shares = (times[inside] - times[before]) / (times[after] - times[before])
            if len(shares):
                ends = np.float64(full[before, part]), np.float64(full[after, part])
                full[inside, part] = between(*ends, shares, space)
    return full


def runs(seen: Sequence[bool]) -> int:
    """How many times a face was lost and found again."""
    return int(np.sum(np.diff(np.asarray(seen, int)) == -1))
