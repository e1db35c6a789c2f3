"""One face as Python code gets it, and the faces in what Python code gives.

`fields_jax.reconstruction` and `fields_jax.landmark_fit` make the faces.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath
from jaxtyping import Float, Int, UInt8
from PIL import Image

from fields_jax.errors import UserError
from fields_jax.files import write_whole
from fields_jax.landmark_schemes import N_DETECTED
from fields_jax.outputs.bundle import Bundle, Result
from fields_jax.outputs.glb import Frames, glb
from fields_jax.outputs.worn import Expression, expression_of, neutral, put_on
from fields_jax.outputs.writers import write_bundle
from fields_jax.photos import faces, given, points
from fields_jax.photos.crops import to_photograph
from fields_jax.photos.detector import Detector, find_python
from fields_jax.photos.files import Photograph, Unusable, read_photograph
from fields_jax.photos.names import unique_name
from fields_jax.types import FlameCoefficients, FlameModel

_BATCH = 8  # faces that are worked on at once

Picture = str | os.PathLike | Image.Image | UInt8[np.ndarray, "H W 3"]


@dataclasses.dataclass(frozen=True, eq=False)
class Face3D:
    """One face of a picture; compared and hashed as the object that it is.

    Attributes:
      picture: row of the picture in the list that was given.
      name: of the picture's file without suffix, or picture_ROW; with _0, _1 ... where the picture
        shows several faces. Of a list all differ: -2, -3 ... is added where a name is taken, and
        what some disk forbids is replaced, as in the folders of the commands.
      origin: how the face was found, in a few words.
      params: the coefficients and the camera of the crop, numpy arrays without a batch dimension.
      emotion: "emotion" (the likeliest of eight), "probabilities" by name, "valence" and "arousal"
        in [-1, 1], and a "note"; a reading by a trained model, no fact about a person. None from a
        model without a trained emotion head.
      vertices: [V, 3] metres, posed, before the camera; x to the subject's left, y up, z out of the
        face.
      landmarks_68: [68, 2] in pixels of the upright picture; pixel (row i, column j) covers
        [j, j+1) x [i, i+1).
      bundle: everything known of the face, as the writers of `fields_jax.outputs` take it.
    """

    picture: int
    name: str
    origin: str
    params: FlameCoefficients
    emotion: Mapping[str, Any] | None
    vertices: Float[np.ndarray, "V 3"]
    landmarks_68: Float[np.ndarray, "68 2"]
    bundle: Bundle = dataclasses.field(repr=False)

    @property
    def triangles(self) -> Int[np.ndarray, "F 3"]:
        """[F, 3] rows of `vertices`, counter-clockwise seen from outside."""
        return np.asarray(self.bundle.head.faces)

    def write(self, folder: str | os.PathLike) -> list[str]:
        """Writes the files that docs/outputs.md describes.

        Args:
          folder: made where it is absent.

        Returns:
          Names of the files written.

        Raises:
          OSError: a file cannot be written.
        """
        return write_bundle(epath.Path(folder), self.bundle)

    def with_expression(self, of: Face3D) -> Face3D:
        """This person with what another face does: expression, jaw, lids and, where known, eyes.

        There is no reading of emotion then.

        Args:
          of: a face of the same head.

        Raises:
          UserError: it is of another head; the message names both.
        """
        return self._wearing(expression_of(of.bundle, self.bundle.head))

    def relaxed(self) -> Face3D:
        """This person with a neutral face; there is no reading of emotion then."""
        return self._wearing(neutral())

    def _wearing(self, expression: Expression) -> Face3D:
        (result,) = put_on(self.bundle.head, [self.bundle.result], expression, 1)
        return face3d(self.picture, dataclasses.replace(self.bundle, result=result))

    def glb(
        self, path: str | os.PathLike, *, morphs: str = "", frames: Frames | None = None
    ) -> None:
        """Writes the head with texture, joints and morph targets; arguments as `outputs.glb.glb`.

        Raises:
          UserError: the head has no such morph targets.
          OSError: the file cannot be written.
        """
        write_whole(epath.Path(path), glb(self.bundle, morphs, frames))


def face3d(picture: int, bundle: Bundle) -> Face3D:
    """A face of which everything is known.

    Args:
      picture: row of the picture in the list that was given.
      bundle: of the face.
    """
    face, result = bundle.face, bundle.result
    params = FlameCoefficients(**result.coefficients)
    marks = to_photograph(result.landmarks_ndc, bundle.matrix, bundle.size)
    known = result.emotion, result.vertices, marks, bundle
    return Face3D(picture, face.name, face.origin, params, *known)


def read_faces(
    found: Iterator[tuple[int, faces.Face]],
    read: Callable[[Sequence[faces.Face], int], list[Result]],
    head: FlameModel,
    size: int,
    about: Mapping[str, Any],
) -> Iterator[Face3D]:
    """Faces as a model or a fit reads them, a few at once.

    No more pictures are held than of a few faces; each face that is given holds its own.

    Args:
      found: see `find_given`.
      read: gives the results of at most so many faces as its second argument says, to which it
        fills them up.
      head: of the results.
      size: side in pixels of the crops that their cameras belong to.
      about: facts about the program for every output; see `Bundle.meta`.
    """
    batch = 0
    while chosen := list(itertools.islice(found, _BATCH)):
        batch = batch or len(chosen)
        results = read([face for _, face in chosen], batch)
        made = [
            face3d(row, Bundle(face, head, result, size, about))
            for (row, face), result in zip(chosen, results, strict=True)
        ]
        chosen.clear()  # the pictures go with the faces
        while made:
            yield made.pop(0)


def find_given(
    images: Picture | Sequence[Picture],
    *,
    scale: float,
    boxes: Any = None,
    landmarks: Any = None,
    finder: faces.Finder | None = None,
) -> Iterator[tuple[int, faces.Face]]:
    """The faces of pictures, each with the row of its picture; a picture is read when it is asked.

    Args:
      images: a path, a pillow image or an [H, W, 3] uint8 array of RGB; or a list of them.
      scale: side of the crops relative to the mean of a face box's sides.
      boxes, landmarks: see `reconstruction.Model.reconstruct`.
      finder: of boxes of faces, asked where no detector of landmarks is installed; None: faces
        without landmarks are of no use.

    Raises:
      UserError: a picture, box or set of landmarks cannot be used; the message names it.
    """
    single = isinstance(images, str | os.PathLike | Image.Image | np.ndarray)
    pictures = [images] if single else given.as_list(images, "images")
    placed = [
        given.per_picture(values, single, len(pictures), name)
        for values, name in ((boxes, "boxes"), (landmarks, "landmarks"))
    ]
    taken: set[str] = set()
    with _detector(finder) as look:
        for row, (picture, box, marks) in enumerate(zip(pictures, *placed, strict=True)):
            for face in _found(_Given(row, picture, box, marks), scale, look):
                yield row, dataclasses.replace(face, name=unique_name(face.name, taken))


@dataclasses.dataclass(frozen=True)
class _Given:
    """A picture, its row, and what is given with it: a box or landmarks."""

    row: int
    picture: Picture
    box: Any
    marks: Any


def _found(one: _Given, scale: float, look: faces.Finder | None) -> Iterator[faces.Face]:
    named = isinstance(one.picture, str | os.PathLike)
    path = epath.Path(one.picture if named else f"picture_{one.row}")
    photograph = Photograph(path, path.stem if named else path.name)
    options = dict(scale=scale, box=given.as_box(one.box, path), finder=look)
    if named and one.marks is None:
        search = faces.find_faces(photograph, **options)
    else:
        image = read_photograph(path) if named else given.as_pixels(one.picture, path)
        if one.box is None and one.marks is not None:
            search = faces.marked_faces(
                photograph,
                image,
                _marks(one.marks, f"the landmarks of {path}"),
                scale=scale,
                origin="landmarks given",
            )
        else:
            search = faces.faces_in(photograph, image, **options)
    for face in search:
        if isinstance(face, Unusable):
            raise UserError(f"{face.path}: {face.reason}")
        yield face


def _marks(marks: Any, name: str) -> Float[np.ndarray, "F N 2"]:
    return points.as_faces(given.as_array(marks, name), name, fewest=N_DETECTED)


@contextlib.contextmanager
def _detector(other: faces.Finder | None) -> Iterator[faces.Finder | None]:
    """The face detector, whose process starts when it is first asked, or what else there is."""
    python = find_python()
    if python is None:
        yield other
        return
    with contextlib.ExitStack() as stack:
        running: list[Detector] = []

        def detect(image: np.ndarray) -> Sequence[faces.Detection]:
            if not running:
                running.append(stack.enter_context(Detector(python)))
            return running[0].detect(image)

        yield faces.Finder("face detector", detect)
