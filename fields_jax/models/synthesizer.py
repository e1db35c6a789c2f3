"""Synthesiser: geometry map and masked image to a photograph, guided by appearance tokens.

A U-Net with residual blocks at its bottleneck (SMIRK). TEASER adds a modulation by a token after
each batch norm of its blocks, and a token decoder whose maps are added to the U-Net's through 1x1
convolutions that start at zero. Submodules are named after TEASER's, also in SMIRK's network.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from fields_jax.models.layers import (
    UpConv,
    at_least_float32,
    conv,
    linear,
    max_pool,
    rematerialized,
    upsample,
)
from fields_jax.models.normalization import BatchNorm

_EPSILON = 1e-5  # torch's default


class AdaptiveInstanceNorm(nn.Module):
    """A token's modulation of a layer: (gamma, beta), [B, C] each, float32 or better.

    Instance norm, then times `1 + gamma`, plus `beta`: `normalization.BatchNorm` does all of it.

    Attributes:
      channels: of the layer.
      hidden: width of the layer between token and modulation.
    """

    channels: int
    hidden: int = 128

    @nn.compact
    def __call__(
        self, token: Float[Array, "B D"]
    ) -> tuple[Float[Array, "B C"], Float[Array, "B C"]]:
        token = at_least_float32(token)
        shared = nn.relu(linear(token.shape[-1], self.hidden, name="mlp_shared_0")(token))
        gamma = linear(self.hidden, self.channels, name="mlp_gamma")(shared)
        return gamma, linear(self.hidden, self.channels, name="mlp_beta")(shared)


class Block(nn.Module):
    """Twice: 3x3 convolution, batch norm, modulation by the token if there is one, ReLU."""

    features: int
    adain_hidden: int = 128
    dtype: Any = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(
        self, x: Float[Array, "B H W I"], token: Float[Array, "B D"] | None, train: bool
    ) -> Float[Array, "B H W O"]:
        for k in (1, 2):
            x = _conv3(self, x, self.features, f"conv{k}", use_bias=False)
            modulation = None
            if token is not None:
                adain = AdaptiveInstanceNorm(self.features, self.adain_hidden, name=f"adain{k}")
                modulation = adain(token)
            x = _norm(self, train, f"norm{k}")(x, modulation, relu=True)
        return x


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions on reflected borders, added to their input."""

    dtype: Any = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"], train: bool) -> Float[Array, "B H W C"]:
        bare = dict(use_bias=False, padding="VALID")
        y = _conv3(self, _reflect(x), x.shape[-1], "conv_block_1", **bare)
        y = _norm(self, train, "conv_block_2")(y, relu=True)
        y = _conv3(self, _reflect(y), x.shape[-1], "conv_block_5", **bare)
        return x + _norm(self, train, "conv_block_6")(y)


class TokenDecoder(nn.Module):
    """Tokens to maps that double in size and halve in channels.

    Attributes:
      features: channels of each map, coarsest first.
    """

    features: tuple[int, ...]
    dtype: Any = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(
        self, tokens: Float[Array, "B 4 D"], size: int, train: bool
    ) -> list[Float[Array, "B H W C"]]:
        """Returns maps of 2, 4, 8, 16 times `size` pixels to a side; the last is in [-1, 1]."""
        finest_first = tokens[:, ::-1].reshape(len(tokens), -1)
        channels = self.features[0]
        x = linear(
            finest_first.shape[-1], channels * size**2, dtype=self.dtype, name="decoder_1_0"
        )(finest_first)
        # Channels first: the order of the reference's weights.
        x = x.reshape(-1, channels, size, size).transpose(0, 2, 3, 1)
        maps = []
        for k, features in enumerate(self.features, start=1):
            index = 3 if k == 1 else 1  # place in the reference's list of layers
            x = _conv3(self, upsample(x), features, f"decoder_{k}_{index}")
            x = _norm(self, train, f"decoder_{k}_{index + 1}")(x, relu=True)
            if k == len(self.features):
                x = jnp.tanh(_conv3(self, x, features, f"decoder_{k}_{index + 3}"))
            maps.append(x)
        return maps


class Synthesizer(nn.Module):
    """The U-Net. Image sides must be multiples of 16, and of 32 for the residual blocks' borders.

    Attributes:
      width: channels of the first block; they double at each of four halvings. 32 in TEASER.
      residual_blocks: at the bottleneck, which has `image_size / 16` pixels to a side. 5 in TEASER.
      token_dim: width of a token.
      adain_hidden: width of the layer between token and modulation.
      token_guided: False gives SMIRK's network, which takes no tokens.
      dtype: of the computation.
      axis_name: mapped axis over which training synchronises batch statistics.
      remat: compute blocks and token decoder again in the gradient instead of keeping them.
    """

    width: int = 32
    residual_blocks: int = 5
    adain_hidden: int = 128
    token_guided: bool = True
    dtype: Any = jnp.float32
    axis_name: str | None = None
    remat: bool = False

    @nn.compact
    def __call__(
        self,
        geometry: Float[Array, "B H W 1"],
        masked: Float[Array, "B H W 3"],
        tokens: Float[Array, "B 4 D"] | None,
        train: bool = False,
    ) -> Float[Array, "B H W 3"]:
        """Paints a face.

        Args:
          geometry: shaded render, 0 where empty.
          masked: the photograph with the face blanked out.
          tokens: coarsest first; only a token-guided network reads them.
          train: use and update batch statistics.

        Returns:
          An image in [0, 1], float32.
        """
        common = dict(dtype=self.dtype, axis_name=self.axis_name)
        coarse_to_fine = [tokens[:, k] if self.token_guided else None for k in range(4)]
        widths = [8 * self.width, 4 * self.width, 2 * self.width, self.width]

        def block(x: Array, features: int, token: Array | None, name: str) -> Array:
            kind = rematerialized(Block, self.remat, 3)
            return kind(features, self.adain_hidden, **common, name=name)(x, token, train)

        # The reference's render has three equal channels.
        x = jnp.concatenate([jnp.repeat(geometry, 3, axis=-1), masked], axis=-1)
        skips = []
        for k in (1, 2, 3, 4):
            x = block(x, widths[4 - k], coarse_to_fine[4 - k], f"encoder{k}")
            skips.append(x)
            x = max_pool(x)
        x = block(x, 16 * self.width, coarse_to_fine[0], "bottleneck")
        for k in range(self.residual_blocks):
            kind = rematerialized(ResidualBlock, self.remat, 2)
            x = kind(**common, name=f"resnet_blocks_{k}")(x, train)

        if self.token_guided:
            kind = rematerialized(TokenDecoder, self.remat, 2, 3)
            decoder = kind(tuple(widths), **common, name="token_decoder")
            maps = decoder(tokens, x.shape[1], train)
        for k in (4, 3, 2, 1):
            features, token = widths[4 - k], coarse_to_fine[4 - k]
            x = UpConv(features, self.dtype, name=f"upconv{k}")(x)
            x = block(jnp.concatenate([x, skips.pop()], axis=-1), features, token, f"decoder{k}")
            if self.token_guided:
                x += _zero_conv(features, self.dtype, f"token_zero_conv_{k}")(maps[4 - k])
        x = conv(self.width, 3, 1, dtype=self.dtype, name="conv")(x)
        return nn.sigmoid(at_least_float32(x))


def _conv3(module: nn.Module, x: Array, features: int, name: str, **kwargs: Any) -> Array:
    return conv(x.shape[-1], features, 3, dtype=module.dtype, name=name, **kwargs)(x)


def _norm(module: nn.Module, train: bool, name: str) -> BatchNorm:
    return BatchNorm(
        use_running_average=not train,
        epsilon=_EPSILON,
        dtype=module.dtype,
        axis_name=module.axis_name,
        name=name,
    )


def _zero_conv(features: int, dtype: Any, name: str) -> nn.Conv:
    zero = nn.initializers.zeros_init()
    return nn.Conv(features, (1, 1), dtype=dtype, kernel_init=zero, name=name)


def _reflect(x: Array) -> Array:
    return jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect")
