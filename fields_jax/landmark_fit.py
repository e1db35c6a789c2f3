"""Faces of pictures by a fit to landmarks, from Python: no network, flags, printing or threads.

    import fields_jax

    (face,) = fields_jax.fit("anna.jpg")  # anna.npy beside it, or landmarks=...
    face.write("faces/anna")

`python -m fields_jax.fit` is the same as a command, with a page of all faces.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from typing import Any

from fields_jax import __version__, finder
from fields_jax.errors import UserError
from fields_jax.face3d import Face3D, Picture, find_given, read_faces
from fields_jax.fitting.gaze import GazeReader
from fields_jax.fitting.photographs import CROP_SCALE, CROP_SIZE, fit_faces, unfit
from fields_jax.flame.io import resolve_head
from fields_jax.outputs.bundle import Result, judged, pose_heads
from fields_jax.photos import faces
from fields_jax.types import FlameModel


class Fitter:
    """Fits a head to the landmarks of faces.

    Attributes:
      head: that is fitted.
      about: JSON: version of fields_jax and head; recorded in every output.
    """

    def __init__(self, head: FlameModel) -> None:
        """Binds the head."""
        self.head, self._gaze = head, GazeReader(head)
        self._finder = finder.packaged()
        self.about = {"version": __version__, "head": head.identity}

    def read(self, found: Sequence[faces.Face], batch_size: int) -> list[Result]:
        """The fits of faces for which `fitting.photographs.unfit` finds no reason against.

        Args:
          found: at most `batch_size` faces.
          batch_size: they are filled up to this number, so that one program is compiled.
        """
        filled = [*found, *[found[-1]] * (batch_size - len(found))]
        fit = fit_faces(self.head, filled)
        coefficients, looking = self._gaze.looking(filled, fit.coefficients, CROP_SIZE)
        results = pose_heads(self.head, coefficients, batch_size, looking)[: len(found)]
        return [
            judged(face, dataclasses.replace(result, residual=float(off)), CROP_SIZE, self._finder)
            for face, result, off in zip(found, results, fit.residual[: len(found)], strict=True)
        ]

    def fit(self, images: Picture | Sequence[Picture], landmarks: Any = None) -> list[Face3D]:
        """The faces of pictures; see `fit`."""
        found = map(_fit_for, find_given(images, scale=CROP_SCALE, landmarks=landmarks))
        return list(read_faces(found, self.read, self.head, CROP_SIZE, self.about))


def _fit_for(found: tuple[int, faces.Face]) -> tuple[int, faces.Face]:
    """A face with the row of its picture, as it is where it has enough landmarks."""
    if reason := unfit(found[1]):
        raise UserError(f"{found[1].path}: {reason}")
    return found


def fit(
    images: Picture | Sequence[Picture],
    *,
    landmarks: Any = None,
    head: str | os.PathLike | FlameModel | None = None,
) -> list[Face3D]:
    """The faces of pictures, by a fit of the head to their landmarks.

    Landmarks that are not given are, for a file, read from the landmark file beside it (see
    docs/photographs.md); else the face detector finds them, where it is installed.

    Args:
      images: a path, a pillow image or an [H, W, 3] uint8 array of RGB; or a list of them.
      landmarks: [N, 2] or [N, 3] in pixels, mediapipe's 478 or the 68 points, or [F, N, 2] of
        several faces; of a list of images a list with one or None for each.
      head: a head, or the path of its .npz; None: the procedural head.

    Returns:
      The faces, in the order of the pictures; `emotion` is None, for no network reads it.

    Raises:
      UserError: a picture or set of landmarks cannot be used, or a face has too few landmarks; the
        message names it. Nothing is returned for the others then.
    """
    known = head if isinstance(head, FlameModel) else resolve_head(str(head or ""))
    return Fitter(known).fit(images, landmarks)
