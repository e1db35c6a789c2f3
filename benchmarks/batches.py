"""Random batches with every label, for timing the training step without a data pipeline."""

from __future__ import annotations

import numpy as np
from ml_collections import ConfigDict

from fields_jax.batch import batch_spec, training_arrays
from fields_jax.emotions import EMOTIONS


def random_batch(config: ConfigDict) -> dict[str, np.ndarray]:
    """One batch of the size and image size of a training config, always the same."""
    rng = np.random.default_rng(0)
    sizes = dict(n_expression=config.model.n_expression, n_shape=config.model.n_shape)
    fields = training_arrays(batch_spec(config.batch_size, config.image_size, **sizes))
    tops = {"image": 256, "face_mask": 2, "emotion": len(EMOTIONS)}

    def draw(name, field):
        if name.startswith("has_"):
            return np.ones(field.shape, field.dtype)
        if field.dtype.startswith("float"):
            return rng.uniform(-1, 1, field.shape).astype(field.dtype)
        return rng.integers(0, tops.get(name, 1), field.shape, field.dtype)

    return {name: draw(name, field) for name, field in fields.items()}
