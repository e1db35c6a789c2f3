"""One of two processes with two devices: run as a program with MODE WORKDIR [WORD...].

MODE is that of `--distributed`. Trains one network for a few tiny steps, to which each process
gives its half of the batch, restores the checkpoint, looks whether compiled programs are compiled
again, and prints one line of JSON. Words: "preempted" makes the second process receive a request
to stop; "init" starts another run from this one's networks; "gradients" compares the gradients of
phase B with those of one device, in float64 like `tests.support.parallel_gradients`.
"""

from __future__ import annotations

import os
import sys

os.environ["XLA_FLAGS"] = (
    "--xla_force_host_platform_device_count=2 --xla_backend_optimization_level=0 "
    "--xla_cpu_use_fusion_emitters=false"
)
os.environ["NPROC"] = "32"  # fake devices wait for each other in XLA's threads
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["JAX_ENABLE_X64"] = "1"

import functools
import json
import signal
import time

import jax
import numpy as np
from absl import logging

from fields_jax import cli
from fields_jax import train as command
from fields_jax.errors import UserError
from fields_jax.training import loop, parallel, setup
from fields_jax.training.processes import joined
from fields_jax.workdir import store
from tests.support.heads import random_head
from tests.support.killable_training import batches, small_config
from tests.support.small_programs import run_compiled
from tests.support.step_gradients import compare, gradients, in_float64, mapped
from tests.support.tiny_training import tiny_batch, tiny_parts

STEPS = 4
# Only one network learns and runs, so that little is compiled.
LITTLE = {
    "stage": 1,
    "phases.A.train": ("expression_encoder",),
    "phases.A.losses": {"gt_expression": 1.0, "gt_jaw": 1.0},
}


def half(batch):
    """This process's part of a batch."""
    rank, count = jax.process_index(), jax.process_count()
    return {k: v[rank * len(v) // count : (rank + 1) * len(v) // count] for k, v in batch.items()}


def train(workdir: str, preempted: bool = False, init_from: str = ""):
    """Trains or goes on; if `preempted`, the second process is told to stop at its third batch."""

    def halves(first):
        for step, batch in enumerate(batches(config, first), start=first):
            if preempted and step == 2 and jax.process_index() == 1:
                os.kill(os.getpid(), signal.SIGTERM)
            yield half(batch)

    config = small_config(**{"phases.A.steps": STEPS, **LITTLE})
    config.init_from = init_from
    return loop.train(config, workdir, setup.plan(config, random_head()), halves, {})


def restored(workdir: str, state):
    """The newest checkpoint, on all devices of all processes."""
    target = parallel.replicated_shapes(jax.eval_shape(lambda: state))
    with store.open_manager(workdir) as manager:
        return store.restore(manager, target)[0]


def same_here(a, b) -> bool:
    """Whether two replicated trees are equal bit for bit on every device of this process."""

    def equal(x, y):
        parts = [np.asarray(shard.data) for z in (x, y) for shard in z.addressable_shards]
        return all(np.array_equal(parts[0], part) for part in parts)

    return jax.tree.all(jax.tree.map(equal, a, b))


def turn() -> list[float]:
    """From when to when this process was the one that makes the embedded sets."""
    times = []

    def prepared(config):
        times.append(time.time())
        time.sleep(0.5)
        times.append(time.time())

    command.prepare_data = prepared
    command._prepare_together(None)
    return times


def refused_values() -> str:
    """What is said of processes that begin with other values, here in the second of two leaves."""
    parallel.replicate({"a": np.ones(3), "b": np.float32(2)})
    try:
        parallel.replicate({"a": np.ones(3), "b": np.float32(jax.process_index())})
    except UserError as error:
        return str(error)
    return ""


def gradient_errors() -> dict[str, dict]:
    """Relative errors of the gradients of four devices of two processes against one device."""
    config, plan, state = tiny_parts(8, dtype="float64")
    state, assets = in_float64((state, plan.assets))
    phase = next(p for p in plan.phases if p.name == "B")
    function = functools.partial(gradients, recipe=plan.recipe, phase=phase)
    batch = in_float64(tiny_batch(config))
    alone = mapped("shard_map", function, jax.local_devices()[:1])(state, batch, assets)
    found = mapped("pmap", function, jax.devices())(state, half(batch), assets)
    local = jax.tree.map(lambda x: x.addressable_data(0), found)
    return {f"{name}/pmap": compare(local[name], alone[name]) for name in alone}


def main(argv: list[str]) -> int:
    mode, workdir, *more = argv[1:]
    logging.set_verbosity(logging.ERROR)
    with joined(mode):
        state = train(workdir, "preempted" in more)
        report = {
            "processes": jax.process_count(),
            "devices": jax.device_count(),
            "step": int(state.step),
            "restored": same_here(state, restored(workdir, state)),
        }
        for how in ("pmap", "shard_map"):
            _, (_, again) = run_compiled(how, {"x": np.arange(2, dtype=np.float32)})
            report[f"again {how}"] = again
        if "init" in more:
            report["turn"] = turn()
            report["refused"] = refused_values()
            report["started"] = int(train(f"{workdir}-next", init_from=workdir).step)
        if "gradients" in more:
            report |= gradient_errors()
        print(json.dumps(report), flush=True)
    return 0


if __name__ == "__main__":
    cli.leave(cli.guarded(main)(sys.argv))
