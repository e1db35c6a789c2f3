"""How far the reading of a face can be believed: a verdict with its reasons.

The expected error is a log-linear function of the evidence, whose weights and the thresholds on it
were fitted by `benchmarks.confidence` on generated faces and on photographs, plain and damaged, of
one half of the people; docs/clips.md tells how it does on the other half. Facts that no error
formula should outweigh are rules of their own.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, NamedTuple

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

# Logarithm of the expected error by the features of `features`, the constant last.
WEIGHTS = (1.09, 0.373, 0.545, 1.797, 1.963)
# Expected errors from which on a reading is suspect, and has failed.
LIMITS = (0.167, 0.208)
# What training shows hardly ever: degrees of a turn, pixels of a face; shares of the face that must
# be inside the picture, and that another face may cover. Of turn and share in the picture the
# second is where no face can be: no camera sees one that looks so far away.
_TURN, _ROLL, _PIXELS, _INSIDE, _COVERED = (60.0, 100.0), 50.0, 40.0, (0.9, 0.5), 0.5
_MATCH = 0.45  # of the box with the finder's; faces that are framed well share 0.6 and more
_FOUND = 0.8  # probability that there is a face; of those that are there four fifths have more
_RESIDUAL = 0.06  # a landmark fit that leaves more has not found the face's shape


@dataclasses.dataclass(frozen=True)
class Evidence:
    """What speaks for and against the reading of one face; NaN where it is not known.

    Attributes:
      spread: see `wavering.Wavering`.
      mirror: likewise.
      upside: likewise.
      residual: mean distance of the fitted from given landmarks, share of the inter-ocular one.
      again: score in [0, 1] of the face by a second look of the finder at its surroundings; 0 where
        it sees none there.
      match: intersection over union of the face's box with the one of that second look.
      found: probability in [0, 1] that there is a face, where finder and networks have found it
        together; no second look is taken then.
      turn: degrees of the head's turn away from the camera, to any side.
      roll: degrees of the head's turn in the picture, from upright.
      inside: share of the face's landmarks inside the picture.
      overlap: largest share of the face's box that another face of the picture covers.
      pixels: mean side of the face's box.
    """

    spread: float = np.nan
    mirror: float = np.nan
    upside: float = np.nan
    residual: float = np.nan
    again: float = np.nan
    match: float = np.nan
    found: float = np.nan
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
        overlap=face.overlap,
        pixels=float((face.box[2:] - face.box[:2]).mean()),
        **known,
    )


def look_again(finder: Finder, face: Face) -> dict[str, float]:
    """`again` and `match` of `Evidence`: the finder looks at the face's surroundings alone."""
    matrix = crops.crop_matrix(face.box, _ABOUT, _SIDE)
    found = finder.detect(crops.cut(face.image, matrix, _SIDE))
    if not found:
        return {"again": 0.0, "match": 0.0}
    low, high = np.float64(face.box[:2]), np.float64(face.box[2:])
    own = np.concatenate([matrix[0, 0] * low + matrix[:2, 2], matrix[0, 0] * high + matrix[:2, 2]])
    boxes = np.stack([np.asarray(each.box) for each in found])
    shared = overlap(boxes, own[None]).union[:, 0]
    best = int(shared.argmax())
    again = found[best].score if shared[best] > _SAME else 0.0
    return {"again": float(again), "match": float(shared[best])}


def features(known: Evidence) -> Float[np.ndarray, "5"]:
    """What the expected error depends on; defined where the wavering is known."""
    return np.array(
        [
            np.log(known.spread + 0.005),
            np.log(known.mirror + 0.01),
            (known.turn / 60) ** 2,
            1 - known.inside,
            1.0,
        ]
    )


def expected_error(known: Evidence) -> float:
    """The error that the evidence lets expect, see `Verdict`; of a landmark fit what it leaves."""
    if np.isnan(known.spread):
        return float(known.residual)
    return float(np.exp(np.dot(WEIGHTS, features(known))))


def judge(known: Evidence) -> Verdict:
    """The verdict on one face."""
    error = expected_error(known)
    found = sorted(_doubts(known, error), key=lambda doubt: -VERDICTS.index(doubt[0]))
    verdict = found[0][0] if found else OK
    return Verdict(verdict, tuple(reason for _, reason in found), error)


def in_words(verdict: Verdict, known: Evidence) -> dict[str, Any]:
    """A verdict and its evidence for JSON; what is not known is left out."""
    told = {name: value for name, value in dataclasses.asdict(known).items() if value == value}
    return {
        "verdict": verdict.verdict,
        "reasons": list(verdict.reasons),
        "expected_error": round(verdict.error, 4) if np.isfinite(verdict.error) else None,
        "expected_error_unit": "mean distance of landmarks from the true ones, share of the "
        "inter-ocular distance",
        "evidence": {name: round(value, 4) for name, value in told.items()},
    }


def said_of(verdict: Verdict) -> str:
    """A verdict in a line."""
    reasons = f": {'; '.join(verdict.reasons)}" if verdict.reasons else ""
    error = f", about {100 * verdict.error:.0f} % of the eye distance off"
    return f"{verdict.verdict}{error if np.isfinite(verdict.error) else ''}{reasons}"


def _doubts(known: Evidence, error: float) -> Iterator[tuple[str, str]]:
    """Verdicts that are not "ok", each with its reason."""
    if not np.isnan(known.spread) and error >= LIMITS[0]:
        said = f"readings of shifted crops differ (expected error {100 * error:.0f} %)"
        yield FAIL if error >= LIMITS[1] else SUSPECT, said
    if known.again == 0:
        missed = known.residual > _RESIDUAL
        sure = not missed and (np.isnan(known.spread) or error < LIMITS[0])
        yield SUSPECT if sure else FAIL, "the finder sees no face there"
    elif known.match < _MATCH:
        yield SUSPECT, "the finder sees the face elsewhere or of another size"
    if known.found < _FOUND:
        yield SUSPECT, f"perhaps no face: probable to {100 * known.found:.0f} %"
    if known.upside < known.spread:
        yield FAIL, "upside down, by how much steadier the reading is then"
    if known.residual > _RESIDUAL:
        worse = known.residual >= LIMITS[1]
        said = f"landmarks are missed by {100 * known.residual:.0f} % of the eye distance"
        yield FAIL if worse else SUSPECT, said
    if known.turn > _TURN[0]:
        worse = known.turn > _TURN[1]
        yield FAIL if worse else SUSPECT, f"turned away by {known.turn:.0f} degrees"
    if known.roll > _ROLL:
        yield SUSPECT, f"turned in the picture by {known.roll:.0f} degrees"
    if known.pixels < _PIXELS:
        yield SUSPECT, f"a face of {known.pixels:.0f} pixels"
    if known.inside < _INSIDE[0]:
        worse = known.inside < _INSIDE[1]
        yield FAIL if worse else SUSPECT, f"{100 * known.inside:.0f} % of it is in the picture"
    if known.overlap > _COVERED:
        yield SUSPECT, f"another face covers {100 * known.overlap:.0f} % of it"
