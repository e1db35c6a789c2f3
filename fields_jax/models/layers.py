"""Parts the networks share: initialisers, and operations with a fast CPU form.

XLA's CPU backend is slow on grouped convolutions, on the kernel gradient of strided transposed
convolutions and on the gradient of windowed maxima. Each of these has a second form here, equal in
value, which compiled code takes on CPU and nowhere else. The choice is made when a program is
lowered: it costs nothing at run time, and an export for another platform gets that platform's form.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import lax
from jaxtyping import Array, Float

from fields_jax.platforms import per_platform

NHWC = ("NHWC", "HWIO", "NHWC")  # of convolutions: images, kernels, results
# Of frozen float32 networks in losses, which see small differences of pictures: TPUs, which would
# round to bfloat16, multiply three times; GPUs take TF32.
LOSS_PRECISION = lax.Precision.HIGH


def uniform(bound: float) -> nn.initializers.Initializer:
    """U(-bound, bound)."""

    def init(key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Array:
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


def torch_uniform(fan_in: int, scale: float = 1.0) -> nn.initializers.Initializer:
    """Torch's default for kernels and biases, U(+-1/sqrt(fan_in)), times a constant."""
    return uniform(scale / math.sqrt(fan_in))


def linear(inputs: int, features: int, *, scale: float = 1.0, **kwargs: Any) -> nn.Dense:
    """A dense layer that starts like torch's, times `scale`."""
    init = torch_uniform(inputs, scale)
    return nn.Dense(features, kernel_init=init, bias_init=init, **kwargs)


def at_least_float32(x: Array) -> Array:
    """Raises half precision to float32 and leaves the rest."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def rematerialized(block: type[nn.Module], active: bool, *static: int) -> type[nn.Module]:
    """The block, or a version that is computed again in the gradient instead of kept in memory.

    Args:
      block: a module class; parameters keep their names.
      active: False leaves it as it is.
      static: positions of the call's arguments that are not arrays; the module itself is 0.
    """
    return nn.remat(block, static_argnums=static) if active else block


class UpConv(nn.Module):
    """Transposed convolution 2x2 with stride 2: doubles the image; no two outputs overlap.

    Output (2h + i, 2w + j) is `x[h, w] @ kernel[i, j] + bias`; kernel is [2, 2, inputs, features].
    Both start like torch's, whose fan-in counts the output channels of a transposed convolution.
    """

    features: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "B H W I"]) -> Float[Array, "B 2*H 2*W O"]:
        init = torch_uniform(4 * self.features)
        kernel = self.param("kernel", init, (2, 2, x.shape[-1], self.features))
        bias = self.param("bias", init, (self.features,))
        x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias, dtype=self.dtype)
        return up_conv(x, kernel) + bias[None, None, None]


def up_conv(
    x: Float[Array, "B H W I"], kernel: Float[Array, "2 2 I O"]
) -> Float[Array, "B 2*H 2*W O"]:
    """Transposed convolution 2x2 with stride 2, see `UpConv`."""
    return per_platform(x, kernel, cpu=up_conv_by_matmul, default=up_conv_by_conv)


def up_conv_by_conv(x: Array, kernel: Array) -> Array:
    """`up_conv` as a convolution of the dilated image."""
    flipped = kernel[::-1, ::-1]
    return lax.conv_transpose(x, flipped, (2, 2), "VALID", dimension_numbers=NHWC)


def up_conv_by_matmul(x: Array, kernel: Array) -> Array:
    """`up_conv` as one matrix product and an interleaving."""
    batch, rows, columns, _ = x.shape
    blocks = jnp.einsum("bhwc,ijco->bhiwjo", x, kernel)
    return blocks.reshape(batch, 2 * rows, 2 * columns, -1)


def max_pool(x: Float[Array, "B H W C"]) -> Float[Array, "B H//2 W//2 C"]:
    """Maximum of each 2x2 window; an odd last row or column is dropped.

    Where entries of a window tie, TPUs give the gradient to the first and others share it among
    them. After a ReLU the ties are zeros, whose gradient the ReLU drops anyway.
    """
    return per_platform(x, tpu=max_pool_by_window, default=max_pool_by_pairs)


def max_pool_by_window(x: Array) -> Array:
    """`max_pool` as a windowed reduction, whose gradient GPUs scatter at twice the bytes."""
    return nn.max_pool(x, (2, 2), (2, 2), "VALID")


def max_pool_by_pairs(x: Array) -> Array:
    """`max_pool` as maxima of pairs.

    The gradient of one maximum over two axes divides by the number of entries equal to the maximum.
    Where XLA recomputes an entry in another fusion that number can be 0, and the gradient NaN.
    """
    batch, rows, columns, channels = x.shape
    rows, columns = rows // 2, columns // 2
    x = x[:, : 2 * rows, : 2 * columns].reshape(batch, rows, 2, columns, 2, channels)
    x = jnp.maximum(x[:, :, 0], x[:, :, 1])
    return jnp.maximum(x[:, :, :, 0], x[:, :, :, 1])


def average_pool(x: Float[Array, "B H W C"], grid: int) -> Float[Array, "B g g C"]:
    """Means of `grid` by `grid` equal blocks; the image must divide evenly."""
    batch, rows, columns, channels = x.shape
    return x.reshape(batch, grid, rows // grid, grid, columns // grid, channels).mean(axis=(2, 4))


def upsample(x: Float[Array, "B H W C"]) -> Float[Array, "B 2*H 2*W C"]:
    """Doubles an image bilinearly between pixel centres, edges repeated."""
    return per_platform(
        x, cpu=upsample_by_pairs, tpu=upsample_by_conv, default=upsample_by_gathering
    )


def upsample_by_conv(x: Array) -> Array:
    """`upsample` as one grouped convolution of the dilated image.

    Interleaving rows and columns takes TPUs seven times as many bytes to and from memory.
    """
    channels = x.shape[-1]
    taps = jnp.array([1, 3, 3, 1], x.dtype) / 4
    kernel = jnp.broadcast_to(jnp.outer(taps, taps)[..., None, None], (4, 4, 1, channels))
    y = lax.conv_general_dilated(
        x,
        kernel,
        (1, 1),
        [(2, 2), (2, 2)],
        lhs_dilation=(2, 2),
        dimension_numbers=NHWC,
        feature_group_count=channels,
        precision=lax.Precision.HIGHEST,
    )
    # The convolution sees zeros outside, in place of a quarter of the repeated edge.
    rows, columns = (jnp.ones(n).at[jnp.array([0, -1])].set(4 / 3) for n in y.shape[1:3])
    return (at_least_float32(y) * jnp.outer(rows, columns)[None, ..., None]).astype(x.dtype)


def upsample_by_pairs(x: Array) -> Array:
    """`upsample` as weighted sums of neighbours, interleaved along one axis after the other."""
    return _double(_double(x, 1, False), 2, False)


def upsample_by_gathering(x: Array) -> Array:
    """`upsample` as weighted sums of neighbours, each looked up for every pixel.

    GPUs do that in one pass; they copy an image to pad or interleave it.
    """
    return _double(_double(x, 1, True), 2, True)


@partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _double(x: Array, axis: int, gathered: bool) -> Array:
    # Output centres lie a quarter pixel to either side of each input centre.
    if gathered:
        near, odd = np.divmod(np.arange(2 * x.shape[axis]), 2)
        return 0.75 * _look_up(x, near, axis) + 0.25 * _look_up(x, near + 2 * odd - 1, axis)
    padded = _repeat_edges(x, axis)
    before, after = (lax.slice_in_dim(padded, i, i + x.shape[axis], axis=axis) for i in (0, 2))
    pair = jnp.stack([0.75 * x + 0.25 * before, 0.75 * x + 0.25 * after], axis=axis + 1)
    return pair.reshape(*x.shape[:axis], 2 * x.shape[axis], *x.shape[axis + 1 :])


def _double_forward(x: Array, axis: int, gathered: bool) -> tuple[Array, None]:
    return _double(x, axis, gathered), None


def _double_backward(axis: int, gathered: bool, _: None, dy: Array) -> tuple[Array]:
    # What autodiff makes of the slices, sums of padded images, is ten times slower on CPUs, and of
    # looking up, a scattered sum. Each pixel is in four of the output.
    if gathered:
        first = np.arange(0, dy.shape[axis], 2)
        parts = (_look_up(dy, first + i, axis) for i in (-1, 0, 1, 2))
    else:
        padded, stop = _repeat_edges(dy, axis), dy.shape[axis] - 1
        parts = (lax.slice_in_dim(padded, i, i + stop, 2, axis=axis) for i in range(4))
    far, near, near_too, far_too = parts
    return (0.75 * (near + near_too) + 0.25 * (far + far_too),)


_double.defvjp(_double_forward, _double_backward)


def _look_up(x: Array, index: np.ndarray, axis: int) -> Array:
    """Slices of x, the first and the last for those before and behind."""
    index = np.clip(index, 0, x.shape[axis] - 1)
    places = x.at[(slice(None),) * axis + (index,)]
    return places.get(mode="promise_in_bounds", indices_are_sorted=True)


def _repeat_edges(x: Array, axis: int) -> Array:
    return jnp.pad(x, [(1, 1) if a == axis else (0, 0) for a in range(x.ndim)], mode="edge")
