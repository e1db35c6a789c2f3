"""A small network that finds faces: on a grid of cells, whether a face is there, and its box."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from fields_jax.models.layers import upsample
from fields_jax.models.normalization import BatchNorm

STRIDE = 8  # pixels of the picture to a cell
DEEPEST = 32  # sides of pictures must be multiples of it
CHANNELS = 5  # of the answer: logit, offset of the centre from the cell's, log of width and height
_RARE = -4.0  # logit of a face before training: faces are few


class FinderNet(nn.Module):
    """Picture to one answer for each cell of STRIDE pixels.

    Features of strides 4 to 32 are joined at stride 8, so that a face of 14 pixels and one that
    fills the picture are found on the same grid.

    Attributes:
      widths: channels at strides 2, 4, 8, 16 and 32.
      dtype: of the computation.
    """

    widths: tuple[int, ...] = (16, 32, 48, 56, 48)
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, image: Float[Array, "B H W 3"], train: bool = False
    ) -> Float[Array, "B h w C"]:
        """Answers [B, H / STRIDE, W / STRIDE, CHANNELS] for pictures in [0, 1].

        Channel 0 is the logit of a face whose centre is in the cell; 1 and 2 are the way from the
        cell's centre to the face's, x and y, 3 and 4 the logarithms of its width and height, all in
        cells.
        """
        stem, fine, cell, coarse, deep = self.widths
        unit = partial(self._unit, train=train)
        x = unit(unit(2 * image - 1, stem, "stem", 2), fine, "down4", 2)
        x = unit(x, fine, "fine")
        x = unit(x, cell, "down8", 2)
        near = x = x + unit(unit(x, cell, "cell1"), cell, "cell2")
        x = unit(x, coarse, "down16", 2)
        middle = x = x + unit(x, coarse, "coarse")
        x = unit(x, deep, "down32", 2)
        far = x + unit(x, deep, "deep")
        across = partial(nn.Conv, cell, (1, 1), dtype=self.dtype)
        joined = across(name="from32")(upsample(far)) + across(name="from16")(middle)
        x = unit(near + upsample(joined), cell, "joined")
        answer = nn.Conv(CHANNELS, (1, 1), dtype=self.dtype, bias_init=_rarely, name="answer")(x)
        return answer.astype(jnp.float32)

    def _unit(self, x: Array, features: int, name: str, stride: int = 1, *, train: bool) -> Array:
        """A 3x3 convolution, normalised and rectified."""
        conv = nn.Conv(
            features,
            (3, 3),
            strides=stride,
            use_bias=False,
            dtype=self.dtype,
            kernel_init=nn.initializers.he_normal(),
            name=name,
        )
        norm = BatchNorm(use_running_average=not train, dtype=self.dtype, name=f"{name}_norm")
        return norm(conv(x), relu=True)


def _rarely(key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Array:
    """Biases of an untrained answer: no face, of a few cells."""
    return jnp.zeros(shape, dtype).at[0].set(_RARE).at[3:].set(1.5)
