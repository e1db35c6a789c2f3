"""How much the networks' reading of a face depends on how it is cropped."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Float, UInt8

from fields_jax.flame import flame
from fields_jax.kept import kept_program
from fields_jax.landmark_schemes import EYE_CORNERS_68, MIRRORED
from fields_jax.photos.crops import cut
from fields_jax.photos.faces import Face, varied_matrix
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
CROPS = 2 + len(VARIATIONS)  # of each face


class Wavering(NamedTuple):
    """How much readings of F faces differ between crops.

    Attributes:
      spread: [F] root mean square distance of the 68 landmarks from their mean over all crops but
        the mirrored one, as a share of the inter-ocular distance.
      mirror: [F] root mean square distance of the plain crop's landmarks from those of the mirrored
        one, likewise.
    """

    spread: Float[np.ndarray, " F"]
    mirror: Float[np.ndarray, " F"]


def varied_crops(faces: Sequence[Face], size: int) -> list[UInt8[np.ndarray, "S S 3"]]:
    """CROPS crops of every face, those of a face together, the plain one first."""
    found = []
    for face in faces:
        plain = face.crop(size)
        varied = [cut(face.image, varied_matrix(face, size, each), size) for each in VARIATIONS]
        found += [plain, *varied, np.ascontiguousarray(plain[:, ::-1])]
    return found


def wavering(faces: Sequence[Face], size: int, points: Float[np.ndarray, "N 68 3"]) -> Wavering:
    """How much the readings of `varied_crops` differ.

    Args:
      faces: F of them.
      size: side of the crops in pixels.
      points: [F * CROPS, 68, 3] of the readings, see `posed_landmarks`.
    """
    points = np.asarray(points, np.float64)
    right, left = EYE_CORNERS_68
    eyes = np.linalg.norm(points[:, left] - points[:, right], axis=-1).reshape(-1, CROPS)
    flat = points[..., :2].reshape(len(faces), CROPS, -1, 2)
    spread, mirror = [], []
    for face, own, apart in zip(faces, flat, eyes, strict=True):
        plain = face.matrix(size)
        unit = apart[0] * size / 2
        inside = [own[0]]  # all brought to the plain crop
        for variation, marks in zip(VARIATIONS, own[1:-1], strict=True):
            back = np.float64(plain) @ np.linalg.inv(
                np.float64(varied_matrix(face, size, variation))
            )
            pixels = (marks + 1) * size / 2
            inside.append(2 * (pixels @ back[:2, :2].T + back[:2, 2]) / size - 1)
        inside = np.stack(inside)
        off = (inside - inside.mean(axis=0)) * size / 2
        spread.append(np.sqrt((off**2).sum(axis=-1).mean()) / unit)
        twin = (own[-1] * (-1, 1))[MIRRORED["landmarks_68"]]
        gap = (twin - own[0]) * size / 2
        mirror.append(np.sqrt((gap**2).sum(axis=-1).mean()) / unit)
    return Wavering(np.float32(spread), np.float32(mirror))


def posed_landmarks(head: FlameModel, readings: FlameCoefficients) -> Float[np.ndarray, "N 68 3"]:
    """The 68 landmarks of readings as `render.project` returns them.

    Args:
      head: of the readings; `flame.landmark_head` of it will do and is faster.
      readings: [N, ...].
    """
    return np.asarray(kept_program(_landmarks, head, readings))


def _landmarks(head: FlameModel, readings: FlameCoefficients) -> Float[Array, "N 68 3"]:
    return project(flame(head, readings).landmarks_68, readings.camera)
