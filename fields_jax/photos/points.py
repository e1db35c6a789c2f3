"""Landmark files beside photographs: mediapipe's 478 points or the 68-point scheme, in pixels."""

from __future__ import annotations

import io

import numpy as np
from etils import epath
from jaxtyping import Float

from fields_jax.photos.crops import bounding_box
from fields_jax.photos.files import read_array

N_MEDIAPIPE = 478
SUFFIXES = (".npy", ".pts", ".txt")  # looked for beside a photograph, in this order

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

_LARGEST = 10  # picture sizes that a face may reach out of its picture
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
    """The landmark file beside a photograph, NAME.npy before NAME.pts and NAME.txt, or None.

    A NAME.txt that does not hold 68 points is somebody's notes.
    """
    path = epath.Path(photograph)
    for suffix in SUFFIXES:
        file = path.with_suffix(suffix)
        if file != path and file.exists() and (suffix != ".txt" or _holds_points(file)):
            return file
    return None


def load_faces(path: epath.PathLike) -> Float[np.ndarray, "F N 2"]:
    """Reads the points of every face of a photograph, x and y in pixels; N is 478 or 68.

    A .npy holds [N, 2] or [N, 3] for one face, [F, N, 2] or [F, N, 3] for several; a .txt or .pts
    holds 68 lines of x and y (`#` comments and the header and braces of .pts are skipped).

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: not numbers, or another shape.
    """
    path = epath.Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file; it should hold mediapipe's 478 points")
    points = read_array(path) if path.suffix == ".npy" else _read_text(path)
    faces = points[None] if points.ndim == 2 else points
    known = faces.ndim == 3 and faces.shape[1] in (N_MEDIAPIPE, 68) and faces.shape[2] in (2, 3)
    if not known or points.dtype.kind not in "fiu":
        raise ValueError(
            f"{path}: expected numbers of shape [478, 2] or [478, 3] (68-point files and a leading "
            f"dimension for several faces are fine too), found {points.dtype} {list(points.shape)}"
        )
    return faces[..., :2].astype(np.float32)


def load_points(path: epath.PathLike) -> Float[np.ndarray, "478 2"]:
    """Reads mediapipe's points of a photograph of one face: x and y in pixels.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: not a .npy array, another shape, several faces, or coordinates that are not
        finite.
    """
    faces = load_faces(path)
    if faces.shape[:2] != (1, N_MEDIAPIPE):
        raise ValueError(
            f"{path}: expected numbers of shape [478, 2] or [478, 3], found "
            f"{faces.shape[1]} points of {faces.shape[0]} faces"
        )
    if not np.isfinite(faces).all():
        raise ValueError(f"{path}: some of the points are not finite")
    return faces[0]


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
    return bounding_box(face_outline(points))


def face_outline(points: Float[np.ndarray, "N 2"]) -> Float[np.ndarray, "M 2"]:
    """Points whose convex hull is the face from chin to hairline.

    Mediapipe's mesh reaches the hairline and is returned as it is. The 68 points end at the brows:
    these are moved away from the chin until they are as high as the mesh would be, along whichever
    way the face is up. The 49 inner points get the contour of the procedural head first, placed by
    eyes and mouth.
    """
    if len(points) == 49:
        points = np.concatenate([_contour_of_49(points), points])
    if len(points) == N_MEDIAPIPE:
        return points
    chin = points[_CHIN]
    hairline = chin + (points[_BROWS] - chin) / _BROW_HEIGHT
    return np.concatenate([points, hairline]).astype(np.float32)


def _contour_of_49(points: Float[np.ndarray, "49 2"]) -> Float[np.ndarray, "17 2"]:
    """Where the contour of the 68-point scheme is, about, for its rows 17..59, 61..63, 65..67."""
    eyes, mouth = points[19:31].mean(axis=0), points[31:43].mean(axis=0)
    across, down = points[28] - points[19], mouth - eyes  # outer corner to outer corner
    return eyes + _CONTOUR @ np.stack([across, down])


def fault(points: Float[np.ndarray, "N 2"], height: int, width: int) -> str:
    """Why landmarks are no face in an image of that size, or "" where they are one."""
    if not np.isfinite(points).all():
        return "some of its landmarks are not finite"
    box = bounding_box(points)
    small = (box[2:] - box[:2] < 1).any()
    outside = (box[:2] >= (width, height)).any() or (box[2:] <= 0).any()
    huge = (abs(box) > _LARGEST * max(width, height)).any()
    if small or outside or huge:
        return f"its landmarks span {box.round(1).tolist()}, no face in {width} x {height} pixels"
    return ""


def _holds_points(text_file: epath.Path) -> bool:
    try:
        return len(load_faces(text_file)) == 1
    except ValueError:
        return False


def _read_text(path: epath.Path) -> np.ndarray:
    try:
        lines = path.read_text().replace(",", " ").splitlines()
        numbers = [line for line in lines if not line.strip().startswith(("version", "n_points"))]
        text = "\n".join(line.strip("{} \t\r") for line in numbers)
        return np.loadtxt(io.StringIO(text), ndmin=2)
    except (ValueError, OSError) as error:
        raise ValueError(f"{path}: not lines of x and y ({error})") from error
