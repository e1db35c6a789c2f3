"""How much the networks' reading of a face depends on how it is cropped."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float, UInt8

from fields_jax.flame import flame
from fields_jax.kept import kept_program
from fields_jax.landmark_schemes import EYE_CORNERS_68, MIRRORED
from fields_jax.photos.crops import cut
from fields_jax.photos.faces import Face, variation_in_ndc, varied_matrix
from fields_jax.render import project
from fields_jax.types import FlameCoefficients, FlameModel

# The crops that are read besides the plain one, all in one batch: see `varied_matrix`. The last is
# the plain one seen in a mirror.
VARIATIONS = (
    (0.04, 0.03, 1.0, 0.0),
    (-0.04, -0.03, 1.0, 0.0),
    (0.0, 0.0, 1.08, 8.0),
    (0.0, 0.0, 0.92, -8.0),
)
UPRIGHT = 1 + len(VARIATIONS)  # of each face, the plain one first
CROPS = UPRIGHT + 1  # with the mirrored one
TURNED = UPRIGHT  # more of each face: all but the mirrored one upside down
_ROWS = 12  # readings are posed by twelve, so that few programs are compiled
# From image coordinates of each upright crop to those of the plain one.
_BACKS = np.stack([np.eye(3), *(np.linalg.inv(variation_in_ndc(each)) for each in VARIATIONS)])


class Wavering(NamedTuple):
    """How much readings of F faces differ between crops.

    Attributes:
      spread: [F] root mean square distance of the 68 landmarks from their mean over all crops but
        the mirrored one, as a share of the inter-ocular distance.
      mirror: [F] root mean square distance of the plain crop's landmarks from those of the mirrored
        one, likewise.
      upside: [F] the spread of the same crops turned upside down. Of a face that stands upright it
        is larger by half and more; None where they were not read.
    """

    spread: Float[np.ndarray, " F"]
    mirror: Float[np.ndarray, " F"]
    upside: Float[np.ndarray, " F"] | None = None

    def of(self, row: int) -> dict[str, float]:
        """What is known of one face, by name."""
        known = {name: column for name, column in self._asdict().items() if column is not None}
        return {name: float(column[row]) for name, column in known.items()}


def varied_crops(
    faces: Sequence[Face], size: int, *, upside: bool = False
) -> list[UInt8[np.ndarray, "S S 3"]]:
    """CROPS crops of every face, those of a face together, the plain one first.

    Args:
      faces: in their photographs.
      size: side of the crops in pixels.
      upside: whether TURNED more of each follow.
    """
    found = []
    for face in faces:
        plain = face.crop(size)
        varied = [cut(face.image, varied_matrix(face, size, each), size) for each in VARIATIONS]
        found += [plain, *varied, np.ascontiguousarray(plain[:, ::-1])]
        if upside:
            found += [np.ascontiguousarray(crop[::-1, ::-1]) for crop in (plain, *varied)]
    return found


def wavering(points: Float[np.ndarray, "F C 68 3"]) -> Wavering:
    """How much the readings of `varied_crops` differ.

    Args:
      points: of F faces' readings, see `posed_landmarks`; C is CROPS, or CROPS + TURNED where the
        crops were read upside down as well.
    """
    own = np.asarray(points, np.float64)
    right, left = EYE_CORNERS_68
    units = np.linalg.norm(own[:, 0, left] - own[:, 0, right], axis=-1)
    twins = (own[:, UPRIGHT, :, :2] * (-1, 1))[:, MIRRORED["landmarks_68"]]
    mirror = _distance(twins - own[:, 0, :, :2]) / units
    spread = _spread(in_plain_crops(own[:, :UPRIGHT, :, :2])) / units
    upside = None
    if own.shape[1] > CROPS:
        upside = np.float32(_spread(in_plain_crops(-own[:, CROPS:, :, :2])) / units)
    return Wavering(np.float32(spread), np.float32(mirror), upside)


def in_plain_crops(points: Float[np.ndarray, "F C N 2"]) -> Float[np.ndarray, "F C N 2"]:
    """Points in image coordinates of the C upright crops, in those of each face's plain crop."""
    return np.einsum("cij,fcnj->fcni", _BACKS[:, :2, :2], points) + _BACKS[:, None, :2, 2]


def _spread(marks: Float[np.ndarray, "F C N 2"]) -> Float[np.ndarray, " F"]:
    """Root mean square distance from the mean over crops, in image coordinates."""
    gaps = marks - marks.mean(axis=1, keepdims=True)
    return _distance(gaps.reshape(len(gaps), -1, 2))


def _distance(gaps: Float[np.ndarray, "F N 2"]) -> Float[np.ndarray, " F"]:
    return np.sqrt((gaps**2).sum(axis=-1).mean(axis=-1))


def posed_landmarks(head: FlameModel, readings: FlameCoefficients) -> Float[np.ndarray, "N 68 3"]:
    """The 68 landmarks of readings as `render.project` returns them.

    Args:
      head: of the readings; `flame.landmark_head` of it will do and is faster.
      readings: [N, ...].
    """
    count = len(readings.camera)
    rows = np.minimum(np.arange(-(-count // _ROWS) * _ROWS), count - 1)
    filled = jax.tree.map(lambda column: np.asarray(column)[rows], readings)
    return np.asarray(kept_program(_landmarks, head, filled))[:count]


def _landmarks(head: FlameModel, readings: FlameCoefficients) -> Float[Array, "N 68 3"]:
    return project(flame(head, readings).landmarks_68, readings.camera)
