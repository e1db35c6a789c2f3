"""How far a face opens its mouth, smiles, lifts its brows and shuts its eyes, read off landmarks.

The same lengths are read off the landmarks of a photograph and off those of a reconstructed head as
it is seen there. They need no 3D truth, and they tell whether a reconstruction follows the face.
All are in units of the face's own distance between the outer eye corners, in the picture.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from fields_jax.landmark_schemes import EYE_CORNERS_478, LIP_CORNERS_478, MEDIAPIPE_105

_ROW = {point: row for row, point in enumerate(MEDIAPIPE_105.tolist())}
EYE_CORNERS_105 = tuple(_ROW[corner] for corner in EYE_CORNERS_478)
# Points of mediapipe's 478, (right, left) where there are two.
_LIPS = 13, 14  # the middle of the inner rims, upper and lower
_BROWS_AND_LIDS = (105, 159), (334, 386)
_LIDS = (159, 145), (386, 374)

MEASURES = {
    "mouth_opening": "between the inner lips",
    "mouth_width": "between the corners of the mouth",
    "corner_height": "of the corners of the mouth above the middle of the lips",
    "brow_height": "from the upper lids to the brows",
    "eye_closure": "between the lids, negated",
}


def measure(points: Float[np.ndarray, "F 105 2"]) -> dict[str, Float[np.ndarray, " F"]]:
    """The measures of faces.

    Args:
      points: the 105 landmarks in pixels, y down.

    Returns:
      One value per face for each of `MEASURES`; NaN or infinite for faces whose outer eye corners
      are at one point.
    """

    def at(point: int) -> Float[np.ndarray, "F 2"]:
        return np.asarray(points, np.float64)[:, _ROW[point]]

    def apart(one: int, other: int) -> Float[np.ndarray, " F"]:
        return np.linalg.norm(at(one) - at(other), axis=-1)

    unit = interocular(points)
    right, left = (at(corner) for corner in EYE_CORNERS_478)
    with np.errstate(invalid="ignore", divide="ignore"):
        across = (left - right) / unit[:, None]
    up = np.stack([across[:, 1], -across[:, 0]], axis=-1)  # y points down
    middle = (at(_LIPS[0]) + at(_LIPS[1])) / 2
    corners = sum(at(corner) for corner in LIP_CORNERS_478[0]) / 2
    found = {
        "mouth_opening": apart(*_LIPS),
        "mouth_width": apart(*LIP_CORNERS_478[0]),
        "corner_height": ((corners - middle) * up).sum(axis=-1),
        "brow_height": sum(apart(*pair) for pair in _BROWS_AND_LIDS) / 2,
        "eye_closure": -sum(apart(*pair) for pair in _LIDS) / 2,
    }
    with np.errstate(invalid="ignore", divide="ignore"):
        return {name: values / unit for name, values in found.items()}


def interocular(points: Float[np.ndarray, "F 105 2"]) -> Float[np.ndarray, " F"]:
    """Distance of the outer eye corners, in the unit of the points."""
    right, left = (np.asarray(points, np.float64)[:, _ROW[corner]] for corner in EYE_CORNERS_478)
    return np.linalg.norm(left - right, axis=-1)
