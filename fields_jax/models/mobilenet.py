"""MobileNetV3 "minimal" backbones: no squeeze-and-excite, ReLU throughout, 3x3 kernels only.

Architecture of Howard et al. 2019 ("Searching for MobileNetV3") in the TensorFlow variants that
SMIRK and TEASER use, tf_mobilenetv3_{small,large}_minimal_100. Submodules are named after theirs.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any, NamedTuple

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from fields_jax.models.convolution import DepthwiseConv, PointwiseConv
from fields_jax.models.layers import rematerialized
from fields_jax.models.normalization import BatchNorm

# He's variance by the fan-out, as is usual for this family, uniform because that compiles fastest.
# Ours: the reference starts from ImageNet.
_INIT = nn.initializers.variance_scaling(2.0, "fan_out", "uniform")


class Row(NamedTuple):
    """A block of the table: expanded channels (0: depthwise-separable), output channels, stride."""

    expanded: int
    features: int
    stride: int


class Variant(NamedTuple):
    """A backbone at width and depth 1.

    Attributes:
      stages: rows of each stage.
      last: channels of the final 1x1 convolution.
      taps: stages after which features of stride 2, 4, 8, 16 are read; 0 is the stem.
    """

    stages: tuple[tuple[Row, ...], ...]
    last: int
    taps: tuple[int, ...]


VARIANTS = {
    "small": Variant(
        stages=(
            (Row(0, 16, 2),),
            (Row(72, 24, 2), Row(88, 24, 1)),
            (Row(96, 40, 2), Row(240, 40, 1), Row(240, 40, 1)),
            (Row(120, 48, 1), Row(144, 48, 1)),
            (Row(288, 96, 2), Row(576, 96, 1), Row(576, 96, 1)),
        ),
        last=576,
        taps=(0, 1, 2, 4),
    ),
    "large": Variant(
        stages=(
            (Row(0, 16, 1),),
            (Row(64, 24, 2), Row(72, 24, 1)),
            (Row(72, 40, 2), Row(120, 40, 1), Row(120, 40, 1)),
            (Row(240, 80, 2), Row(200, 80, 1), Row(184, 80, 1), Row(184, 80, 1)),
            (Row(480, 112, 1), Row(672, 112, 1)),
            (Row(672, 160, 2), Row(960, 160, 1), Row(960, 160, 1)),
        ),
        last=960,
        taps=(1, 2, 3, 5),
    ),
}


def scale_channels(channels: int, width: float) -> int:
    """Channels times width, to the nearest multiple of 8, at least 8."""
    return max(8, int(channels * width / 8 + 0.5) * 8)


def scale_row(row: Row, width: float) -> Row:
    """A row with its channels scaled; a block without expansion stays without."""
    expanded = scale_channels(row.expanded, width) if row.expanded else 0
    return Row(expanded, scale_channels(row.features, width), row.stride)


def scale_stage(rows: tuple[Row, ...], depth: float) -> tuple[Row, ...]:
    """The first `ceil(depth * len(rows))` rows; beyond the last, it is repeated at stride 1."""
    count = max(1, math.ceil(depth * len(rows)))
    more = (rows[-1]._replace(stride=1),) * (count - len(rows))
    return rows[:count] + more


class Block(nn.Module):
    """Inverted residual, or depthwise-separable block where nothing is expanded; linear output."""

    row: Row
    dtype: Any = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "B H W I"], train: bool) -> Float[Array, "B h w O"]:
        norm = partial(backbone_norm, train=train, dtype=self.dtype, axis_name=self.axis_name)
        expanded, features, stride = self.row
        depthwise = DepthwiseConv(stride, self.dtype, name="conv_dw")
        if expanded:
            y = norm("bn1")(_conv(expanded, self.dtype, "conv_pw")(x), relu=True)
            y = norm("bn2")(depthwise(y), relu=True)
            y = norm("bn3")(_conv(features, self.dtype, "conv_pwl")(y))
        else:
            y = norm("bn1")(depthwise(x), relu=True)
            y = norm("bn2")(_conv(features, self.dtype, "conv_pw")(y))
        return x + y if stride == 1 and x.shape == y.shape else y


class LastBlock(nn.Module):
    """1x1 convolution to the channels of the deepest features."""

    features: int
    dtype: Any = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "B H W I"], train: bool) -> Float[Array, "B H W O"]:
        norm = backbone_norm("bn1", train=train, dtype=self.dtype, axis_name=self.axis_name)
        return norm(_conv(self.features, self.dtype, "conv")(x), relu=True)


class MobileNetV3(nn.Module):
    """Image to features of stride 2, 4, 8, 16 and 32.

    Attributes:
      variant: "small" or "large".
      width: multiplier of every channel count, rounded by `scale_channels`.
      depth: multiplier of the blocks of each stage, see `scale_stage`.
      dtype: of the computation.
      axis_name: mapped axis over which training synchronises batch statistics.
      remat: compute blocks again in the gradient, see `rematerialized`.
    """

    variant: str
    width: float = 1.0
    depth: float = 1.0
    dtype: Any = jnp.float32
    axis_name: str | None = None
    remat: bool = False

    @nn.compact
    def __call__(
        self, image: Float[Array, "B H W 3"], train: bool = False
    ) -> tuple[Float[Array, "B h w C"], ...]:
        stages, last, taps = VARIANTS[self.variant]
        common = dict(dtype=self.dtype, axis_name=self.axis_name)
        x = nn.Conv(
            scale_channels(16, self.width),
            (3, 3),
            strides=2,
            use_bias=False,
            dtype=self.dtype,
            kernel_init=_INIT,
            name="conv_stem",
        )(image)
        x = backbone_norm("bn1", train=train, **common)(x, relu=True)
        block, last_block = (rematerialized(b, self.remat, 2) for b in (Block, LastBlock))
        outputs = [x]
        for i, rows in enumerate(stages):
            for j, row in enumerate(scale_stage(rows, self.depth)):
                scaled = scale_row(row, self.width)
                x = block(scaled, **common, name=f"blocks_{i}_{j}")(x, train)
            outputs.append(x)
        features = scale_channels(last, self.width)
        x = last_block(features, **common, name=f"blocks_{len(stages)}_0")(x, train)
        return (*(outputs[tap] for tap in taps), x)


def _conv(features: int, dtype: Any, name: str) -> PointwiseConv:
    return PointwiseConv(features, use_bias=False, dtype=dtype, initializer=_INIT, name=name)


def backbone_norm(name: str, *, train: bool, dtype: Any, axis_name: str | None) -> BatchNorm:
    """The normalisation of the backbones, by the batch's statistics where they are trained."""
    return BatchNorm(
        use_running_average=not train, epsilon=1e-3, dtype=dtype, axis_name=axis_name, name=name
    )
