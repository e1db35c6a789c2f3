"""A state saved on 8 fake devices is continued on other numbers: run as a program with WORKDIR.

Prints one JSON line: {"devices/mapping": {"restored": whether the restored state is the saved one,
bit for bit on every device, "apart": largest difference after three more steps}}. In float64.
"""

from __future__ import annotations

import os
import sys

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"
os.environ["NPROC"] = "32"  # fake devices wait for each other in XLA's threads
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["JAX_ENABLE_X64"] = "1"

import json

import jax
import jax.numpy as jnp
import numpy as np

from fields_jax.training import optim, parallel
from fields_jax.training.state import create_state
from fields_jax.workdir import store

RULES = dict(all=dict(match=".*", lr=0.1, b1=0.9, b2=0.999))
NAMES = ("shape_encoder", "expression_encoder")  # the networks of the base model
ELSEWHERE = ((1, "pmap"), (2, "pmap"), (2, "shard_map"), (8, "shard_map"))


def initial():
    """A state of two linear layers and its optimiser."""
    rng = np.random.default_rng(0)
    params = {name: {"kernel": rng.standard_normal((5, 3)), "bias": np.zeros(3)} for name in NAMES}
    optimizer = optim.make_optimizer(params, RULES)
    variables = {"params": params, "batch_stats": {name: {"mean": np.zeros(5)} for name in NAMES}}
    variables = jax.tree.map(jnp.asarray, variables)
    return create_state(variables, optimizer, keep_base=True, keep_ema=True), optimizer


def make_step(optimizer, how, devices):
    """A mapped step: the mean over the global batch of a squared distance, by Adam."""

    def step(state, batch):
        def loss(params):
            found = sum(batch["x"] @ p["kernel"] + p["bias"] for p in params.values())
            squared = jnp.sum((found - batch["y"]) ** 2)
            total = jax.lax.psum(jnp.stack([squared, len(found) * jnp.ones(())]), parallel.AXIS)
            return total[0] / total[1]

        gradients = jax.lax.pmean(jax.grad(loss)(state.params), parallel.AXIS)
        moved = optim.update(
            optimizer, gradients, state.params, state.opt_state, jnp.ones(()), None
        )
        mean = jax.lax.pmean(batch["x"].mean(0), parallel.AXIS)
        stats = jax.tree.map(lambda old: 0.9 * old + 0.1 * mean, state.batch_stats)
        ema = optim.running_mean(state.ema, moved[0], state.step, 0.9)
        state = state.replace(params=moved[0], opt_state=moved[1], batch_stats=stats, ema=ema)
        return (state.replace(step=state.step + 1),)

    where = dict(how=how, devices=devices)
    program = parallel.map_step(step, inputs=(False, True), outputs=(False,), **where)
    return lambda state, batch: program(state, parallel.place(batch, **where))


def go_on(state, step, first, last):
    for number in range(first, last):
        rng = np.random.default_rng(number)
        (state,) = step(
            state, {"x": rng.standard_normal((16, 5)), "y": rng.standard_normal((16, 3))}
        )
    return state


def main(workdir: str) -> None:
    state, optimizer = initial()
    devices = jax.devices()
    step = make_step(optimizer, "pmap", devices)
    state = go_on(parallel.replicate(state, devices), step, 0, 3)
    saved = jax.device_get(state)
    report = {}
    with store.open_manager(workdir) as manager:
        store.save(manager, state, seed=0, meta={"step": 3})
        manager.wait_until_finished()
        expected = jax.device_get(go_on(state, step, 3, 6))
        for count, how in ELSEWHERE:
            target = parallel.replicated_shapes(jax.eval_shape(lambda: saved), devices[:count])
            found, _, damaged = store.restore(manager, target)
            report[f"{count}/{how}"] = {
                "restored": not damaged and everywhere(found, saved, count),
                "apart": apart(
                    go_on(found, make_step(optimizer, how, devices[:count]), 3, 6), expected
                ),
            }
    print(json.dumps(report))


def everywhere(tree, expected, count: int) -> bool:
    """Whether each of `count` devices holds exactly these values."""

    def equal(x, value):
        copies = [np.asarray(shard.data) for shard in x.addressable_shards]
        same = all(c.dtype == value.dtype and np.array_equal(c, value) for c in copies)
        return len(copies) == count and same

    return jax.tree.all(jax.tree.map(equal, tree, expected))


def apart(tree, expected) -> float:
    differences = jax.tree.map(lambda a, b: np.max(np.abs(np.asarray(a) - b)), tree, expected)
    return float(max(jax.tree.leaves(differences)))


if __name__ == "__main__":
    main(sys.argv[1])
