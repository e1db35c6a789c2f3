"""The training step of stage 2: the compiler's figures, and how long it takes.

    python -m benchmarks.step --json=OUT                              # this host's devices, timed
    python -m benchmarks.step --notime --topology=v5e:2x2 --json=OUT  # TPUs that are not there

For each batch size per device and each dtype: memory, FLOPs and bytes of every program of phase B
by the compiler's count; and, where it is run, images a second, the programs timed one by one, and
the fraction of the device's bfloat16 peak. Batches are random and already on the host: for the time
spent waiting for data see `data_wait` in a run's metrics.jsonl, and `benchmarks.pipeline`.
"""

from __future__ import annotations

import json
import time
from typing import Any

import jax
from absl import flags
from ml_collections import ConfigDict, config_flags

from benchmarks.batches import random_batch
from benchmarks.results import save
from fields_jax.cli import run
from fields_jax.flame.io import resolve_head
from fields_jax.models.fields import init_variables
from fields_jax.tools.aot_compile import compile_programs, find_devices
from fields_jax.training import parallel, setup
from fields_jax.training.programs import iteration, map_programs
from fields_jax.training.state import create_state
from fields_jax.types import FlameModel

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
                found |= measure(config, head, chosen.steps)
                found |= rates(found)
            report.append(found)
            print(json.dumps(found, indent=1), flush=True)
            save(chosen.json, report, indent=1)


def measure(config: ConfigDict, head: FlameModel, steps: int) -> dict[str, Any]:
    """Seconds of an iteration of phase B, and of each of its programs by itself."""
    config.init_from = config.init_from or "given"
    plan = setup.plan(config, head)
    phase = plan.phases[-1]
    variables = init_variables(plan.recipe.model, jax.random.key(config.seed))
    state = create_state(variables, plan.recipe.optimizer, keep_base=plan.keep_base)
    state, assets = parallel.replicate((state, plan.assets))
    batch, key = random_batch(config), jax.random.key(config.seed + 1)
    programs = map_programs(plan.recipe, phase, how=config.parallel)
    iterate = iteration(programs, how=config.parallel)
    placed = parallel.place(batch, how=config.parallel)
    reconstruct = programs.pop("reconstruction")
    parts: dict[str, float] = {}

    def timed(name: str, program, *arguments):
        started = time.perf_counter()
        results = jax.block_until_ready(program(*arguments))
        parts[name] = min(parts.get(name, float("inf")), time.perf_counter() - started)
        return results

    for _ in range(3):  # the first of them compiles
        for turn, cycle in programs.items():
            state, metrics, output = timed(
                "reconstruction", reconstruct, state, placed, key, assets
            )
            state, _ = timed(turn, cycle, state, placed, output, metrics, key, assets)
    started = time.perf_counter()
    for step in range(steps):
        state, metrics = iterate(step, state, batch, key, assets)
        if step % 8 == 7:  # fake CPU devices hang when they run far ahead
            jax.block_until_ready(metrics["loss"])
    jax.block_until_ready(state)
    seconds = (time.perf_counter() - started) / steps
    return {"step_seconds": seconds, "parts_seconds": parts}


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
