"""A whole training step at the smallest size: random head, random images, every label."""

from __future__ import annotations

import functools

import jax
import numpy as np

from configs import stage2
from fields_jax.models.fields import init_variables
from fields_jax.training import setup
from fields_jax.training.programs import map_iteration
from fields_jax.training.state import create_state
from fields_jax.types import TrainState
from tests.support.heads import random_head
from tests.support.sizes import SMALLEST
from tests.support.strided_backbone import STRIDED


def tiny_config(batch_size: int = 8, synthesizer: str = "teaser", backbone: str = STRIDED):
    """Stage 2 with every part at its smallest.

    Commands in processes of their own, and tests of MobileNet's blocks, need "mobilenet_v3".
    """
    config = stage2.get_config("synthetic")
    config.model.synthesizer = synthesizer
    config.model.backbone = backbone
    config.image_size = 32
    config.batch_size = batch_size
    config.init_from = "given"
    config.model.update(SMALLEST | dict(n_shape=7, n_expression=6, camera_aim="origin"))
    config.losses.landmark_metric = "squared"
    config.losses.va_min_count = 2
    config.losses.class_weights = ()
    config.optim.warmup = 0
    return config


def tiny_batch(config, seed: int = 0) -> dict[str, np.ndarray]:
    """A batch of random images with every label, as the pipelines give it."""
    rng = np.random.default_rng(seed)
    count, size = config.batch_size, config.image_size
    batch = {
        "image": rng.integers(0, 256, (count, size, size, 3), dtype=np.uint8),
        "face_mask": (rng.random((count, size, size)) < 0.5).astype(np.uint8),
        "emotion": rng.integers(0, 8, count).astype(np.int32),
    }
    for name, points in (("68", 68), ("105", 105), ("203", 203)):
        batch[f"landmarks_{name}"] = rng.uniform(-1, 1, (count, points, 2)).astype(np.float32)
        batch[f"has_landmarks_{name}"] = np.ones(count, bool)
    sizes = {"expression": config.model.n_expression, "shape": config.model.n_shape}
    for name, width in (sizes | {"jaw": 3, "eyelid": 2}).items():
        batch[name] = rng.standard_normal((count, width)).astype(np.float32)
    for name in ("valence", "arousal"):
        batch[name] = rng.uniform(-1, 1, count).astype(np.float32)
    for name in ("annotated_68", "flame", "shape", "va", "emotion"):
        batch[f"has_{name}"] = np.ones(count, bool)
    return batch


@functools.cache
def tiny_parts(
    batch_size: int = 8,
    dtype: str = "float32",
    synthesizer: str = "teaser",
    backbone: str = STRIDED,
):
    """(config, plan, initial state) of a tiny run."""
    config = tiny_config(batch_size, synthesizer, backbone)
    config.model.dtype = dtype
    plan = setup.plan(config, random_head())
    variables = init_variables(plan.recipe.model, jax.random.key(0))
    return config, plan, create_state(variables, plan.recipe.optimizer, keep_base=True)


def tiny_run(
    steps: int = 1, phase: str = "B", how: str = "pmap", synthesizer: str = "teaser"
) -> tuple[TrainState, dict]:
    """Runs a few mapped iterations of a phase on one device."""
    config, plan, state = tiny_parts(synthesizer=synthesizer)
    chosen = next(p for p in plan.phases if p.name == phase)
    iterate = map_iteration(plan.recipe, chosen, how=how, devices=jax.devices()[:1])
    state = jax.tree.map(np.array, state)
    for i in range(steps):
        batch = tiny_batch(config, seed=i)
        state, metrics = iterate(i, state, batch, jax.random.key(1), plan.assets)
    return state, jax.device_get(metrics)
