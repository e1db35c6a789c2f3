"""Time the training loop takes besides its steps: `python -m benchmarks.overhead --json=OUT`.

The loop with its log, guards, metrics and checkpoints, and a bare loop over the same compiled step,
take turns in one process, a block of steps each, so that a busy machine slows both. The loop's
blocks hold a checkpoint in their middle. Pictures are left out: they are a choice of the config.
Wall time is what a user waits; CPU time counts the threads that write checkpoints too.
"""

from __future__ import annotations

import itertools
import json
import statistics
import tempfile
import time
from collections.abc import Iterator

import jax
import numpy as np
from absl import flags
from ml_collections import ConfigDict, config_flags

from benchmarks.batches import random_batch
from benchmarks.results import save
from fields_jax.cli import run
from fields_jax.flame.io import resolve_head
from fields_jax.models.fields import init_variables
from fields_jax.training import loop, parallel, setup
from fields_jax.training.programs import map_iteration
from fields_jax.training.state import create_state
from fields_jax.types import FlameModel


def define_flags() -> None:
    """The flags of the command."""
    config_flags.DEFINE_config_file("config", "configs/stage2.py", "config whose phase A is run")
    flags.DEFINE_string("json", "", "file for the results")
    flags.DEFINE_integer("steps", 500, "steps of a block, and from checkpoint to checkpoint", 4)
    flags.DEFINE_integer("rounds", 3, "blocks of each kind", lower_bound=1)


def main(_: list[str]) -> None:
    """The command."""
    chosen = flags.FLAGS
    with tempfile.TemporaryDirectory() as folder:
        jax.config.update("jax_compilation_cache_dir", f"{folder}/cache")  # both compile it once
        head = resolve_head(chosen.config.head)
        report = measure(chosen.config, head, f"{folder}/run", chosen.steps, chosen.rounds)
    print(json.dumps(report, indent=1))
    save(chosen.json, report, indent=1)


def measure(
    config: ConfigDict, head: FlameModel, workdir: str, steps: int, rounds: int
) -> dict[str, float | int | str | list]:
    """Times both loops in turn; ready for JSON.

    Args:
      config: of stage 2; its first phase is run.
      head: the FLAME model.
      workdir: of the training, new.
      steps: of a block; even.
      rounds: blocks of each kind.
    """
    config.phases = ConfigDict({"A": config.phases.A.to_dict()})
    config.phases.A.steps = steps // 2 + rounds * steps + 1
    config.steps_scale = 1.0
    config.log.images = 0
    config.checkpoint.every = steps
    batch = random_batch(config)
    bare = _bare_loop(config, head, batch)
    spent: dict[str, list[tuple[float, float]]] = {"bare": [], "loop": []}

    def batches(_: int) -> Iterator[dict[str, np.ndarray]]:
        """The loop's batches; between two of its blocks the bare loop has its turn."""
        yield from itertools.repeat(batch, steps // 2)  # checkpoints fall into a block's middle
        for _ in range(rounds):
            _settle()
            with _Clock(spent["bare"]):
                bare(steps)
            with _Clock(spent["loop"]):
                yield from itertools.repeat(batch, steps)
                _settle()
        yield from itertools.repeat(batch)

    loop.train(config, workdir, setup.plan(config, head), batches, {})
    wall, cpu = (
        {name: statistics.median(x[k] for x in pairs) / steps for name, pairs in spent.items()}
        for k in (0, 1)
    )
    return {
        "overhead_wall": wall["loop"] / wall["bare"] - 1,
        "overhead_cpu": cpu["loop"] / cpu["bare"] - 1,
        "step_seconds": wall,
        "step_cpu_seconds": cpu,
        "blocks": {name: [pair[0] for pair in pairs] for name, pairs in spent.items()},
        "steps": steps,
        "log_every": config.log.every,
        "batch_size": config.batch_size,
        "image_size": config.image_size,
        "device": jax.devices()[0].device_kind,
        "devices": jax.device_count(),
        "jax": jax.__version__,
    }


def _bare_loop(config: ConfigDict, head: FlameModel, batch: dict[str, np.ndarray]):
    """A function that takes a number of steps and does nothing else; the step is compiled here."""
    plan = setup.plan(config, head)
    iterate = map_iteration(plan.recipe, plan.phases[0], how=config.parallel)
    variables = init_variables(plan.recipe.model, jax.random.key(config.seed))
    state = create_state(variables, plan.recipe.optimizer, keep_base=plan.keep_base)
    state, assets = parallel.replicate((state, plan.assets))
    key = jax.random.key(config.seed + 1)

    def take(count: int) -> None:
        nonlocal state
        before = None
        for step in range(count):
            state, metrics = iterate(step, state, batch, key, assets)
            if before is not None:
                before.block_until_ready()  # queues no more steps than the training loop
            before = metrics["loss"]
        jax.block_until_ready(state)

    take(2)
    return take


class _Clock:
    """Appends the (wall, CPU) seconds of its block to a list."""

    def __init__(self, spent: list[tuple[float, float]]) -> None:
        self._spent = spent

    def __enter__(self) -> None:
        self._began = time.perf_counter(), time.process_time()

    def __exit__(self, *_: object) -> None:
        wall, cpu = self._began
        self._spent.append((time.perf_counter() - wall, time.process_time() - cpu))


def _settle() -> None:
    """Waits for the step that the training loop has dispatched."""
    jax.block_until_ready(jax.live_arrays())


if __name__ == "__main__":
    define_flags()
    run(main)
