"""The masked image: what the synthesiser may see of the photograph."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

# TEASER grows the hole by 10 pixels at 224; other sizes keep the proportion.
_DILATION = 10 / 224


def masked_image(
    image: Float[Array, "B H W 3"],
    face_mask: Float[Array, "B H W"],
    rendered_mask: Float[Array, "B H W"],
    *,
    dilation: int | None = None,
) -> Float[Array, "B H W 3"]:
    """The image with the grown hull of the face and the rendered face blacked out.

    The masks are constants to the gradient.

    Args:
      image: [B, H, W, 3].
      face_mask: [B, H, W], 1 outside the hull of the face, 0 inside.
      rendered_mask: [B, H, W], 1 where the geometry map shows the face.
      dilation: pixels by which the hull grows in every direction, as a square; the default is
        TEASER's 10 at 224 pixels, in proportion to the height.

    Raises:
      ValueError: masks of another size than the image, or a negative dilation.
    """
    for name, mask in (("face_mask", face_mask), ("rendered_mask", rendered_mask)):
        if mask.shape != image.shape[:3]:
            raise ValueError(f"{name} of shape {mask.shape} for images of shape {image.shape}")
    radius = round(_DILATION * image.shape[1]) if dilation is None else dilation
    if radius < 0:
        raise ValueError(f"dilation is {dilation}: it cannot be negative")
    hole = _dilate(1 - face_mask.astype(image.dtype), radius)
    visible = (1 - hole) * (1 - rendered_mask.astype(image.dtype))
    return image * jax.lax.stop_gradient(visible)[..., None]


def _dilate(mask: Float[Array, "B H W"], radius: int) -> Float[Array, "B H W"]:
    """Maximum over a square window, one axis after the other."""
    mask = jax.lax.stop_gradient(mask)
    for axis in (1, 2):
        window = [1, 1, 1]
        window[axis] = 2 * radius + 1
        mask = jax.lax.reduce_window(
            mask, -jnp.inf, jax.lax.max, window, window_strides=(1, 1, 1), padding="SAME"
        )
    return mask
