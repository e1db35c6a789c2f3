"""The backbone of plain convolutions."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fields_jax.models.residual import VARIANTS, ResidualNetwork


def images(size=64, count=2):
    return jax.random.uniform(jax.random.key(0), (count, size, size, 3))


@pytest.mark.parametrize("variant", sorted(VARIANTS))
def test_features_have_the_strides_that_encoders_read(variant):
    model = ResidualNetwork(variant, 0.5, 0.5)
    features, _ = model.init_with_output(jax.random.key(1), images(), False)
    assert [each.shape[1] for each in features] == [32, 16, 8, 4, 2]
    widths = [max(8, round(channels / 2)) for channels in VARIANTS[variant].channels]
    assert [each.shape[-1] for each in features] == widths


def test_depth_multiplies_the_blocks():
    def blocks(depth):
        variables = ResidualNetwork("small", 0.5, depth).init(jax.random.key(1), images(), False)
        return sum(name.startswith("block_") for name in variables["params"])

    assert blocks(1.0) == 4 and blocks(2.0) == 8


def test_remat_changes_no_gradient():
    def gradient(remat):
        model = ResidualNetwork("small", 0.5, remat=remat)
        variables = model.init(jax.random.key(1), images(), True)

        def loss(params):
            out, _ = model.apply(
                {**variables, "params": params}, images(), True, mutable=["batch_stats"]
            )
            return jnp.sum(out[-1] ** 2)

        return jax.grad(loss)(variables["params"])

    plain, again = gradient(False), gradient(True)
    for a, b in zip(jax.tree.leaves(plain), jax.tree.leaves(again), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3)


def test_it_sees_where_things_are():
    """A bright spot moves the features' means, which encoders read, wherever the pool is even."""
    model = ResidualNetwork("small", 0.5)
    blank = jnp.zeros((1, 64, 64, 3))
    variables = model.init(jax.random.key(1), blank, False)
    left, right = (blank.at[:, 28:36, at : at + 8].set(1.0) for at in (4, 40))
    means = [model.apply(variables, each, False)[-1].mean((1, 2)) for each in (left, right)]
    assert float(jnp.abs(means[0] - means[1]).max()) > 1e-4
