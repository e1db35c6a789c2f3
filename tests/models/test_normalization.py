"""Normalisation against flax's and against its parts one after another, in values and gradients."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from fields_jax.models import normalization
from tests.support.networks import KEY, normal, quick_jit

AXIS = "devices"
STATISTICS = dict(momentum=0.9, epsilon=1e-3)
RUN = dict(mutable=["batch_stats"])


def images(dtype=jnp.float32):
    """Four images of which the channels have means and deviations of their own."""
    spread, means = np.array([0.5, 1, 2]), np.array([-3, 0, 1])
    return jnp.asarray(spread * normal(0, 4, 5, 6, 3) + means, dtype)


def modulation():
    return normal(1, 4, 3), normal(2, 4, 3)


def variables():
    return {
        "params": {"scale": 1 + 0.3 * normal(3, 3), "bias": normal(4, 3)},
        "batch_stats": {"mean": normal(5, 3), "var": 1 + normal(6, 3) ** 2},
    }


def one_pass(variables, x, modulation, *, relu, train, axis_name=None):
    norm = normalization.BatchNorm(not train, dtype=x.dtype, axis_name=axis_name, **STATISTICS)
    return norm.apply(variables, x, modulation, relu=relu, **RUN)


def step_by_step(variables, x, modulation, *, relu, train, axis_name=None):
    norm = nn.BatchNorm(not train, dtype=x.dtype, axis_name=axis_name, **STATISTICS)
    y, new = norm.apply(variables, x, **RUN)
    if modulation is not None:
        gamma, beta = modulation
        z = y.astype(jnp.promote_types(y.dtype, jnp.float32))
        z = z - z.mean((1, 2), keepdims=True)
        z *= jax.lax.rsqrt((z**2).mean((1, 2), keepdims=True) + STATISTICS["epsilon"])
        y = (z * (1 + gamma[:, None, None]) + beta[:, None, None]).astype(x.dtype)
    return (nn.relu(y) if relu else y), new


def graded(form, x, modulation):
    """((result, statistics), gradients) of a random functional, over the axis if there is one."""

    def loss(params, x, modulation):
        y, new = form(variables() | {"params": params}, x, modulation)
        weight = jnp.asarray(normal(7, 4, 5, 6, 3)).reshape(-1, *y.shape)
        weight = weight[jax.lax.axis_index(AXIS) if len(weight) > 1 else 0]
        return (y.astype(weight.dtype) * weight).sum(), (y, new)

    grad = jax.grad(loss, argnums=(0, 1, 2), has_aux=True)
    return grad(variables()["params"], x, modulation)[::-1]


def assert_close(found, expected, tolerance):
    def close(a, b):
        a, b = np.asarray(a, float), np.asarray(b, float)
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * max(np.abs(b).max(), 1))

    jax.tree.map(close, found, expected)


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("modulated", [True, False])
def test_one_pass_equals_the_steps(modulated, relu, train):
    given = images(), modulation() if modulated else None
    found, expected = quick_jit(
        lambda: tuple(
            graded(partial(form, relu=relu, train=train), *given)
            for form in (one_pass, step_by_step)
        )
    )()
    assert_close(found, expected, 2e-5)


@pytest.mark.parametrize("modulated", [True, False])
def test_statistics_span_a_mapped_axis(modulated):
    given = images(), modulation() if modulated else None
    shards = jax.tree.map(lambda v: v.reshape(2, 2, *v.shape[1:]), given)
    run = dict(relu=True, train=True)

    def over_axis(form):
        form = partial(form, axis_name=AXIS, **run)
        return jax.vmap(partial(graded, form), axis_name=AXIS)(*shards)

    found, expected = quick_jit(lambda: (over_axis(one_pass), over_axis(step_by_step)))()
    assert_close(found, expected, 2e-5)
    whole, _ = quick_jit(lambda: graded(partial(one_pass, **run), *given))()
    assert_close(found[0][0].reshape(whole[0].shape), whole[0], 1e-5)


def test_variables_are_named_and_shaped_as_by_flax():
    x = images()
    made = normalization.BatchNorm(False, **STATISTICS).init(KEY, x)
    jax.tree.map(np.testing.assert_array_equal, made, nn.BatchNorm(False).init(KEY, x))


@pytest.mark.parametrize(("devices", "collectives"), [(1, 0), (2, 2)])
def test_each_direction_needs_one_collective(devices, collectives):
    form = partial(one_pass, relu=True, train=True, axis_name=AXIS)
    trace = jax.make_jaxpr(partial(graded, form), axis_env=[(AXIS, devices)])
    assert str(trace(images(), modulation())).count(" psum") == collectives


def test_half_precision_is_no_worse_than_step_by_step():
    half = images(jnp.bfloat16)
    run = dict(relu=True, train=True)
    exact, found, plain = quick_jit(
        lambda: (
            graded(partial(step_by_step, **run), half.astype(jnp.float32), modulation()),
            graded(partial(one_pass, **run), half, modulation()),
            graded(partial(step_by_step, **run), half, modulation()),
        )
    )()
    (y, _), (_, d_x, _) = found
    assert y.dtype == d_x.dtype == jnp.bfloat16

    def error(tree):
        gaps = jax.tree.map(lambda a, b: jnp.sum((a.astype(b.dtype) - b) ** 2), tree[1], exact[1])
        return float(sum(jax.tree.leaves(gaps))) ** 0.5

    assert error(found) <= error(plain)
