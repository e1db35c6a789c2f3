"""Small training states, for checkpoints that are fast to write."""

from __future__ import annotations

import jax
import numpy as np

from fields_jax.training import optim
from fields_jax.training.state import create_state
from fields_jax.types import TrainState

_RULES = dict(all=dict(match=".*", lr=0.1, b1=0.9, b2=0.999))


def a_state(step: int) -> TrainState:
    """A small state whose every array depends on the step."""
    rng = np.random.default_rng(step)
    draw = lambda *shape: rng.standard_normal(shape).astype(np.float32)  # noqa: E731
    networks = ("shape_encoder", "expression_encoder")
    params = {name: {"kernel": draw(40, 30), "bias": draw(30)} for name in networks}
    stats = {name: {"mean": draw(30)} for name in networks}
    optimizer = optim.make_optimizer(params, _RULES)
    state = create_state(
        {"params": params, "batch_stats": stats}, optimizer, keep_base=True, keep_ema=True
    )
    count = jax.numpy.asarray(step, jax.numpy.int32)
    return jax.tree.map(jax.numpy.asarray, state.replace(step=count))


def same(a, b) -> bool:
    """Whether two trees hold the same arrays."""
    return jax.tree.all(jax.tree.map(np.array_equal, a, b))
