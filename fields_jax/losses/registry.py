"""The one list of losses: what each term compares, over which examples, what it needs, its source.

A term gives one value per example; `reduce` alone turns them into a scalar over the global batch,
for a batch taken whole or in parts. Weights are not here: they live in the config,
`phases.<phase>.losses.<name>`. A term that is absent there, or has weight 0, is not traced.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Set

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from fields_jax.errors import UserError
from fields_jax.losses import emotion, terms
from fields_jax.losses.evidence import Evidence, LossSettings, label_weights
from fields_jax.losses.terms import Total, masked_mean

# What a step computes, or a run loads, only where a term needs it.
NEEDS = {
    "landmarks": "the projected landmarks of the predicted faces",
    "reconstruction": "the image that the synthesiser makes of the predicted faces",
    "tokens": "a token encoder, and the tokens it reads from a synthesised image",
    "features": "the frozen perceptual network",
    "emotion_features": "the frozen emotion-feature network",
    "base": "the frozen base model",
    "cycle": "perturbed faces, synthesised and read back",
    "moments": "valence and arousal of the whole batch at once",
}
# `config.losses.va_weights="shake"` draws the weights of the terms with this flag.
AFFECT = "has_va"

_COMMON = "SMIRK and TEASER"
_ABSTRACT = "named in FIELDS' abstract; the form is ours"
_EMONET = f"{_ABSTRACT} (EmoNet's terms)"


@dataclasses.dataclass(frozen=True)
class Term:
    """A loss with a value per example.

    Attributes:
      values: maps the evidence to [B], unweighted and unmasked.
      over: flag of the examples that count; "" for all of them.
      needs: names of `NEEDS`.
      source: where the term comes from; the config says which weights are published.
    """

    values: Callable[[Evidence], Float[Array, " B"]]
    over: str = ""
    needs: Set[str] = frozenset()
    source: str = "ours"

    def __post_init__(self) -> None:
        if unknown := sorted(self.needs - NEEDS.keys()):
            raise ValueError(f"unknown need {unknown[0]!r} of a loss; known: {', '.join(NEEDS)}")


@dataclasses.dataclass(frozen=True)
class BatchTerm(Term):
    """A loss over valence and arousal of the global batch, such as a correlation.

    `values` maps (prediction [D], label [D], which count [D], total, settings) to a scalar; the
    term is the mean of valence's and arousal's.
    """

    values: Callable[[Array, Array, Array, Total, LossSettings], Float[Array, ""]]


def _landmark(name: str) -> Callable[[Evidence], Array]:
    return lambda e: terms.point_error(
        getattr(e.landmarks, name)[..., :2], e.batch[name], e.settings.landmark_metric
    )


def _contour(e: Evidence):
    points, metric = e.landmarks.landmarks_68[..., :2], e.settings.landmark_metric
    return terms.contour_error(points, e.batch["landmarks_68"], metric)


def _landmark_203(e: Evidence):
    return terms.pose_dependent_error(
        e.landmarks.landmarks_203[..., :2],
        e.batch["landmarks_203"],
        e.output.coefficients.pose[:, 1],
        (e.head.front_203, e.head.left_203, e.head.right_203),
        e.settings.landmark_metric,
    )


def _l1(e: Evidence):
    return terms.mean_absolute(e.reconstruction, e.batch["image"])


def _region_l1(e: Evidence):
    landmarks, size = e.batch["landmarks_68"], e.batch["image"].shape[1]
    weight = terms.region_weight(landmarks, size, e.settings.region_growth)
    return terms.mean_absolute(e.reconstruction * weight, e.batch["image"] * weight)


def _gt_expression(e: Evidence):
    prediction, target = e.output.coefficients.expression, e.batch["expression"]
    if e.settings.gt_metric == "vertex":
        return terms.metric_error(prediction, target, e.gram)
    return terms.mean_squared(prediction, target)


def _gt_shape(e: Evidence):
    prediction, target = e.output.coefficients.shape, e.batch["shape"]
    target = target[:, : prediction.shape[1]]
    if e.settings.gt_metric == "vertex":
        return terms.metric_error(prediction, target, e.shape_gram)
    return terms.mean_squared(prediction, target)


def _gt(name: str) -> Callable[[Evidence], Array]:
    return lambda e: terms.mean_squared(getattr(e.output.coefficients, name), e.batch[name])


def _emotion(e: Evidence):
    batch, settings = e.batch, e.settings
    strength = emotion.intensity(batch["valence"], batch["arousal"])
    # Without valence and arousal the intensity is unknown; the class label is taken as it stands.
    strength = jnp.where(batch["has_va"], strength, 1.0)
    soft = settings.emotion_targets == "intensity"
    sure = strength if soft else jnp.ones_like(strength)
    targets = emotion.soft_targets(batch["emotion"], sure)
    weights = jnp.asarray(settings.class_weights or (1.0,) * targets.shape[-1])
    values = emotion.class_error(e.output.logits, targets, weights)
    if settings.intensity_weighting > 0:
        floor = settings.intensity_weighting
        values = values * (floor + strength) / (floor + 1)
    return values


def _va_mse(e: Evidence):
    prediction = jnp.stack([e.output.valence, e.output.arousal], axis=-1)
    target = jnp.stack([e.batch["valence"], e.batch["arousal"]], axis=-1)
    return terms.mean_squared(prediction, target)


def _disagreement(which: int) -> Callable[..., Array]:
    """1 - PCC (0) or 1 - CCC (1)."""

    def values(prediction, label, valid, total: Total, settings: LossSettings):
        least = settings.va_min_count
        return emotion.agreement_losses(prediction, label, valid, total, least)[which]

    return values


def _base(name: str) -> Callable[[Evidence], Array]:
    return lambda e: terms.mean_squared(getattr(e.output.coefficients, name), getattr(e.base, name))


def _regularizer(name: str) -> Callable[[Evidence], Array]:
    """Mean square; of shape and expression in standard deviations of the head's prior."""

    def values(e: Evidence):
        value = getattr(e.output.coefficients, name)
        if name in e.settings.scaled:
            prior = e.head.priors[name]
            value = (value - prior.mean[None]) / prior.deviation[None]
        return terms.mean_squared(value, jnp.zeros_like(value))

    return values


def _cycle(name: str) -> Callable[[Evidence], Array]:
    return lambda e: terms.mean_squared(getattr(e.cycle, name), getattr(e.perturbed, name))


def _cycle_token(e: Evidence):
    # TEASER compares the coarsest token only: the finer ones see the changed expression.
    return terms.mean_squared(e.cycle_tokens[:, 0], e.cycle_tokens_target[:, 0])


# The order in which weighted terms are listed; a step adds them in the config's order.
TERMS: dict[str, Term] = {
    "landmark_contour": Term(_contour, "has_annotated_68", {"landmarks"}, _COMMON),
    "landmark_68": Term(
        _landmark("landmarks_68"),
        "has_annotated_68",
        {"landmarks"},
        "ours: SMIRK's contour term for all 68 points",
    ),
    "landmark_105": Term(_landmark("landmarks_105"), "has_landmarks_105", {"landmarks"}, _COMMON),
    "landmark_203": Term(_landmark_203, "has_landmarks_203", {"landmarks"}, "TEASER"),
    "l1": Term(_l1, "", {"reconstruction"}, _COMMON),
    "region_l1": Term(_region_l1, "has_landmarks_68", {"reconstruction"}, "TEASER"),
    "perceptual": Term(
        lambda e: terms.perceptual_distance(*e.features),
        "",
        {"reconstruction", "features"},
        _COMMON,
    ),
    "emotion_feature": Term(
        lambda e: terms.mean_squared(*e.emotion_features),
        "",
        {"reconstruction", "emotion_features"},
        "SMIRK, after EMOCA",
    ),
    "token": Term(
        lambda e: terms.token_error(e.tokens_again, e.output.tokens),
        "",
        {"reconstruction", "tokens"},
        "TEASER",
    ),
    "gt_expression": Term(_gt_expression, "has_flame", source=_ABSTRACT),
    "gt_jaw": Term(_gt("jaw"), "has_flame", source=_ABSTRACT),
    "gt_eyelid": Term(_gt("eyelid"), "has_flame", source=_ABSTRACT),
    "gt_shape": Term(_gt_shape, "has_shape", source="ours, for sets that know identity"),
    "emotion": Term(_emotion, "has_emotion", source=_ABSTRACT),
    "va_mse": Term(_va_mse, AFFECT, source=_EMONET),
    "va_pcc": BatchTerm(_disagreement(0), AFFECT, {"moments"}, _EMONET),
    "va_ccc": BatchTerm(_disagreement(1), AFFECT, {"moments"}, _EMONET),
    "base_expression": Term(_base("expression"), "", {"base"}, _ABSTRACT),
    "base_jaw": Term(_base("jaw"), "", {"base"}, _ABSTRACT),
    "base_shape": Term(_base("shape"), "", {"base"}, _ABSTRACT),
    "reg_expression": Term(_regularizer("expression"), source=_COMMON),
    "reg_jaw": Term(_regularizer("jaw"), source=_COMMON),
    "reg_shape": Term(_regularizer("shape"), source="ours, in the place of MICA's term"),
    "cycle_expression": Term(_cycle("expression"), "", {"cycle"}, _COMMON),
    "cycle_jaw": Term(_cycle("jaw"), "", {"cycle"}, _COMMON),
    "cycle_eyelid": Term(_cycle("eyelid"), "", {"cycle"}, _COMMON),
    "cycle_shape": Term(_cycle("shape"), "", {"cycle"}, _COMMON),
    "cycle_token": Term(_cycle_token, "", {"cycle", "tokens"}, "TEASER"),
}


def check_names(names: Iterable[str]) -> None:
    """Refuses names that are not in the table.

    Raises:
      UserError: naming the first unknown loss and the known ones.
    """
    for name in names:
        if name not in TERMS:
            raise UserError(f"unknown loss {name!r}; known: {', '.join(sorted(TERMS))}")


def needs(names: Iterable[str]) -> frozenset[str]:
    """All that the named terms need, names of `NEEDS`."""
    return frozenset().union(*(TERMS[name].needs for name in names))


def needing(need: str) -> frozenset[str]:
    """The terms that need something of `NEEDS`."""
    return frozenset(name for name, term in TERMS.items() if need in term.needs)


def evaluate_losses(
    weights: Mapping[str, float | Array], evidence: Evidence, total: Total
) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
    """Weighted sum of the named terms and each term's unweighted value."""
    values = {name: reduce(TERMS[name], evidence, total) for name in weights}
    loss = sum((weights[name] * value for name, value in values.items()), jnp.zeros(()))
    return loss, values


def reduce(term: Term, evidence: Evidence, total: Total) -> Float[Array, ""]:
    """A term over the global batch: the mean over the examples that count, 0 where none does.

    For a micro-batch it is that part's share: the shares of all parts add up to the whole batch's
    value, and their gradients to its gradient.

    Args:
      term: an entry of `TERMS`.
      evidence: of this device's examples.
      total: sums over the examples of every device.
    """
    part = evidence.part
    if isinstance(term, BatchTerm):
        return _reduce_batch(term, evidence, total)
    values = term.values(evidence)
    chex.assert_shape(values, evidence.batch["image"].shape[:1])
    weights = jnp.ones_like(values)
    if term.over:
        weights = label_weights(term.over, evidence.batch, evidence.settings)
    return masked_mean(values, weights, total, part.counts[term.over] if part else None)


def _reduce_batch(term: BatchTerm, e: Evidence, total: Total) -> Float[Array, ""]:
    predicted = {"valence": e.output.valence, "arousal": e.output.arousal}
    labels = e.batch
    if e.part:  # moments are over the whole batch; the other parts are constants
        labels, held = e.part.affect, e.part.predicted
        predicted = {
            k: jax.lax.dynamic_update_slice(held[k], x, (e.part.first,))
            for k, x in predicted.items()
        }
    valid = labels[term.over].astype(bool)
    losses = [
        term.values(x, labels[name], valid, total, e.settings) for name, x in predicted.items()
    ]
    loss = (losses[0] + losses[1]) / 2
    chex.assert_rank(loss, 0)
    # All parts compute the same value, so each counts a share of it; gradients differ and add up.
    return loss - (1 - 1 / e.part.parts) * jax.lax.stop_gradient(loss) if e.part else loss
