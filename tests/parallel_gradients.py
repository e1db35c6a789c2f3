"""Gradients on 8 fake devices, by both mappings, against one device. Run as a program.

Prints one JSON line: {case: {"tree": error, "leaf": error}} with relative errors
||a - b|| / ||b|| over the tree and the worst over leaves above 1e-5 of the whole. In float64: in
float32 the rounding of batch statistics over few pixels shows in single leaves, 3e-4 of them, and
would hide an error of that size.
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

import jax
import numpy as np
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from fields_jax.losses import table
from fields_jax.training.parallel import AXIS
from fields_jax.training.step import TURNS, cycle_gradients, reconstruction_gradients
from tests.training import tiny_batch, tiny_parts

BATCH = 16


def gradients(state, batch, assets, *, recipe, phase):
    """Gradients of the reconstruction step and of both turns of the cycle step."""
    batch = table.clear_absent(batch) | {"image": batch["image"].astype(np.float64) / 255}
    bound = dict(recipe=recipe, phase=phase, axis_name=AXIS)
    key = jax.random.key(5)
    found, (output, _, _) = reconstruction_gradients(state, batch, key, assets, **bound)
    cycles = {
        f"cycle/{turn}": cycle_gradients(state, batch, output, key, assets, turn=turn, **bound)[0]
        for turn in TURNS
    }
    return {"reconstruction": found} | cycles


def mapped(how, function, devices):
    if how == "pmap":
        program = jax.pmap(
            function, axis_name=AXIS, in_axes=(None, 0, None), out_axes=None, devices=devices
        )
        return lambda state, batch, assets: program(
            state,
            {k: v.reshape(len(devices), -1, *v.shape[1:]) for k, v in batch.items()},
            assets,
        )
    mesh = Mesh(np.asarray(devices), (AXIS,))
    return jax.jit(
        jax.shard_map(
            function, mesh=mesh, in_specs=(P(), P(AXIS), P()), out_specs=P(), check_vma=False
        )
    )


def compare(found, expected) -> dict[str, float | str]:
    expected = jax.tree_util.tree_leaves_with_path(expected)
    names = [jax.tree_util.keystr(path) for path, _ in expected]
    expected = [np.asarray(leaf, np.float64) for _, leaf in expected]
    found = [np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(found)]
    whole = np.sqrt(sum((leaf**2).sum() for leaf in expected))
    assert whole > 1e-7, f"no gradient to compare: its norm is {whole}"
    difference = [np.linalg.norm(a - b) for a, b in zip(found, expected, strict=True)]
    norms = [np.linalg.norm(leaf) for leaf in expected]
    large = [
        (d / n, k) for d, n, k in zip(difference, norms, names, strict=True) if n > 1e-5 * whole
    ]
    worst, name = max(large)
    return {"tree": float(np.linalg.norm(difference) / whole), "leaf": float(worst), "worst": name}


def in_float64(tree):
    def cast(x):
        x = np.array(x)
        return x.astype(np.float64) if np.issubdtype(x.dtype, np.floating) else x

    return jax.tree.map(cast, tree)


def main() -> None:
    config, plan, state = tiny_parts(BATCH, dtype="float64")
    state, assets = in_float64((state, plan.assets))
    phase = next(p for p in plan.phases if p.name == "B")
    everywhere = in_float64(tiny_batch(config))
    # All labelled samples on the first device: the mean over labels must still be global.
    first = np.arange(BATCH) < BATCH // 8
    lonely = everywhere | {k: v & first for k, v in everywhere.items() if k.startswith("has_")}
    function = functools.partial(gradients, recipe=plan.recipe, phase=phase)
    ways = {
        "one": mapped("pmap", function, jax.devices()[:1]),
        "pmap": mapped("pmap", function, jax.devices()),
        "shard_map": mapped("shard_map", function, jax.devices()),
    }
    report = {}
    for label, batch in {"": everywhere, "/one device": lonely}.items():
        results = {how: jax.device_get(way(state, batch, assets)) for how, way in ways.items()}
        for how in ("pmap", "shard_map"):
            for name, expected in results["one"].items():
                report[f"{name}{label}/{how}"] = compare(results[how][name], expected)
    print(json.dumps(report))


if __name__ == "__main__":
    main()
