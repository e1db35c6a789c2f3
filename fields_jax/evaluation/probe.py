"""How much emotion frozen codes hold: EMOCA's recognition network, trained on them from scratch.

The protocol of EMOCA's "EmoDECA", which SMIRK repeats: four hidden layers of 2048, each Linear,
batch norm and leaky ReLU; eight logits, valence and arousal from one output; cross entropy, and
valence and arousal by squared errors, PCC and CCC with weights drawn afresh each step and
normalised; classes drawn equally often; Adam at 1e-4, batches of 64, at most 50 epochs; five checks
per epoch on held-out training subjects, and an end after ten checks without a better one.

Ours where theirs is not followed: the checks score the whole set at once (theirs averages batches,
which biases the CCC), labels out of range are refused instead of clipped to the last class, and the
network is that of the best check.
"""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from fields_jax.emotions import N_EMOTIONS
from fields_jax.losses.emotion import agreement_losses
from fields_jax.models.layers import linear
from fields_jax.progress import Progress

PyTree = Any

_SLOPE = 0.2  # of the leaky ReLU below zero
_OUTPUTS = N_EMOTIONS + 2  # logits, valence, arousal
_TERMS = 4  # of valence and arousal that are weighted: two squared errors, PCC, CCC
_FEWEST = 2  # labels that a batch needs for PCC and CCC
_PREDICTED = 1024  # rows at once


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a probe is built and trained; the defaults are EMOCA's.

    Attributes:
      width, depth: of the hidden layers.
      rate: of Adam.
      batch: examples per step.
      epochs: at most.
      steps: at most; 0: as many as the epochs have.
      checks: per epoch, on the validation rows.
      patience: checks without a better one after which training ends.
      balanced: draw classes equally often; False: every row.
    """

    width: int = 2048
    depth: int = 4
    rate: float = 1e-4
    batch: int = 64
    epochs: int = 50
    steps: int = 0
    checks: int = 5
    patience: int = 10
    balanced: bool = True


@struct.dataclass
class Labels:
    """Labels of N examples.

    Attributes:
      emotion: [N] ids, -1 where not known.
      affect: [N, 2] valence and arousal, NaN where not known.
    """

    emotion: Int[Array | np.ndarray, " N"]
    affect: Float[Array | np.ndarray, "N 2"]


class Trained(NamedTuple):
    """A trained probe.

    Attributes:
      variables: of the best check.
      steps: trained in all.
      best_step: of the best check.
      losses: of every check on the validation rows.
    """

    variables: PyTree
    steps: int
    best_step: int
    losses: list[float]


class Probe(nn.Module):
    """The recognition network.

    Attributes:
      width, depth: of the hidden layers.
    """

    width: int
    depth: int

    @nn.compact
    def __call__(self, codes: Float[Array, "B C"], train: bool = False) -> Float[Array, "B 10"]:
        """Eight logits, valence and arousal; none of them bounded."""
        x = codes
        for k in range(self.depth):
            x = linear(x.shape[-1], self.width, name=f"hidden_{k}")(x)
            norm = nn.BatchNorm(
                use_running_average=not train,
                momentum=0.9,  # torch's 0.1
                use_fast_variance=False,
                name=f"norm_{k}",
            )
            x = nn.leaky_relu(norm(x), _SLOPE)
        return linear(x.shape[-1], _OUTPUTS, name="output")(x)


@struct.dataclass
class _State:
    params: PyTree
    batch_stats: PyTree
    moments: PyTree
    step: Int[Array, ""]


def train_probe(
    codes: Float[np.ndarray, "N C"],
    labels: Labels,
    train: Bool[np.ndarray, " N"],
    validation: Bool[np.ndarray, " N"],
    recipe: Recipe,
    seed: int,
) -> Trained:
    """Trains a probe; the same arguments on the same machine give the same bits.

    Args:
      codes: [N, C] as the encoders give them.
      labels: of the rows.
      train: which rows are learnt.
      validation: which rows decide when to stop; others than those, of other subjects.
      recipe: of the training.
      seed: of the initial weights, the draws and the loss weights.

    Raises:
      ValueError: fewer than two rows to learn from or to check.
    """
    learnt = np.flatnonzero(train)
    if len(learnt) < 2 or validation.sum() < 2:
        raise ValueError(f"{len(learnt)} rows to learn, {validation.sum()} to check: too few")
    model, optimizer = Probe(recipe.width, recipe.depth), optax.adam(recipe.rate)
    key = jax.random.key(seed)
    state = _start(model, optimizer, key, codes.shape[1])
    on_device = jnp.asarray(codes, jnp.float32), jax.tree.map(jnp.asarray, labels)
    held_out = jax.tree.map(lambda column: jnp.asarray(column)[validation], on_device)
    per_epoch = -(-len(learnt) // recipe.batch)
    most = recipe.steps or recipe.epochs * per_epoch
    between = max(1, per_epoch // recipe.checks)
    draw = _Draws(labels.emotion[learnt], recipe.balanced, np.random.default_rng(seed))
    best, kept, best_step, losses, step = np.inf, None, 0, [], 0
    line = Progress(most, "steps", of=f"seed {seed}")
    while step < most:
        count = min(between, most - step)
        rows = jnp.asarray(learnt[draw(count * recipe.batch)].reshape(count, recipe.batch))
        state = _run(model, optimizer, state, on_device, rows, key)
        step += count
        losses.append(float(_check(model, state, held_out)))
        line.step(count)
        if losses[-1] < best:
            best, best_step = losses[-1], step
            kept = jax.tree.map(jnp.copy, _variables(state))
        elif len(losses) - 1 - int(np.argmin(losses)) >= recipe.patience:
            break
    if kept is None:
        raise FloatingPointError(f"no check of the probe is finite: {losses[:3]}")
    return Trained(kept, step, best_step, losses)


def predict_probe(
    trained: Trained, recipe: Recipe, codes: Float[np.ndarray, "N C"]
) -> tuple[Float[np.ndarray, "N 8"], Float[np.ndarray, "N 2"]]:
    """Class probabilities, and valence and arousal, of N examples."""
    model = Probe(recipe.width, recipe.depth)
    parts = [
        np.asarray(_apply(model, trained.variables, codes[first : first + _PREDICTED]))
        for first in range(0, len(codes), _PREDICTED)
    ]
    output = np.concatenate(parts).astype(np.float64)
    logits = output[:, :N_EMOTIONS]
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shares / shares.sum(axis=1, keepdims=True), output[:, N_EMOTIONS:]


def probe_loss(
    output: Float[Array, "B 10"], labels: Labels, weights: Float[Array, " 4"]
) -> Float[Array, ""]:
    """Cross entropy plus the weighted terms of valence and arousal, each over its own labels.

    Args:
      output: of the probe.
      labels: of the batch.
      weights: of the squared error of valence and of arousal, 1 - PCC and 1 - CCC, the last two as
        means of the axes.
    """
    known = labels.emotion >= 0
    logs = jax.nn.log_softmax(output[:, :N_EMOTIONS])
    own = jnp.take_along_axis(logs, jnp.maximum(labels.emotion, 0)[:, None], axis=1)[:, 0]
    cross_entropy = -jnp.sum(jnp.where(known, own, 0.0)) / jnp.maximum(known.sum(), 1)
    errors, correlations, concordances = [], [], []
    for axis in range(2):
        target = labels.affect[:, axis]
        valid = jnp.isfinite(target)
        target, guess = jnp.where(valid, target, 0.0), output[:, N_EMOTIONS + axis]
        squares = jnp.where(valid, (guess - target) ** 2, 0.0)
        errors.append(squares.sum() / jnp.maximum(valid.sum(), 1))
        pcc, ccc = agreement_losses(guess, target, valid, jnp.sum, _FEWEST)
        correlations.append(pcc)
        concordances.append(ccc)
    terms = jnp.stack([*errors, sum(correlations) / 2, sum(concordances) / 2])
    return cross_entropy + jnp.sum(weights * terms)


class _Draws:
    """Draws rows with replacement: every class, and what has none, equally often, or every row."""

    def __init__(self, emotion: Any, balanced: bool, rng: np.random.Generator):
        counts = np.bincount(np.asarray(emotion) + 1, minlength=N_EMOTIONS + 1)
        weight = 1 / counts[np.asarray(emotion) + 1] if balanced else np.ones(len(emotion))
        self._share, self._rng = weight / weight.sum(), rng

    def __call__(self, count: int) -> Int[np.ndarray, " count"]:
        return self._rng.choice(len(self._share), count, p=self._share)


def _start(model: Probe, optimizer: optax.GradientTransformation, key: Array, width: int) -> _State:
    variables = jax.jit(model.init)(jax.random.fold_in(key, 0), jnp.zeros((1, width)))
    params = variables["params"]
    return _State(
        params, variables["batch_stats"], optimizer.init(params), jnp.zeros((), jnp.int32)
    )


def _variables(state: _State) -> PyTree:
    return {"params": state.params, "batch_stats": state.batch_stats}


@partial(jax.jit, static_argnums=(0, 1), donate_argnums=2)
def _run(
    model: Probe,
    optimizer: optax.GradientTransformation,
    state: _State,
    data: tuple[Array, Labels],
    rows: Int[Array, "K B"],
    key: Array,
) -> _State:
    """K steps on the rows of each."""
    codes, labels = data

    def step(state: _State, chosen: Int[Array, " B"]) -> tuple[_State, None]:
        drawn = jax.random.uniform(jax.random.fold_in(key, 1 + state.step), (_TERMS,))
        own = jax.tree.map(lambda column: column[chosen], labels)

        def loss(params: PyTree) -> tuple[Array, PyTree]:
            output, changed = model.apply(
                {"params": params, "batch_stats": state.batch_stats},
                codes[chosen],
                train=True,
                mutable=["batch_stats"],
            )
            return probe_loss(output, own, drawn / drawn.sum()), changed["batch_stats"]

        gradient, stats = jax.grad(loss, has_aux=True)(state.params)
        updates, moments = optimizer.update(gradient, state.moments)
        params = optax.apply_updates(state.params, updates)
        return _State(params, stats, moments, state.step + 1), None

    return jax.lax.scan(step, state, rows)[0]


@partial(jax.jit, static_argnums=0)
def _check(model: Probe, state: _State, data: tuple[Array, Labels]) -> Float[Array, ""]:
    codes, labels = data
    return probe_loss(model.apply(_variables(state), codes), labels, jnp.ones(_TERMS))


@partial(jax.jit, static_argnums=0)
def _apply(model: Probe, variables: PyTree, codes: Float[Array, "B C"]) -> Float[Array, "B 10"]:
    return model.apply(variables, codes)
