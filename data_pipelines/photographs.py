"""From a photograph, its landmarks and its labels to a record: the same for every real data set."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from etils import epath

from data_pipelines import records
from fields_jax.photos import crops, points
from fields_jax.photos.files import read_array, read_photograph

NO_IMAGE = "image missing"
BAD_IMAGE = "image unreadable"
NO_LANDMARKS = "no landmarks"
BAD_LANDMARKS = "landmarks unusable"
OTHER_FACE = "detected faces are not the annotated one"
BAD_LABELS = "labels out of range"

_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
_N_DENSE = 203


class Rejected(ValueError):
    """A photograph that cannot be used.

    Attributes:
      reason: the kind of fault, in words that many share; rejects are counted by it.
      detail: one line that names the file.
    """

    def __init__(self, reason: str, detail: str):
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail

    def __str__(self) -> str:
        return f"{self.detail}: {self.reason}"


@dataclasses.dataclass(frozen=True, slots=True)
class Sample:
    """What is known of one photograph before it is opened.

    Attributes:
      key: names the record, unique in its set.
      image: path of the photograph; the case of its suffix may differ.
      marks: [68, 2] or [49, 2] points of its annotation in pixels, or None.
      points: landmark file (478 or 68 points); "": the one beside the photograph, if any.
      points_203: .npy of [203, 2] in pixels; "": NAME.203.npy beside the photograph, if any.
      pixel_aspect: width of a pixel over its height, for frames stored squeezed.
      labels: as `records.record` takes them, without landmarks.
    """

    key: str
    image: str
    marks: np.ndarray | None = None
    points: str = ""
    points_203: str = ""
    pixel_aspect: float = 1.0
    labels: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def sample(self) -> Sample:
        """Itself: an item whose annotation was read with the catalogue."""
        return self


def make_record(sample: Sample, *, size: int, scale: float) -> dict[str, Any]:
    """Reads a photograph and crops it about its face.

    The hull and the box of the face come from mediapipe's points where there are any, else from the
    68 or 49 points and an estimate of what these leave out. Where 68 are not annotated, mediapipe's
    nearest stand in, flagged.

    Args:
      sample: the photograph.
      size: side of the stored crop; a small face is stored as it is.
      scale: side of the stored crop relative to the face box.

    Raises:
      Rejected: why it cannot be used.
    """
    path = find_image(epath.Path(sample.image))
    file = epath.Path(sample.points) if sample.points else points.find_file(path)
    mesh, marks = _landmarks(file, sample, path)
    try:
        image = read_photograph(path)
    except ValueError as error:
        raise Rejected(BAD_IMAGE, _one_line(error)) from error
    outline = points.face_outline(marks if mesh is None else mesh)
    if fault := points.fault(outline, *image.shape[:2]):
        raise Rejected(BAD_LANDMARKS, f"{path}: {fault}")

    stretch = np.diag([sample.pixel_aspect, 1, 1]).astype(np.float32)
    box = crops.bounding_box(crops.transform_points(stretch, outline))
    size = min(size, int(np.ceil(crops.crop_extent(box, scale))))
    matrix = crops.crop_matrix(box, scale, size) @ stretch
    dense = _dense(sample, path)

    def moved(marks: np.ndarray | None) -> np.ndarray | None:
        return None if marks is None else crops.transform_points(matrix, marks)

    outline = moved(outline)
    annotated = marks is not None and len(marks) == 68
    if not annotated:
        marks = None if mesh is None else points.approximate_68(mesh)
    try:
        return records.record(
            crops.cut(image, matrix, size),
            crops.hull_mask(outline, size, size),
            crops.bounding_box(outline),
            id=sample.key,
            annotated_68=annotated,
            landmarks_68=moved(marks),
            landmarks_105=None if mesh is None else points.select_105(moved(mesh)),
            landmarks_203=moved(dense),
            **sample.labels,
        )
    except ValueError as error:
        raise Rejected(BAD_LABELS, _one_line(error)) from error


def find_image(path: epath.Path) -> epath.Path:
    """The photograph of that name, whatever the case of its suffix.

    Raises:
      Rejected: there is none.
    """
    suffixes = dict.fromkeys((path.suffix, *_SUFFIXES, *(suffix.upper() for suffix in _SUFFIXES)))
    for suffix in suffixes if path.name else ():
        if (candidate := path.with_suffix(suffix)).exists():
            return candidate
    raise Rejected(NO_IMAGE, str(path))


def _landmarks(
    file: epath.Path | None, sample: Sample, path: epath.Path
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Mediapipe's points [478, 2] and the annotated [68, 2] or [49, 2]; one may be None."""
    marks = sample.marks
    if file is None:
        if marks is None:
            raise Rejected(NO_LANDMARKS, str(path))
        return None, marks
    try:
        faces = points.load_faces(file)
    except FileNotFoundError as error:
        raise Rejected(NO_LANDMARKS, str(file)) from error
    except ValueError as error:
        raise Rejected(BAD_LANDMARKS, _one_line(error)) from error
    if not len(faces):
        raise Rejected(NO_LANDMARKS, f"{file}: no face in it")
    face = faces[0] if marks is None else _same_face(faces, marks, file)
    return (face, marks) if len(face) == points.N_MEDIAPIPE else (None, face)


def _same_face(faces: np.ndarray, marks: np.ndarray, file: epath.Path) -> np.ndarray:
    """The detected face whose middle is nearest to that of the annotated points.

    Raises:
      Rejected: even that lies outside the annotated face.
    """
    box = points.face_box(marks)
    middles = np.stack([crops.bounding_box(face).reshape(2, 2).mean(axis=0) for face in faces])
    distances = np.linalg.norm(middles - box.reshape(2, 2).mean(axis=0), axis=1)
    nearest = int(np.argmin(np.nan_to_num(distances, nan=np.inf)))
    middle = middles[nearest]
    if not ((box[:2] <= middle) & (middle <= box[2:])).all():
        raise Rejected(OTHER_FACE, str(file))
    return faces[nearest]


def _dense(sample: Sample, path: epath.Path) -> np.ndarray | None:
    """The 203 points, where there is a file of them."""
    file = epath.Path(sample.points_203) if sample.points_203 else path.with_suffix(".203.npy")
    if not sample.points_203 and not file.exists():
        return None
    try:
        dense = read_array(file)
    except (ValueError, FileNotFoundError) as error:
        raise Rejected(BAD_LANDMARKS, _one_line(error)) from error
    if dense.shape != (_N_DENSE, 2) or dense.dtype.kind not in "fiu":
        raise Rejected(
            BAD_LANDMARKS, f"{file}: expected numbers [203, 2], found {dense.dtype} {dense.shape}"
        )
    return dense


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
