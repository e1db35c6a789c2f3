"""Gradients of a step by any mapping over any devices, and their relative errors."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from fields_jax.losses.evidence import clear_absent
from fields_jax.training.parallel import AXIS
from fields_jax.training.recipe import TURNS, Context
from fields_jax.training.step import cycle_gradients, reconstruction_gradients


def gradients(state, batch, assets, *, recipe, phase):
    """Gradients of the reconstruction step and of both turns of the cycle step."""
    batch = clear_absent(batch) | {"image": batch["image"].astype(np.float64) / 255}
    key = jax.random.key(5)
    context = Context(recipe, phase, AXIS)
    found, (output, _, _) = reconstruction_gradients(state, batch, key, assets, context=context)
    cycles = {}
    for turn in TURNS:
        context = dataclasses.replace(context, turn=turn)
        cycle, _ = cycle_gradients(state, batch, output, key, assets, context=context)
        cycles[f"cycle/{turn}"] = cycle
    return {"reconstruction": found} | cycles


def mapped(how, function, devices):
    """A function of (state, batch, assets) mapped over devices; each process gives its batch."""
    if how == "pmap":
        program = jax.pmap(
            function, axis_name=AXIS, in_axes=(None, 0, None), out_axes=None, devices=devices
        )
        here = sum(d.process_index == jax.process_index() for d in devices)
        return lambda state, batch, assets: program(
            state,
            {k: v.reshape(here, -1, *v.shape[1:]) for k, v in batch.items()},
            assets,
        )
    mesh = Mesh(np.asarray(devices), (AXIS,))
    program = jax.jit(
        jax.shard_map(
            function, mesh=mesh, in_specs=(P(), P(AXIS), P()), out_specs=P(), check_vma=False
        )
    )
    split = NamedSharding(mesh, P(AXIS))
    return lambda state, batch, assets: program(
        state,
        {k: jax.make_array_from_process_local_data(split, v) for k, v in batch.items()},
        assets,
    )


def compare(found, expected) -> dict[str, float | str]:
    """Relative errors ||a - b|| / ||b|| over the tree, and the worst of its leaves.

    Only leaves above 1e-5 of the whole count: the others' gradients are rounding errors.
    """
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
    """The tree with its floating numbers in double precision, on the host."""

    def cast(x):
        x = np.array(x)
        return x.astype(np.float64) if np.issubdtype(x.dtype, np.floating) else x

    return jax.tree.map(cast, tree)
