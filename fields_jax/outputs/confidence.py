"""How far the reading of a face can be believed: a verdict with its reasons."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from fields_jax.geometry.boxes import overlap
from fields_jax.geometry.rotations import all_turned
from fields_jax.photos import crops
from fields_jax.photos.faces import Face, Finder

# The second look is at a square of so many face boxes, brought to so many pixels; a box that shares
# this much with the face's is the face.
_ABOUT, _SIDE, _SAME = 2.2, 160, 0.3

OK, SUSPECT, FAIL = VERDICTS = ("ok", "suspect", "fail")


@dataclasses.dataclass(frozen=True)
class Evidence:
    """What speaks for and against the reading of one face; NaN where it is not known.

    Attributes:
      spread: see `wavering.Wavering`.
      mirror: likewise.
      residual: mean distance of the fitted from given landmarks, share of the inter-ocular one.
      again: score in [0, 1] of the face by a second look of the finder at its surroundings; 0 where
        it sees none there.
      turn: degrees of the head's turn away from the camera, to any side.
      roll: degrees of the head's turn in the picture, from upright.
      inside: share of the face's landmarks inside the picture.
      overlap: largest share of the face's box that another face of the picture covers.
      pixels: mean side of the face's box.
    """

    spread: float = np.nan
    mirror: float = np.nan
    residual: float = np.nan
    again: float = np.nan
    turn: float = np.nan
    roll: float = np.nan
    inside: float = np.nan
    overlap: float = np.nan
    pixels: float = np.nan


class Verdict(NamedTuple):
    """What is to be thought of a reading.

    Attributes:
      verdict: "ok", "suspect" or "fail".
      reasons: why it is not "ok", the gravest first.
      error: expected mean distance of its landmarks from the true ones, share of the inter-ocular
        distance.
    """

    verdict: str
    reasons: tuple[str, ...]
    error: float


def evidence(
    face: Face,
    points: Float[np.ndarray, "68 2"],
    pose: Float[np.ndarray, "3"],
    **known: float,
) -> Evidence:
    """What a face's picture and reading tell by themselves, and what else is known.

    Args:
      face: in its picture.
      points: its 68 landmarks as they were read, pixels of the picture.
      pose: of the head, axis-angle.
      known: other fields of `Evidence`.
    """
    height, width = face.image.shape[:2]
    inside = ((points >= 0) & (points <= (width, height))).all(axis=-1).mean()
    ahead, up = (all_turned(pose[None], np.eye(3)[None, axis])[0] for axis in (2, 1))
    return Evidence(
        turn=float(np.rad2deg(np.arccos(np.clip(ahead[2], -1, 1)))),
        roll=float(abs(np.rad2deg(np.arctan2(up[0], up[1])))),
        inside=float(inside),
        pixels=float((face.box[2:] - face.box[:2]).mean()),
        **known,
    )


def look_again(finder: Finder, face: Face) -> float:
    """The finder's score of the face when it looks at the face's surroundings alone; 0 for none."""
    matrix = crops.crop_matrix(face.box, _ABOUT, _SIDE)
    found = finder.detect(crops.cut(face.image, matrix, _SIDE))
    if not found:
        return 0.0
    low, high = np.float64(face.box[:2]), np.float64(face.box[2:])
    own = np.concatenate([matrix[0, 0] * low + matrix[:2, 2], matrix[0, 0] * high + matrix[:2, 2]])
    boxes = np.stack([np.asarray(each.box) for each in found])
    shared = overlap(boxes, own[None]).union[:, 0]
    scores = [each.score or 0.0 for each in found]
    return float(
        max((s for s, part in zip(scores, shared, strict=True) if part > _SAME), default=0)
    )


def judge(evidence: Evidence) -> Verdict:
    """The verdict on one face."""
    error = 0.05 + np.nan_to_num(evidence.spread)
    return Verdict(OK, (), float(error))
