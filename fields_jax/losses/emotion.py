"""The intensity-aware emotion loss: soft class targets and agreement of valence and arousal.

FIELDS' equations are not public; these are our reading of its abstract. Concordance follows
Lin (1989), "A concordance correlation coefficient to evaluate reproducibility".
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from fields_jax.emotions import N_EMOTIONS, NEUTRAL
from fields_jax.losses.terms import Total

_EPSILON = 1e-6  # variances below it carry no correlation


def intensity(valence: Float[Array, " B"], arousal: Float[Array, " B"]) -> Float[Array, " B"]:
    """I = min(1, sqrt(v^2 + a^2)): distance from neutral in the valence-arousal plane."""
    return jnp.minimum(1.0, jnp.hypot(valence, arousal))


def soft_targets(emotion: Int[Array, " B"], strength: Float[Array, " B"]) -> Float[Array, "B C"]:
    """Targets I onehot(c) + (1 - I) onehot(neutral): a weak expression may stay near neutral."""
    labelled = jax.nn.one_hot(emotion, N_EMOTIONS)
    neutral = jax.nn.one_hot(NEUTRAL, N_EMOTIONS)
    return strength[:, None] * labelled + (1 - strength[:, None]) * neutral[None]


def class_error(
    logits: Float[Array, "B C"], targets: Float[Array, "B C"], weights: Float[Array, " C"]
) -> Float[Array, " B"]:
    """Cross entropy -sum_c w_c q_c log p_c against soft targets."""
    return -jnp.sum(weights[None] * targets * jax.nn.log_softmax(logits), axis=-1)


def agreement_losses(
    prediction: Float[Array, " B"],
    target: Float[Array, " B"],
    valid: Bool[Array, " B"],
    total: Total,
    min_count: int,
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """1 - PCC and 1 - CCC with population moments over the valid global batch.

    PCC = cov / (s_x s_y), CCC = 2 cov / (s_x^2 + s_y^2 + (m_x - m_y)^2). Both are 0 (no loss, no
    gradient) when fewer than `min_count` samples are valid: moments of a handful are noise.
    """
    weight = valid.astype(prediction.dtype)
    count = total(weight)
    enough = count >= min_count
    divisor = jnp.maximum(count, 1.0)
    # Centred second moments: sums of squares minus squares of sums would cancel in float32.
    mean_x, mean_y = total(weight * prediction) / divisor, total(weight * target) / divisor
    x, y = weight * (prediction - mean_x), weight * (target - mean_y)
    variance_x, variance_y = total(x * x) / divisor, total(y * y) / divisor
    covariance = total(x * y) / divisor
    pcc = covariance * jax.lax.rsqrt((variance_x + _EPSILON) * (variance_y + _EPSILON))
    ccc = 2 * covariance / (variance_x + variance_y + (mean_x - mean_y) ** 2 + _EPSILON)
    return jnp.where(enough, 1 - pcc, 0.0), jnp.where(enough, 1 - ccc, 0.0)
