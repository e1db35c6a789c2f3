"""The forward passes of a step: image to image, and the perturbed face of the cycle."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Set
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from fields_jax.flame import flame
from fields_jax.losses.cycle import Pool, perturb
from fields_jax.losses.evidence import Evidence, Part
from fields_jax.models.fields import FieldsModel
from fields_jax.render import project, sample_keys, synthesizer_input
from fields_jax.training.recipe import Assets, Context, Recipe
from fields_jax.types import FieldsOutput, FlameCoefficients

PyTree = Any
# Streams of a step's key for skin pixels; the cycle's perturbation splits it into 0, 1 and 2.
_SKIN, _CYCLE_SKIN = 3, 4


@dataclasses.dataclass(frozen=True)
class Examples:
    """What a forward pass takes: a device's batch, or a part of it.

    Attributes:
      batch: the examples (fields_jax/batch.py), images as float in [0, 1].
      key: of this step, the same on every device.
      part: where the batch is a part of the device's, or None.
    """

    batch: Mapping[str, Array]
    key: jax.Array
    part: Part | None = None

    @property
    def image(self) -> Float[Array, "B H W 3"]:
        """The photographs."""
        return self.batch["image"]

    @property
    def face_mask(self) -> Float[Array, "B H W"]:
        """1 outside the hull of the face, 0 inside."""
        return self.batch["face_mask"].astype(self.image.dtype)

    def index(self, axis_name: str) -> Int[Array, " B"]:
        """Places of these examples in the global batch."""
        local = len(self.image)
        first, parts = (self.part.first, self.part.parts) if self.part else (0, 1)
        return jax.lax.axis_index(axis_name) * parts * local + first + jnp.arange(local)


def gather_evidence(
    variables: PyTree,
    base: PyTree | None,
    examples: Examples,
    assets: Assets,
    context: Context,
    needs: Set[str],
) -> tuple[Evidence, PyTree]:
    """Image to coefficients to mesh to image, as far as the terms need it.

    Args:
      variables: of all networks.
      base: of the frozen base model, or None.
      examples: of this device, all or a part of them.
      assets, context: what the step is bound to.
      needs: names of `registry.NEEDS` that the weighted terms need.

    Returns:
      The evidence and the new batch statistics.
    """
    model = context.recipe.model
    output, stats = _encode(variables, examples.image, context)
    face = None
    if needs & {"landmarks", "reconstruction"}:
        head = assets.head if "reconstruction" in needs else assets.landmark_head
        face = flame(head, output.coefficients)
    evidence = Evidence(
        batch=examples.batch,
        settings=context.recipe.settings,
        head=assets.head,
        gram=assets.gram,
        shape_gram=assets.shape_gram,
        part=examples.part,
        output=output,
    )
    if "landmarks" in needs:
        camera = output.coefficients.camera
        landmarks = jax.tree.map(lambda points: project(points, camera), face)
        evidence = dataclasses.replace(evidence, landmarks=landmarks)
    if "base" in needs:
        read = _read_base(model, base, examples.image, output.coefficients)
        evidence = dataclasses.replace(evidence, base=read)
    if "reconstruction" in needs:
        inputs = (*_render(face.vertices, output, examples, assets, context), output.tokens)
        reconstruction, stats = _synthesize(variables, stats, inputs, context)
        evidence = dataclasses.replace(evidence, reconstruction=reconstruction)
    if "tokens" in needs:
        again = _tokens_again(variables, reconstruction, context)
        evidence = dataclasses.replace(evidence, tokens_again=again)
    if "features" in needs:
        pair = reconstruction, examples.image
        features = [context.recipe.perceptual(assets.perceptual, x) for x in pair]
        evidence = dataclasses.replace(evidence, features=tuple(features))
    if "emotion_features" in needs:
        pair = emotion_features(variables, stats, inputs, examples.image, assets, context.recipe)
        evidence = dataclasses.replace(evidence, emotion_features=pair)
    return evidence, stats


def _encode(variables: PyTree, image: Array, context: Context) -> tuple[FieldsOutput, PyTree]:
    """The networks' output for the images, and their new batch statistics."""
    output, updates = context.recipe.model.apply(
        variables, image, train=context.phase.train, mutable=["batch_stats"]
    )
    return output, updates["batch_stats"]


def _read_base(
    model: FieldsModel, base: PyTree, image: Array, coefficients: FlameCoefficients
) -> FlameCoefficients:
    """Coefficients of the face by the frozen base model; pose and camera are the networks'."""
    shape, expression, eyelid, jaw = model.apply(base, image, method="encode_face")
    read = coefficients.replace(shape=shape, expression=expression, eyelid=eyelid, jaw=jaw)
    return jax.lax.stop_gradient(read)


def _render(
    vertices: Float[Array, "B V 3"],
    output: FieldsOutput,
    examples: Examples,
    assets: Assets,
    context: Context,
) -> tuple[Float[Array, "B H W 1"], Float[Array, "B H W 3"]]:
    """The geometry map of the predicted faces and the photographs without them."""
    keys = sample_keys(jax.random.fold_in(examples.key, _SKIN), examples.index(context.axis_name))
    return synthesizer_input(
        context.recipe.masking,
        assets.head,
        vertices,
        output.coefficients.camera,
        examples.image,
        examples.face_mask,
        keys,
    )


def _synthesize(
    variables: PyTree, stats: PyTree, inputs: tuple[Array, Array, Array | None], context: Context
) -> tuple[Float[Array, "B H W 3"], PyTree]:
    """The image that the synthesiser makes of its inputs, and the new batch statistics."""
    reconstruction, updates = context.recipe.model.apply(
        {**variables, "batch_stats": stats},
        *inputs,
        train=context.phase.train,
        method="synthesize",
        mutable=["batch_stats"],
    )
    return reconstruction, updates["batch_stats"]


def _tokens_again(
    variables: PyTree, reconstruction: Array, context: Context
) -> Float[Array, "B K D"]:
    """Tokens of the reconstruction."""
    # Running statistics shall describe real images: updates by reconstructions are dropped.
    tokens, _ = context.recipe.model.apply(
        variables,
        reconstruction,
        train=context.phase.train,
        method="encode_tokens",
        mutable=["batch_stats"],
    )
    return tokens


def emotion_features(
    variables: PyTree,
    stats: PyTree,
    inputs: tuple[Array, Array, Array | None],
    image: Array,
    assets: Assets,
    recipe: Recipe,
) -> tuple[Array, Array]:
    """Features of the reconstruction and of the photograph.

    The reconstruction is made anew by the synthesiser in eval mode and held constant, so that the
    encoders have to express the emotion and the synthesiser cannot paint it in (SMIRK).

    Args:
      variables: of all networks.
      stats: batch statistics after the reconstruction.
      inputs: of the synthesiser: geometry map, masked image and tokens.
      image: the photographs.
      assets, recipe: what the step is bound to.
    """
    # The new statistics depend on the synthesiser's parameters, so they are held constant too.
    frozen = jax.lax.stop_gradient({"params": variables["params"], "batch_stats": stats})
    painted = recipe.model.apply(frozen, *inputs, method="synthesize")
    found, wanted = (recipe.emotion_features(assets.emotion_features, x) for x in (painted, image))
    return found, wanted


def read_affect(
    variables: PyTree, batch: Mapping[str, Array], *, context: Context
) -> dict[str, Array]:
    """[B] valence and arousal as `gather_evidence` will read them, held constant."""

    def read(model: FieldsModel, image: Array) -> tuple[Array, Array, Array]:
        shape, expression, *_ = model.encode_face(image, context.phase.train)
        return model.read_emotion(expression, shape)

    found, _ = context.recipe.model.apply(
        variables, batch["image"], method=read, mutable=["batch_stats"]
    )
    return jax.lax.stop_gradient({"valence": found[1], "arousal": found[2]})


def perturbed_face(
    examples: Examples,
    coefficients: FlameCoefficients,
    expressions: Float[Array, "G E"],
    assets: Assets,
    context: Context,
) -> tuple[FlameCoefficients, Array, Array]:
    """Perturbed coefficients with the geometry map and the masked image of that face, detached.

    The masked image shows what surrounds the face in the photograph, and the hole of the new face.

    Args:
      examples: of this device, all or a part of them.
      coefficients: the networks' output for them.
      expressions: [G, E] of the global batch.
      assets, context: what the step is bound to.
    """
    key, recipe, head = examples.key, context.recipe, assets.head
    index = examples.index(context.axis_name)
    templates = expressions if assets.templates is None else assets.templates
    prior = head.priors["expression"] if "expression" in recipe.settings.scaled else None
    pool = Pool(expressions, templates, prior)
    perturbed = perturb(key, index, coefficients, pool, recipe.cycle)
    geometry, masked = synthesizer_input(
        recipe.masking,
        head,
        flame(head, perturbed).vertices,
        perturbed.camera,
        examples.image,
        examples.face_mask,
        sample_keys(jax.random.fold_in(key, _CYCLE_SKIN), index),
        seen=flame(head, coefficients).vertices,
    )
    return jax.lax.stop_gradient((perturbed, geometry, masked))
