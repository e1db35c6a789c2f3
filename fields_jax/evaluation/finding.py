"""How well a finder of faces finds: the share of faces found, and false alarms."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from fields_jax.geometry.boxes import overlap

SAME = 0.5  # intersection over union from which on a box is that of a face


class Matched(NamedTuple):
    """One picture.

    Attributes:
      found: [F] of each true face, the score of the box that is its, or 0.
      alarms: [A] scores of the boxes that are no face's.
      union: [F] intersection over union of each true face and its box.
    """

    found: Float[np.ndarray, " F"]
    alarms: Float[np.ndarray, " A"]
    union: Float[np.ndarray, " F"]


class Point(NamedTuple):
    """What a threshold of the scores gives.

    Attributes:
      threshold: least score.
      recall: share of the faces that are found.
      alarms: false ones, per picture.
    """

    threshold: float
    recall: float
    alarms: float


def match(
    boxes: Float[np.ndarray, "N 4"],
    scores: Float[np.ndarray, " N"],
    faces: Float[np.ndarray, "F 4"],
    unsure: Float[np.ndarray, "U 4"] | None = None,
) -> Matched:
    """Gives each box, the surest first, to the face it overlaps most that has none yet.

    Args:
      boxes, scores: that were found.
      faces: that are there.
      unsure: faces that are neither to be found nor to be passed over: boxes on them do not count.
    """
    found, union, free = np.zeros(len(faces)), np.zeros(len(faces)), np.ones(len(faces), bool)
    shared, alarms = overlap(boxes, faces).union, []
    excused = _any_over(overlap(boxes, unsure).smaller) if unsure is not None else None
    for row in np.argsort(-scores, kind="stable"):
        best = int(np.argmax(np.where(free, shared[row], -1))) if len(faces) else -1
        if best >= 0 and free[best] and shared[row, best] >= SAME:
            found[best], union[best], free[best] = scores[row], shared[row, best], False
        elif excused is None or not excused[row]:
            alarms.append(scores[row])
    return Matched(found, np.array(alarms, np.float64), union)


def curve(pictures: Iterable[Matched], thresholds: Sequence[float]) -> list[Point]:
    """Recall and false alarms at each threshold."""
    pictures = list(pictures)
    found = np.concatenate([one.found for one in pictures])
    alarms = np.concatenate([one.alarms for one in pictures])
    return [
        Point(
            float(least),
            float((found >= least).mean()) if len(found) else 1.0,
            float((alarms >= least).sum() / max(len(pictures), 1)),
        )
        for least in thresholds
    ]


def _any_over(shared: Float[np.ndarray, "N U"]) -> Bool[np.ndarray, " N"]:
    return (shared >= SAME).any(axis=1)
