"""Helpers of the tests of networks."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

KEY = jax.random.key(0)
FACE_224 = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)


def quick_jit(function, **kwargs):
    """Compiles without optimisation: these programs run once or twice."""
    return jax.jit(function, compiler_options={"xla_backend_optimization_level": 0}, **kwargs)


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def size(tree) -> int:
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


def shapes(module: nn.Module, *args):
    return jax.eval_shape(module.init, KEY, *args)
