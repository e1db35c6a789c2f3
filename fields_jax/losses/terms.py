"""Element-wise losses: pure functions of predictions and targets, one value per example.

None of them reads a config, a step, a random key or an axis name; the reduction over examples and
devices is `masked_mean` alone. Formulas follow SMIRK and TEASER unless marked ours.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from fields_jax.landmark_schemes import CONTOUR_68, EYES_68, FRONTAL_YAW, MOUTH_BOX_68

_HIGHEST = jax.lax.Precision.HIGHEST  # accelerators round the factors of products otherwise
_SMALL_DISTANCE = 0.005  # of half the image: below it, distances count as their squares do

# Sums an array over the examples of every device; identity plus jnp.sum on one device.
Total = Callable[[Float[Array, " B"]], Float[Array, ""]]


def masked_mean(
    values: Float[Array, " B"],
    weights: Array,
    total: Total,
    count: Float[Array, ""] | None = None,
) -> Float[Array, ""]:
    """Weighted mean of the values that count over the global batch, 0 when there are none.

    Values that do not count are dropped before the sum, so that a NaN among them harms nothing.
    Weights that add up to less than one example are taken as they are: few and doubtful labels
    do not become as strong as a sure one.

    Args:
      values: [B] of the examples.
      weights: [B] which of them count, or how much.
      total: sums over the examples of every device.
      count: what to divide by; None: the sum of the weights. With that of a whole batch, the
        results of its micro-batches add up to the whole batch's mean.
    """
    kept = jnp.where(weights.astype(bool), values, 0.0)
    if jnp.issubdtype(weights.dtype, jnp.floating):
        kept = weights * kept
    count = total(weights.astype(values.dtype)) if count is None else count
    return total(kept) / jnp.maximum(count, 1.0)


def certainty(residual: Float[Array, " B"], scale: float) -> Float[Array, " B"]:
    """1 / (1 + (r / scale)^2): how far to trust the coefficients of a landmark fit. Ours.

    Cauchy's weight: a half where the fit leaves the landmarks as far away as `scale`.

    Args:
      residual: mean distance that the fit leaves, as a share of the inter-ocular distance.
      scale: in the same unit.
    """
    return 1 / (1 + (residual / scale) ** 2)


def mean_squared(
    prediction: Float[Array, "B ..."], target: Float[Array, "B ..."]
) -> Float[Array, " B"]:
    """(1/N) sum (p - t)^2 of each example."""
    return _per_example((prediction - target) ** 2)


def mean_absolute(
    prediction: Float[Array, "B ..."], target: Float[Array, "B ..."]
) -> Float[Array, " B"]:
    """(1/N) sum |p - t| of each example."""
    return _per_example(jnp.abs(prediction - target))


def point_error(
    prediction: Float[Array, "B N 2"], target: Float[Array, "B N 2"], metric: str = "squared"
) -> Float[Array, " B"]:
    """Mean over points of their squared coordinates' differences, or of their distance (ours).

    Args:
      prediction, target: normalised device coordinates.
      metric: "squared", or "distance" with a gradient that vanishes at 0.
    """
    if metric == "squared":
        return mean_squared(prediction, target)
    return jnp.mean(_distance(prediction - target), axis=1)


def contour_error(
    prediction: Float[Array, "B 68 2"], target: Float[Array, "B 68 2"], metric: str = "squared"
) -> Float[Array, " B"]:
    """`point_error` of the 17 contour points."""
    return point_error(prediction[:, CONTOUR_68], target[:, CONTOUR_68], metric)


def pose_dependent_error(
    prediction: Float[Array, "B N 2"],
    target: Float[Array, "B N 2"],
    yaw: Float[Array, " B"],
    subsets: tuple[Bool[Array, " N"], Bool[Array, " N"], Bool[Array, " N"]],
    metric: str = "squared",
) -> Float[Array, " B"]:
    """`point_error` of the subset of points that is visible at each head's yaw (TEASER).

    Args:
      prediction, target: normalised device coordinates.
      yaw: y component of the predicted global axis-angle; only compared, never differentiated.
      subsets: membership of front, left and right; left serves yaw < -0.05 rad.
      metric: as in `point_error`.
    """
    front, left, right = subsets
    side = jnp.where(yaw[:, None] > FRONTAL_YAW, right, front)
    chosen = jnp.where(yaw[:, None] < -FRONTAL_YAW, left, side).astype(prediction.dtype)
    difference = prediction - target
    error = jnp.mean(difference**2, axis=-1) if metric == "squared" else _distance(difference)
    return jnp.sum(error * chosen, axis=1) / jnp.sum(chosen, axis=1)


def region_weight(
    landmarks: Float[Array, "B 68 2"], image_size: int, growth: tuple[float, float]
) -> Float[Array, "B H W 1"]:
    """How many of the mouth's and the eyes' boxes hold each pixel: 0, 1 or 2 (TEASER).

    Args:
      landmarks: the annotated 68 points, normalised device coordinates.
      image_size: H = W.
      growth: fraction of its size by which the (mouth, eyes) box grows on each side.
    """
    centre = (2 * jnp.arange(image_size) + 1) / image_size - 1
    centre = centre[None, None]
    weight = 0.0
    for points, share in zip((MOUTH_BOX_68, EYES_68), growth, strict=True):
        low, high = landmarks[:, points].min(axis=1), landmarks[:, points].max(axis=1)
        margin = share * (high - low)
        low, high = (low - margin)[..., None], (high + margin)[..., None]  # [B, 2, 1]
        inside = ((centre >= low) & (centre <= high)).astype(landmarks.dtype)  # [B, 2, size]
        weight = weight + inside[:, 1, :, None] * inside[:, 0, None, :]
    return weight[..., None]


def token_error(
    prediction: Float[Array, "B K D"], target: Float[Array, "B K D"]
) -> Float[Array, " B"]:
    """Sum over the K tokens of their mean squared errors (TEASER)."""
    return jnp.sum(jnp.mean((prediction - target) ** 2, axis=-1), axis=-1)


def metric_error(
    prediction: Float[Array, "B E"], target: Float[Array, "B E"], gram: Float[Array, "E E"]
) -> Float[Array, " B"]:
    """Squared error through an expression basis: d^T G d with G = S^T S / V. Ours.

    With S in mm over the V vertices of the face mask this is the mean squared vertex distance in
    mm^2, which does not depend on how the components are scaled.
    """
    difference = prediction - target
    return jnp.einsum("be,ef,bf->b", difference, gram, difference, precision=_HIGHEST)


def perceptual_distance(
    prediction: Sequence[Float[Array, "_ _ _ _"]], target: Sequence[Float[Array, "_ _ _ _"]]
) -> Float[Array, " B"]:
    """Sum over a network's feature maps of their mean absolute difference, equal weights."""
    return sum(mean_absolute(p, t) for p, t in zip(prediction, target, strict=True))


def _distance(difference: Float[Array, "B N 2"]) -> Float[Array, "B N"]:
    squared = jnp.sum(difference**2, axis=-1)
    return jnp.sqrt(squared + _SMALL_DISTANCE**2) - _SMALL_DISTANCE


def _per_example(values: Float[Array, "B ..."]) -> Float[Array, " B"]:
    return jnp.mean(values.reshape(values.shape[0], -1), axis=1)
