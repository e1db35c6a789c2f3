"""Gradients on 8 fake devices, by both mappings, against one device. Run as a program.

Prints one JSON line: {case: {"tree": error, "leaf": error}} with relative errors
||a - b|| / ||b|| over the tree and the worst over leaves above 1e-5 of the whole.
"""

from __future__ import annotations

import os

os.environ["XLA_FLAGS"] = (
    "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0"
)
os.environ["NPROC"] = "32"  # a larger thread pool: fake devices wait for each other in it
os.environ["JAX_PLATFORMS"] = "cpu"

import functools
import json

import jax
import numpy as np
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from fields_jax.losses import table
from fields_jax.training.parallel import AXIS
from fields_jax.training.step import cycle_gradients, reconstruction_gradients
from tests.training import tiny_batch, tiny_parts

BATCH = 16


def gradients(state, batch, assets, *, recipe, phase, turn):
    """Gradients of the reconstruction step, or of the cycle step of a turn."""
    batch = table.clear_absent(batch) | {"image": batch["image"].astype(np.float32) / 255}
    bound = dict(recipe=recipe, phase=phase, axis_name=AXIS)
    key = jax.random.key(5)
    result, (output, _, metrics) = reconstruction_gradients(state, batch, key, assets, **bound)
    if turn is not None:
        result, (_, metrics) = cycle_gradients(
            state, batch, output, key, assets, turn=turn, **bound
        )
    return result, metrics


def run(how, devices, state, batch, assets, **static):
    function = functools.partial(gradients, **static)
    if how == "pmap":
        split = {k: v.reshape(len(devices), -1, *v.shape[1:]) for k, v in batch.items()}
        mapped = jax.pmap(
            function, axis_name=AXIS, in_axes=(None, 0, None), out_axes=None, devices=devices
        )
        return jax.device_get(mapped(state, split, assets))
    mesh = Mesh(np.asarray(devices), (AXIS,))
    mapped = jax.shard_map(
        function, mesh=mesh, in_specs=(P(), P(AXIS), P()), out_specs=P(), check_vma=False
    )
    return jax.device_get(jax.jit(mapped)(state, batch, assets))


def compare(found, expected) -> dict[str, float]:
    found, expected = (
        [np.asarray(x, np.float64) for x in jax.tree.leaves(t)] for t in (found, expected)
    )
    whole = np.sqrt(sum((x**2).sum() for x in expected))
    assert whole > 1e-7, f"no gradient to compare: norm {whole}"
    difference = [np.linalg.norm(a - b) for a, b in zip(found, expected, strict=True)]
    leaves = [
        d / np.linalg.norm(b)
        for d, b in zip(difference, expected, strict=True)
        if np.linalg.norm(b) > 1e-5 * whole
    ]
    return {"tree": float(np.linalg.norm(difference) / whole), "leaf": float(max(leaves))}


def main() -> None:
    config, plan, state = tiny_parts(BATCH)
    state = jax.tree.map(np.array, state)
    phase = next(p for p in plan.phases if p.name == "B")
    everywhere = tiny_batch(config)
    # All labelled samples on the first device: the mean over labels must still be global.
    first = np.arange(BATCH) < BATCH // 8
    lonely = everywhere | {k: v & first for k, v in everywhere.items() if k.startswith("has_")}
    report = {}
    cases = [("reconstruction", None), ("cycle/synthesizer", "synthesizer")]
    for name, turn in [*cases, ("cycle/encoders", "encoders")]:
        static = dict(recipe=plan.recipe, phase=phase, turn=turn)
        one = functools.partial(run, "pmap", jax.devices()[:1], state)
        many = functools.partial(run, "pmap", jax.devices(), state)
        shard = functools.partial(run, "shard_map", jax.devices(), state)
        batches = {"": everywhere} if turn else {"": everywhere, "/one device": lonely}
        for label, batch in batches.items():
            expected, _ = one(batch, plan.assets, **static)
            for how, function in (("pmap", many), ("shard_map", shard)):
                found, _ = function(batch, plan.assets, **static)
                report[f"{name}{label}/{how}"] = compare(found, expected)
                print(name,label,how,report[f"{name}{label}/{how}"],flush=True)
    print(json.dumps(report))


if __name__ == "__main__":
    main()
