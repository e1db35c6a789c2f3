"""Trains the emotion network, and reads it for the loss that compares its features."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float
from ml_collections import ConfigDict

from fields_jax.emotions import N_EMOTIONS
from fields_jax.errors import UserError
from fields_jax.files import whole_folder
from fields_jax.losses.emotion import agreement_losses, class_error
from fields_jax.losses.terms import masked_mean
from fields_jax.models.emotion_network import NAME, EmotionNetwork
from fields_jax.models.resnet import ResNet50Features
from fields_jax.workdir.inference import read_frozen, read_meta
from fields_jax.workdir.store import write_networks

PyTree = Any
_RESNET = "ResNet-50"  # EMOCA's, as `fields_jax.convert` calls it
_FEWEST = 8  # labels that a batch needs for a CCC
_READ = ("image", "emotion", "valence", "arousal", "has_emotion", "has_va")  # of a batch


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How the network is trained, by Adam with decay of the weights and a cosine.

    Attributes:
      steps: batches.
      rate: highest learning rate.
      warmup: steps to it.
      decay: of the weights.
      losses: weights of class (cross entropy), va_mse and va_ccc.
      seed: of the first parameters.
    """

    steps: int
    rate: float
    warmup: int
    decay: float
    losses: Mapping[str, float]
    seed: int


def train(
    network: EmotionNetwork,
    recipe: Recipe,
    batches: Iterator[Mapping[str, np.ndarray]],
    report: Callable[[int, dict[str, float]], None],
) -> dict[str, PyTree]:
    """Trains a network on one device.

    Args:
      network: to be trained.
      recipe: see its class.
      batches: endless, as fields_jax/batch.py defines them.
      report: told the step and the mean of each loss since the last report, now and then and at the
        end.

    Returns:
      {"params", "batch_stats"} as numpy arrays.

    Raises:
      UserError: a loss is not finite.
    """
    steps = recipe.steps
    warmup = min(recipe.warmup, steps - 1)
    rate = optax.warmup_cosine_decay_schedule(0.0, recipe.rate, warmup, steps, 0.0)
    optimizer = optax.chain(
        optax.clip_by_global_norm(5.0), optax.adamw(rate, weight_decay=recipe.decay)
    )
    first = next(batches)
    blank = jnp.zeros((1, *first["image"].shape[1:]))
    variables = dict(jax.jit(network.init)(jax.random.key(recipe.seed), blank))
    state = variables, optimizer.init(variables["params"])
    step = jax.jit(partial(_step, network, optimizer, recipe), donate_argnums=0)
    losses: list[dict[str, Array]] = []
    every, batch = max(1, min(100, steps // 4)), first
    for number in range(1, steps + 1):
        known = {name: batch[name] for name in _READ}
        state, parts = step(state, known)
        losses.append(parts)
        if number % every == 0 or number == steps:
            means = {name: float(np.mean([one[name] for one in losses])) for name in parts}
            if not np.isfinite(sum(means.values())):
                raise UserError(
                    f"the emotion network's losses are not finite at step {number}: lower "
                    "--config.rate"
                )
            report(number, means)
            losses = []
        if number < steps:
            batch = next(batches)
    return jax.tree.map(np.asarray, state[0])


def network_losses(
    answer: tuple[Array, Array, Array, Array], batch: Mapping[str, Array]
) -> dict[str, Float[Array, ""]]:
    """Cross entropy with the class as labelled, squared errors and 1 - CCC of valence and arousal.

    Each over the examples that have such labels; valence and arousal as means of both.
    """
    _, logits, *affect = answer
    total, has_va = jnp.sum, batch["has_va"].astype(bool)
    targets = jax.nn.one_hot(batch["emotion"], N_EMOTIONS)
    wrong = class_error(logits, targets, jnp.ones(N_EMOTIONS))
    squares, concordances = [], []
    for guess, name in zip(affect, ("valence", "arousal"), strict=True):
        label = jnp.where(has_va, batch[name], 0.0)
        squares.append(masked_mean((guess - label) ** 2, has_va, total))
        concordances.append(agreement_losses(guess, label, has_va, total, _FEWEST)[1])
    return {
        "class": masked_mean(wrong, batch["has_emotion"].astype(bool), total),
        "va_mse": sum(squares) / 2,
        "va_ccc": sum(concordances) / 2,
    }


def _step(
    network: EmotionNetwork,
    optimizer: optax.GradientTransformation,
    recipe: Recipe,
    state: tuple[PyTree, PyTree],
    batch: Mapping[str, Array],
) -> tuple[tuple[PyTree, PyTree], dict[str, Array]]:
    variables, memory = state
    image = batch["image"].astype(jnp.float32) / 255

    def loss(params):
        given = {"params": params, "batch_stats": variables["batch_stats"]}
        answer, changed = network.apply(given, image, train=True, mutable=["batch_stats"])
        parts = network_losses(answer, batch)
        whole = sum(recipe.losses[name] * value for name, value in parts.items())
        return whole, (parts, changed["batch_stats"])

    gradient, (parts, stats) = jax.grad(loss, has_aux=True)(variables["params"])
    update, memory = optimizer.update(gradient, memory, variables["params"])
    params = optax.apply_updates(variables["params"], update)
    return ({"params": params, "batch_stats": stats}, memory), parts


def write_network(
    out: str, network: EmotionNetwork, variables: PyTree, about: Mapping[str, Any]
) -> None:
    """Writes a checkpoint for `config.losses.emotion_feature_weights`.

    Args:
      out: the folder to make.
      network: that was trained.
      variables: of `train`.
      about: JSON: `image_size` that it was trained on, and whatever else its meta item shall hold.

    Raises:
      DiskError: it cannot be written.
    """
    sizes = {"width": network.width, "depth": network.depth}
    meta = {"trained": [], "source": {"name": NAME}, "network": sizes, **about}
    with whole_folder(out) as folder:
        write_networks(str(folder), variables, meta)


def read_features(
    config: ConfigDict,
) -> tuple[Callable[[PyTree, Array], Float[Array, "B D"]], PyTree]:
    """What maps (variables, pictures) to emotion features, and the variables.

    Args:
      config: `losses.emotion_feature_weights` names EMOCA's ResNet-50 as converted, or the folder
        of a network that `fields_jax.emotion_network` trained.

    Raises:
      UserError: neither is there, or it was trained on pictures of another size.
    """
    source = config.losses.emotion_feature_weights
    variables = read_frozen(source, (_RESNET, NAME), ("params", "batch_stats"))
    meta = read_meta(source)[0]
    if meta["source"]["name"] == _RESNET:
        return ResNet50Features().apply, variables
    if (size := meta["image_size"]) != config.image_size:
        raise UserError(
            f"the emotion network in {source} was trained on pictures of {size} pixels, "
            f"config.image_size is {config.image_size}: train one for it with `python -m "
            "fields_jax.emotion_network`"
        )
    network = EmotionNetwork(**meta["network"])
    return lambda given, image: network.apply(given, image)[0], variables
