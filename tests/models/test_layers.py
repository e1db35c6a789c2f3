"""Operations with two forms, and normalisation, by hand and against each other."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax.test_util import check_grads

from fields_jax.models import convolution, layers, mobilenet, synthesizer
from tests.support.networks import KEY, normal, quick_jit


def assert_same_value_and_gradients(one, other, *args):
    weight = normal(9, *jax.eval_shape(one, *args).shape)
    for form in (one, other):
        assert jax.eval_shape(form, *args).shape == weight.shape

    def graded(form):
        loss = lambda *args: jnp.vdot(form(*args), weight)  # noqa: E731
        return form(*args), jax.grad(loss, argnums=tuple(range(len(args))))(*args)

    found, expected = quick_jit(lambda: (graded(one), graded(other)))()
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=3e-6 * float(jnp.abs(b).max()))


def test_pointwise_forms_agree():
    assert_same_value_and_gradients(
        convolution.pointwise_conv_by_matmul,
        convolution.pointwise_conv_by_conv,
        normal(0, 2, 4, 3, 5),
        normal(1, 1, 1, 5, 7),
    )


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("image", [(6, 8), (7, 5), (5, 6), (1, 3)])
def test_depthwise_forms_agree(stride, image):
    x, kernel = normal(0, 2, *image, 3), normal(1, 3, 3, 1, 3)
    assert_same_value_and_gradients(
        lambda x, k: convolution.depthwise_conv_by_shifts(x, k, stride=stride),
        lambda x, k: convolution.depthwise_conv_by_groups(x, k, stride=stride),
        *(x, kernel),
    )


@pytest.mark.parametrize(("stride", "rows"), [(1, 5), (2, 5), (1, 6), (2, 6)])
def test_depthwise_is_same_padded(stride, rows):
    """Against loops: total padding as needed, the odd row at the bottom and right."""
    x, kernel = normal(0, 1, rows, rows, 2), normal(1, 3, 3, 1, 2)
    count = -(-rows // stride)
    before = max((count - 1) * stride + 3 - rows, 0) // 2
    expected = np.zeros((count, count, 2))
    for i, j, a, b in np.ndindex(count, count, 3, 3):
        r, c = i * stride + a - before, j * stride + b - before
        if 0 <= r < rows and 0 <= c < rows:
            expected[i, j] += x[0, r, c].astype(float) * kernel[a, b, 0]
    found = convolution.depthwise_conv(x, kernel, stride)[0]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_strided_same_padding_by_hand():
    """4x4 counts, ones kernel, stride 2: no padding at the top and left, one at the others."""
    x = np.arange(16, dtype=np.float32).reshape(1, 4, 4, 1)
    expected = [[0 + 1 + 2 + 4 + 5 + 6 + 8 + 9 + 10, 2 + 3 + 6 + 7 + 10 + 11],
                [8 + 9 + 10 + 12 + 13 + 14, 10 + 11 + 14 + 15]]  # fmt: skip
    ones = np.ones((3, 3, 1, 1), np.float32)
    np.testing.assert_array_equal(convolution.depthwise_conv(x, ones, 2)[0, ..., 0], expected)
    stem = nn.Conv(1, (3, 3), (2, 2), use_bias=False)
    found = stem.apply({"params": {"kernel": ones}}, x)
    np.testing.assert_array_equal(found[0, ..., 0], expected)


def test_up_conv_forms_agree_and_follow_the_definition():
    x, kernel = normal(0, 2, 3, 4, 5), normal(1, 2, 2, 5, 6)
    assert_same_value_and_gradients(layers.up_conv_by_matmul, layers.up_conv_by_conv, x, kernel)
    expected = np.zeros((2, 6, 8, 6))
    for h, w, i, j in np.ndindex(3, 4, 2, 2):
        expected[:, 2 * h + i, 2 * w + j] = x[:, h, w].astype(float) @ kernel[i, j]
    np.testing.assert_allclose(layers.up_conv(x, kernel), expected, atol=1e-5)


@pytest.mark.parametrize("image", [(4, 6), (5, 7)])
def test_max_pool_forms_agree_without_ties(image):
    x = np.random.default_rng(0).permutation(2 * 3 * math.prod(image)).astype(np.float32)
    x = x.reshape(2, *image, 3)
    assert_same_value_and_gradients(layers.max_pool_by_pairs, layers.max_pool_by_window, x)
    found = layers.max_pool(x)
    assert found[1, 1, 2, 0] == x[1, 2:4, 4:6, 0].max()


def test_pairs_share_the_gradient_of_ties_and_windows_give_it_to_the_first():
    x = jnp.array([[1.0, 3.0], [3.0, 2.0]]).reshape(1, 2, 2, 1)
    share = jax.grad(lambda x: layers.max_pool_by_pairs(x).sum())(x)
    first = jax.grad(lambda x: layers.max_pool_by_window(x).sum())(x)
    np.testing.assert_array_equal(share[0, ..., 0], [[0, 0.5], [0.5, 0]])
    np.testing.assert_array_equal(first[0, ..., 0], [[0, 1], [0, 0]])


@pytest.mark.parametrize(("platform", "grouped"), [("cpu", False), ("cuda", True), ("tpu", True)])
def test_each_platform_gets_its_form_in_both_directions(platform, grouped):
    loss = lambda x, k: convolution.depthwise_conv(x, k, 2).sum()  # noqa: E731
    args = normal(0, 1, 4, 4, 3), normal(1, 3, 3, 1, 3)
    traced = jax.jit(jax.value_and_grad(loss, argnums=(0, 1))).trace(*args)
    text = traced.lower(lowering_platforms=(platform,)).as_text()
    assert ("stablehlo.convolution" in text) == grouped
    if platform == "cpu":  # decided now, not at run time
        assert "conditional" not in traced.lower().compile().as_text()


UPSAMPLE_FORMS = (
    layers.upsample_by_conv,
    layers.upsample_by_gathering,
    layers.upsample_by_pairs,
)


def test_upsample_forms_agree_and_are_bilinear_between_pixel_centres():
    x = normal(0, 2, 3, 5, 2)
    resize = lambda x: jax.image.resize(x, (2, 6, 10, 2), "bilinear")  # noqa: E731
    for form in (layers.upsample, *UPSAMPLE_FORMS):
        assert_same_value_and_gradients(form, resize, x)


@pytest.mark.parametrize("size", [1, 2])
def test_upsample_of_few_pixels(size):
    x = normal(0, 1, size, size, 2)
    for form in UPSAMPLE_FORMS:
        assert_same_value_and_gradients(form, layers.upsample_by_pairs, x)


def test_upsample_forms_in_half_precision():
    x = jnp.asarray(normal(0, 2, 6, 5, 3), jnp.bfloat16)
    exact = layers.upsample_by_pairs(x.astype(jnp.float32))
    error = lambda form: float(jnp.sum((form(x).astype(jnp.float32) - exact) ** 2))  # noqa: E731
    assert layers.upsample_by_conv(x).dtype == jnp.bfloat16
    assert error(layers.upsample_by_conv) <= error(layers.upsample_by_pairs)


def test_average_pool_by_hand():
    x = normal(0, 2, 4, 4, 3)
    np.testing.assert_allclose(
        layers.average_pool(x, 2)[1, 0, 1], x[1, :2, 2:].mean((0, 1)), atol=1e-6
    )


def test_gradients_in_float64():
    with jax.enable_x64(True):
        x, kernel, token = (jnp.asarray(normal(k, *s), jnp.float64) for k, s in enumerate(
            [(2, 4, 4, 3), (3, 3, 1, 3), (2, 5)]
        ))  # fmt: skip
        check = dict(order=1, modes=("rev",), rtol=1e-6, atol=1e-6)
        check_grads(lambda x, k: convolution.depthwise_conv(x, k, 2), (x, kernel), **check)
        block = synthesizer.Block(3, adain_hidden=4, dtype=jnp.float64)
        variables = block.init(KEY, x, token, True)
        run = dict(train=True, mutable=["batch_stats"])
        apply = lambda x, t: block.apply(variables, x, t, **run)[0]  # noqa: E731
        assert apply(x, token).dtype == jnp.float64
        check_grads(apply, (x, token), **check)


def test_adaptive_instance_norm_by_hand():
    token = normal(1, 2, 5)
    adain = synthesizer.AdaptiveInstanceNorm(channels=3, hidden=4)
    variables = adain.init(KEY, token)
    p = jax.tree.map(lambda leaf: np.asarray(leaf, float), variables["params"])
    affine = lambda name, x: x @ p[name]["kernel"] + p[name]["bias"]  # noqa: E731
    hidden = np.maximum(affine("mlp_shared_0", token), 0)
    expected = affine("mlp_gamma", hidden), affine("mlp_beta", hidden)
    np.testing.assert_allclose(adain.apply(variables, token), expected, atol=1e-5)


def test_batch_statistics_by_hand_and_over_a_mapped_axis():
    x = normal(0, 4, 2, 2, 8)
    row = mobilenet.Row(0, 8, 1)
    alone, mapped = mobilenet.Block(row), mobilenet.Block(row, axis_name="devices")
    variables = alone.init(KEY, x, True)
    run = dict(train=True, mutable=["batch_stats"])
    y, new = alone.apply(variables, x, **run)

    depthwise = convolution.depthwise_conv(x, variables["params"]["conv_dw"]["kernel"], 1)
    stats = new["batch_stats"]["bn1"]
    np.testing.assert_allclose(stats["mean"], 0.1 * depthwise.mean((0, 1, 2)), atol=1e-6)
    np.testing.assert_allclose(stats["var"], 0.9 + 0.1 * depthwise.var((0, 1, 2)), atol=1e-6)

    shards = x.reshape(2, 2, *x.shape[1:])
    apply = lambda x: mapped.apply(variables, x, **run)  # noqa: E731
    both, news = jax.vmap(apply, axis_name="devices")(shards)
    np.testing.assert_allclose(both.reshape(y.shape), y, atol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a[1], b, atol=1e-6), news, new)
    # Eval mode needs no axis.
    mapped.apply(variables, x, train=False)
