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
from jaxtyping import Array, Float, Int

from fields_jax.errors import UserError
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
class Part:
    """What a micro-batch knows of this device's whole batch, so that its terms are the whole's.

    Attributes:
      parts: micro-batches of a batch; the terms of all of them add up to those of the batch.
      first: place in the batch of its first example.
      counts: examples of the global batch that carry each flag, and under "" all of them.
      affect: [D] valence, arousal and has_va of the batch.
      predicted: [D] valence and arousal that the networks predict for it, or None.
    """

    parts: int
    first: Int[Array, ""]
    counts: Mapping[str, Float[Array, ""]]
    affect: Mapping[str, Array]
    predicted: Mapping[str, Array] | None = None


@dataclasses.dataclass(frozen=True)
class Evidence:
    """All that a term may look at. Fields a step did not compute are None.

    Attributes:
      batch: the examples (fields_jax/batch.py), images as float in [0, 1].
      settings: choices that are not weights.
      head: the FLAME model; gives the 203 subsets.
      gram: [E, E] metric of the expression components in mm^2 (`expression_gram`).
      part: where the batch is a part of a larger one, or None.
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
    part: Part | None = None
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


def count_examples(batch: Mapping[str, Array], total: Total) -> dict[str, Float[Array, ""]]:
    """Examples of the global batch that carry each flag, and under "" all of them."""
    everywhere = jnp.ones(batch["image"].shape[0])
    flags = {name: flag for name, flag in batch.items() if name.startswith("has_")}
    return {k: total(flag.astype(everywhere.dtype)) for k, flag in flags.items()} | {
        "": total(everywhere)
    }


def _mean(e: Evidence, values: Float[Array, " B"], flag: str, total: Total) -> Float[Array, ""]:
    """Mean over the examples of the global batch that carry a flag; "": over all."""
    valid = e.batch[flag] if flag else jnp.ones_like(values)
    return masked_mean(values, valid, total, e.part.counts[flag] if e.part else None)


def _landmark(name: str, flag: str = "") -> Callable:
    def loss(e: Evidence, total: Total):
        prediction = getattr(e.landmarks, name)[..., :2]
        values = terms.mean_squared(prediction, e.batch[name])
        return _mean(e, values, flag or f"has_{name}", total)

    return loss


def _contour(e: Evidence, total: Total):
    values = terms.contour_error(e.landmarks.landmarks_68[..., :2], e.batch["landmarks_68"])
    return _mean(e, values, "has_annotated_68", total)


def _landmark_203(e: Evidence, total: Total):
    values = terms.pose_dependent_error(
        e.landmarks.landmarks_203[..., :2],
        e.batch["landmarks_203"],
        e.output.coefficients.pose[:, 1],
        e.head.front_203,
        e.head.left_203,
        e.head.right_203,
    )
    return _mean(e, values, "has_landmarks_203", total)


def _l1(e: Evidence, total: Total):
    return _mean(e, terms.mean_absolute(e.reconstruction, e.batch["image"]), "", total)


def _region_l1(e: Evidence, total: Total):
    landmarks, size = e.batch["landmarks_68"], e.batch["image"].shape[1]
    weight = terms.region_weight(landmarks, size, e.settings.region_growth)
    values = terms.mean_absolute(e.reconstruction * weight, e.batch["image"] * weight)
    return _mean(e, values, "has_landmarks_68", total)


def _perceptual(e: Evidence, total: Total):
    return _mean(e, terms.perceptual_distance(*e.features), "", total)


def _emotion_feature(e: Evidence, total: Total):
    return _mean(e, terms.mean_squared(*e.emotion_features), "", total)


def _token(e: Evidence, total: Total):
    return _mean(e, terms.token_error(e.tokens_again, e.output.tokens), "", total)


def _gt_expression(e: Evidence, total: Total):
    prediction, target = e.output.coefficients.expression, e.batch["expression"]
    if e.settings.gt_metric == "vertex":
        values = terms.metric_error(prediction, target, e.gram)
    else:
        values = terms.mean_squared(prediction, target)
    return _mean(e, values, "has_flame", total)


def _gt(name: str) -> Callable:
    def loss(e: Evidence, total: Total):
        values = terms.mean_squared(getattr(e.output.coefficients, name), e.batch[name])
        return _mean(e, values, "has_flame", total)

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
    return _mean(e, values, "has_emotion", total)


def _va_mse(e: Evidence, total: Total):
    prediction = jnp.stack([e.output.valence, e.output.arousal], axis=-1)
    target = jnp.stack([e.batch["valence"], e.batch["arousal"]], axis=-1)
    return _mean(e, terms.mean_squared(prediction, target), "has_va", total)


def _va_agreement(which: int) -> Callable:
    def loss(e: Evidence, total: Total):
        predicted = {"valence": e.output.valence, "arousal": e.output.arousal}
        labels = e.batch
        if e.part:  # moments are those of the whole batch, whose other parts are held
            labels, held = e.part.affect, e.part.predicted
            predicted = {
                k: jax.lax.dynamic_update_slice(held[k], x, (e.part.first,))
                for k, x in predicted.items()
            }
        valid, minimum = labels["has_va"].astype(bool), e.settings.va_min_count
        losses = [
            emotion.agreement_losses(x, labels[name], valid, total, minimum)
            for name, x in predicted.items()
        ]
        loss = (losses[0][which] + losses[1][which]) / 2
        # Of the value each part is one share; its gradient is the whole's.
        return loss - (1 - 1 / e.part.parts) * jax.lax.stop_gradient(loss) if e.part else loss

    return loss


def _base(name: str) -> Callable:
    def loss(e: Evidence, total: Total):
        values = terms.mean_squared(getattr(e.output.coefficients, name), getattr(e.base, name))
        return _mean(e, values, "", total)

    return loss


def _regularizer(name: str) -> Callable:
    def loss(e: Evidence, total: Total):
        value = getattr(e.output.coefficients, name)
        return _mean(e, terms.mean_squared(value, jnp.zeros_like(value)), "", total)

    return loss


def _cycle(name: str) -> Callable:
    def loss(e: Evidence, total: Total):
        values = terms.mean_squared(getattr(e.cycle, name), getattr(e.perturbed, name))
        return _mean(e, values, "", total)

    return loss


def _cycle_token(e: Evidence, total: Total):
    # TEASER compares the coarsest token only: the finer ones see the changed expression.
    values = terms.mean_squared(e.cycle_tokens[:, 0], e.cycle_tokens_target[:, 0])
    return _mean(e, values, "", total)


Loss = Callable[[Evidence, Total], Float[Array, ""]]

LOSSES: dict[str, Loss] = {
    "landmark_contour": _contour,
    "landmark_68": _landmark("landmarks_68", "has_annotated_68"),
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
NEED_MOMENTS = frozenset({"va_pcc", "va_ccc"})
VALENCE_AROUSAL = ("va_mse", "va_pcc", "va_ccc")


def check_names(names: Iterable[str]) -> None:
    """Refuses names that are not in the table.

    Raises:
      UserError: naming the first unknown loss and the known ones.
    """
    for name in names:
        if name not in LOSSES:
            raise UserError(f"unknown loss {name!r}; known: {', '.join(sorted(LOSSES))}")


def evaluate_losses(
    weights: Mapping[str, float | Array], evidence: Evidence, total: Total
) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
    """Weighted sum of the named terms and each term's unweighted value."""
    values = {name: LOSSES[name](evidence, total) for name in weights}
    loss = sum((weights[name] * value for name, value in values.items()), jnp.zeros(()))
    return loss, values
