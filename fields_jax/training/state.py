"""The state that a run starts from."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from fields_jax.types import TrainState

PyTree = Any
BASE_NETWORKS = ("expression_encoder", "shape_encoder")


def create_state(
    variables: dict[str, PyTree],
    optimizer: dict[str, Any],
    *,
    keep_base: bool,
    keep_ema: bool = False,
) -> TrainState:
    """The state before the first step.

    Args:
      variables: {"params", "batch_stats"} of the networks.
      optimizer: {network: transformation}.
      keep_base: freeze a copy of the initial encoders.
      keep_ema: start a running mean of the parameters.
    """
    params, batch_stats = variables["params"], variables["batch_stats"]
    base = None
    if keep_base:
        # A copy, because the step donates its state: base and params must not share buffers.
        base = {
            kind: {name: jax.tree.map(jnp.copy, tree[name]) for name in BASE_NETWORKS}
            for kind, tree in (("params", params), ("batch_stats", batch_stats))
        }
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        batch_stats=batch_stats,
        opt_state={name: optimizer[name].init(tree) for name, tree in params.items()},
        base=base,
        bad_steps=jnp.zeros((), jnp.int32),
        ema=jax.tree.map(jnp.copy, params) if keep_ema else None,
    )
