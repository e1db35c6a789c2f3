"""Writes a small checkpoint with newer versions of the libraries: run as a program.

It made newer_jax.zip beside it, under Python 3.12 with the versions named in its meta item. The
values are a function of their shapes, so that a reader knows them.
"""

from __future__ import annotations

import tempfile
import zipfile
from importlib import metadata
from pathlib import Path

import jax
import jax.numpy as jnp

from fields_jax.training import optim
from fields_jax.training.state import BASE_NETWORKS, create_state
from fields_jax.types import TrainState
from fields_jax.workdir import store

FILE = Path(__file__).with_name("newer_jax.zip")
STEP = 7
_RULES = dict(all=dict(match=".*", lr=0.1, b1=0.9, b2=0.999))


def state() -> TrainState:
    """Every item of a checkpoint, every leaf of other values."""
    params = {name: {"kernel": jnp.zeros((3, 2)), "bias": jnp.zeros(2)} for name in BASE_NETWORKS}
    stats = {name: {"mean": jnp.zeros(2)} for name in BASE_NETWORKS}
    made = create_state(
        {"params": params, "batch_stats": stats},
        optim.make_optimizer(params, _RULES),
        keep_base=True,
        keep_ema=True,
    )
    leaves, tree = jax.tree.flatten(made)
    numbered = [
        (i + jnp.arange(x.size).reshape(x.shape) / 8).astype(x.dtype) for i, x in enumerate(leaves)
    ]
    return tree.unflatten(numbered).replace(step=jnp.asarray(STEP, jnp.int32))


def main() -> None:
    versions = {name: metadata.version(name) for name in ("jax", "flax", "orbax-checkpoint")}
    with tempfile.TemporaryDirectory() as folder:
        with store.open_manager(folder) as manager:
            meta = {"step": STEP, "trained": [], "versions": versions}
            store.save(manager, state(), seed=0, meta=meta)
            manager.wait_until_finished()
        with zipfile.ZipFile(FILE, "w", zipfile.ZIP_DEFLATED) as archive:
            for path in sorted(Path(folder).rglob("*")):
                archive.write(path, path.relative_to(folder))


if __name__ == "__main__":
    main()
