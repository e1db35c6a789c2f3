"""The landmark fit of faces of photographs: what `fit` writes and `evaluate` compares with."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float

from fields_jax.fitting.landmarks import Fit, Observed, fit_landmarks
from fields_jax.landmark_schemes import MEDIAPIPE_105, N_DETECTED, N_MEDIAPIPE
from fields_jax.photos.crops import to_ndc, transform_points
from fields_jax.photos.detector import REMEDY
from fields_jax.photos.faces import WHOLE_IMAGE, Face
from fields_jax.photos.points import LEAST_SEEN, seen, select_105
from fields_jax.types import FlameModel

CROP_SCALE, CROP_SIZE = 1.4, 224  # of the crops that cameras belong to: as in TEASER's demos
N_SHAPE, N_EXPRESSION = 100, 50  # components that are fitted, where the head has as many


def fit_faces(head: FlameModel, faces: Sequence[Face]) -> Fit:
    """Fits every face of a batch, with cameras in its crop; unseen landmarks have no weight."""
    return fit_observed(head, observed(faces, CROP_SIZE))


def fit_observed(head: FlameModel, marks: Observed) -> Fit:
    """Fits faces of which the landmarks are known, with as many components as photographs tell."""
    shapes, expressions = head.shape_basis.shape[-1], head.expression_basis.shape[-1]
    return fit_landmarks(
        head,
        marks,
        n_shape=min(N_SHAPE, shapes),
        n_expression=min(N_EXPRESSION, expressions),
    )


def observed(faces: Sequence[Face], size: int) -> Observed:
    """The landmarks of faces that all have some, in crops of `size` pixels."""
    counts = (68, 105, N_DETECTED)
    marks = {count: np.zeros((len(faces), count, 2), np.float32) for count in counts}
    weights = {count: np.zeros((len(faces), count), np.float32) for count in counts}
    for row, face in enumerate(faces):
        points, visible = known_landmarks(face)
        marks[len(points)][row] = to_ndc(transform_points(face.matrix(size), points), size)
        weights[len(points)][row] = visible
    return Observed(
        **{f"landmarks_{count}": marks[count] for count in counts},
        **{f"weights_{count}": weights[count] for count in counts},
    )


def unfit(face: Face) -> str:
    """Why a face cannot be fitted, or ""."""
    if face.points is None:
        passed_over = face.origin.removeprefix(WHOLE_IMAGE)
        return (
            f"no landmark file beside it{passed_over} and no face detector; {REMEDY}, or give "
            "landmarks"
        )
    _, visible = known_landmarks(face)
    if len(visible) == N_DETECTED:
        return (
            f"5 landmarks are too few for a fit ({face.origin}); `reconstruct --refine` takes them"
        )
    if visible.mean() < LEAST_SEEN:
        hidden = f"{(~visible).sum()} of the {len(visible)} landmarks that the head knows"
        return f"{hidden} are unseen ({face.origin})"
    return ""


def known_landmarks(face: Face) -> tuple[Float[np.ndarray, "N 2"], Bool[np.ndarray, " N"]]:
    """The 68, 105 or 5 landmarks that the head knows, in pixels, and which of them are seen."""
    visible = seen(face.points)
    if len(face.points) == N_MEDIAPIPE:
        return select_105(face.points), visible[MEDIAPIPE_105]
    return face.points, visible
