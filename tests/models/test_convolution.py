"""3x3 and 1x1 convolutions: CPU forms against XLA's convolution, in values and gradients."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from fields_jax.models import convolution
from fields_jax.models.convolution import Conv3x3, PointwiseConv, conv3x3
from tests.support.networks import KEY, normal, quick_jit

# Forms sum in different orders; errors are relative to an array's largest entry.
ROUNDING = {jnp.float32: 3e-6, jnp.float64: 1e-14}


def value_and_gradients(form, x, kernel):
    """Output, and gradients of its product with fixed weights, in one program."""

    def graded(x, kernel):
        y, pull = jax.vjp(form, x, kernel)
        return y, *pull(jnp.asarray(normal(9, *y.shape), y.dtype))

    return quick_jit(graded)(x, kernel)


def assert_equal_up_to_rounding(found, expected, tolerance):
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * float(jnp.abs(b).max()))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.parametrize("padding", [0, 1])
def test_winograd_equals_convolution_in_value_and_gradients(padding, dtype):
    with jax.enable_x64(dtype == jnp.float64):
        x = jnp.asarray(normal(0, 2, 8 - 2 * padding, 6, 5), dtype)
        kernel = jnp.asarray(normal(1, 3, 3, 5, 7), dtype)
        found = value_and_gradients(
            lambda x, k: convolution.conv3x3_by_winograd(x, k, padding), x, kernel
        )
        plain = partial(convolution.conv3x3_by_conv, padding=padding)
        assert_equal_up_to_rounding(found, value_and_gradients(plain, x, kernel), ROUNDING[dtype])


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("padding", "image"), [(0, (4, 9)), (1, (4, 7)), (1, (2, 2)), (1, (1, 3))])
def test_patches_equal_convolution_in_value_and_gradients(padding, image, stride, dtype):
    with jax.enable_x64(dtype == jnp.float64):
        x = jnp.asarray(normal(0, 2, *image, 5), dtype)
        kernel = jnp.asarray(normal(1, 3, 3, 5, 7), dtype)
        forms = convolution.conv3x3_by_patches, convolution.conv3x3_by_conv
        found, expected = (
            value_and_gradients(partial(form, padding=padding, stride=stride), x, kernel)
            for form in forms
        )
        assert_equal_up_to_rounding(found, expected, ROUNDING[dtype])


@pytest.mark.parametrize(
    ("image", "padding", "stride", "small"),
    [(2, 1, 1, True), (3, 1, 1, False), (4, 0, 1, True), (4, 1, 2, True), (5, 1, 2, False)],
)
def test_results_smaller_than_the_kernel_are_products_on_cpus(image, padding, stride, small):
    x, kernel = normal(0, 2, image, image, 8), normal(1, 3, 3, 8, 16)
    traced = jax.jit(lambda x, k: conv3x3(x, k, padding, stride)).trace(x, kernel)
    for platform, product in (("cpu", small), ("cuda", False), ("tpu", False)):
        text = traced.lower(lowering_platforms=(platform,)).as_text()
        assert ("stablehlo.convolution" in text) != product


@pytest.mark.parametrize("padding", [0, 1])
@pytest.mark.parametrize(
    ("image", "inputs", "dtype"),
    [((9, 16), 128, "float32"), ((12, 12), 3, "float32"), ((12, 12), 128, "bfloat16")],
)
def test_odd_images_few_channels_and_half_precision_are_convolved(padding, image, inputs, dtype):
    x = jnp.asarray(normal(0, 1, *image, inputs), dtype)
    kernel = jnp.asarray(normal(1, 3, 3, inputs, 128), dtype)
    found = value_and_gradients(lambda x, k: conv3x3(x, k, padding), x, kernel)
    plain = partial(convolution.conv3x3_by_conv, padding=padding)
    for a, b in zip(found, value_and_gradients(plain, x, kernel), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(("platform", "plain"), [("cpu", False), ("cuda", True), ("tpu", True)])
def test_each_platform_gets_its_form_in_both_directions(platform, plain):
    loss = lambda x, k: conv3x3(x, k).sum()  # noqa: E731
    args = normal(0, 2, 8, 8, 64), normal(1, 3, 3, 64, 128)
    traced = jax.jit(jax.value_and_grad(loss, argnums=(0, 1))).trace(*args)
    text = traced.lower(lowering_platforms=(platform,)).as_text()
    assert ("stablehlo.convolution" in text) == plain


def test_mapped_over_devices():
    x, kernel = normal(0, jax.local_device_count(), 2, 8, 8, 64), normal(1, 3, 3, 64, 128)
    graded = jax.value_and_grad(lambda x: (conv3x3(x, kernel) ** 2).sum())
    found = jax.pmap(graded)(x)
    for k in range(len(x)):
        assert_equal_up_to_rounding([each[k] for each in found], graded(x[k]), 3e-6)


@pytest.mark.parametrize(
    ("ours", "flax"),
    [
        (Conv3x3(4), nn.Conv(4, (3, 3))),
        (
            Conv3x3(4, padding=0, use_bias=False),
            nn.Conv(4, (3, 3), padding="VALID", use_bias=False),
        ),
        (Conv3x3(128), nn.Conv(128, (3, 3))),
        (Conv3x3(4, stride=2), nn.Conv(4, (3, 3), strides=2)),
        (PointwiseConv(4, initializer=nn.initializers.normal()), nn.Conv(4, (1, 1))),
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_modules_take_the_parameters_of_flax(ours, flax, dtype):
    x = normal(0, 2, 8, 10, ours.features)
    ours, flax = ours.clone(dtype=dtype), flax.clone(dtype=dtype)
    variables = ours.init(KEY, x)
    shapes = lambda tree: jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), tree)  # noqa: E731
    assert shapes(variables) == shapes(flax.init(KEY, x))
    found, expected = ours.apply(variables, x), flax.apply(variables, x)
    assert found.dtype == expected.dtype
    tolerance = 3e-6 if dtype == "float32" else 2**-6
    np.testing.assert_allclose(
        found.astype(float),
        expected.astype(float),
        rtol=0,
        atol=tolerance * jnp.abs(expected).max(),
    )
