"""Convolutions of 3x3, 1x1 and single channels, each with a fast form for XLA's CPU backend.

On CPUs a 3x3 convolution of many channels is computed by Winograd's F(2x2, 3x3): 16 products for
four outputs instead of 36 (Lavin and Gray, "Fast algorithms for convolutional neural networks",
2016), and so are its two gradients; one whose result is smaller than its kernel is one product of
patches. A 1x1 convolution is a matrix product there, and one of single channels nine shifted
multiply-adds. Elsewhere, and where images are large or channels few, so that transforming costs
more than it saves, each is one plain convolution.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax
from jaxtyping import Array, Float

from fields_jax.models.cpu_forms import apart, sums
from fields_jax.models.layers import NHWC, torch_uniform, uniform
from fields_jax.platforms import per_platform

# Bounds within which Winograd's form was faster: channels in and out, entries of a tap, and pixels
# of an image. The batch must have a pixel for each channel, or transforming kernels costs too much.
_FEWEST_CHANNELS, _FEWEST_ENTRIES, _MOST_PIXELS = 64, 64 * 128, 64 * 64


class Conv3x3(nn.Module):
    """3x3 convolution with zeros around the image (SAME), or with none.

    The kernel is that of `nn.Conv`, [3, 3, inputs, features].

    Attributes:
      padding: 1 keeps the image's size, 0 takes a pixel off each side.
      stride: 1 or 2.
      initializer: of kernel and bias; None: torch's.
    """

    features: int
    padding: int = 1
    stride: int = 1
    use_bias: bool = True
    dtype: Any = jnp.float32
    initializer: nn.initializers.Initializer | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "B H W I"]) -> Float[Array, "B h w O"]:
        init = self.initializer or torch_uniform(9 * x.shape[-1])
        kernel = self.param("kernel", init, (3, 3, x.shape[-1], self.features))
        bias = self.param("bias", init, (self.features,)) if self.use_bias else None
        x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias, dtype=self.dtype)
        y = conv3x3(x, kernel, self.padding, self.stride)
        return y if bias is None else y + bias[None, None, None]


class PointwiseConv(nn.Module):
    """1x1 convolution; the kernel is that of `nn.Conv`, [1, 1, inputs, features].

    Attributes:
      initializer: of kernel and bias.
    """

    features: int
    use_bias: bool = True
    dtype: Any = jnp.float32
    initializer: nn.initializers.Initializer = nn.initializers.zeros_init()

    @nn.compact
    def __call__(self, x: Float[Array, "B H W I"]) -> Float[Array, "B H W O"]:
        kernel = self.param("kernel", self.initializer, (1, 1, x.shape[-1], self.features))
        bias = self.param("bias", self.initializer, (self.features,)) if self.use_bias else None
        x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias, dtype=self.dtype)
        y = pointwise_conv(x, kernel)
        return y if bias is None else y + bias[None, None, None]


class DepthwiseConv(nn.Module):
    """3x3 convolution of every channel by itself, SAME padding, no bias.

    The kernel has the layout of `nn.Conv` with as many groups as channels, [3, 3, 1, C]. It starts
    uniform with He's variance of 2 / fan-out, which is 9 for each channel.
    """

    stride: int = 1
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B h w C"]:
        init = uniform(math.sqrt(3 * 2 / 9))
        kernel = self.param("kernel", init, (3, 3, 1, x.shape[-1]))
        x, kernel = nn.dtypes.promote_dtype(x, kernel, dtype=self.dtype)
        return depthwise_conv(x, kernel, self.stride)


# Jitted, so that layers of one shape are traced once.
@partial(jax.jit, static_argnames=("padding", "stride"))
def conv3x3(
    x: Float[Array, "B H W I"], kernel: Float[Array, "3 3 I O"], padding: int = 1, stride: int = 1
) -> Float[Array, "B h w O"]:
    """3x3 convolution, as networks call it: kernel[1 + i, 1 + j] weighs the pixel at (+i, +j).

    With a padding of 1 and a stride of 2 the last pixels of even sides are in the middle of their
    kernels, as SAME padding has it.
    """
    plain = partial(conv3x3_by_conv, padding=padding, stride=stride)
    if stride == 1 and _favours_winograd(x, kernel, padding):
        on_cpu = lambda x, kernel: conv3x3_by_winograd(x, kernel, padding)  # noqa: E731
    elif _favours_patches(x, padding, stride):
        on_cpu = partial(conv3x3_by_patches, padding=padding, stride=stride)
    else:
        return plain(x, kernel)
    return per_platform(x, kernel, cpu=on_cpu, default=plain)


def conv3x3_by_conv(x: Array, kernel: Array, *, padding: int, stride: int = 1) -> Array:
    """`conv3x3` as XLA's convolution."""
    pads = _pads(x, padding, stride)
    return lax.conv_general_dilated(x, kernel, (stride, stride), pads, dimension_numbers=NHWC)


def conv3x3_by_patches(x: Array, kernel: Array, *, padding: int, stride: int = 1) -> Array:
    """`conv3x3` as one matrix product of all 3x3 patches, which are written out."""
    taps = _taps(x, _pads(x, padding, stride), stride)
    patches = jnp.concatenate(taps, -1)
    product = patches.reshape(-1, patches.shape[-1]) @ kernel.reshape(-1, kernel.shape[-1])
    return product.reshape(*patches.shape[:-1], -1)


def _pads(x: Array, padding: int, stride: int) -> list[tuple[int, int]]:
    kind = "SAME" if padding else "VALID"
    return lax.padtype_to_pads(x.shape[1:3], (3, 3), (stride, stride), kind)


def _taps(x: Array, pads: Sequence[tuple[int, int]], stride: int) -> list[Array]:
    """What each entry of a 3x3 kernel sees of a padded image, nine times [B, h, w, C]."""
    x = jnp.pad(x, ((0, 0), *pads, (0, 0)))
    batch, height, width, channels = x.shape
    strides = (1, stride, stride, 1)
    return [
        lax.slice(x, (0, i, j, 0), (batch, height - 2 + i, width - 2 + j, channels), strides)
        for i in range(3)
        for j in range(3)
    ]


def _favours_patches(x: Array, padding: int, stride: int) -> bool:
    # XLA's CPU backend has a fast convolution, but not for results smaller than the kernel: 2x2
    # pixels took six times as long as their product of patches, forward and back.
    return -(-(min(x.shape[1:3]) + 2 * padding - 2) // stride) < 3


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
    target = source if target is None else target
    # Fused with the next transform, each entry would be computed four times.
    return apart(_transformed, x, line=line, source=source, target=target)


def _transformed(x: Array, *, line: _Line, source: int, target: int) -> Array:
    lines = [lax.index_in_dim(x, k, source, keepdims=False) for k in range(x.shape[source])]
    return jnp.stack(line(lines), target)


def _input_tiles(x: Array, padding: int) -> Array:
    """Transformed 4x4 inputs of each 2x2 block of outputs, [4, 4, B, H/2, W/2, I]."""
    return apart(_column_tiles, apart(_row_tiles, x, padding=padding))


def _row_tiles(x: Array, *, padding: int) -> Array:
    x = jnp.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    return jnp.stack(_input_line([x[:, i : i + x.shape[1] - 3 : 2] for i in range(4)]), 0)


def _column_tiles(x: Array) -> Array:
    return jnp.stack(_input_line([x[:, :, :, j : j + x.shape[3] - 3 : 2] for j in range(4)]), 1)


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


@jax.jit  # so that layers of one shape are traced once
def pointwise_conv(
    x: Float[Array, "B H W I"], kernel: Float[Array, "1 1 I O"]
) -> Float[Array, "B H W O"]:
    """1x1 convolution."""
    return per_platform(x, kernel, tpu=pointwise_conv_by_conv, default=pointwise_conv_by_matmul)


def pointwise_conv_by_conv(x: Array, kernel: Array) -> Array:
    """`pointwise_conv` as a convolution."""
    return lax.conv_general_dilated(x, kernel, (1, 1), "VALID", dimension_numbers=NHWC)


def pointwise_conv_by_matmul(x: Array, kernel: Array) -> Array:
    """`pointwise_conv` as one matrix product, which transposes no image, and no kernel on GPUs."""
    return (x.reshape(-1, x.shape[-1]) @ kernel[0, 0]).reshape(*x.shape[:-1], -1)


@partial(jax.jit, static_argnames="stride")  # so that layers of one shape are traced once
def depthwise_conv(
    x: Float[Array, "B H W C"], kernel: Float[Array, "3 3 1 C"], stride: int
) -> Float[Array, "B h w C"]:
    """3x3 convolution of every channel by itself, SAME padding."""
    return per_platform(
        x,
        kernel,
        cpu=partial(depthwise_conv_by_shifts, stride=stride),
        default=partial(depthwise_conv_by_groups, stride=stride),
    )


def depthwise_conv_by_groups(x: Array, kernel: Array, *, stride: int) -> Array:
    """`depthwise_conv` as one grouped convolution."""
    return lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        "SAME",
        dimension_numbers=NHWC,
        feature_group_count=x.shape[-1],
    )


@partial(jax.custom_vjp, nondiff_argnames=("stride",))
def depthwise_conv_by_shifts(x: Array, kernel: Array, stride: int) -> Array:
    """`depthwise_conv` as nine shifted multiply-adds, in forward and in gradient."""
    return apart(_sum_of_shifts, x, kernel, stride=stride)


def _sum_of_shifts(x: Array, kernel: Array, *, stride: int) -> Array:
    total = 0.0
    for i in range(3):
        for j in range(3):
            # Padded one by one, the products fuse with their sum; a padded x would be written out.
            total += _shift(x * kernel[None, None, i, j], (i, j), stride)
    return total


def _shift(x: Array, tap: tuple[int, int], stride: int) -> Array:
    """What the entry `tap` of a kernel is multiplied with, [B, h, w, C]."""
    config = [(0, 0, 0)]
    size = x.shape[1:3]
    for offset, (before, _), inputs in zip(tap, _pads(x, 1, stride), size, strict=True):
        outputs = -(-inputs // stride)
        after = (outputs - 1) * stride + 1 + offset - before - inputs
        config.append((before - offset, after, 0))
    x = lax.pad(x, jnp.zeros((), x.dtype), [*config, (0, 0, 0)])
    return x[:, ::stride, ::stride]


def _by_shifts_forward(x: Array, kernel: Array, stride: int) -> tuple[Array, tuple]:
    return depthwise_conv_by_shifts(x, kernel, stride), (x, kernel)


def _by_shifts_backward(stride: int, kept: tuple[Array, Array], d_y: Array) -> tuple[Array, Array]:
    return apart(_shifts_gradients, *kept, d_y, stride=stride)


def _shifts_gradients(x: Array, kernel: Array, d_y: Array, *, stride: int) -> tuple[Array, Array]:
    taps = partial(_taps, pads=_pads(x, 1, stride), stride=stride)

    def forward(x: Array) -> Array:  # whose transpose, unlike `_sum_of_shifts`'s, pads late
        entries = kernel.reshape(9, 1, 1, 1, -1)
        return sum(tap * entry for tap, entry in zip(taps(x), entries, strict=True))

    (d_x,) = jax.vjp(forward, x)[1](d_y)
    d_kernel = sums([tap * d_y for tap in taps(x)], (0, 1, 2))
    return d_x, jnp.stack(d_kernel).reshape(kernel.shape)


depthwise_conv_by_shifts.defvjp(_by_shifts_forward, _by_shifts_backward)
