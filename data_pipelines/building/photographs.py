"""Makes a record from a photograph, its landmarks and its labels, alike for all real data sets."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath

from data_pipelines import records
from fields_jax.errors import UserError, printable
from fields_jax.files import is_remote, read_npy
from fields_jax.landmark_schemes import N_203, N_MEDIAPIPE
from fields_jax.photos import beside, crops, listing, points
from fields_jax.photos.files import read_photograph

NO_IMAGE = "image missing"
SHARED_IMAGE = "several images of this name"
BAD_IMAGE = "image unreadable"
NO_LANDMARKS = "no landmarks"
SHARED_LANDMARKS = "landmark file of several images"
BAD_LANDMARKS = "landmarks unusable"
OTHER_FACE = "detected faces are not the annotated one"
BAD_LABELS = "labels out of range"


class Rejected(ValueError):
    """A photograph that cannot be used.

    Attributes:
      reason: the kind of fault, in words that many share; rejects are counted by it.
      detail: one printable line that names the file.
    """

    def __init__(self, reason: str, detail: str):
        super().__init__(reason, detail)
        self.reason, self.detail = reason, printable(detail)

    def __str__(self) -> str:
        return f"{self.detail}: {self.reason}"


@dataclasses.dataclass(frozen=True, slots=True)
class Sample:
    """All that is known about one photograph before it is opened.

    Attributes:
      key: names the record, unique in its set.
      image: path of the photograph; its suffix may differ.
      marks: [68, 2] or [49, 2] points of its annotation in pixels, or None.
      points: landmark file (478 or 68 points); "": the photograph's own beside it, if any.
      points_203: .npy of [203, 2] in pixels; "": the photograph's own beside it, if any, which is
        called NAME.203.npy.
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

    @property
    def files(self) -> tuple[str, ...]:
        """Those named in it, the photograph first."""
        return (self.image, *filter(None, (self.points, self.points_203)))

    @property
    def face(self) -> Hashable:
        """Its landmark file and a hash of its points, which would need too much memory."""
        return self.points, None if self.marks is None else hash(self.marks.tobytes())

    def sample(self) -> Sample:
        """Itself: its annotation was read with the catalogue."""
        return self


def make_record(sample: Sample, *, size: int, scale: float) -> dict[str, Any]:
    """Reads a photograph and crops it about its face.

    The hull and the box of the face come from mediapipe's points if there are any, else from the 68
    or 49 points and an estimate of the missing ones. Without 68 annotated points, mediapipe's
    nearest are used and flagged.

    Args:
      sample: the photograph.
      size: side of the stored crop; a small face is stored as it is.
      scale: side of the stored crop relative to the face box.

    Raises:
      Rejected: why it cannot be used.
    """
    path = find_image(epath.Path(sample.image))
    faces = _read_faces(sample, path)
    try:
        image = read_photograph(path)
    except UserError as error:
        raise Rejected(BAD_IMAGE, str(error)) from error
    mesh, marks = _landmarks(faces, sample.marks, path, image)
    outline = points.face_outline(marks if mesh is None else mesh)
    dense = _dense(sample, path, image)

    stretch = np.diag([sample.pixel_aspect, 1, 1]).astype(np.float32)
    box = crops.bounding_box(crops.transform_points(stretch, outline))
    size = min(size, int(np.ceil(crops.crop_extent(box, scale))))
    matrix = crops.crop_matrix(box, scale, size) @ stretch

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
    except UserError as error:
        raise Rejected(BAD_LABELS, str(error)) from error


def state(files: Sequence[str]) -> list[tuple[Any, ...]]:
    """What tells whether the files of a photograph have changed, those beside it among them.

    Their names, and on a disk their sizes and times; in a bucket each would cost a request.

    Args:
      files: the path of the photograph, whose suffix may differ, and paths of other files.
    """
    path, *named = map(epath.Path, files)
    with contextlib.suppress(UserError):  # said when the photograph is read
        path = beside.find_picture(path) or path
        named += beside.companions(path)
    return [(str(file), *_size_and_time(file)) for file in (path, *named)]


def _size_and_time(file: epath.Path) -> tuple[int, ...]:
    """Of a file on a disk; nothing of one that is absent or in a bucket."""
    if not is_remote(file):
        with contextlib.suppress(OSError, ValueError):  # also a name with a zero byte
            status = os.stat(file)
            return status.st_size, status.st_mtime_ns
    return ()


def find_image(path: epath.Path) -> epath.Path:
    """The photograph of that name, or the only one with the same name and another suffix.

    Raises:
      Rejected: there is none, or there are several.
    """
    try:
        found = beside.find_picture(path)
    except beside.Shared as error:
        raise Rejected(SHARED_IMAGE, str(error)) from error
    except UserError as error:
        raise Rejected(BAD_IMAGE, str(error)) from error
    if found is None:
        raise Rejected(NO_IMAGE, str(path))
    return found


def _read_faces(sample: Sample, path: epath.Path) -> np.ndarray | None:
    """Points [F, 478 or 68, 2] of a landmark file; None if there is only an annotation.

    Raises:
      Rejected: there is neither, or the file cannot be used.
    """
    passed_over: tuple[str, ...] = ()
    file = epath.Path(sample.points) if sample.points else None
    try:
        if file is None:
            file, passed_over = beside.landmark_file(path)
        faces = None if file is None else points.load_faces(file)
    except beside.Shared as error:
        raise Rejected(SHARED_LANDMARKS, f"{path}: {error}") from error
    except FileNotFoundError as error:
        raise Rejected(NO_LANDMARKS, str(file)) from error
    except UserError as error:
        raise Rejected(BAD_LANDMARKS, str(error)) from error
    if faces is None and sample.marks is None:
        raise Rejected(NO_LANDMARKS, "; ".join((str(path), *passed_over)))
    if faces is not None and not len(faces):
        raise Rejected(NO_LANDMARKS, f"{file}: no face in it")
    return faces


def _landmarks(
    faces: np.ndarray | None, marks: np.ndarray | None, path: epath.Path, image: np.ndarray
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Mediapipe's points [478, 2] and the annotated [68, 2] or [49, 2]; one may be None.

    Of 68 points in a file and 68 of the annotation the latter are taken, since a detector may have
    made the file; it still has to be of the same face. In place of 49 the file's 68 are taken.

    Args:
      faces: of a landmark file, the largest first.
      marks: of the annotation.
      path: the photograph.
      image: its pixels.

    Raises:
      Rejected: they are not a face in the image, or belong to different faces.
    """
    if marks is not None:
        _check(marks, path, image)
    if faces is None:
        return None, marks
    face = faces[0] if marks is None else _same_face(faces, marks, path)
    _check(face, path, image)
    if len(face) == N_MEDIAPIPE:
        return face, marks
    return None, marks if marks is not None and len(marks) == 68 else face


def _check(marks: np.ndarray, path: epath.Path, image: np.ndarray) -> None:
    """Refuses points that are not a face in the image, and sets that records cannot hold.

    Raises:
      Rejected: what is wrong with them.
    """
    fault = points.fault(marks, *image.shape[:2])
    hidden = 0 if fault else int((~points.seen(marks)).sum())
    if hidden:
        fault = f"{hidden} of its {len(marks)} landmarks are unseen, and a record needs all"
    if fault:
        raise Rejected(BAD_LANDMARKS, f"{path}: {fault}")


def _same_face(faces: np.ndarray, marks: np.ndarray, path: epath.Path) -> np.ndarray:
    """The detected face nearest to the annotated points, middle to middle.

    Raises:
      Rejected: even that lies outside the annotated face.
    """
    box = points.face_box(marks)
    middles = np.stack([_middle(face) for face in faces])
    distances = np.linalg.norm(middles - box.reshape(2, 2).mean(axis=0), axis=1)
    nearest = int(np.argmin(np.nan_to_num(distances, nan=np.inf)))
    middle = middles[nearest]
    if not ((box[:2] <= middle) & (middle <= box[2:])).all():
        raise Rejected(OTHER_FACE, str(path))
    return faces[nearest]


def _middle(face: np.ndarray) -> np.ndarray:
    """Middle [2] of the box of a face's seen points, NaN without any."""
    visible = face[points.seen(face)].astype(np.float64)
    if not len(visible):
        return np.full(2, np.nan)
    return (visible.min(axis=0) + visible.max(axis=0)) / 2


def _dense(sample: Sample, path: epath.Path, image: np.ndarray) -> np.ndarray | None:
    """The 203 points, where there is a file of them.

    Raises:
      Rejected: the file was named and is absent, or cannot be used.
    """
    try:
        named = epath.Path(sample.points_203) if sample.points_203 else None
        file = named or beside.own_file(path, listing.DENSE)
        if file is None:
            return None
        dense = read_npy(file)
    except beside.Shared as error:
        raise Rejected(SHARED_LANDMARKS, f"{path}: {error}") from error
    except UserError as error:
        raise Rejected(BAD_LANDMARKS, str(error)) from error
    if dense.shape != (N_203, 2) or dense.dtype.kind not in "fiu":
        raise Rejected(
            BAD_LANDMARKS, f"{file}: expected numbers [203, 2], found {dense.dtype} {dense.shape}"
        )
    _check(dense, path, image)
    return dense
