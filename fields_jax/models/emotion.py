"""Emotion head: coefficients to class logits, valence and arousal.

FIELDS (arXiv 2511.21245) reads emotion from expression and identity; the layers of its head are
not public. Width, depth and activation here are our choice. Batch norm is left out because
a batch mixes labelled and unlabelled sources.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from fields_jax.emotions import N_EMOTIONS

_SLOPE = 0.2  # of the leaky ReLU below zero
_Dense = partial(
    nn.Dense,
    kernel_init=nn.initializers.lecun_uniform(),  # outputs of the size of the inputs
    precision=jax.lax.Precision.HIGHEST,  # float32 on every device
)


class EmotionHead(nn.Module):
    """A multilayer perceptron on coefficients in standard deviations, in float32.

    Attributes:
      hidden: widths of the hidden layers.
      detach_shape: let no gradient reach the shape, so that emotion cannot be told by identity.
    """

    hidden: Sequence[int] = (512, 512)
    detach_shape: bool = False

    @nn.compact
    def __call__(
        self, expression: Float[Array, "B E"], shape: Float[Array, "B S"]
    ) -> tuple[Float[Array, "B 8"], Float[Array, " B"], Float[Array, " B"]]:
        """Returns logits, valence and arousal, none of them bounded."""
        if self.detach_shape:
            shape = jax.lax.stop_gradient(shape)
        x = jnp.concatenate([expression, shape], axis=-1)
        for k, features in enumerate(self.hidden):
            layer = _Dense(features, name=f"hidden_{k}")
            x = nn.leaky_relu(layer(x), _SLOPE)
        logits = _Dense(N_EMOTIONS, name="logits")(x)
        affect = _Dense(2, name="affect")(x)
        return logits, affect[:, 0], affect[:, 1]
