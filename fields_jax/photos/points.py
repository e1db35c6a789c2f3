"""Landmarks of faces in pixels: mediapipe's 478 points, the 68-point scheme, a detector's five."""

from __future__ import annotations

import numpy as np
from etils import epath
from jaxtyping import Bool, Float

from fields_jax.errors import UserError
from fields_jax.files import parse_npy, read_bytes
from fields_jax.landmark_schemes import (
    BROWS_68,
    CHIN_68,
    CONTOUR_68,
    EYE_CORNERS_68,
    EYES_68,
    INNER_68,
    MEDIAPIPE_68,
    MEDIAPIPE_105,
    N_DETECTED,
    N_MEDIAPIPE,
    N_WFLW,
    OUTER_LIPS_68,
    WFLW_68,
    among_51,
)
from fields_jax.photos import beside, crops, mark_text

LEAST_SEEN = 0.5  # fraction of the points: a turned head hides less than half of them
_LARGEST_FILE = 2**24  # bytes; 1000 faces of 478 points are 11.5 million in double precision

_NEAR = 0.25  # of a face's size: largest distance of a point outside the picture from the others
# Chin to brows as a fraction of chin to hairline, the top of mediapipe's mesh: the mean over
# photographs of 21 faces.
_BROW_HEIGHT = 0.86
# The contour of the 68-point scheme on the procedural head seen from the front: x in widths between
# the outer eye corners, y in distances from the eyes down to the mouth.
_HALF_CONTOUR = np.array([
    [0.80, -0.04], [0.75, 0.28], [0.72, 0.60], [0.66, 0.90], [0.57, 1.20], [0.48, 1.35],
    [0.35, 1.44], [0.21, 1.51],
])  # fmt: skip
_CONTOUR = np.concatenate([_HALF_CONTOUR * [-1, 1], [[0.0, 1.54]], _HALF_CONTOUR[::-1]])
# The same head by the centres of its eyes: distance of the outer corners in theirs, the least of
# theirs in distances from eyes to mouth at which it is taken as seen from the front (a turned head
# is as deep as it is wide), and the hairline, likewise as high as mediapipe's mesh.
_OUTER, _LEAST_ACROSS = 1.36, 0.75
_HAIRLINE = np.array([[-0.6, -0.7], [0.0, -0.72], [0.6, -0.7]])


def find_file(photograph: epath.PathLike) -> epath.Path | None:
    """The landmark file beside a photograph that is its own, see `beside`; None without one."""
    try:
        return beside.landmark_file(photograph).file
    except UserError:
        return None


def load_faces(path: epath.PathLike, *, fewest: int = 68) -> Float[np.ndarray, "F N 2"]:
    """Reads the points of every face of a photograph, x and y in pixels; N is 478, 68 or 5.

    A .npy holds [N, 2] or [N, 3] for one face, [F, N, 2] or [F, N, 3] for several; a .txt or .pts
    holds lines of x and y, see `mark_text`. Of WFLW's 98 points the 68 are taken.

    Args:
      path: of the file.
      fewest: points that will do; 5 for those of face detectors, see `AVERAGED_5`.

    Raises:
      FileNotFoundError: there is no such file.
      UserError: not numbers, or another shape.
    """
    path = epath.Path(path)
    if path.suffix.lower() == ".npy":
        points = parse_npy(read_bytes(path, largest=_LARGEST_FILE), str(path))
    else:
        points = mark_text.read_rows(path)
    return as_faces(points, str(path), fewest=fewest)


def as_faces(points: np.ndarray, source: str, *, fewest: int = 68) -> Float[np.ndarray, "F N 2"]:
    """The points of one face or several as `load_faces` gives them; `source` names them.

    Raises:
      UserError: not numbers, or another shape.
    """
    points = np.asarray(points)
    faces = points[None] if points.ndim == 2 else points
    counts = [count for count in (N_MEDIAPIPE, 68, N_WFLW, N_DETECTED) if count >= fewest]
    known = faces.ndim == 3 and faces.shape[1] in counts
    if not known or faces.shape[2] not in (2, 3) or points.dtype.kind not in "fiu":
        five = ", a detector's 5" if fewest <= N_DETECTED else ""
        raise UserError(
            f"{source}: expected numbers of shape [478, 2] or [478, 3] (files of 68 points or of "
            f"WFLW's 98{five} and a leading dimension for several faces are fine too), found "
            f"{points.dtype} {list(points.shape)}"
        )
    if faces.shape[1] == N_WFLW:
        faces = faces[:, WFLW_68]
    with np.errstate(over="ignore"):  # a number beyond single precision is no place in a picture
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
    """Which points are places in the picture, and not a code for a point that was not seen.

    Such codes are 0, 0 and twice the same negative number, as -1, -1. Some sets give the place of a
    covered point with its signs flipped: both numbers are negative, and far from the other points.
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
    eyes and mouth; in place of five points there is only such a contour. Other
    schemes are returned as they are.
    """
    visible = seen(points)
    if len(points) == N_DETECTED:
        return _outline_of_5(points)
    if len(points) == 49:
        points = np.concatenate([_contour_of_49(points), points])
        visible = np.concatenate([np.ones(CONTOUR_68.stop, bool), visible])
    elif len(points) != 68:
        return points[visible]
    chin, brows = points[CHIN_68], points[BROWS_68][visible[BROWS_68]]
    hairline = chin + (brows - chin) / _BROW_HEIGHT
    return np.concatenate([points[visible], hairline]).astype(np.float32)


def _contour_of_49(points: Float[np.ndarray, "49 2"]) -> Float[np.ndarray, "17 2"]:
    """Where the contour of the 68-point scheme is, about, for its rows 17..59, 61..63, 65..67."""
    # The first 43 of the 49 are the first of the 51.
    eyes, mouth = (points[among_51(rows)].mean(axis=0) for rows in (EYES_68, OUTER_LIPS_68))
    right, left = (points[row - INNER_68.start] for row in EYE_CORNERS_68)
    across, down = left - right, mouth - eyes
    return eyes + _CONTOUR @ np.stack([across, down])


def _outline_of_5(points: Float[np.ndarray, "5 2"]) -> Float[np.ndarray, "20 2"]:
    """About where contour and hairline are."""
    eyes, mouth = points[:2].mean(axis=0), points[3:].mean(axis=0)
    across, down = points[1] - points[0], mouth - eyes
    width, height = np.linalg.norm(across), np.linalg.norm(down)
    across = across * max(1.0, _LEAST_ACROSS * height / max(width, 1e-6))
    places = np.concatenate([_CONTOUR * [_OUTER, 1], _HAIRLINE * [_OUTER, 1]])
    return (eyes + places @ np.stack([across, down])).astype(np.float32)


def fault(points: Float[np.ndarray, "N 2"], height: int, width: int) -> str:
    """Why landmarks cannot be a face in an image of that size, or "" if they can.

    The face that they outline must pass `crops.box_fault`. The fraction LEAST_SEEN of them must be
    seen, and of the 68 the points that give the height of the face.
    """
    if not np.isfinite(points).all():
        return "some of its landmarks are not finite"
    points = points.astype(np.float64)  # compares any values that a file may hold
    visible = seen(points)
    if visible.mean() < LEAST_SEEN:
        return f"{(~visible).sum()} of its {len(points)} landmarks are unseen"
    low, high = points[visible].min(), points[visible].max()
    if crops.is_normalised((low, high)):
        return f"its points span {low:.3g}..{high:.3g}: normalised? give pixels"
    if len(points) == 68 and not (visible[CHIN_68] and visible[BROWS_68].any()):
        return "its chin or all of its brows are unseen, which say how large the face is"
    if len(points) == N_DETECTED and not visible.all():
        return "an eye, the nose or a corner of the mouth is unseen of its 5 landmarks"
    return crops.box_fault(face_box(points), height, width, "its landmarks span")
