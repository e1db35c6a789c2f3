"""The weak-perspective camera and the correspondence of image coordinates and pixels."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


def project(points: Float[Array, "B N 3"], camera: Float[Array, "B 3"]) -> Float[Array, "B N 3"]:
    """Image coordinates of points of the head's frame: X = s(x+tx), Y = -s(y+ty), Z = -sz.

    Translation comes before scale, as in SMIRK's and TEASER's renderer.

    Args:
      points: [B, N, 3] metres; x right in the image, y up, z toward the camera.
      camera: [B, 3] (scale, tx, ty); tx and ty in metres.

    Returns:
      [B, N, 3] image coordinates: x right and y down in [-1, 1] over the frame; smaller z nearer.
    """
    translation = jnp.pad(camera[:, 1:], ((0, 0), (0, 1)))
    flip = jnp.array([[[1, -1, -1]]], points.dtype)
    return camera[:, None, :1] * flip * (points + translation[:, None])


def reframe(
    camera: Float[Array, "3"],
    zoom: float | np.floating | Float[Array, ""],
    shift: Float[Array, "2"],
) -> Float[Array, "3"]:
    """The camera of another frame: it projects to zoom * (X, Y) + shift.

    Args:
      camera: [3] (scale, tx, ty).
      zoom: magnification.
      shift: [2] in image coordinates of the new frame, x right, y down.
    """
    scale = zoom * camera[0]
    moved = camera[1:] + jnp.array([1, -1], camera.dtype) * shift / scale
    return jnp.concatenate([scale[None], moved]).astype(camera.dtype)


def to_pixels(points: Float[Array, "*N 3"], size: tuple[int, int]) -> Float[Array, "*N 3"]:
    """Image coordinates in pixels, z unchanged; the centre of pixel (row i, column j) is (j, i).

    Args:
      points: [..., 3] with x and y in [-1, 1] over the frame.
      size: (height, width).
    """
    height, width = size
    half = jnp.array([width / 2, height / 2, 1], points.dtype)
    shift = jnp.array([(width - 1) / 2, (height - 1) / 2, 0], points.dtype)
    return points * jnp.broadcast_to(half, points.shape) + jnp.broadcast_to(shift, points.shape)


def at_least_single(array: Array) -> Float[Array, "..."]:
    """The array in the precision the renderer computes in: float32, or float64 if it has that."""
    array = jnp.asarray(array)
    return array.astype(jnp.promote_types(array.dtype, jnp.float32))


def image_shape(image_size: int | tuple[int, int]) -> tuple[int, int]:
    """(height, width) of a square size or of a pair.

    Raises:
      ValueError: not one or two positive whole numbers.
    """
    pair = (image_size, image_size) if np.ndim(image_size) == 0 else tuple(image_size)
    whole = all(isinstance(side, int | np.integer) and side > 0 for side in pair)
    if len(pair) != 2 or not whole:
        raise ValueError(f"image_size {image_size!r}: expected one or two positive whole numbers")
    return int(pair[0]), int(pair[1])
