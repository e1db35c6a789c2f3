"""A small network that reads emotion from pictures, for the loss that compares its features (ours).

SMIRK and TEASER compare features of EMOCA's ResNet-50 (`resnet`), whose weights are licensed. This
one stands in for it where they are not at hand: it is trained on the labels that are.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from fields_jax.emotions import N_EMOTIONS
from fields_jax.models.residual import ResidualNetwork

NAME = "emotion network"  # in the meta item of its checkpoint


class EmotionNetwork(nn.Module):
    """Pictures to features, class logits, valence and arousal.

    Attributes:
      width, depth: of the residual backbone, the larger of `residual.VARIANTS`.
      dtype: of the backbone's computation.
    """

    width: float = 1.0
    depth: float = 1.0
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, image: Float[Array, "B H W 3"], train: bool = False
    ) -> tuple[Float[Array, "B D"], Float[Array, "B 8"], Float[Array, " B"], Float[Array, " B"]]:
        """Features and what is read from them, nothing bounded.

        The features are means over the picture, in standard deviations of the training set, so that
        the mean squared difference of two pictures that have nothing in common is about 2 whatever
        the network. `train` uses and updates the statistics of batches.
        """
        backbone = ResidualNetwork("large", self.width, self.depth, self.dtype, name="backbone")
        x = backbone(2 * image - 1, train)[-1].astype(jnp.float32).mean(axis=(1, 2))
        features = nn.BatchNorm(
            use_running_average=not train,
            momentum=0.99,
            use_bias=False,
            use_scale=False,
            use_fast_variance=False,
            name="standard",
        )(x)
        logits = nn.Dense(N_EMOTIONS, name="logits")(features)
        affect = nn.Dense(2, name="affect")(features)
        return features, logits, affect[:, 0], affect[:, 1]
