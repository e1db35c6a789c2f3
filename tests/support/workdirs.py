"""Workdirs with a random model of the smallest size, without a training run."""

from __future__ import annotations

from pathlib import Path

import jax
import numpy as np

from fields_jax.flame.io import save_flame
from fields_jax.models.fields import NETWORKS, build_model, variable_shapes
from fields_jax.types import FlameModel
from fields_jax.workdir.config import claim_workdir
from fields_jax.workdir.store import write_networks
from tests.support.heads import random_head
from tests.support.tiny_training import tiny_config


def write_workdir(
    folder: Path,
    *,
    trained: tuple[str, ...] = NETWORKS,
    source: str = "",
    head: FlameModel | None = None,
    backbone: str = "mobilenet_v3",  # which commands in other processes know
) -> tuple[Path, Path]:
    """Writes FOLDER/run and FOLDER/head.npz as a training run leaves them; no optimiser's state.

    With a `source` the run is a conversion of weights of that name, which names no head. Without a
    `head` it is a small random one, with few coefficients.
    """
    config = tiny_config(backbone=backbone)
    if head is not None:
        config.model.update(n_shape=300, n_expression=50)
    # A run may be from elsewhere: what reads it must not load programs from a folder that it names.
    config.compilation_cache = str(folder / "programs")
    head, rng = head or random_head(), np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    config.head = str(folder / "head.npz")
    save_flame(config.head, head)

    def values(path: tuple, leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        name = path[-1].key
        if name in ("var", "scale"):
            return np.ones(leaf.shape, leaf.dtype)
        return (0.05 * rng.standard_normal(leaf.shape)).astype(leaf.dtype)

    variables = jax.tree_util.tree_map_with_path(values, variable_shapes(build_model(config)))
    described = {key: getattr(head, key) for key in ("name", "version", "sha256")}
    meta = {"head": described, "trained": list(trained), "git": "0" * 40}
    if source:
        config.head = ""
        meta = {"trained": list(trained), "source": {"name": source, "sha256": "2" * 64}}
    write_networks(str(folder / "run"), variables, meta)
    claim_workdir(str(folder / "run"), config)
    return folder / "run", folder / "head.npz"
