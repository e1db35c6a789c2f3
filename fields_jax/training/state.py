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
    # One program for all: of one leaf after the other, each shape would be compiled by itself.
    moments = jax.jit(lambda params: {k: optimizer[k].init(v) for k, v in params.items()})
    base = None
    if keep_base:
        # A copy, because the step donates its state: base and params must not share buffers.
        base = _copy(
            {
                kind: {name: tree[name] for name in BASE_NETWORKS}
                for kind, tree in (("params", params), ("batch_stats", batch_stats))
            }
        )
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        batch_stats=batch_stats,
        opt_state=moments(params),
        base=base,
        bad_steps=jnp.zeros((), jnp.int32),
        ema=_copy(params) if keep_ema else None,
    )


@jax.jit
def _copy(tree: PyTree) -> PyTree:
    """The same values in buffers of their own."""
    return jax.tree.map(jnp.copy, tree)
