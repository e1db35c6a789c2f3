"""The forward passes of a step: image to image, and the perturbed face of the cycle."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from fields_jax.flame import flame
from fields_jax.losses import registry
from fields_jax.losses.cycle import perturb
from fields_jax.losses.registry import Evidence, Part
from fields_jax.models.fields import FieldsModel
from fields_jax.render import project, sample_keys, synthesizer_input
from fields_jax.training.recipe import Assets, Phase, Recipe
from fields_jax.types import FlameCoefficients

PyTree = Any
# Streams of a step's key for skin pixels; the cycle's perturbation splits it into 0, 1 and 2.
_SKIN, _CYCLE_SKIN = 3, 4


def reconstruct(
    variables: PyTree,
    base: PyTree | None,
    batch: Mapping[str, Array],
    assets: Assets,
    recipe: Recipe,
    phase: Phase,
    weights: Mapping[str, float],
    key: jax.Array,
    axis_name: str,
    part: Part | None = None,
) -> tuple[Evidence, PyTree]:
    """Image to coefficients to mesh to image; only what the weighted terms look at is computed.

    Args:
      variables: of all networks.
      base: of the frozen base model, or None.
      batch: this device's examples.
      assets, recipe, phase: what the step is bound to.
      weights: of the terms; their values do not matter here.
      key: of this step, the same on every device.
      axis_name: the mapped axis.
      part: where the batch is a part of this device's, or None.

    Returns:
      The evidence and the new batch statistics.
    """
    model, image = recipe.model, batch["image"]
    output, updates = model.apply(variables, image, train=phase.train, mutable=["batch_stats"])
    stats = updates["batch_stats"]
    coefficients = output.coefficients
    renders = bool(registry.NEED_IMAGE & weights.keys())
    face = flame(assets.head if renders else assets.landmark_head, coefficients)
    landmarks = jax.tree.map(lambda points: project(points, coefficients.camera), face)
    evidence = Evidence(
        batch=batch,
        settings=recipe.settings,
        head=assets.head,
        gram=assets.gram,
        part=part,
        output=output,
        landmarks=landmarks,
    )
    if registry.NEED_BASE & weights.keys():
        shape, expression, eyelid, jaw = model.apply(base, image, method="encode_face")
        read = coefficients.replace(shape=shape, expression=expression, eyelid=eyelid, jaw=jaw)
        evidence = dataclasses.replace(evidence, base=jax.lax.stop_gradient(read))
    if not renders:
        return evidence, stats

    index = _global_index(axis_name, len(image), part)
    geometry, masked = synthesizer_input(
        recipe.masking,
        assets.head,
        face.vertices,
        coefficients.camera,
        image,
        batch["face_mask"].astype(image.dtype),
        sample_keys(jax.random.fold_in(key, _SKIN), index),
    )
    inputs = geometry, masked, output.tokens
    reconstruction, updates = model.apply(
        {**variables, "batch_stats": stats},
        *inputs,
        train=phase.train,
        method="synthesize",
        mutable=["batch_stats"],
    )
    stats = updates["batch_stats"]
    evidence = dataclasses.replace(evidence, reconstruction=reconstruction)
    if "token" in weights:
        # Running statistics describe real images: those of reconstructions are dropped.
        tokens, _ = model.apply(
            variables,
            reconstruction,
            train=phase.train,
            method="encode_tokens",
            mutable=["batch_stats"],
        )
        evidence = dataclasses.replace(evidence, tokens_again=tokens)
    if "perceptual" in weights:
        features = [recipe.perceptual(assets.perceptual, x) for x in (reconstruction, image)]
        evidence = dataclasses.replace(evidence, features=tuple(features))
    if "emotion_feature" in weights:
        pair = emotion_features(variables, stats, inputs, image, assets, recipe)
        evidence = dataclasses.replace(evidence, emotion_features=pair)
    return evidence, stats


def read_affect(
    variables: PyTree, batch: Mapping[str, Array], *, recipe: Recipe, phase: Phase
) -> dict[str, Array]:
    """[B] valence and arousal as `reconstruct` will read them, held constant."""

    def read(model: FieldsModel, image: Array) -> tuple[Array, Array, Array]:
        shape, expression, *_ = model.encode_face(image, phase.train)
        return model.read_emotion(expression, shape)

    found, _ = recipe.model.apply(variables, batch["image"], method=read, mutable=["batch_stats"])
    return jax.lax.stop_gradient({"valence": found[1], "arousal": found[2]})


def perturbed_face(
    batch: Mapping[str, Array],
    coefficients: FlameCoefficients,
    expressions: Array,
    key: jax.Array,
    assets: Assets,
    recipe: Recipe,
    axis_name: str,
    part: Part | None = None,
) -> tuple[FlameCoefficients, Array, Array]:
    """Perturbed coefficients with the geometry map and the masked image of that face, detached.

    The masked image shows what surrounds the face in the photograph, and the hole of the new face.

    Args:
      batch: examples of this device, all or a part of them.
      coefficients: what the networks said of them.
      expressions: [G, E] of the global batch.
      key: of this step, the same on every device.
      assets, recipe: what the step is bound to.
      axis_name: the mapped axis.
      part: where the batch is a part of this device's, or None.
    """
    image = batch["image"]
    index = _global_index(axis_name, len(image), part)
    templates = expressions if assets.templates is None else assets.templates
    perturbed = perturb(key, index, coefficients, expressions, templates, recipe.cycle)
    geometry, masked = synthesizer_input(
        recipe.masking,
        assets.head,
        flame(assets.head, perturbed).vertices,
        perturbed.camera,
        image,
        batch["face_mask"].astype(image.dtype),
        sample_keys(jax.random.fold_in(key, _CYCLE_SKIN), index),
        seen=flame(assets.head, coefficients).vertices,
    )
    return jax.lax.stop_gradient((perturbed, geometry, masked))


def emotion_features(
    variables: PyTree,
    stats: PyTree,
    inputs: tuple[Array, Array, Array | None],
    image: Array,
    assets: Assets,
    recipe: Recipe,
) -> tuple[Array, Array]:
    """Features of the reconstruction and of the photograph.

    Of a reconstruction by itself, by the synthesiser in eval mode and held constant: the encoders
    shall draw the emotion, and the synthesiser not paint it over what they say (SMIRK).

    Args:
      variables: of all networks.
      stats: batch statistics after the reconstruction.
      inputs: of the synthesiser: geometry map, masked image and tokens.
      image: the photographs.
      assets, recipe: what the step is bound to.
    """
    # Its new statistics depend on its parameters, too.
    frozen = jax.lax.stop_gradient({"params": variables["params"], "batch_stats": stats})
    painted = recipe.model.apply(frozen, *inputs, method="synthesize")
    found, wanted = (recipe.emotion_features(assets.emotion_features, x) for x in (painted, image))
    return found, wanted


def _global_index(axis_name: str, local: int, part: Part | None) -> Array:
    """Places of these examples in the global batch."""
    first, parts = (part.first, part.parts) if part else (0, 1)
    return jax.lax.axis_index(axis_name) * parts * local + first + jnp.arange(local)
