"""Left and right of landmarks, for mirrored images."""

from __future__ import annotations

import numpy as np

from fields_jax.photos.points import MEDIAPIPE_105

# Rows of the 68-point scheme that a mirror exchanges; all others stay.
_PAIRS_68 = [
    *((i, 16 - i) for i in range(8)),  # contour
    *((17 + i, 26 - i) for i in range(5)),  # brows
    *((31, 35), (32, 34)),  # nostrils
    *((36, 45), (37, 44), (38, 43), (39, 42), (40, 47), (41, 46)),  # eyes
    *((48, 54), (49, 53), (50, 52), (55, 59), (56, 58)),  # outer lips
    *((60, 64), (61, 63), (65, 67)),  # inner lips
]

# Points of mediapipe's mesh on the subject's left, each with its twin on the right.
# fmt: off
_TWINS_478 = {
    276: 46, 282: 52, 283: 53, 285: 55, 293: 63, 295: 65, 296: 66, 300: 70, 334: 105, 336: 107,
    249: 7, 263: 33, 362: 133, 373: 144, 374: 145, 380: 153, 381: 154, 382: 155, 384: 157, 385: 158,
    386: 159, 387: 160, 388: 161, 390: 163, 398: 173, 466: 246,
    358: 129, 327: 98, 326: 97,
    267: 37, 269: 39, 270: 40, 291: 61, 308: 78, 310: 80, 311: 81, 312: 82, 314: 84, 317: 87,
    318: 88, 321: 91, 324: 95, 375: 146, 402: 178, 405: 181, 409: 185, 415: 191,
}
# fmt: on


def _mirrored_68() -> np.ndarray:
    order = np.arange(68)
    for one, other in _PAIRS_68:
        order[[one, other]] = other, one
    return order


def _mirrored_105() -> np.ndarray:
    twin = _TWINS_478 | {right: left for left, right in _TWINS_478.items()}
    row = {point: i for i, point in enumerate(MEDIAPIPE_105.tolist())}
    return np.array([row[twin.get(point, point)] for point in MEDIAPIPE_105.tolist()])


# The row that each row of a mirrored face shows. The 203 points have no such list that we know.
MIRRORED = {"landmarks_68": _mirrored_68(), "landmarks_105": _mirrored_105()}
