"""Landmark schemes as tables of rows: the 68, 105, 203, 478 and 98 points of a face.

Left and right are the subject's; the subject's right is on the left of a picture, and is what the
68-point scheme numbers first.
"""

from __future__ import annotations

import numpy as np

# ---- The 68 points (Sagonas et al. 2013, "300 faces in-the-wild").

CONTOUR_68 = slice(0, 17)  # from the right ear over the chin to the left one
INNER_68 = slice(17, 68)  # brows, nose, eyes, mouth: "the 51 points"
CHIN_68 = 8
BROWS_68 = slice(17, 27)
BROW_PAIR_68 = slice(17, 22), slice(22, 27)  # right, left
NOSE_TIP_68, NOSE_BASE_68 = 30, 33
EYES_68 = slice(36, 48)
EYE_PAIR_68 = slice(36, 42), slice(42, 48)  # right, left
EYE_CORNERS_68 = 36, 45  # the outer ones, whose distance is the usual inter-ocular one
OUTER_LIPS_68, INNER_LIPS_68 = slice(48, 60), slice(60, 68)
MOUTH_CORNERS_68 = 48, 54
# NoW's seven points (Sanyal et al. 2019): the eye corners from the subject's right to the left, the
# bottom of the nose, the corners of the mouth.
NOW_68 = (36, 39, 42, 45, 33, 48, 54)
UPPER_RIM_68, LOWER_RIM_68 = (60, 61, 62, 63, 64), (60, 67, 66, 65, 64)  # of the mouth's slit
MOUTH_BOX_68 = slice(48, 61)  # the 13 points of the mouth's box in TEASER's region loss
# Points that face each other across the slit of an eye and between the lips.
ACROSS_SLITS_68 = ((37, 41), (38, 40), (43, 47), (44, 46), (61, 67), (62, 66), (63, 65))
# Rows that a mirror exchanges; all others stay.
_MIRROR_PAIRS_68 = (
    *((i, 16 - i) for i in range(8)),  # contour
    *((17 + i, 26 - i) for i in range(5)),  # brows
    *((31, 35), (32, 34)),  # nostrils
    *((36, 45), (37, 44), (38, 43), (39, 42), (40, 47), (41, 46)),  # eyes
    *((48, 54), (49, 53), (50, 52), (55, 59), (56, 58)),  # outer lips
    *((60, 64), (61, 63), (65, 67)),  # inner lips
)


def among_51(rows: slice) -> slice:
    """Rows of the 68 as rows of the 51 inner points."""
    return slice(rows.start - INNER_68.start, rows.stop - INNER_68.start)


# The five points of face detectors as averages of rows of the 68: centres of the right and the left
# eye, tip of the nose, right and left corner of the mouth (MTCNN, Zhang et al. 2016, and most
# detectors since). They mark the pupil: the mean of an eye's six points, if it looks ahead.
N_DETECTED = 5
AVERAGED_5 = (tuple(range(36, 42)), tuple(range(42, 48)), (30,), (48,), (54,))
# The rows of the 51 that trackers of 49 points keep: all but the inner corners of the mouth.
INNER_49_OF_51 = np.delete(np.arange(51), (43, 47))
# FLAME's published contour table (RingNet's embedding) has a row for each degree of yaw up to this
# on either side: rows 0..39, then -1..-39.
CONTOUR_MAX_YAW = 39

# ---- The 98 points of WFLW (Wu et al. 2018, figure of the annotation).

N_WFLW = 98
# The 68 points among them: every other one of the contour, the brows' upper edges, the nose, six
# of the eight of each eye, the mouth.
WFLW_68 = np.array([
    *range(0, 33, 2), *range(33, 38), *range(42, 47), *range(51, 60),
    60, 61, 63, 64, 65, 67, 68, 69, 71, 72, 73, 75, *range(76, 96),
])  # fmt: skip

# ---- Mediapipe's mesh of 478 points (468 and the irises; canonical_face_model of mediapipe).

N_MEDIAPIPE = 478
EYE_CORNERS_478 = 33, 263  # right and left, the outer ones
# By the subject's side: the iris, centre first, then its rim; the corners of the eye, inner and
# outer; the middles of the upper and the lower lid.
IRIS_478 = {"left": np.arange(473, 478), "right": np.arange(468, 473)}
EYE_ENDS_478 = {"left": (362, 263), "right": (133, 33)}
EYE_SLITS_478 = {"left": (386, 374), "right": (159, 145)}
# Points with their mirror images, (left, right). Brows from the inner to the outer end.
BROW_LOW_478 = ((285, 55), (295, 65), (282, 52), (283, 53), (276, 46))
BROW_HIGH_478 = ((336, 107), (296, 66), (334, 105), (293, 63), (300, 70))
# Lids from the inner to the outer corner; the upper one has both.
# fmt: off
LID_HIGH_478 = (
    (362, 133), (398, 173), (384, 157), (385, 158), (386, 159), (387, 160), (388, 161), (466, 246),
    (263, 33),
)
# fmt: on
LID_LOW_478 = ((382, 155), (381, 154), (380, 153), (374, 145), (373, 144), (390, 163), (249, 7))
NOSE_MIDLINE_478 = (168, 6, 197, 195, 5, 4, 2)  # from the nasion down
NOSE_SIDE_478 = ((358, 129), (327, 98), (326, 97))  # from the wing inward
# Lips from the midline, where both are the same point, toward the corners.
LIP_OUTER_HIGH_478 = ((0, 0), (267, 37), (269, 39), (270, 40), (409, 185))
LIP_OUTER_LOW_478 = ((17, 17), (314, 84), (405, 181), (321, 91), (375, 146))
LIP_INNER_HIGH_478 = ((13, 13), (312, 82), (311, 81), (310, 80), (415, 191))
LIP_INNER_LOW_478 = ((14, 14), (317, 87), (402, 178), (318, 88), (324, 95))
LIP_CORNERS_478 = ((291, 61), (308, 78))  # outer, inner
_MIRROR_PAIRS_478 = (
    *(*BROW_LOW_478, *BROW_HIGH_478, *LID_HIGH_478, *LID_LOW_478, *NOSE_SIDE_478),
    *(*LIP_OUTER_HIGH_478, *LIP_OUTER_LOW_478, *LIP_INNER_HIGH_478, *LIP_INNER_LOW_478),
    *LIP_CORNERS_478,
)


def _across_slits_478() -> tuple[tuple[int, int], ...]:
    """(upper, lower): each eye from its outer corner, right first; the lips from right to left."""
    pairs = []
    for side in (1, 0):
        lids = zip(LID_HIGH_478[1:-1], LID_LOW_478, strict=True)
        pairs += [(high[side], low[side]) for high, low in lids][::-1]
    lips = list(zip(LIP_INNER_HIGH_478, LIP_INNER_LOW_478, strict=True))
    pairs += [(high[1], low[1]) for high, low in lips[:0:-1]]
    pairs += [(high[0], low[0]) for high, low in lips]
    return tuple(pairs)


# Points that face each other across the slit of an eye and between the lips.
ACROSS_SLITS_478 = _across_slits_478()

# fmt: off
# The 105 of the 478 points that FLAME's mediapipe embedding (`landmark_indices`) covers, in its
# order, which SMIRK and TEASER keep: left brow, right brow, left eye, right eye, nose, mouth.
MEDIAPIPE_105 = np.array([
    276, 282, 283, 285, 293, 295, 296, 300, 334, 336,
    46, 52, 53, 55, 63, 65, 66, 70, 105, 107,
    249, 263, 362, 373, 374, 380, 381, 382, 384, 385, 386, 387, 388, 390, 398, 466,
    7, 33, 133, 144, 145, 153, 154, 155, 157, 158, 159, 160, 161, 163, 173, 246,
    168, 6, 197, 195, 5, 4, 129, 98, 97, 2, 326, 327, 358,
    0, 13, 14, 17, 37, 39, 40, 61, 78, 80, 81, 82, 84, 87, 88, 91, 95, 146, 178, 181,
    185, 191, 267, 269, 270, 291, 308, 310, 311, 312, 314, 317, 318, 321, 324, 375, 402, 405,
    409, 415,
])
# The 478 points that lie nearest to the 68-point scheme: the contour at equal arcs of the face oval
# from the ears' height to the chin; brows, nose, eyes and outer lips by distance on FLAME's
# template, 0.04 of the inter-ocular distance on average, 0.16 at the brows' outer ends. The inner
# lips, shut on the template, by their order along the rim.
MEDIAPIPE_68 = np.array([
    127, 234, 132, 58, 172, 136, 149, 176, 152, 400, 378, 365, 397, 288, 361, 454, 356,
    70, 63, 105, 66, 107, 336, 296, 334, 293, 300,
    168, 6, 195, 4, 98, 97, 2, 326, 327,
    33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380,
    61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181,
    78, 82, 13, 312, 308, 317, 14, 87,
])
# fmt: on

# ---- The 203 points of LivePortrait (Guo et al. 2024) and their subsets by yaw in TEASER.

N_203 = 203
FRONTAL_YAW = 0.05  # radians; the frontal subset serves yaws up to this, the others those beyond
_ANY_YAW_203 = (*range(48), *range(84, 108), *range(189, 193), *range(199, 203))
FRONT_203 = np.array([*_ANY_YAW_203, *range(125, 128), *range(185, 189), *range(193, 197)])
LEFT_203 = np.array([*_ANY_YAW_203, *range(128, 140), *range(193, 197)])
RIGHT_203 = np.array([*_ANY_YAW_203, *range(112, 125), *range(185, 189)])


# ---- Mirrors.


def _mirror_68() -> np.ndarray:
    order = np.arange(68)
    for one, other in _MIRROR_PAIRS_68:
        order[[one, other]] = other, one
    return order


def _mirror_105() -> np.ndarray:
    twin = dict(_MIRROR_PAIRS_478) | {right: left for left, right in _MIRROR_PAIRS_478}
    row = {point: i for i, point in enumerate(MEDIAPIPE_105.tolist())}
    return np.array([row[twin.get(point, point)] for point in MEDIAPIPE_105.tolist()])


# The row that each row of a mirrored face shows. The 203 points have no such list that we know.
MIRRORED = {"landmarks_68": _mirror_68(), "landmarks_105": _mirror_105()}
