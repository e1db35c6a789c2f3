"""VGG16 features, in whose space the perceptual loss compares images.

Simonyan & Zisserman 2015, "Very deep convolutional networks for large-scale image recognition",
configuration D up to relu4_3. The parameters come from a converted file; they are never trained.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from fields_jax.models.layers import LOSS_PRECISION, at_least_float32, max_pool

# Channels of the convolutions of each stage, and the index of its first in torchvision's list,
# which counts convolutions, ReLUs and pools; the names of the parameters follow it.
STAGES = ((0, (64, 64)), (5, (128, 128)), (10, (256, 256, 256)), (17, (512, 512, 512)))

# Mean and deviation of ImageNet's RGB in [0, 1], which the network was trained with.
MEAN = (0.485, 0.456, 0.406)
DEVIATION = (0.229, 0.224, 0.225)


class VGG16Features(nn.Module):
    """Image to the features relu1_2, relu2_2, relu3_3 and relu4_3, float32.

    Like the reference, it first halves the contrast, `0.5 * image + 0.5`, as though images were in
    [-1, 1] and not in [0, 1]: the published weights of the perceptual loss suppose that. Images
    keep their size; the reference's are 224 pixels.
    """

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, image: Float[Array, "B H W 3"]) -> tuple[Float[Array, "B h w C"], ...]:
        mean, deviation = (jnp.array([[[v]]], image.dtype) for v in (MEAN, DEVIATION))
        x = (0.5 * image + 0.5 - mean) / deviation
        taps = []
        for stage, (first, widths) in enumerate(STAGES):
            if stage:
                x = max_pool(x)
            for k, width in enumerate(widths):
                name = f"features_{first + 2 * k}"
                given = dict(dtype=self.dtype, precision=LOSS_PRECISION, name=name)
                layer = nn.Conv(width, (3, 3), **given)
                x = nn.relu(layer(x))
            taps.append(at_least_float32(x))
        return tuple(taps)
