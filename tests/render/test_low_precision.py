"""Inputs in bfloat16 and float16: values and gradients equal those of their float32 cast."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fields_jax.render import antialias, interpolate, rasterize
from tests.support.meshes import posed_spheres


def check_value_and_gradients(function, inputs):
    """Of a function whose result has its inputs' type."""

    def evaluate(*inputs):
        value, pull = jax.vjp(function, *inputs)
        # Exact in every type; at 1024 pixels larger ones have gradients beyond float16.
        sign = jnp.where(jnp.arange(value.size) % 3 < 1, -1 / 64, 1 / 64).reshape(value.shape)
        return value, *pull(sign.astype(value.dtype))

    exact = evaluate(*(array.astype(jnp.float32) for array in inputs))
    for low, full in zip(evaluate(*inputs), exact, strict=True):
        assert low.dtype == inputs[0].dtype and np.isfinite(low).all()
        np.testing.assert_array_equal(low, full.astype(low.dtype))
        assert np.abs(full).max() > 0.01


@pytest.mark.parametrize("size", [(224, 224), (64, 1024)])
def test_low_precision_inputs_are_computed_in_float32(size):
    rng = np.random.default_rng(0)
    vertices, faces = posed_spheres(rng, zooms=(0.8,))
    attributes, image = rng.normal(size=vertices.shape), rng.normal(size=(1, *size, 1))
    for dtype in (jnp.bfloat16, jnp.float16):
        low = jnp.asarray(vertices, dtype)
        fragments = rasterize(low, faces, size)
        same = rasterize(low.astype(jnp.float32), faces, size)
        jax.tree.map(np.testing.assert_array_equal, fragments, same)
        assert np.mean(fragments.face_index >= 0) > 0.3
        check_value_and_gradients(
            lambda vertices, attributes, f=fragments: interpolate(f, vertices, faces, attributes),
            (low, jnp.asarray(attributes, dtype)),
        )
        check_value_and_gradients(
            lambda image, vertices, f=fragments: antialias(image, f, vertices, faces),
            (jnp.asarray(image, dtype), low),
        )
        # Types promote; what rasterize tells is never less than float32.
        full = jnp.float32(attributes)
        assert interpolate(fragments, low, faces, full).dtype == jnp.float32
        assert interpolate(fragments, full, faces, low).dtype == jnp.float32
        assert fragments.depth.dtype == fragments.barycentric.dtype == jnp.float32
