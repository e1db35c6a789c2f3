"""Landmarks of faces in pixels: mediapipe's 478 points or the 68-point scheme."""

from __future__ import annotations

import numpy as np
from etils import epath
from jaxtyping import Bool, Float

from fields_jax.errors import UserError
from fields_jax.files import parse_npy, read_bytes
from fields_jax.photos import beside, crops, mark_text

N_MEDIAPIPE = 478
LEAST_SEEN = 0.5  # share of the points: a turned head hides less than half of them
_LARGEST_FILE = 2**24  # bytes; 1000 faces of 478 points are 11.5 million in double precision

# Rows of mediapipe's 478 points that FLAME's mediapipe embedding (`landmark_indices`) covers, in
# its order: subject's left brow, right brow, left eye, right eye, nose, mouth.
# fmt: off
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
# Rows of the 478 points that lie nearest to the 68-point scheme: the contour at equal arcs of the
# face oval from the ears' height to the chin; brows, nose, eyes and outer lips by distance on
# FLAME's template, 0.04 of the inter-ocular distance on average, 0.16 at the brows' outer ends.
# The inner lips, shut on the template, by their order along the rim.
MEDIAPIPE_68 = np.array([
    127, 234, 132, 58, 172, 136, 149, 176, 152, 400, 378, 365, 397, 288, 361, 454, 356,
    70, 63, 105, 66, 107, 336, 296, 334, 293, 300,
    168, 6, 195, 4, 98, 97, 2, 326, 327,
    33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380,
    61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181,
    78, 82, 13, 312, 308, 317, 14, 87,
])
# fmt: on

# The 68 points among WFLW's 98 (Wu et al. 2018, figure of the annotation): every other one of the
# contour, the brows' upper edges, the nose, six of the eight of each eye, the mouth.
WFLW_68 = np.array([
    *range(0, 33, 2), *range(33, 38), *range(42, 47), *range(51, 60),
    60, 61, 63, 64, 65, 67, 68, 69, 71, 72, 73, 75, *range(76, 96),
])  # fmt: skip
_N_WFLW = 98

_NEAR = 0.25  # of a face's size: how far from its other points a point beyond the corner may be
_CHIN, _BROWS = 8, slice(17, 27)  # rows of the 68-point scheme
# Chin to brows as a share of chin to hairline, the top of mediapipe's mesh: the mean over
# photographs of 21 faces.
_BROW_HEIGHT = 0.86
# The contour of the 68-point scheme on the procedural head seen from the front: x in widths between
# the outer eye corners, y in distances from the eyes down to the mouth.
_HALF_CONTOUR = np.array([
    [0.80, -0.04], [0.75, 0.28], [0.72, 0.60], [0.66, 0.90], [0.57, 1.20], [0.48, 1.35],
    [0.35, 1.44], [0.21, 1.51],
])  # fmt: skip
_CONTOUR = np.concatenate([_HALF_CONTOUR * [-1, 1], [[0.0, 1.54]], _HALF_CONTOUR[::-1]])


def find_file(photograph: epath.PathLike) -> epath.Path | None:
    """The landmark file beside a photograph that is its own, see `beside`; None without one."""
    try:
        return beside.landmark_file(photograph).file
    except UserError:
        return None


def load_faces(path: epath.PathLike) -> Float[np.ndarray, "F N 2"]:
    """Reads the points of every face of a photograph, x and y in pixels; N is 478 or 68.

    A .npy holds [N, 2] or [N, 3] for one face, [F, N, 2] or [F, N, 3] for several; a .txt or .pts
    holds lines of x and y, see `mark_text`. Of WFLW's 98 points the 68 are taken.

    Raises:
      FileNotFoundError: there is no such file.
      UserError: not numbers, or another shape.
    """
    path = epath.Path(path)
    if path.suffix.lower() == ".npy":
        points = parse_npy(read_bytes(path, largest=_LARGEST_FILE), str(path))
    else:
        points = mark_text.read_rows(path)
    faces = points[None] if points.ndim == 2 else points
    known = faces.ndim == 3 and faces.shape[1] in (N_MEDIAPIPE, 68, _N_WFLW)
    if not known or faces.shape[2] not in (2, 3) or points.dtype.kind not in "fiu":
        raise UserError(
            f"{path}: expected numbers of shape [478, 2] or [478, 3] (files of 68 points or of "
            "WFLW's 98 and a leading dimension for several faces are fine too), found "
            f"{points.dtype} {list(points.shape)}"
        )
    if faces.shape[1] == _N_WFLW:
        faces = faces[:, WFLW_68]
    with np.errstate(over="ignore"):  # what single precision cannot hold is no place in a picture
        return faces[..., :2].astype(np.float32)


def load_points(path: epath.PathLike) -> Float[np.ndarray, "478 2"]:
    """Reads mediapipe's points of a photograph of one face: x and y in pixels.

    Raises:
      FileNotFoundError: there is no such file.
      UserError: no such array, another shape, several faces, or coordinates that are not finite.
    """
    faces = load_faces(path)
    if faces.shape[:2] != (1, N_MEDIAPIPE):
        raise UserError(
            f"{path}: expected numbers of shape [478, 2] or [478, 3], found "
            f"{faces.shape[1]} points of {faces.shape[0]} faces"
        )
    if not np.isfinite(faces).all():
        raise UserError(f"{path}: some of the points are not finite")
    return faces[0]


def seen(points: Float[np.ndarray, "N 2"]) -> Bool[np.ndarray, " N"]:
    """Which points are places in the picture, and not what stands for a point nobody saw.

    Such are 0, 0 and the same negative number twice, such as -1, -1. Some sets give the place of a
    covered point with its signs turned: both numbers are negative, and far from the other points.
    """
    unseen = (points[:, 0] == points[:, 1]) & (points[:, 0] <= 0)
    beyond = (points < 0).all(axis=1)
    others = points[~unseen & ~beyond]
    if len(others):
        low, high = others.min(axis=0), others.max(axis=0)
        unseen |= beyond & (points < low - _NEAR * (high - low).max()).all(axis=1)
    return ~unseen


def select_105(points: Float[np.ndarray, "478 D"]) -> Float[np.ndarray, "105 2"]:
    """The 105 mediapipe points that the head's embedding covers."""
    return points[MEDIAPIPE_105, :2]


def approximate_68(points: Float[np.ndarray, "478 D"]) -> Float[np.ndarray, "68 2"]:
    """The 478 points nearest to the 68-point scheme.

    Good enough to find a region of the face; no ground truth for its contour, which moves over the
    skin as the head turns while these stay on the skin.
    """
    return points[MEDIAPIPE_68, :2]


def face_box(points: Float[np.ndarray, "N 2"]) -> Float[np.ndarray, "4"]:
    """(x0, y0, x1, y1) of a face from chin to hairline, which crops are cut about."""
    return crops.bounding_box(face_outline(points))


def face_outline(points: Float[np.ndarray, "N 2"]) -> Float[np.ndarray, "M 2"]:
    """Points whose convex hull is the face from chin to hairline; unseen ones are left out.

    Mediapipe's mesh reaches the hairline and is returned as it is. The 68 points end at the brows:
    these are moved away from the chin until they are as high as the mesh would be, along whichever
    way the face is up. The 49 inner points get the contour of the procedural head first, placed by
    eyes and mouth. Other schemes are returned as they are.
    """
    visible = seen(points)
    if len(points) == 49:
        points = np.concatenate([_contour_of_49(points), points])
        visible = np.concatenate([np.ones(17, bool), visible])
    elif len(points) != 68:
        return points[visible]
    chin, brows = points[_CHIN], points[_BROWS][visible[_BROWS]]
    hairline = chin + (brows - chin) / _BROW_HEIGHT
    return np.concatenate([points[visible], hairline]).astype(np.float32)


def _contour_of_49(points: Float[np.ndarray, "49 2"]) -> Float[np.ndarray, "17 2"]:
    """Where the contour of the 68-point scheme is, about, for its rows 17..59, 61..63, 65..67."""
    eyes, mouth = points[19:31].mean(axis=0), points[31:43].mean(axis=0)
    across, down = points[28] - points[19], mouth - eyes  # outer corner to outer corner
    return eyes + _CONTOUR @ np.stack([across, down])


def fault(points: Float[np.ndarray, "N 2"], height: int, width: int) -> str:
    """Why landmarks are no face in an image of that size, or "" where they are one.

    The face that they outline must pass `crops.box_fault`, LEAST_SEEN of them must be seen, and of
    the 68 those that say how high the face is.
    """
    if not np.isfinite(points).all():
        return "some of its landmarks are not finite"
    points = points.astype(np.float64)  # in which whatever a file holds can be compared
    visible = seen(points)
    if visible.mean() < LEAST_SEEN:
        return f"{(~visible).sum()} of its {len(points)} landmarks are unseen"
    low, high = points[visible].min(), points[visible].max()
    if crops.is_normalised((low, high)):
        return f"its points span {low:.3g}..{high:.3g}: normalised? give pixels"
    if len(points) == 68 and not (visible[_CHIN] and visible[_BROWS].any()):
        return "its chin or all of its brows are unseen, which say how large the face is"
    return crops.box_fault(face_box(points), height, width, "its landmarks span")
