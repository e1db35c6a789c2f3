"""The synthesiser's input: the geometry map, and the photograph without the face."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
from jaxtyping import Array, Float, Int, Key

from fields_jax.render.camera import project
from fields_jax.render.shade import geometry_map
from fields_jax.render.skin import SkinSettings, dilate, keep_skin
from fields_jax.types import FlameModel

# TEASER grows the hole by 10 pixels at 224; other sizes keep the proportion.
_DILATION = 10 / 224


@dataclasses.dataclass(frozen=True)
class Masking:
    """How the masked image is made.

    Attributes:
      dilation: growth of the face hull, fraction of the image's height.
      skin: SMIRK's pixels of the skin, or None for TEASER's bare mask.
    """

    dilation: float
    skin: SkinSettings | None = None


def make_masking(config: Any) -> Masking:
    """The masking of a config: `losses.dilation` and, for SMIRK's synthesiser, `skin`."""
    smirk = config.model.synthesizer == "smirk"
    return Masking(config.losses.dilation, SkinSettings(**config.skin) if smirk else None)


def sample_keys(key: jax.Array, index: Int[Array, " B"]) -> Key[Array, " B"]:
    """A key for each sample, by its place in the whole batch or set."""
    return jax.vmap(lambda i: jax.random.fold_in(key, i))(index)


def synthesizer_input(
    masking: Masking,
    head: FlameModel,
    vertices: Float[Array, "B V 3"],
    camera: Float[Array, "B 3"],
    image: Float[Array, "B H W 3"],
    face_mask: Float[Array, "B H W"],
    keys: Key[Array, " B"],
    *,
    seen: Float[Array, "B V 3"] | None = None,
) -> tuple[Float[Array, "B H W 1"], Float[Array, "B H W 3"]]:
    """The geometry map of a head and the photograph with the face taken out.

    Gradients reach the vertices and the camera through the geometry map only.

    Args:
      masking: how the face is taken out.
      head: FLAME or the procedural head.
      vertices: [B, V, 3] metres, the head to be painted.
      camera: [B, 3] (scale, tx, ty).
      image: [B, H, W, 3] the photograph.
      face_mask: [B, H, W], 1 outside the hull of the face in the photograph.
      keys: one for each sample; see `sample_keys`. TEASER's masking draws nothing.
      seen: [B, V, 3] metres, the head in the photograph; None where it is the one to be painted.

    Returns:
      Geometry map [B, H, W, 1] and masked image [B, H, W, 3].
    """
    size = image.shape[1]
    geometry, mask = geometry_map(head, vertices, camera, size)
    masked = masked_image(image, face_mask, mask, dilation=round(masking.dilation * size))
    if (skin := masking.skin) is None:
        return geometry, masked
    after = project(vertices, camera)
    before = after if seen is None else project(seen, camera)
    drop = skin.drop if seen is None else skin.cycle_drop
    masked = keep_skin(keys, head, masked, image, before, after, settings=skin, drop=drop)
    return geometry, masked


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
    visible = around_face(face_mask.astype(image.dtype), rendered_mask.astype(image.dtype), radius)
    return image * jax.lax.stop_gradient(visible)[..., None]


def around_face(
    face_mask: Float[Array, "B H W"], rendered_mask: Float[Array, "B H W"], dilation: int
) -> Float[Array, "B H W"]:
    """1 where the masked image shows the photograph, 0 where the synthesiser has to fill it.

    Args:
      face_mask: [B, H, W], 1 outside the hull of the face, 0 inside.
      rendered_mask: [B, H, W], 1 where the geometry map shows the face.
      dilation: pixels by which the hull grows in every direction, as a square.
    """
    return (1 - dilate(1 - face_mask, dilation)) * (1 - rendered_mask)
