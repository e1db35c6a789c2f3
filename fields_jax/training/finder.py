"""Trains the finder of faces on scenes that are composed while it learns."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, UInt8

from fields_jax.losses.finding import Targets, finding_loss, make_targets
from fields_jax.models.finder import STRIDE, FinderNet

PyTree = Any
_AHEAD = 3  # batches made while one is learnt
_DECAY = 0.998  # of the running mean of the weights, which is what is kept


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How the finder is trained.

    Attributes:
      steps: batches.
      batch: scenes to a batch.
      size: pixels of a scene.
      rate: highest learning rate, of Adam with a decay of the weights.
      seed: of everything.
      widths: of the network.
    """

    steps: int = 2000
    batch: int = 32
    size: int = 160
    rate: float = 3e-3
    seed: int = 0
    widths: tuple[int, ...] = FinderNet().widths


class Scene(NamedTuple):
    """A picture [S, S, 3], boxes of its faces [F, 4], and of faces that count as neither [U, 4]."""

    picture: UInt8[np.ndarray, "S S 3"]
    boxes: np.ndarray
    unsure: np.ndarray


def train(
    recipe: Recipe,
    scene: Callable[[np.random.Generator, int], Scene],
    report: Callable[[int, dict[str, float], dict[str, PyTree]], None],
    start: dict[str, PyTree] | None = None,
) -> dict[str, PyTree]:
    """Trains from nothing, or from what `start` has learnt.

    Args:
      recipe: see its class.
      scene: composes a scene of so many pixels from a generator.
      report: told the step, the mean of each loss since the last report, and the weights so far,
        now and then and at the end.
      start: what an earlier call returned.

    Returns:
      {"params", "batch_stats"}, running means over the last steps.
    """
    model = FinderNet(recipe.widths)
    blank = jnp.zeros((1, recipe.size, recipe.size, 3))
    variables = start or jax.jit(model.init)(jax.random.key(recipe.seed), blank)
    warm = max(1, recipe.steps // 20)
    rate = optax.warmup_cosine_decay_schedule(
        0, recipe.rate, warm, max(recipe.steps, warm + 1), 0.01 * recipe.rate
    )
    optimiser = optax.chain(optax.clip_by_global_norm(5.0), optax.adamw(rate, weight_decay=1e-3))
    variables = jax.tree.map(jnp.asarray, dict(variables))
    mean = jax.tree.map(jnp.copy, variables)  # of its own, as the step takes over what it is given
    state = (variables, optimiser.init(variables["params"]), mean)
    step = jax.jit(partial(_step, model, optimiser), donate_argnums=0)
    losses: list[dict[str, Array]] = []
    every = max(1, min(50, recipe.steps // 5))
    for number, (pictures, targets) in enumerate(_batches(recipe, scene), 1):
        state, parts = step(state, pictures, targets, number)
        losses.append(parts)
        if number % every == 0 or number == recipe.steps:
            means = {name: float(np.mean([one[name] for one in losses])) for name in parts}
            report(number, means, jax.tree.map(np.asarray, state[2]))
            losses = []
    return jax.tree.map(np.asarray, state[2])


def _step(
    model: FinderNet,
    optimiser: optax.GradientTransformation,
    state: tuple[PyTree, PyTree, PyTree],
    pictures: Array,
    targets: Targets,
    number: Array,
) -> tuple[tuple[PyTree, PyTree, PyTree], dict[str, Array]]:
    """One step; the state is the variables, the optimiser's, and the variables' running mean."""
    variables, memory, mean = state

    def loss(params):
        given = {"params": params, "batch_stats": variables["batch_stats"]}
        images = pictures.astype(jnp.float32) / 255
        answer, changed = model.apply(given, images, train=True, mutable=["batch_stats"])
        total, parts = finding_loss(answer, targets)
        return total, (parts, changed["batch_stats"])

    gradient, (parts, statistics) = jax.grad(loss, has_aux=True)(variables["params"])
    update, memory = optimiser.update(gradient, memory, variables["params"])
    params = optax.apply_updates(variables["params"], update)
    variables = {"params": params, "batch_stats": statistics}
    kept = jnp.minimum(_DECAY, (1.0 + number) / (10.0 + number))
    mean = jax.tree.map(lambda old, new: kept * old + (1 - kept) * new, mean, variables)
    return (variables, memory, mean), parts


def _batches(
    recipe: Recipe, scene: Callable[[np.random.Generator, int], Scene]
) -> Iterator[tuple[UInt8[np.ndarray, "B S S 3"], Targets]]:
    """All batches, made by a thread of their own while others are learnt."""
    cells = recipe.size // STRIDE

    def batch(number: int):
        rngs = (np.random.default_rng((recipe.seed, number, row)) for row in range(recipe.batch))
        made = [scene(rng, recipe.size) for rng in rngs]
        targets = [make_targets(one.boxes, one.unsure, cells, STRIDE) for one in made]
        columns = (np.stack(column) for column in zip(*targets, strict=True))
        return np.stack([one.picture for one in made]), Targets(*columns)

    with ThreadPoolExecutor(1) as pool:
        waiting = [pool.submit(batch, number) for number in range(min(_AHEAD, recipe.steps))]
        for number in range(recipe.steps):
            yield waiting.pop(0).result()
            if number + _AHEAD < recipe.steps:
                waiting.append(pool.submit(batch, number + _AHEAD))
