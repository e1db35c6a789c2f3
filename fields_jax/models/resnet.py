"""ResNet-50 features, in whose space the emotion-feature loss compares images.

He et al. 2016, "Deep residual learning for image recognition", in torchvision's form: the stride of
a block is in its 3x3 convolution. SMIRK and TEASER take EMOCA's network, trained on AffectNet for
classes, valence and arousal. The parameters come from a converted file; they are never trained.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from fields_jax.models.layers import LOSS_PRECISION, at_least_float32

STAGES = ((3, 64), (4, 128), (6, 256), (3, 512))  # blocks and inner width of each
EXPANSION = 4  # of a block's inner width
EPSILON = 1e-5  # torch's default


class ResNet50Features(nn.Module):
    """Image to the mean over its area of the 2048 deepest features, float32, always in eval mode.

    Like the reference's, it reads RGB in [0, 1] with no mean removed. Images keep their size, 224
    in the reference. Submodules are named after torchvision's.
    """

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, image: Float[Array, "B H W 3"]) -> Float[Array, "B 2048"]:
        x = _conv(self.dtype, 64, 7, 2, name="conv1")(image)
        x = nn.relu(_norm(self.dtype, name="bn1")(x))
        x = nn.max_pool(x, (3, 3), (2, 2), [(1, 1), (1, 1)])
        for stage, (blocks, width) in enumerate(STAGES, start=1):
            for k in range(blocks):
                stride = 2 if stage > 1 and k == 0 else 1
                x = Bottleneck(width, stride, self.dtype, name=f"layer{stage}_{k}")(x)
        return at_least_float32(x).mean(axis=(1, 2))


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions, added to their input or to a projection of it."""

    width: int
    stride: int
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "B H W I"]) -> Float[Array, "B h w O"]:
        conv, norm = partial(_conv, self.dtype), partial(_norm, self.dtype)
        outputs = EXPANSION * self.width
        y = nn.relu(norm(name="bn1")(conv(self.width, 1, 1, name="conv1")(x)))
        y = nn.relu(norm(name="bn2")(conv(self.width, 3, self.stride, name="conv2")(y)))
        y = norm(name="bn3")(conv(outputs, 1, 1, name="conv3")(y))
        if x.shape[-1] != outputs or self.stride > 1:
            x = conv(outputs, 1, self.stride, name="downsample_0")(x)
            x = norm(name="downsample_1")(x)
        return nn.relu(x + y)


def _conv(dtype: Any, features: int, size: int, stride: int, *, name: str) -> nn.Conv:
    # Padded on both sides like torch; SAME would pad images of even size at the end only.
    pads = [(size // 2, size // 2)] * 2
    given = dict(use_bias=False, dtype=dtype, precision=LOSS_PRECISION, name=name)
    return nn.Conv(features, (size, size), (stride, stride), pads, **given)


def _norm(dtype: Any, *, name: str) -> nn.BatchNorm:
    return nn.BatchNorm(use_running_average=True, epsilon=EPSILON, dtype=dtype, name=name)
