"""3x3 and 1x1 convolutions with fast forms for XLA's CPU backend, and their modules.

On CPUs a 3x3 convolution of many channels is computed by Winograd's F(2x2, 3x3): 16 products for
four outputs instead of 36 (Lavin and Gray, "Fast algorithms for convolutional neural networks",
2016). Its two gradients are computed the same way. Elsewhere, and where images are large or
channels few, so that transforming costs more than it saves, it is one plain convolution.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax
from jaxtyping import Array, Float

from fields_jax.models.layers import torch_uniform

_NHWC = ("NHWC", "HWIO", "NHWC")
# Bounds within which Winograd's form was faster: channels in and out, entries of a tap, and pixels
# of an image. The batch must have a pixel for each channel, or transforming kernels costs too much.
_FEWEST_CHANNELS, _FEWEST_ENTRIES, _MOST_PIXELS = 64, 64 * 128, 64 * 64


class Conv3x3(nn.Module):
    """3x3 convolution with a padding of zeros, or with none; starts like torch's.

    The kernel is that of `nn.Conv`, [3, 3, inputs, features].

    Attributes:
      padding: 1 keeps the image's size, 0 takes a pixel off each side.
    """

    features: int
    padding: int = 1
    use_bias: bool = True
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "B H W I"]) -> Float[Array, "B h w O"]:
        init = torch_uniform(9 * x.shape[-1])
        kernel = self.param("kernel", init, (3, 3, x.shape[-1], self.features))
        bias = self.param("bias", init, (self.features,)) if self.use_bias else None
        x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias, dtype=self.dtype)
        y = conv3x3(x, kernel, self.padding)
        return y if bias is None else y + bias[None, None, None]


class Conv1x1(nn.Module):
    """1x1 convolution with the parameters of `nn.Conv`, as the matrix product that it is.

    XLA's CPU backend is slow on the gradients of a convolution of this size.
    """

    features: int
    dtype: Any = jnp.float32
    initializer: nn.initializers.Initializer = nn.initializers.zeros_init()

    @nn.compact
    def __call__(self, x: Float[Array, "B H W I"]) -> Float[Array, "B H W O"]:
        kernel = self.param("kernel", self.initializer, (1, 1, x.shape[-1], self.features))
        bias = self.param("bias", self.initializer, (self.features,))
        x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias, dtype=self.dtype)
        y = x.reshape(-1, x.shape[-1]) @ kernel[0, 0]  # flat: gradients without transposed copies
        return (y + bias[None]).reshape(*x.shape[:-1], -1)


@partial(jax.jit, static_argnames="padding")  # so that layers of one shape are traced once
def conv3x3(
    x: Float[Array, "B H W I"], kernel: Float[Array, "3 3 I O"], padding: int = 1
) -> Float[Array, "B h w O"]:
    """3x3 convolution, as networks call it: kernel[1 + i, 1 + j] weighs the pixel at (+i, +j)."""
    plain = partial(conv3x3_by_conv, padding=padding)
    if not _favours_winograd(x, kernel, padding):
        return plain(x, kernel)
    winograd = lambda x, kernel: conv3x3_by_winograd(x, kernel, padding)  # noqa: E731
    return lax.platform_dependent(x, kernel, cpu=winograd, default=plain)


def conv3x3_by_conv(x: Array, kernel: Array, *, padding: int) -> Array:
    """`conv3x3` as XLA's convolution."""
    pads = ((padding, padding),) * 2
    return lax.conv_general_dilated(x, kernel, (1, 1), pads, dimension_numbers=_NHWC)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def conv3x3_by_winograd(x: Array, kernel: Array, padding: int) -> Array:
    """`conv3x3` by F(2x2, 3x3); the output's sides must be even."""
    tiles = _input_tiles(x, padding)
    kernels = _transform(_kernel_line, _transform(_kernel_line, kernel, 0), 1)
    batch, rows, columns, _ = tiles.shape[2:]
    product = jnp.einsum("abni,abio->abno", _flat(tiles), kernels)
    lines = _transform(_output_line, product, 1, 2)  # [4, N, 2, O]
    lines = lines.reshape(4, batch, rows, 2 * columns, -1)
    return _transform(_output_line, lines, 0, 2).reshape(batch, 2 * rows, 2 * columns, -1)


def _winograd_forward(x: Array, kernel: Array, padding: int) -> tuple[Array, tuple[Array, Array]]:
    return conv3x3_by_winograd(x, kernel, padding), (x, kernel)


def _winograd_backward(padding: int, kept: tuple[Array, Array], dy: Array) -> tuple[Array, Array]:
    x, kernel = kept
    flipped = kernel[::-1, ::-1].transpose(0, 1, 3, 2)
    return conv3x3_by_winograd(dy, flipped, 2 - padding), _kernel_gradient(x, dy, padding)


conv3x3_by_winograd.defvjp(_winograd_forward, _winograd_backward)


def _kernel_gradient(x: Array, dy: Array, padding: int) -> Array:
    batch, rows, columns, features = dy.shape
    pairs = dy.reshape(batch, rows // 2, 2, columns, features)
    pairs = _transform(_slope_line, pairs, 2, 0).reshape(4, batch, rows // 2, columns // 2, 2, -1)
    slopes = _transform(_slope_line, pairs, 4, 1)
    product = jnp.einsum("abni,abno->abio", _flat(_input_tiles(x, padding)), _flat(slopes))
    return _transform(_tap_line, _transform(_tap_line, product, 1), 0)


def _favours_winograd(x: Array, kernel: Array, padding: int) -> bool:
    rows, columns = (n + 2 * padding - 2 for n in x.shape[1:3])
    inputs, outputs = kernel.shape[2:]
    return (
        min(inputs, outputs) >= _FEWEST_CHANNELS
        and inputs * outputs >= _FEWEST_ENTRIES
        and rows * columns <= _MOST_PIXELS
        and len(x) * rows * columns >= max(inputs, outputs)
        and rows % 2 == columns % 2 == 0
        # The sums before the products would round away half precision.
        and jnp.finfo(x.dtype).bits >= 32
    )


# In two dimensions each of Winograd's transforms is one for a line, applied to rows and columns.
_Line = Callable[[Sequence[Array]], list[Array]]


def _transform(line: _Line, x: Array, source: int, target: int | None = None) -> Array:
    """Transforms the entries along one axis, which becomes axis `target` (default: the same)."""
    lines = [lax.index_in_dim(x, k, source, keepdims=False) for k in range(x.shape[source])]
    return _stacked(line(lines), source if target is None else target)


def _stacked(lines: Sequence[Array], axis: int) -> Array:
    # Fused with the next transform, each entry would be computed four times.
    return lax.optimization_barrier(jnp.stack(lines, axis))


def _input_tiles(x: Array, padding: int) -> Array:
    """Transformed 4x4 inputs of each 2x2 block of outputs, [4, 4, B, H/2, W/2, I]."""
    x = jnp.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    rows, columns = (n - 3 for n in x.shape[1:3])
    x = _stacked(_input_line([x[:, i : i + rows : 2] for i in range(4)]), 0)
    return _stacked(_input_line([x[:, :, :, j : j + columns : 2] for j in range(4)]), 1)


def _input_line(x: Sequence[Array]) -> list[Array]:
    return [x[0] - x[2], x[1] + x[2], x[2] - x[1], x[1] - x[3]]


def _kernel_line(k: Sequence[Array]) -> list[Array]:
    return [k[0], (k[0] + k[1] + k[2]) / 2, (k[0] - k[1] + k[2]) / 2, k[2]]


def _output_line(y: Sequence[Array]) -> list[Array]:
    return [y[0] + y[1] + y[2], y[1] - y[2] - y[3]]


def _slope_line(dy: Sequence[Array]) -> list[Array]:  # transposed _output_line
    return [dy[0], dy[0] + dy[1], dy[0] - dy[1], -dy[1]]


def _tap_line(k: Sequence[Array]) -> list[Array]:  # transposed _kernel_line
    middle, difference = (k[1] + k[2]) / 2, (k[1] - k[2]) / 2
    return [k[0] + middle, difference, middle + k[3]]


def _flat(x: Array) -> Array:
    return x.reshape(4, 4, -1, x.shape[-1])
