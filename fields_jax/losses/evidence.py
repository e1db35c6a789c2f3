"""What the loss terms read: a step's predictions and labels, and a micro-batch's place in both."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from fields_jax.batch import ABSENT, FITTED_FLAGS, FLAGS, is_exact
from fields_jax.losses.terms import Total, certainty
from fields_jax.types import FieldsOutput, FlameCoefficients, FlameModel, FlameOutput


@dataclasses.dataclass(frozen=True)
class LossSettings:
    """Choices of `config.losses` that are not weights, and one of the head.

    Attributes:
      fitted_weight: how much coefficients of a landmark fit count beside exact ones; 0: not at all.
      fitted_scale: residual of a fit, as a share of the inter-ocular distance, that halves that.
      emotion_targets: of the class loss; "intensity": `emotion.soft_targets`, "hard": one-hot.
      scaled: the groups of coefficients, of shape and expression, whose prior is no standard
        normal: their regularisers count standard deviations.
    """

    gt_metric: str
    intensity_weighting: float
    class_weights: tuple[float, ...]
    va_min_count: int
    region_growth: tuple[float, float]
    landmark_metric: str = "squared"
    fitted_weight: float = 0.0
    fitted_scale: float = 0.02
    emotion_targets: str = "intensity"
    scaled: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Part:
    """What a micro-batch must know of this device's whole batch.

    Attributes:
      parts: number of micro-batches in the batch; their terms add up to the batch's terms.
      first: place in the batch of this micro-batch's first example.
      counts: sums of `label_weights` over the global batch for each flag; under "" the number of
        its examples.
      affect: [D] valence, arousal and has_va of the batch.
      predicted: [D] valence and arousal that the networks predict for the batch, or None.
    """

    parts: int
    first: Int[Array, ""]
    counts: Mapping[str, Float[Array, ""]]
    affect: Mapping[str, Array]
    predicted: Mapping[str, Array] | None = None


@dataclasses.dataclass(frozen=True)
class Evidence:
    """All that a term may read. Fields that a step did not compute are None.

    Attributes:
      batch: the examples (fields_jax/batch.py), images as float in [0, 1].
      settings: choices that are not weights.
      head: the FLAME model; gives the 203 subsets.
      gram: [E, E] metric of the expression components in mm^2 (`basis_gram`).
      shape_gram: [S, S] that of the shape components.
      part: where the batch is a part of a larger one, or None.
      output: of the networks, for the images.
      landmarks: projected landmarks, normalised device coordinates and depth.
      reconstruction: [B, H, W, 3] the synthesiser's image.
      tokens_again: [B, K, D] tokens of the reconstruction.
      features: perceptual features of (reconstruction, image).
      emotion_features: [B, D] of (reconstruction, image).
      base: coefficients by the frozen base model.
      cycle: coefficients read back from the image synthesised from `perturbed`.
      perturbed: coefficients of the perturbed faces.
      cycle_tokens: [B, K, D] tokens read back from that image.
      cycle_tokens_target: [B, K, D] tokens it was synthesised from.
    """

    batch: Mapping[str, Array]
    settings: LossSettings
    head: FlameModel
    gram: Float[Array, "E E"]
    shape_gram: Float[Array, "S S"]
    part: Part | None = None
    output: FieldsOutput | None = None
    landmarks: FlameOutput | None = None
    reconstruction: Float[Array, "B H W 3"] | None = None
    tokens_again: Float[Array, "B K D"] | None = None
    features: tuple[list, list] | None = None
    emotion_features: tuple[Float[Array, "B _"], Float[Array, "B _"]] | None = None
    base: FlameCoefficients | None = None
    cycle: FlameCoefficients | None = None
    perturbed: FlameCoefficients | None = None
    cycle_tokens: Float[Array, "B K D"] | None = None
    cycle_tokens_target: Float[Array, "B K D"] | None = None


def clear_absent(batch: Mapping[str, Array]) -> dict[str, Array]:
    """The batch with absent values for all labels that no flag of their example declares present.

    A mask after the fact keeps a NaN out of a mean, but not out of the mean's gradient.
    """
    present: dict[str, Array] = {}
    for flag, names in FLAGS.items():
        for name in names:
            if name in batch:
                said = batch[flag].astype(bool)
                present[name] = present[name] | said if name in present else said
    cleared = dict(batch)
    for name, known in present.items():
        shape = (-1,) + (1,) * (batch[name].ndim - 1)
        cleared[name] = jnp.where(known.reshape(shape), batch[name], ABSENT.get(name, 0))
    return cleared


def label_weights(flag: str, batch: Mapping[str, Array], settings: LossSettings) -> Array:
    """[B] how much each example counts in the terms over a flag: bool, or float with fitted ones.

    Coefficients of a landmark fit count `fitted_weight` times their certainty, all else 1.
    """
    present = batch[flag]
    if flag not in FITTED_FLAGS or "fit_residual" not in batch:
        return present
    exact = is_exact(batch)
    if not settings.fitted_weight:
        return present.astype(bool) & exact
    residual = batch["fit_residual"]
    doubtful = settings.fitted_weight * certainty(residual, settings.fitted_scale)
    return jnp.where(exact, 1.0, doubtful) * present.astype(residual.dtype)


def count_examples(
    batch: Mapping[str, Array], total: Total, settings: LossSettings
) -> dict[str, Float[Array, ""]]:
    """Sums of `label_weights` over the global batch for each flag, and under "" its examples."""
    everywhere = jnp.ones(batch["image"].shape[0])
    flags = {
        name: label_weights(name, batch, settings) for name in batch if name.startswith("has_")
    }
    return {k: total(flag.astype(everywhere.dtype)) for k, flag in flags.items()} | {
        "": total(everywhere)
    }


def basis_gram(head: FlameModel, group: str, components: int) -> Float[Array, "K K"]:
    """S^T S / V over the face mask, S in mm: mean squared vertex motion of a unit difference.

    Computed on the host, so that all processes of a run have the same bits: GPUs choose how to sum
    a matrix product by timing it.

    Args:
      head: the FLAME model.
      group: "expression" or "shape".
      components: the leading ones, K of them.
    """
    basis = np.asarray(getattr(head, f"{group}_basis"), np.float64)[np.asarray(head.face_vertices)]
    rows = 1000.0 * basis[..., :components].reshape(-1, components)
    return np.asarray(rows.T @ rows / len(basis), np.float32)
