"""The one list of loss names: which prediction meets which target under which mask.

Each entry of `LOSSES` maps the evidence of a step to a scalar over the global batch. Weights are
not here: they live in the config, `phases.<phase>.losses.<name>`. A term that is absent there, or
has weight 0, is not traced.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from fields_jax.losses import emotion, terms
from fields_jax.losses.terms import Total, masked_mean
from fields_jax.types import FieldsOutput, FlameCoefficients, FlameModel, FlameOutput


@dataclasses.dataclass(frozen=True)
class LossSettings:
    """Choices of `config.losses` that are not weights."""

    gt_metric: str
    intensity_weighting: float
    class_weights: tuple[float, ...]
    va_min_count: int
    region_growth: tuple[float, float]


@dataclasses.dataclass(frozen=True)
class Evidence:
    """All that a term may look at. Fields a step did not compute are None.

    Attributes:
      batch: the examples (data_pipelines/spec.py), images as float in [0, 1].
      settings: choices that are not weights.
      head: the FLAME model; gives the 203 subsets.
      gram: [E, E] metric of the expression components in mm^2 (`expression_gram`).
      output: what the networks said of the images.
      landmarks: projected landmarks, normalised device coordinates and depth.
      reconstruction: [B, H, W, 3] the synthesiser's image.
      tokens_again: [B, K, D] tokens of the reconstruction.
      features: perceptual features of (reconstruction, image).
      emotion_features: [B, 2048] of (reconstruction, image).
      base: coefficients by the frozen base model.
      cycle: coefficients read back from the image of `perturbed`.
      perturbed: what was put in.
      cycle_tokens: [B, K, D] tokens read back.
      cycle_tokens_target: [B, K, D] tokens put in.
    """

    batch: Mapping[str, Array]
    settings: LossSettings
    head: FlameModel
    gram: Float[Array, "E E"]
    output: FieldsOutput | None = None
    landmarks: FlameOutput | None = None
    reconstruction: Float[Array, "B H W 3"] | None = None
    tokens_again: Float[Array, "B K D"] | None = None
    features: tuple[list, list] | None = None
    emotion_features: tuple[Float[Array, "B D"], Float[Array, "B D"]] | None = None
    base: FlameCoefficients | None = None
    cycle: FlameCoefficients | None = None
    perturbed: FlameCoefficients | None = None
    cycle_tokens: Float[Array, "B K D"] | None = None
    cycle_tokens_target: Float[Array, "B K D"] | None = None


_LABELS = {
    "has_landmarks_68": ("landmarks_68",),
    "has_landmarks_105": ("landmarks_105",),
    "has_landmarks_203": ("landmarks_203",),
    "has_flame": ("expression", "jaw", "eyelid"),
    "has_shape": ("shape",),
    "has_va": ("valence", "arousal"),
}


def clear_absent(batch: Mapping[str, Array]) -> dict[str, Array]:
    """The batch with absent labels set to 0.

    A mask after the fact keeps a NaN out of a mean, but not out of the mean's gradient.
    """
    cleared = dict(batch)
    for flag, names in _LABELS.items():
        for name in names:
            if name in batch:
                present = batch[flag].astype(bool)
                shape = (-1,) + (1,) * (batch[name].ndim - 1)
                cleared[name] = jnp.where(present.reshape(shape), batch[name], 0.0)
    return cleared


def expression_gram(head: FlameModel, components: int) -> Float[Array, "E E"]:
    """S^T S / V over the face mask, S in mm: mean squared vertex motion of a unit difference."""
    basis = 1000.0 * head.expression_basis[head.face_vertices][..., :components]
    count = basis.shape[0]
    return jnp.einsum("vke,vkf->ef", basis, basis, precision=jax.lax.Precision.HIGHEST) / count


def _everywhere(values: Float[Array, " B"], total: Total) -> Float[Array, ""]:
    return masked_mean(values, jnp.ones_like(values), total)


def _landmark(name: str) -> Callable:
    def loss(e: Evidence, total: Total):
        prediction = getattr(e.landmarks, name)[..., :2]
        values = terms.mean_squared(prediction, e.batch[name])
        return masked_mean(values, e.batch[f"has_{name}"], total)

    return loss


def _contour(e: Evidence, total: Total):
    values = terms.contour_error(e.landmarks.landmarks_68[..., :2], e.batch["landmarks_68"])
    return masked_mean(values, e.batch["has_landmarks_68"], total)


def _landmark_203(e: Evidence, total: Total):
    values = terms.pose_dependent_error(
        e.landmarks.landmarks_203[..., :2],
        e.batch["landmarks_203"],
        e.output.coefficients.pose[:, 1],
        e.head.front_203,
        e.head.left_203,
        e.head.right_203,
    )
    return masked_mean(values, e.batch["has_landmarks_203"], total)


def _l1(e: Evidence, total: Total):
    return _everywhere(terms.mean_absolute(e.reconstruction, e.batch["image"]), total)


def _region_l1(e: Evidence, total: Total):
    landmarks, size = e.batch["landmarks_68"], e.batch["image"].shape[1]
    weight = terms.region_weight(landmarks, size, e.settings.region_growth)
    values = terms.mean_absolute(e.reconstruction * weight, e.batch["image"] * weight)
    return masked_mean(values, e.batch["has_landmarks_68"], total)


def _perceptual(e: Evidence, total: Total):
    return _everywhere(terms.perceptual_distance(*e.features), total)


def _emotion_feature(e: Evidence, total: Total):
    return _everywhere(terms.mean_squared(*e.emotion_features), total)


def _token(e: Evidence, total: Total):
    return _everywhere(terms.token_error(e.tokens_again, e.output.tokens), total)


def _gt_expression(e: Evidence, total: Total):
    prediction, target = e.output.coefficients.expression, e.batch["expression"]
    if e.settings.gt_metric == "vertex":
        values = terms.metric_error(prediction, target, e.gram)
    else:
        values = terms.mean_squared(prediction, target)
    return masked_mean(values, e.batch["has_flame"], total)


def _gt(name: str) -> Callable:
    def loss(e: Evidence, total: Total):
        values = terms.mean_squared(getattr(e.output.coefficients, name), e.batch[name])
        return masked_mean(values, e.batch["has_flame"], total)

    return loss


def _emotion(e: Evidence, total: Total):
    batch, settings = e.batch, e.settings
    strength = emotion.intensity(batch["valence"], batch["arousal"])
    # Without valence and arousal the intensity is unknown; the class label is taken as it stands.
    strength = jnp.where(batch["has_va"], strength, 1.0)
    targets = emotion.soft_targets(batch["emotion"], strength)
    weights = jnp.asarray(settings.class_weights or (1.0,) * targets.shape[-1])
    values = emotion.class_error(e.output.logits, targets, weights)
    if settings.intensity_weighting > 0:
        floor = settings.intensity_weighting
        values = values * (floor + strength) / (floor + 1)
    return masked_mean(values, batch["has_emotion"], total)


def _va_mse(e: Evidence, total: Total):
    prediction = jnp.stack([e.output.valence, e.output.arousal], axis=-1)
    target = jnp.stack([e.batch["valence"], e.batch["arousal"]], axis=-1)
    return masked_mean(terms.mean_squared(prediction, target), e.batch["has_va"], total)


def _va_agreement(which: int) -> Callable:
    def loss(e: Evidence, total: Total):
        valid, minimum = e.batch["has_va"].astype(bool), e.settings.va_min_count
        pairs = [(e.output.valence, "valence"), (e.output.arousal, "arousal")]
        losses = [
            emotion.agreement_losses(x, e.batch[name], valid, total, minimum) for x, name in pairs
        ]
        return (losses[0][which] + losses[1][which]) / 2

    return loss


def _base(name: str) -> Callable:
    def loss(e: Evidence, total: Total):
        values = terms.mean_squared(getattr(e.output.coefficients, name), getattr(e.base, name))
        return _everywhere(values, total)

    return loss


def _regularizer(name: str) -> Callable:
    def loss(e: Evidence, total: Total):
        value = getattr(e.output.coefficients, name)
        return _everywhere(terms.mean_squared(value, jnp.zeros_like(value)), total)

    return loss


def _cycle(name: str) -> Callable:
    def loss(e: Evidence, total: Total):
        values = terms.mean_squared(getattr(e.cycle, name), getattr(e.perturbed, name))
        return _everywhere(values, total)

    return loss


def _cycle_token(e: Evidence, total: Total):
    # TEASER compares the coarsest token only: the finer ones see the changed expression.
    values = terms.mean_squared(e.cycle_tokens[:, 0], e.cycle_tokens_target[:, 0])
    return _everywhere(values, total)


Loss = Callable[[Evidence, Total], Float[Array, ""]]

LOSSES: dict[str, Loss] = {
    "landmark_contour": _contour,
    "landmark_68": _landmark("landmarks_68"),
    "landmark_105": _landmark("landmarks_105"),
    "landmark_203": _landmark_203,
    "l1": _l1,
    "region_l1": _region_l1,
    "perceptual": _perceptual,
    "emotion_feature": _emotion_feature,
    "token": _token,
    "gt_expression": _gt_expression,
    "gt_jaw": _gt("jaw"),
    "gt_eyelid": _gt("eyelid"),
    "emotion": _emotion,
    "va_mse": _va_mse,
    "va_pcc": _va_agreement(0),
    "va_ccc": _va_agreement(1),
    "base_expression": _base("expression"),
    "base_jaw": _base("jaw"),
    "base_shape": _base("shape"),
    "reg_expression": _regularizer("expression"),
    "reg_jaw": _regularizer("jaw"),
    "reg_shape": _regularizer("shape"),
    "cycle_expression": _cycle("expression"),
    "cycle_jaw": _cycle("jaw"),
    "cycle_eyelid": _cycle("eyelid"),
    "cycle_shape": _cycle("shape"),
    "cycle_token": _cycle_token,
}
NEED_IMAGE = frozenset({"l1", "region_l1", "perceptual", "emotion_feature", "token"})
NEED_BASE = frozenset(name for name in LOSSES if name.startswith("base_"))
NEED_TOKENS = frozenset({"token", "cycle_token"})
CYCLE = frozenset(name for name in LOSSES if name.startswith("cycle_"))
VALENCE_AROUSAL = ("va_mse", "va_pcc", "va_ccc")


def check_names(names: Iterable[str]) -> None:
    """Refuses names that are not in the table.

    Raises:
      ValueError: naming the first unknown loss and the known ones.
    """
    for name in names:
        if name not in LOSSES:
            raise ValueError(f"unknown loss {name!r}; known: {', '.join(sorted(LOSSES))}")


def evaluate_losses(
    weights: Mapping[str, float | Array], evidence: Evidence, total: Total
) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
    """Weighted sum of the named terms and each term's unweighted value."""
    values = {name: LOSSES[name](evidence, total) for name in weights}
    loss = sum((weights[name] * value for name, value in values.items()), jnp.zeros(()))
    return loss, values
