"""Where the faces of a photograph are: by a box, landmark file or finder, or the whole image."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8

from fields_jax.errors import UserError
from fields_jax.geometry.boxes import overlap
from fields_jax.landmark_schemes import N_DETECTED
from fields_jax.photos import beside, crops, points
from fields_jax.photos.files import Photograph, Unusable, read_photograph

WHOLE_IMAGE = "no landmarks: the whole image taken for the crop"


class NotLookedAt(UserError):
    """A finder failed at one picture and can go on with others."""


class Detection(NamedTuple):
    """A face a finder has found, by its landmarks or by its box.

    Attributes:
      points: [478, 3] x, y and depth in pixels, or None.
      score: confidence in [0, 1], or None where the finder gives none.
      box: (x0, y0, x1, y1) in pixels, from chin to hairline, where there are no points.
    """

    points: Float[np.ndarray, "478 3"] | None
    score: float | None
    box: Float[np.ndarray, "4"] | None = None

    @property
    def place(self) -> Float[np.ndarray, "478 2"] | Float[np.ndarray, "4"]:
        """The landmarks in the picture, or the box."""
        return self.box if self.points is None else self.points[:, :2]


class Finder(NamedTuple):
    """What finds faces: a detector of landmarks or the network in the package; and its name.

    Attributes:
      name: such as "mediapipe 0.10.21 face mesh".
      detect: takes an image [H, W, 3] uint8, returns the faces in it, the largest first; raises
        NotLookedAt where it fails at this one.
    """

    name: str
    detect: Callable[[np.ndarray], Sequence[Detection]]


@dataclasses.dataclass(frozen=True)
class Face:
    """One face of a photograph.

    Attributes:
      path: the photograph.
      name: of the photograph, with _0, _1 ... where it shows several faces.
      image: [H, W, 3] the whole photograph, upright.
      points: [N, 2] landmarks in pixels (478, 68 or 5), or None; `points.seen` tells which are
        seen.
      box: (x0, y0, x1, y1) in pixels, from chin to hairline.
      scale: side of the crop relative to the mean of the box's sides.
      origin: how the face was found, in a few words.
      score: the finder's confidence in [0, 1], or None where it gave none.
      overlap: largest share of the box, or of the other if that is smaller, that the box of another
        face of the photograph covers.
    """

    path: str
    name: str
    image: UInt8[np.ndarray, "H W 3"]
    points: Float[np.ndarray, "N 2"] | None
    box: Float[np.ndarray, "4"]
    scale: float
    origin: str
    score: float | None = None
    overlap: float = 0.0

    def matrix(self, size: int) -> Float[np.ndarray, "3 3"]:
        """From pixels of the photograph to those of a square crop of `size` pixels."""
        return crops.crop_matrix(self.box, self.scale, size)

    def crop(self, size: int) -> UInt8[np.ndarray, "S S 3"]:
        """The square crop about the face."""
        return crops.cut(self.image, self.matrix(size), size)


def varied_matrix(
    face: Face, size: int, variation: tuple[float, float, float, float]
) -> Float[np.ndarray, "3 3"]:
    """From pixels of the photograph to those of a crop that is shifted, scaled and turned.

    Args:
      face: in its photograph.
      size: side of the crop in pixels.
      variation: shift to the right and down as shares of the side, zoom, and the turn clockwise in
        degrees.
    """
    right, down, _, _ = variation
    about = variation_in_ndc(variation)[:2, :2]
    centre = np.full(2, size / 2)
    move = np.eye(3)
    move[:2, :2], move[:2, 2] = about, centre - about @ centre + size * np.array([right, down])
    return (move @ face.matrix(size)).astype(np.float32)


def variation_in_ndc(variation: tuple[float, float, float, float]) -> Float[np.ndarray, "3 3"]:
    """From image coordinates in [-1, 1] of the plain crop to those of the varied one.

    The same for every face; see `varied_matrix`.
    """
    right, down, zoom, degrees = variation
    cosine, sine = zoom * np.cos(np.deg2rad(degrees)), zoom * np.sin(np.deg2rad(degrees))
    return np.array([[cosine, -sine, 2 * right], [sine, cosine, 2 * down], [0, 0, 1]])


def varied_crop(
    face: Face, size: int, variation: tuple[float, float, float, float]
) -> UInt8[np.ndarray, "S S 3"]:
    """The crop of a face, shifted, scaled and turned; see `varied_matrix`."""
    return crops.cut(face.image, varied_matrix(face, size, variation), size)


def find_faces(
    photograph: Photograph,
    *,
    scale: float,
    box: Sequence[float] | None = None,
    finder: Finder | None = None,
) -> Iterator[Face | Unusable]:
    """The faces of a photograph, and what is wrong with those that cannot be used.

    The user's box comes first, then a landmark file beside the photograph, then the finder. With
    none of them the crop is the smallest square that holds the whole image. An unusable landmark
    file is reported, and not replaced by the finder or the whole image.

    Args:
      photograph: the file.
      scale: side of the crop relative to the mean of the face box's sides.
      box: (x0, y0, x1, y1) of the face in pixels.
      finder: what looks for faces where nothing says where they are.

    Raises:
      DetectorError: the detector has failed.
    """
    path = photograph.path
    try:
        image = read_photograph(path)
        file, passed_over = (None, ()) if box is not None else beside.landmark_file(path)
        marks = [] if file is None else points.load_faces(file, fewest=N_DETECTED)
    except UserError as error:
        yield Unusable(path, str(error).removeprefix(f"{path}: "))
        return
    remark = f" ({'; '.join(passed_over)})" if passed_over else ""
    if file is not None:
        origin = f"landmark file {file.name}{remark}"
        yield from marked_faces(photograph, image, marks, scale=scale, origin=origin)
    else:
        yield from faces_in(photograph, image, scale=scale, box=box, finder=finder, remark=remark)


def faces_in(
    photograph: Photograph,
    image: UInt8[np.ndarray, "H W 3"],
    *,
    scale: float,
    box: Sequence[float] | None = None,
    finder: Finder | None = None,
    remark: str = "",
) -> Iterator[Face | Unusable]:
    """The faces of a decoded picture by the box or the detector; else the whole of it is the crop.

    Args:
      photograph: what to call it.
      image: the picture.
      scale, box, finder: as of `find_faces`.
      remark: added to how the face was found.

    Raises:
      DetectorError: the detector has failed.
    """
    if box is not None:
        yield _boxed(photograph, image, box, scale)
    elif finder is None:
        yield _whole(photograph, image, remark)
    else:
        try:
            detected = finder.detect(image)
        except NotLookedAt as error:
            yield Unusable(photograph.path, str(error))
            return
        found = [(f.place, _said(finder.name, f.score), f.score) for f in detected]
        yield from _marked(photograph, image, found, scale, remark)


def marked_faces(
    photograph: Photograph,
    image: UInt8[np.ndarray, "H W 3"],
    marks: Float[np.ndarray, "F N 2"],
    *,
    scale: float,
    origin: str,
) -> Iterator[Face | Unusable]:
    """The faces of a decoded picture by the landmarks of each.

    Args:
      photograph: what to call it.
      image: the picture.
      marks: [F, N, 2] in pixels, 478 or 68 to a face.
      scale: as of `find_faces`.
      origin: where the landmarks are from, in a few words.
    """
    yield from _marked(photograph, image, [(face, origin, None) for face in marks], scale, "")


def parse_box(text: str) -> tuple[float, ...] | None:
    """x0,y0,x1,y1 as numbers, or None for "".

    Raises:
      UserError: anything else.
    """
    if not text:
        return None
    try:
        box = tuple(float(part) for part in text.split(","))
    except ValueError:
        box = ()
    if len(box) != 4 or not np.isfinite(box).all() or box[0] >= box[2] or box[1] >= box[3]:
        raise UserError(f"--box={text}: expected x0,y0,x1,y1 in pixels with x0 < x1 and y0 < y1")
    return box


def _boxed(
    photograph: Photograph, image: np.ndarray, box: Sequence[float], scale: float
) -> Face | Unusable:
    """The face in the user's box."""
    path, origin = photograph.path, "box given by the user"
    if fault := crops.box_fault(box, *image.shape[:2]):
        return Unusable(path, f"{fault} ({origin})")
    place = np.asarray(box, np.float32)
    return Face(str(path), photograph.name, image, None, place, scale, origin)


_WITHOUT_FACE = (
    "no face found; give its landmarks, or reconstruct it with its box (--box=x0,y0,x1,y1, or "
    "boxes= from Python)"
)


def _whole(photograph: Photograph, image: np.ndarray, remark: str) -> Face | Unusable:
    """The whole image as a face, if nothing says where the face is."""
    path, (height, width) = photograph.path, image.shape[:2]
    if min(height, width) < crops.SMALLEST_FACE:
        return Unusable(
            path,
            f"a picture of {width} x {height} pixels: the smaller side of a face has "
            f"{crops.SMALLEST_FACE} at least",
        )
    place = _square_about(image)
    return Face(str(path), photograph.name, image, None, place, 1.0, WHOLE_IMAGE + remark)


def _marked(
    photograph: Photograph,
    image: np.ndarray,
    found: Sequence[tuple[np.ndarray, str, float | None]],
    scale: float,
    remark: str,
) -> Iterator[Face | Unusable]:
    """Faces from points [N, 2] or a box [4] of each, its origin and score; `remark` is of all."""
    path = photograph.path
    if not found:
        yield Unusable(path, _WITHOUT_FACE + remark)
    faults = [
        (crops.box_fault if face.ndim == 1 else points.fault)(face, *image.shape[:2])
        for face, _, _ in found
    ]
    places = {
        index: face if face.ndim == 1 else points.face_box(face)
        for index, (face, _, _) in enumerate(found)
        if not faults[index]
    }
    shared = dict(zip(places, _overlaps(list(places.values())), strict=True))
    for index, (face, origin, score) in enumerate(found):
        suffix = "" if len(found) == 1 else f"_{index}"
        boxed = face.ndim == 1
        if fault := faults[index]:
            which = f"face {index}: " if suffix else ""
            yield Unusable(path, f"{which}{fault} ({origin})")
        else:
            name, marks = photograph.name + suffix, None if boxed else face
            known = Face(str(path), name, image, marks, places[index], scale, origin + remark)
            yield dataclasses.replace(known, score=score, overlap=shared[index])


def _overlaps(boxes: Sequence[Float[np.ndarray, "4"]]) -> list[float]:
    """See `Face.overlap`."""
    if len(boxes) < 2:
        return [0.0] * len(boxes)
    stacked = np.stack(boxes)
    shared = overlap(stacked, stacked).smaller
    np.fill_diagonal(shared, 0.0)
    return shared.max(axis=1).tolist()


def _said(name: str, score: float | None) -> str:
    return name if score is None else f"{name}, score {score:.2f}"


def _square_about(image: np.ndarray) -> Float[np.ndarray, "4"]:
    height, width = image.shape[:2]
    half = max(height, width) / 2
    x, y = width / 2, height / 2
    return np.array([x - half, y - half, x + half, y + half], np.float32)
