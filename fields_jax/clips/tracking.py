"""Which face of a frame is whose: boxes followed from frame to frame by place and motion."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from fields_jax.geometry.boxes import overlap

# All ours. A face may be found where its box shares this much with where it is expected, or where
# its middle is within so many of its sides and its size within this factor.
_SHARED, _REACH, _GROWTH = 0.2, 0.6, 1.7
_FOLLOW = 0.5  # share of the newest speed in the speed that is expected
_COAST = 0.25  # seconds in which the speed of a face that is not seen falls to 1 / e


@dataclasses.dataclass
class Track:
    """One face that is being followed.

    Attributes:
      number: counted from 0 in the order of first sight.
      time: seconds, when it was last seen.
      place: [4] centre and logarithms of width and height at that time, pixels.
      speed: [4] per second.
    """

    number: int
    time: float
    place: Float[np.ndarray, "4"]
    speed: Float[np.ndarray, "4"]

    def expected(self, time: float) -> Float[np.ndarray, "4"]:
        """The box (x0, y0, x1, y1) at a later time; a face out of sight comes to a stop."""
        passed = _COAST * (1 - np.exp(-(time - self.time) / _COAST))
        return _box(self.place + passed * self.speed)

    def see(self, time: float, box: Float[np.ndarray, "4"]) -> None:
        """Takes note of where the face is now."""
        place = _place(box)
        newest = (place - self.place) / max(time - self.time, 1e-6)
        self.speed = self.speed + _FOLLOW * (newest - self.speed)
        self.time, self.place = time, place


class Tracker:
    """Follows the faces of a clip.

    Attributes:
      tracks: faces that were in the last frame or not lost for longer than the bridge.
    """

    def __init__(self, bridge: float):
        """Starts without faces.

        Args:
          bridge: seconds; a face found again within this time is the same one, by its place.
        """
        self._bridge, self._count, self._before = bridge, 0, -np.inf
        self.tracks: list[Track] = []

    def assign(self, time: float, boxes: Sequence[Float[np.ndarray, "4"]]) -> list[int]:
        """The number of the track of each box; boxes that fit none begin one.

        Args:
          time: seconds, later than that of the frame before.
          boxes: (x0, y0, x1, y1) in pixels, of different faces.
        """
        self.expire(time)
        self._before = time
        found: list[Track | None] = [None] * len(boxes)
        for row, track in self._matched(time, boxes):
            found[row] = track
            track.see(time, boxes[row])
        for row, box in enumerate(boxes):
            if found[row] is None:
                found[row] = Track(self._count, time, _place(box), np.zeros(4))
                self._count += 1
                self.tracks.append(found[row])
        return [track.number for track in found]

    def expire(self, time: float) -> None:
        """Gives up the faces that have been out of sight for longer than the bridge.

        A face of the frame directly before is not out of sight, however far apart frames are.
        """
        self.tracks = [
            track
            for track in self.tracks
            if track.time >= self._before or time - track.time <= self._bridge + 1e-6
        ]

    def _matched(
        self, time: float, boxes: Sequence[Float[np.ndarray, "4"]]
    ) -> list[tuple[int, Track]]:
        """Boxes with their tracks: the pairs with the largest sum of likeness."""
        if not self.tracks or not len(boxes):
            return []
        from scipy.optimize import linear_sum_assignment  # takes a second to load

        expected = np.stack([track.expected(time) for track in self.tracks])
        likeness = alike(np.stack(list(boxes)), expected)
        rows, columns = linear_sum_assignment(-likeness)
        return [
            (int(row), self.tracks[column])
            for row, column in zip(rows, columns, strict=True)
            if likeness[row, column] > 0
        ]


def alike(
    boxes: Float[np.ndarray, "A 4"], expected: Float[np.ndarray, "B 4"]
) -> Float[np.ndarray, "A B"]:
    """How well boxes fit expected ones, in [0, 2]; 0 where they cannot be the same face's."""
    shared = overlap(boxes, expected).union
    one = np.stack([_place(box) for box in boxes])[:, None]
    other = np.stack([_place(box) for box in expected])[None]
    side = np.exp(other[..., 2:].mean(axis=-1))
    away = np.linalg.norm(one[..., :2] - other[..., :2], axis=-1) / side
    grown = np.abs((one - other)[..., 2:].mean(axis=-1))
    near = (away < _REACH) & (grown < np.log(_GROWTH))
    close = np.maximum(1 - away / (2 * _REACH), 0)
    return np.where(near | (shared > _SHARED), shared + close + 1e-3, 0.0)


def _place(box: Float[np.ndarray, "4"]) -> Float[np.ndarray, "4"]:
    box = np.asarray(box, np.float64)
    return np.concatenate([(box[:2] + box[2:]) / 2, np.log(np.maximum(box[2:] - box[:2], 1e-3))])


def _box(place: Float[np.ndarray, "4"]) -> Float[np.ndarray, "4"]:
    half = np.exp(place[2:]) / 2
    return np.concatenate([place[:2] - half, place[:2] + half])
