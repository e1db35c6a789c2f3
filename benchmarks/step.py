"""The training step of stage 2: the compiler's figures, and how long it takes.

    python -m benchmarks.step --json=OUT                              # this host's devices, timed
    python -m benchmarks.step --notime --topology=v5e:2x2 --json=OUT  # TPUs that are not there

For each batch size per device and each dtype: memory, FLOPs and bytes of every program of phase B
by the compiler's count; and, where it is run, images a second, the programs timed one by one, and
the fraction of the device's bfloat16 peak. Batches are random and already on the host: for the time
spent waiting for data see `data_wait` in a run's metrics.jsonl, and `benchmarks.pipeline`.
"""

from __future__ import annotations

import dataclasses
import json
import math
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import numpy as np
from absl import flags
from ml_collections import ConfigDict, config_flags

from benchmarks.batches import random_batch
from benchmarks.figures import Lowered, Program
from benchmarks.results import save
from fields_jax.cli import run
from fields_jax.flame.io import resolve_head
from fields_jax.models.fields import init_variables
from fields_jax.tools.aot_compile import compile_programs
from fields_jax.tools.targets import find_devices
from fields_jax.training import parallel, setup
from fields_jax.training.programs import iteration, lower_programs, map_programs
from fields_jax.training.recipe import Assets
from fields_jax.training.state import create_state
from fields_jax.types import FlameModel, TrainState

# Dense bfloat16 FLOP/s of a device, from the vendors' data sheets.
PEAKS = {"A100": 312e12, "H100": 989e12, "H200": 989e12, "v5 lite": 197e12, "v5e": 197e12}


def define_flags() -> None:
    """The flags of the command."""
    config_flags.DEFINE_config_file("config", "configs/stage2.py:full", "config of stage 2")
    flags.DEFINE_string("json", "", "file for the results")
    flags.DEFINE_list("batches", ["16", "64"], "batch sizes of a device")
    flags.DEFINE_list("dtypes", ["float32", "bfloat16"], "dtypes of the networks")
    flags.DEFINE_string("topology", "", "compile for this one, e.g. v5e:2x2 (default: this host)")
    flags.DEFINE_bool("time", True, "run the programs, too")
    flags.DEFINE_integer("steps", 20, "steps that are timed", lower_bound=2)


def main(_: list[str]) -> None:
    """The command; results are written after each measurement."""
    chosen = flags.FLAGS
    devices = find_devices(chosen.topology) if chosen.topology else jax.devices()
    head = resolve_head(chosen.config.head)
    report = []
    for dtype in chosen.dtypes:
        for batch in map(int, chosen.batches):
            config = ConfigDict(chosen.config.to_dict())
            config.model.dtype, config.batch_size = dtype, batch * len(devices)
            found = compile_programs(config, head, devices, names=["B"])
            found["topology"] = chosen.topology or "this host"
            if chosen.time and not chosen.topology:
                found |= measure(prepare(config, head), chosen.steps)
                found |= rates(found)
            report.append(found)
            print(json.dumps(found, indent=1), flush=True)
            save(chosen.json, report, indent=1)


@dataclasses.dataclass
class Ready:
    """The compiled programs of a phase with what they are called with.

    Attributes:
      programs: by name, in the order of `map_programs`.
      state: the current one; running a program donates it.
      host, placed: the batch, on the host and on the devices.
      key: of the run.
      assets: constant arrays.
      how: the programs are mapped.
    """

    programs: dict[str, Program]
    state: TrainState
    host: Mapping[str, np.ndarray]
    placed: Mapping[str, jax.Array]
    key: jax.Array
    assets: Assets
    how: str

    def run_parts(self) -> dict[str, float]:
        """Runs every program once; seconds of each."""
        seconds: dict[str, float] = {}
        for name in list(self.programs)[1:] or self.programs:
            self._run(name, seconds)
        return seconds

    def iterate(self, steps: int) -> None:
        """Takes whole iterations as training does, and blocks at their end."""
        run = iteration({k: p.run for k, p in self.programs.items()}, how=self.how)
        for step in range(steps):
            self.state, metrics = run(step, self.state, self.host, self.key, self.assets)
            if step % 8 == 7:  # fake CPU devices hang when they run far ahead
                jax.block_until_ready(metrics["loss"])
        jax.block_until_ready(self.state)

    def _run(self, name: str, seconds: dict[str, float]) -> None:
        first, *_ = self.programs

        def timed(name, *arguments):
            began = time.perf_counter()
            results = jax.block_until_ready(self.programs[name].run(*arguments))
            seconds[name] = min(seconds.get(name, math.inf), time.perf_counter() - began)
            return results

        self.state, metrics, output = timed(first, self.state, self.placed, self.key, self.assets)
        if name != first:
            arguments = (self.state, self.placed, output, metrics, self.key, self.assets)
            self.state, _ = timed(name, *arguments)


def prepare(config: ConfigDict, head: FlameModel, name: str = "B", threads: int = 1) -> Ready:
    """Compiles the programs of a phase for this host's devices, each once; random parameters.

    Args:
      config: of a training.
      head: the FLAME model.
      name: of the phase.
      threads: programs that are compiled at a time.
    """
    config.init_from = config.init_from or "given"
    plan = setup.plan(config, head)
    phase = next(phase for phase in plan.phases if phase.name == name)
    variables = init_variables(plan.recipe.model, jax.random.key(config.seed))
    state = create_state(variables, plan.recipe.optimizer, keep_base=plan.keep_base)
    state, assets = parallel.replicate((state, plan.assets))
    key, host = parallel.replicated_key(config.seed + 1), random_batch(config)
    placed = parallel.place(host, how=config.parallel)
    mapped = map_programs(plan.recipe, phase, how=config.parallel)
    lowered, began = {}, time.perf_counter()
    for name, each in lower_programs(mapped, (state, placed, key, assets), how=config.parallel):
        lowered[name] = Lowered(each, time.perf_counter() - began)
        began = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        done = pool.map(lambda each: each.compile(), lowered.values())
        programs = dict(zip(lowered, done, strict=True))
    return Ready(programs, state, host, placed, key, assets, config.parallel)


def measure(ready: Ready, steps: int) -> dict[str, Any]:
    """Seconds of an iteration of a phase, and of each of its programs by itself.

    Args:
      ready: the compiled programs.
      steps: that are timed.
    """
    parts: dict[str, float] = {}
    for turn in range(3):
        for name, seconds in ready.run_parts().items():
            parts[name] = min(parts.get(name, math.inf), seconds) if turn else math.inf
    began = time.perf_counter()
    ready.iterate(steps)
    return {"step_seconds": (time.perf_counter() - began) / steps, "parts_seconds": parts}


def rates(found: dict[str, Any]) -> dict[str, float | None]:
    """Images a second, FLOP/s of a device and their fraction of its bfloat16 peak, where known."""
    flops = 1e9 * iteration_total(found["programs"], "gflops") / found["step_seconds"]
    peak = next((top for name, top in PEAKS.items() if name in found["kind"]), None)
    return {
        "images_per_second": found["batch_size"] / found["step_seconds"],
        "flops_per_second_per_device": flops,
        "share_of_bf16_peak": flops / peak if peak else None,
    }


def iteration_total(programs: dict[str, dict[str, float]], key: str) -> float:
    """A quantity of a mean iteration of phase B: the reconstruction and one of the two turns."""
    turns = [p[key] for name, p in programs.items() if not name.endswith("/reconstruction")]
    return programs["B/reconstruction"][key] + sum(turns) / len(turns)


if __name__ == "__main__":
    define_flags()
    run(main)
