"""Gradients on 8 fake devices, by the mappings named, against one device. Run as a program.

Prints one JSON line: {case: {"tree": error, "leaf": error}}, see `step_gradients.compare`. In
float64, because in float32 the rounding of batch statistics over few pixels changes single leaves
by 3e-4, which would hide an error of that size.
"""

from __future__ import annotations

import os

os.environ["XLA_FLAGS"] = (
    "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0 "
    "--xla_cpu_use_fusion_emitters=false"
)
os.environ["NPROC"] = "32"  # a larger thread pool: fake devices wait for each other in it
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["JAX_ENABLE_X64"] = "1"

import functools
import json
import sys

import jax
import numpy as np

from tests.support.step_gradients import compare, gradients, in_float64, mapped
from tests.support.tiny_training import tiny_batch, tiny_parts

BATCH = 16


def main() -> None:
    config, plan, state = tiny_parts(BATCH, dtype="float64")
    state, assets = in_float64((state, plan.assets))
    phase = next(p for p in plan.phases if p.name == "B")
    everywhere = in_float64(tiny_batch(config))
    # All labelled samples on the first device: the mean over labels must still be global.
    first = np.arange(BATCH) < BATCH // 8
    lonely = everywhere | {k: v & first for k, v in everywhere.items() if k.startswith("has_")}
    function = functools.partial(gradients, recipe=plan.recipe, phase=phase)
    alone = mapped("pmap", function, jax.devices()[:1])
    ways = {how: mapped(how, function, jax.devices()) for how in sys.argv[1:]}
    report = {}
    for label, batch in {"": everywhere, "/one device": lonely}.items():
        expected = jax.device_get(alone(state, batch, assets))
        for how, way in ways.items():
            found = jax.device_get(way(state, batch, assets))
            for name, gradient in expected.items():
                report[f"{name}{label}/{how}"] = compare(found[name], gradient)
    print(json.dumps(report))


if __name__ == "__main__":
    main()
