"""Encoders: image to coefficients and to appearance tokens, each with a backbone of its own.

As in SMIRK and TEASER, images enter as RGB in [0, 1] with no mean removed, and one linear layer
reads the pooled features. The heads compute in float32 whatever the dtype of the backbone.
Submodules are named after the reference's, so that a converter only has to split names.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float

from fields_jax.geometry.rotations import rodrigues
from fields_jax.models.backbones import BACKBONES
from fields_jax.models.layers import at_least_float32, average_pool, linear, torch_uniform

CAMERA_SCALE = 7.0  # at the start: a face fills most of its crop (SMIRK)
JAW_SWAY = 0.2  # largest jaw rotation about y and about z, radians (SMIRK)
AJAR = 0.05  # bias of eyelids and jaw opening at the start (ours)
TOKEN_GRIDS = (1, 2, 4, 8)  # cells to a side that each token sees, coarsest first (TEASER)

# Of a clip: one number, or one for each column.
Bound = float | tuple[float, ...]

_EXACT = dict(precision=jax.lax.Precision.HIGHEST)
_HEAD = dict(dtype=None, **_EXACT)


class Encoder(nn.Module):
    """What the encoders share.

    Attributes:
      width, depth: multipliers of the backbone, see `backbones.Backbone`.
      dtype: of the backbone's computation.
      axis_name: mapped axis over which training synchronises batch statistics.
      remat: compute the backbone's blocks again in the gradient instead of keeping them.
      backbone: a name of `BACKBONES`.
    """

    width: float = 1.0
    depth: float = 1.0
    dtype: Any = jnp.float32
    axis_name: str | None = None
    remat: bool = False
    backbone: str = "mobilenet_v3"

    def features(self, variant: str, image: Array, train: bool) -> list[Array]:
        """The five features of the backbone; called once, from the compact method."""
        settings = (self.width, self.depth, self.dtype, self.axis_name, self.remat)
        backbone = BACKBONES[self.backbone](variant, *settings, name="encoder")
        return [at_least_float32(x) for x in backbone(image, train)]

    def pooled(self, variant: str, image: Array, train: bool) -> Array:
        """[B, C] means over the image of the deepest features."""
        return self.features(variant, image, train)[-1].mean(axis=(1, 2))


class PoseEncoder(Encoder):
    """Head pose and camera. Starts at no rotation, scale `CAMERA_SCALE` and no translation.

    A head turns about its root, in the neck, so that any error of the rotation moves the face far
    away from where the camera should see it. With `face_centre`, the layer tells where the middle
    of the face is seen, which does not depend on the rotation, and the translation of the camera
    follows from both (ours).

    Attributes:
      face_centre: the root joint, and the middle of the face, [6] metres; empty: the layer tells
        the translation itself, as in SMIRK and TEASER.
    """

    face_centre: tuple[float, ...] = ()

    @nn.compact
    def __call__(
        self, image: Float[Array, "B H W 3"], train: bool = False
    ) -> tuple[Float[Array, "B 3"], Float[Array, "B 3"]]:
        """Returns pose (radians) and camera (scale, tx, ty)."""
        x = self.pooled("small", image, train)
        init = torch_uniform(x.shape[-1], scale=1e-3)
        x = nn.Dense(
            6,
            kernel_init=_with_entries(init, 3, 0.0),
            bias_init=_with_entries(init, 3, CAMERA_SCALE),
            name="pose_cam_layers_0",
            **_HEAD,
        )(x)
        pose, camera = x[:, :3], x[:, 3:]
        if self.face_centre:
            root, middle = np.reshape(np.asarray(self.face_centre, x.dtype), (2, 3))
            turned = jnp.einsum("bij,j->bi", rodrigues(pose), middle - root, **_EXACT) + root[None]
            offset = jnp.pad(turned[:, :2], ((0, 0), (1, 0)))
            camera = camera - offset
        return pose, camera


class ShapeEncoder(Encoder):
    """Identity coefficients, all zero at the start."""

    n_shape: int = 300

    @nn.compact
    def __call__(self, image: Float[Array, "B H W 3"], train: bool = False) -> Float[Array, "B S"]:
        x = self.pooled("large", image, train)
        return linear(x.shape[-1], self.n_shape, scale=0.0, name="shape_layers_0", **_HEAD)(x)


class ExpressionEncoder(Encoder):
    """Expression, eyelids and jaw, near zero at the start.

    Eyelids and jaw are clipped with a gradient that leads back into their ranges (`bounded`): a
    plain clip has none outside, and a data set of shut mouths silences the jaw for good. They start
    at `AJAR`, which is larger than what the features contribute at the start.

    Attributes:
      bounds: (lower, upper) of each expression coefficient, kept in the same way; empty: none.
    """

    n_expression: int = 50
    bounds: tuple[tuple[float, float], ...] = ()

    @nn.compact
    def __call__(
        self, image: Float[Array, "B H W 3"], train: bool = False
    ) -> tuple[Float[Array, "B E"], Float[Array, "B 2"], Float[Array, "B 3"]]:
        """Returns expression, eyelids in [0, 1], and jaw (radians; x opens, never negative)."""
        x = self.pooled("large", image, train)
        n = self.n_expression
        init = torch_uniform(x.shape[-1], scale=0.1)
        x = nn.Dense(
            n + 5,
            kernel_init=init,
            bias_init=_with_entries(init, slice(n, n + 3), AJAR),
            name="expression_layers_0",
            **_HEAD,
        )(x)
        expression, eyelid, opening, sway = jnp.split(x, (n, n + 2, n + 3), axis=-1)
        opening = bounded(opening, 0.0, jnp.inf)
        if self.bounds:
            expression = bounded(expression, *zip(*self.bounds, strict=True))
        jaw = jnp.concatenate([opening, bounded(sway, -JAW_SWAY, JAW_SWAY)], axis=-1)
        return expression, bounded(eyelid, 0.0, 1.0), jaw


@partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def bounded(x: Float[Array, "*N K"], low: Bound, high: Bound) -> Float[Array, "*N K"]:
    """A clip to [low, high]; outside, gradients pass if descent along them leads back inside.

    Args:
      x: any number of rows.
      low, high: one number for all, or one for each of the K columns.
    """
    return jnp.clip(x, _column(x, low), _column(x, high))


def _column(x: Array, bound: Bound) -> Array | float:
    if not isinstance(bound, tuple):
        return bound
    return jnp.asarray(bound, x.dtype).reshape((1,) * (x.ndim - 1) + (-1,))


def _bounded_forward(x: Array, low: Bound, high: Bound) -> tuple[Array, Array]:
    return bounded(x, low, high), x


def _bounded_backward(low: Bound, high: Bound, x: Array, gradient: Array) -> tuple[Array]:
    low, high = _column(x, low), _column(x, high)
    # Descent moves x against its gradient.
    outward = ((x <= low) & (gradient > 0)) | ((x >= high) & (gradient < 0))
    return (jnp.where(outward, 0, gradient),)


bounded.defvjp(_bounded_forward, _bounded_backward)


class TokenEncoder(Encoder):
    """Four appearance tokens, each from one depth of a small backbone, coarsest first.

    Features of stride 32, 16, 8 and 4 are averaged over `image_size / 32` pixels to a side (7 at
    the reference's 224) to grids of 1, 2, 4 and 8 cells: the token heads have the same size at
    every image size. The reference starts one unit of each head at a constant 7, copied from the
    camera's; here all start plainly.
    """

    token_dim: int = 256

    @nn.compact
    def __call__(
        self, image: Float[Array, "B H W 3"], train: bool = False
    ) -> Float[Array, "B 4 D"]:
        _, *shallow, deepest = self.features("small", image, train)
        tokens = []
        for k, (x, grid) in enumerate(zip((deepest, *shallow[::-1]), TOKEN_GRIDS, strict=True)):
            # Channels first before flattening: the order of the reference's weights.
            x = average_pool(x, grid).transpose(0, 3, 1, 2).reshape(x.shape[0], -1)
            tokens.append(
                linear(x.shape[-1], self.token_dim, name=f"token_layers_{k}_0", **_HEAD)(x)
            )
        return jnp.stack(tokens, axis=1)


def _with_entries(
    init: nn.initializers.Initializer, index: int | slice, value: float
) -> nn.initializers.Initializer:
    """An initialiser whose entries at some places of the last axis are a constant."""
    return lambda key, shape, dtype: init(key, shape, dtype).at[..., index].set(value)
