"""Optimisers: one Adam per network, its rates by regex rules that cover every parameter once."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import traverse_util

from fields_jax.errors import UserError

PyTree = Any


def label_params(params: Mapping[str, PyTree], rules: Mapping[str, Mapping]) -> dict[str, PyTree]:
    """The name of the rule that matches each leaf's path ("network/module/.../kernel").

    Raises:
      UserError: a leaf matched by no rule or by several, naming leaf and rules.
    """
    flat = traverse_util.flatten_dict(dict(params), sep="/")
    labels = {}
    for path in flat:
        matches = [name for name, rule in rules.items() if re.fullmatch(rule["match"], path)]
        if len(matches) != 1:
            found = f"rules {', '.join(matches)}" if matches else "no rule"
            raise UserError(
                f"parameter {path} is matched by {found}; config.optim.rules must match each once"
            )
        labels[path] = matches[0]
    return traverse_util.unflatten_dict(labels, sep="/")


def make_optimizer(
    params: Mapping[str, PyTree], rules: Mapping[str, Mapping]
) -> dict[str, optax.GradientTransformation]:
    """One transformation per network; its updates have the full rate, see `schedule_factor`."""
    labels = label_params(params, rules)
    transforms = {
        name: optax.chain(
            optax.scale_by_adam(b1=rule["b1"], b2=rule["b2"]), optax.scale(-rule["lr"])
        )
        for name, rule in rules.items()
    }
    optimizer = {}
    for network, tree in labels.items():
        # Sorted: a set's order differs between processes, and the compiled program depends on it.
        used = sorted(set(jax.tree.leaves(tree)))
        optimizer[network] = optax.partition({name: transforms[name] for name in used}, tree)
    return optimizer


def rates(
    labels: Mapping[str, PyTree],
    rules: Mapping[str, Mapping],
    train: Iterable[str],
    shares: Mapping[str, float],
) -> dict[str, float]:
    """The full rate of each trained network, "network" or, under several rules, "network/rule".

    Args:
      labels: see `label_params`.
      rules: `config.optim.rules`.
      train: networks that learn.
      shares: factors of the rate for some of them.
    """
    found = {}
    for network in train:
        used = sorted(set(jax.tree.leaves(labels[network])))
        for rule in used:
            name = network if len(used) == 1 else f"{network}/{rule}"
            found[name] = rules[rule]["lr"] * shares.get(network, 1.0)
    return found


def schedule_factor(
    step: jax.Array, *, start: int, length: int, period: int, warmup: int, final: float
) -> jax.Array:
    """Factor of each rule's rate: cosine from 1 to `final`, restarted each period (SMIRK, TEASER).

    Args:
      step: iterations done in the run.
      start: iteration at which the phase starts.
      length: iterations of the phase.
      period: iterations of one cosine; 0 means the length of the phase.
      warmup: iterations of linear growth at the start of the phase.
      final: factor at the end of a period.
    """
    done = (step - start).astype(jnp.float32)
    period = period or max(length, 1)
    cosine = (1 + jnp.cos(jnp.pi * jnp.mod(done, period) / period)) / 2
    growth = jnp.minimum(1.0, (done + 1) / warmup) if warmup else 1.0
    return growth * (final + (1 - final) * cosine)


def running_mean(mean: PyTree, params: PyTree, step: jax.Array, decay: float) -> PyTree:
    """The next mean: d mean + (1 - d) params with d = min(decay, (1 + step) / (10 + step)).

    The growing d lets the mean forget its random start (tf.train.ExponentialMovingAverage).
    """
    done = step.astype(jnp.float32)
    d = jnp.minimum(decay, (1 + done) / (10 + done))
    return jax.tree.map(lambda m, p: m + (1 - d).astype(m.dtype) * (p - m), mean, params)


def update(
    optimizer: Mapping[str, optax.GradientTransformation],
    gradients: Mapping[str, PyTree],
    params: dict[str, PyTree],
    opt_state: dict[str, PyTree],
    factor: jax.Array,
    shares: Mapping[str, float] | None = None,
) -> tuple[dict[str, PyTree], dict[str, PyTree]]:
    """Moves the networks that have gradients; the others keep parameters and moments.

    Args:
      optimizer, gradients, params, opt_state: by network.
      factor: of every rate, see `schedule_factor`.
      shares: further factors of the rate for some networks.
    """
    params, opt_state = dict(params), dict(opt_state)
    for network, gradient in gradients.items():
        updates, opt_state[network] = optimizer[network].update(
            gradient, opt_state[network], params[network]
        )
        share = factor * (shares or {}).get(network, 1.0)
        scaled = jax.tree.map(lambda u, share=share: u * share, updates)
        params[network] = optax.apply_updates(params[network], scaled)
    return params, opt_state
