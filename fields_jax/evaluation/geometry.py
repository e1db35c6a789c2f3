"""How well the expression and its strength are recovered, in millimetres of face movement.

Predicted and true expression are put on the same head, that of the true identity, at zero global
pose, and compared vertex by vertex over the face mask without any alignment: what remains is
expression alone (EMOCA and NoW mix it with identity). "Intensity" is the mean movement of the same
vertices away from the neutral face, so the error of predicting "no expression" is the intensity.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpy.typing import NDArray

from fields_jax.batch import FITTED_FLAGS, is_exact
from fields_jax.evaluation.affect import pearson
from fields_jax.evaluation.predict import map_batches
from fields_jax.flame.model import flame
from fields_jax.landmark_schemes import EYE_CORNERS_68, EYE_CORNERS_478
from fields_jax.render.camera import project
from fields_jax.types import FlameCoefficients, FlameModel

Floats = NDArray[np.float64]
_MILLIMETRES = 1000.0
BINS = ("subtle", "middle", "strong")

# Sets of landmarks that are scored. Of the 203 only the points that TEASER uses at every yaw count:
# the others slide along the face's outline, which depends on the view.
LANDMARK_SETS = ("landmarks_68", "landmarks_105", "landmarks_203")
_TRUTH = {"landmarks_68": "has_annotated_68"}  # 68 points taken from mediapipe's are not scored


class Expression(NamedTuple):
    """Per-example distances [N] in mm; see the module's docstring."""

    error: Floats
    intensity: Floats
    predicted_intensity: Floats


def true_coefficients(labels: Mapping[str, np.ndarray]) -> tuple[FlameCoefficients, np.ndarray]:
    """The true expression of each example, and [N] bool where it is known.

    It is the training label if there is one and no landmark fit gave it, otherwise `eval_*`, which
    training never sees. An unknown identity is replaced by the mean head, zero shape.
    """
    trained, shaped = (labels[flag] & is_exact(labels) for flag in FITTED_FLAGS)

    def either(name: str) -> np.ndarray:
        return np.where(trained[:, None], labels[name], labels[f"eval_{name}"])

    none = np.zeros((len(trained), 3), np.float32)
    truth = FlameCoefficients(
        shape=np.where(shaped[:, None], labels["shape"], np.float32(0)),
        expression=either("expression"),
        jaw=either("jaw"),
        eyelid=either("eyelid"),
        pose=none,
        camera=none,
    )
    return truth, trained | labels["has_eval"]


def measure_expression(
    head: FlameModel,
    truth: FlameCoefficients,
    prediction: FlameCoefficients,
    *,
    batch_size: int = 64,
) -> Expression:
    """Expression error and intensity of N >= 1 examples.

    Args:
      head: FLAME or the procedural head.
      truth: true shape, expression, jaw and eyelids, [N, ...]; pose and camera are not used.
      prediction: predicted expression, jaw and eyelids, [N, ...]; the rest is not used.
      batch_size: examples posed at a time.
    """
    columns = map_batches(partial(_compare, head), (truth, prediction), batch_size)
    return Expression(*(column.astype(np.float64) for column in columns))


@jax.jit
def _compare(
    head: FlameModel, columns: tuple[FlameCoefficients, FlameCoefficients]
) -> tuple[Float[Array, " B"], ...]:
    true, predicted = columns
    neutral = face_at_rest(head, true.shape, jax.tree.map(jnp.zeros_like, true))
    actual = face_at_rest(head, true.shape, true)
    guessed = face_at_rest(head, true.shape, predicted)
    return _distance(guessed, actual), _distance(actual, neutral), _distance(guessed, neutral)


def face_at_rest(
    head: FlameModel, shape: Float[Array, "B S"], movement: FlameCoefficients
) -> Float[Array, "B K 3"]:
    """Face-mask vertices in mm at zero global pose."""
    output = flame(head, at_rest(head, shape, movement))
    return _MILLIMETRES * output.vertices[:, head.face_vertices]


def at_rest(
    head: FlameModel, shape: Float[Array, "B S"], movement: FlameCoefficients
) -> FlameCoefficients:
    """An expression on the heads of given shapes, at zero pose.

    Records hold as many coefficients whatever the head; beyond the head's own they are zero and cut
    off here.
    """
    still = jnp.zeros_like(movement.pose)
    return FlameCoefficients(
        shape[:, : head.shape_basis.shape[-1]],
        movement.expression[:, : head.expression_basis.shape[-1]],
        movement.jaw,
        movement.eyelid,
        pose=still,
        camera=still,
    )


def _distance(a: Float[Array, "B K 3"], b: Float[Array, "B K 3"]) -> Float[Array, " B"]:
    return jnp.mean(jnp.linalg.norm(a - b, axis=-1), axis=-1)


def calibration(intensity: Floats, predicted: Floats) -> dict[str, float | None]:
    """Line through predicted against true intensity (want slope 1, intercept 0) and correlations.

    The slope is that of least squares: noise in the prediction does not bias it, but predictions
    that hedge toward the mean lower it. None if the true intensity does not vary.
    """
    variance = np.var(intensity) if len(intensity) else 0.0
    if variance == 0:
        return dict(slope=None, intercept_mm=None, pearson=None, spearman=None)
    covariance = np.mean((intensity - intensity.mean()) * (predicted - predicted.mean()))
    slope = covariance / variance
    return dict(
        slope=float(slope),
        intercept_mm=float(predicted.mean() - slope * intensity.mean()),
        pearson=pearson(intensity, predicted),
        spearman=pearson(ranks(intensity), ranks(predicted)),
    )


def tertiles(intensity: Floats) -> tuple[float, float]:
    """Edges in mm between subtle, middle and strong: equal thirds of the true intensities."""
    low, high = np.quantile(intensity, [1 / 3, 2 / 3])
    return float(low), float(high)


def bin_scores(expression: Expression, edges: tuple[float, float]) -> dict[str, dict]:
    """Mean error and intensities of the subtle, middle and strong examples; edges in mm."""
    place = np.digitize(expression.intensity, edges)
    return {name: expression_scores(expression, place == i) for i, name in enumerate(BINS)}


def expression_scores(expression: Expression, rows: np.ndarray) -> dict:
    """Means in mm over the chosen rows; None where there are none."""
    means = {
        "expression_error_mm": expression.error,
        "zero_expression_error_mm": expression.intensity,
        "predicted_intensity_mm": expression.predicted_intensity,
    }
    count = int(np.sum(rows))
    return {"n": count} | {
        name: float(values[rows].mean()) if count else None for name, values in means.items()
    }


def ordered_pairs(
    predicted: Floats, identity: np.ndarray, emotion: np.ndarray, level: np.ndarray
) -> dict[str, float | int | None]:
    """Fraction of pairs, same identity and emotion but different level, in the right order.

    A tie counts half, so a prediction that never changes scores 0.5. Rows without an emotion or a
    level (-1) are left out.
    """
    right, pairs = 0.0, 0
    known = np.flatnonzero((emotion >= 0) & (level >= 0))
    _, group = np.unique(np.stack([identity, emotion])[:, known], axis=1, return_inverse=True)
    for index in range(group.max(initial=-1) + 1):
        rows = known[group == index]
        weaker = level[rows][:, None] < level[rows][None]
        difference = predicted[rows][None] - predicted[rows][:, None]
        right += float(np.sum((np.sign(difference[weaker]) + 1) / 2))
        pairs += int(weaker.sum())
    return {"ordered_share": right / pairs if pairs else None, "pairs": pairs}


def landmark_errors(
    head: FlameModel,
    prediction: FlameCoefficients,
    labels: Mapping[str, np.ndarray],
    *,
    batch_size: int = 64,
) -> dict[str, dict[str, Floats]]:
    """Mean distance of projected landmarks from their labels, per set and example.

    Returns:
      For each landmark set `ndc` [N] (half image widths) and `interocular` [N] (fraction of the
      distance between the labelled outer eye corners, of the 68 or else the 105 points); NaN where
      an example has no label.
    """
    points = map_batches(partial(_projected, head), prediction, batch_size)
    scale = _interocular(head, labels)
    errors = {}
    for name, predicted in zip(LANDMARK_SETS, points, strict=True):
        scored = _scored_points(head, name)
        offset = np.asarray(predicted - labels[name], np.float64)[:, scored]
        distance = np.linalg.norm(offset, axis=-1).mean(axis=-1)
        ndc = np.where(labels[_TRUTH.get(name, f"has_{name}")], distance, np.nan)
        errors[name] = {"ndc": ndc, "interocular": ndc / scale}
    return errors


@jax.jit
def _projected(head: FlameModel, coefficients: FlameCoefficients) -> list[Float[Array, "B N 2"]]:
    output = flame(head, coefficients)
    return [project(getattr(output, name), coefficients.camera)[..., :2] for name in LANDMARK_SETS]


def _scored_points(head: FlameModel, name: str) -> np.ndarray | slice:
    if name != "landmarks_203":
        return slice(None)
    return np.asarray(head.front_203 & head.left_203 & head.right_203)


def _interocular(head: FlameModel, labels: Mapping[str, np.ndarray]) -> Floats:
    order = np.asarray(head.mediapipe_index).tolist()
    mediapipe = [order.index(point) for point in EYE_CORNERS_478]
    scale = np.full(len(labels["has_landmarks_68"]), np.nan)
    for name, corners in (("landmarks_105", mediapipe), ("landmarks_68", EYE_CORNERS_68)):
        right, left = (labels[name][:, corner].astype(np.float64) for corner in corners)
        distance = np.linalg.norm(left - right, axis=-1)
        usable = labels[f"has_{name}"] & (distance > 0)
        scale[usable] = distance[usable]
    return scale


def ranks(values: Floats) -> Floats:
    """Ranks from 1, ties sharing their mean rank."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[inverse]
