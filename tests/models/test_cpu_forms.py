"""Forms for XLA's CPU backend."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fields_jax.models.cpu_forms import apart, sums


def affine(x, y, *, factor):
    return factor * x + jnp.sin(y)


def test_calls_apart_share_one_function_and_stay_calls():
    def program(x, y):
        return apart(affine, apart(affine, x, y, factor=2), y, factor=2) + 1

    x, y = (jnp.asarray(np.random.default_rng(k).normal(size=(4, 5))) for k in (0, 1))
    np.testing.assert_allclose(program(x, y), 2 * (2 * x + np.sin(y)) + np.sin(y) + 1, rtol=1e-5)
    lowered = jax.jit(program).lower(x, y)
    assert lowered.as_text().count("func.func private") == 1
    assert lowered.compile().as_text().count("to_apply=") == 2  # not one was inlined


def test_what_is_called_apart_is_fused_inside():
    text = jax.jit(lambda x: apart(affine, x, x, factor=3)).lower(jnp.ones(8)).compile().as_text()
    assert text.count(" call(") == 1  # the functions of jax.numpy in it are inlined


def test_gradients_go_through():
    found = jax.grad(lambda x: apart(affine, x, x, factor=3).sum())(jnp.ones(3))
    np.testing.assert_allclose(found, np.full(3, 3 + np.cos(1)), rtol=1e-6)


@pytest.mark.parametrize("shape", [(16, 3, 2, 5), (7, 4, 4, 3), (1, 1, 6, 2), (11, 2, 3, 1)])
@pytest.mark.parametrize("axes", [(0, 1, 2), (1, 2)])
def test_sums_of_several_arrays(shape, axes):
    values = [np.random.default_rng(k).normal(size=shape).astype(np.float32) for k in range(3)]
    found = sums([jnp.asarray(v) for v in values], axes)
    for value, total in zip(values, found, strict=True):
        np.testing.assert_allclose(total, value.sum(axes), rtol=1e-4, atol=1e-5)
