"""Fits the head to the landmarks of photographs, without a network.

    python -m fields_jax.fit --out=faces photographs
    python -m fields_jax.fit --head=HEAD.npz --out=OUT A.jpg B.jpg

Takes pictures, folders and patterns. Landmarks are read from a file beside the picture (NAME.npy of
mediapipe's 478 points, or 68 points; NAME.jpg.npy where NAME.png is there too) or found by the face
detector (`make landmarks` installs it). Points that are 0, 0 or -1, -1 are unseen and not fitted.
OUT/NAME holds params.npz, mesh.obj, mesh.ply, overlay.png and geometry.png (NAME_0, NAME_1, ... for
several faces); OUT/index.html and OUT/summary.csv show all of them. The residual is the mean
distance of fitted from given landmarks as a fraction of the inter-ocular distance.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from absl import flags
from jaxtyping import Bool, Float

from fields_jax import photo_commands
from fields_jax.cli import run
from fields_jax.landmark_schemes import MEDIAPIPE_105, N_MEDIAPIPE
from fields_jax.photos.crops import to_ndc, transform_points
from fields_jax.photos.detector import REMEDY
from fields_jax.photos.faces import WHOLE_IMAGE, Face
from fields_jax.photos.files import Unusable
from fields_jax.photos.points import (
    LEAST_SEEN,
    seen,
    select_105,
)

if TYPE_CHECKING:
    from fields_jax.fitting.landmarks import Fit
    from fields_jax.types import FlameModel

_SCALE, _SIZE = 1.4, 224  # of the crops that cameras belong to: as in TEASER's demos
_LEAD = (
    "The head fitted to the landmarks of each picture. Landmarks say little of depth, cheeks and "
    "forehead: there the mean head shows."
)


def define_flags() -> None:
    """The command's flags."""
    photo_commands.define_flags()


def main(argv: list[str]) -> int:
    """The command; status 2 where no face could be fitted."""
    chosen = flags.FLAGS
    named = photo_commands.read_arguments(argv)
    from fields_jax.flame.io import resolve_head
    from fields_jax.outputs.bundle import pose_heads

    head = resolve_head(chosen.head)
    gallery = photo_commands.open_gallery(head, _SIZE, photo_commands.describe(head))
    for batch in photo_commands.batches(named, gallery, _SCALE):
        faces = []
        for face in batch:
            if reason := _unfit(face):
                gallery.refuse(Unusable(face.path, reason))
            else:
                faces.append(face)
        if not faces:
            continue
        fit = fit_faces(head, faces)
        results = pose_heads(head, fit.coefficients, chosen.batch_size)
        for face, result, residual in zip(faces, results, fit.residual, strict=True):
            gallery.add(face, dataclasses.replace(result, residual=float(residual)))
    return photo_commands.conclude(gallery, "Fitted faces", _LEAD)


def fit_faces(head: FlameModel, faces: Sequence[Face]) -> Fit:
    """Fits every face of a batch, with cameras in its crop; unseen landmarks have no weight."""
    from fields_jax.fitting.landmarks import Observed, fit_landmarks

    marks = {68: np.zeros((len(faces), 68, 2)), 105: np.zeros((len(faces), 105, 2))}
    weights = {count: np.zeros(array.shape[:2]) for count, array in marks.items()}
    for row, face in enumerate(faces):
        points, visible = known_landmarks(face)
        marks[len(points)][row], weights[len(points)][row] = normalised(face, points), visible
    observed = Observed(
        landmarks_68=marks[68],
        landmarks_105=marks[105],
        weights_68=weights[68],
        weights_105=weights[105],
    )
    return fit_landmarks(head, observed)


def known_landmarks(face: Face) -> tuple[Float[np.ndarray, "N 2"], Bool[np.ndarray, " N"]]:
    """The 68 or 105 landmarks that the head knows, in pixels, and which of them are seen."""
    visible = seen(face.points)
    if len(face.points) == N_MEDIAPIPE:
        return select_105(face.points), visible[MEDIAPIPE_105]
    return face.points, visible


def normalised(face: Face, points: Float[np.ndarray, "N 2"]) -> Float[np.ndarray, "N 2"]:
    """Pixels of a face's photograph in [-1, 1] of its crop."""
    return to_ndc(transform_points(face.matrix(_SIZE), points), _SIZE)


def _unfit(face: Face) -> str:
    """Why a face cannot be fitted, or ""."""
    if face.points is None:
        passed_over = face.origin.removeprefix(WHOLE_IMAGE)
        return f"no landmark file beside it{passed_over} and no face detector; {REMEDY}"
    _, visible = known_landmarks(face)
    if visible.mean() < LEAST_SEEN:
        hidden = f"{(~visible).sum()} of the {len(visible)} landmarks that the head knows"
        return f"{hidden} are unseen ({face.origin})"
    return ""


if __name__ == "__main__":
    define_flags()
    sys.exit(run(main))
