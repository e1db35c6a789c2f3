"""Pictures for people: points, overlays and grids on arrays of images, without a plot library."""

from __future__ import annotations

import io
from collections.abc import Sequence

import jax
import numpy as np
from etils import epath
from jaxtyping import Float, UInt8
from PIL import Image

from fields_jax.files import write_whole

GREEN = (0, 255, 0)
_EFFORT = 4  # of packing PNGs, of 9: photographs in six tenths of the time of 6, a twentieth larger


def to_uint8(images: np.ndarray | jax.Array) -> np.ndarray:
    """Images as 8-bit; floats are taken to lie in [0, 1] and are clipped."""
    images = np.asarray(images)
    if images.dtype == np.uint8:
        return images
    return np.round(np.clip(np.nan_to_num(images), 0, 1) * 255).astype(np.uint8)


def draw_points(
    images: np.ndarray,
    points: Float[np.ndarray, "B N 2"],
    color: Sequence[int] = GREEN,
    *,
    radius: float | None = None,
) -> UInt8[np.ndarray, "B H W 3"]:
    """The images with a disc at each point.

    Args:
      images: [B, H, W, 3] uint8, or floats in [0, 1].
      points: [B, N, 2] x right, y down in [-1, 1] over the frame; points that are not finite or
        lie outside are left out.
      color: red, green, blue in 0..255.
      radius: pixels; the default is 1/112 of the height, at least 0.5.

    Raises:
      ValueError: points and images of different batch sizes.
    """
    images, points = to_uint8(images).copy(), np.asarray(points, np.float64)
    if len(points) != len(images):
        raise ValueError(f"points for {len(points)} images, but {len(images)} images")
    height, width = images.shape[1:3]
    radius = max(height / 112, 0.5) if radius is None else radius
    reach = int(np.ceil(radius))
    dy, dx = np.mgrid[-reach : reach + 1, -reach : reach + 1].reshape(2, -1)
    disc = dx**2 + dy**2 <= radius**2
    dy, dx = dy[disc], dx[disc]

    sample, point = np.nonzero(np.all(np.abs(points[..., :2]) <= 1, axis=-1))
    place = (points[sample, point, :2] + 1) * [width / 2, height / 2]
    centre = np.minimum(np.floor(place).astype(int), [width - 1, height - 1])
    column, row = centre[:, :1] + dx, centre[:, 1:] + dy
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    sample = np.broadcast_to(sample[:, None], inside.shape)
    images[sample[inside], row[inside], column[inside]] = color
    return images


def overlay(
    images: np.ndarray,
    geometry: Float[np.ndarray, "B H W 1"],
    mask: Float[np.ndarray, "B H W"],
    alpha: float = 0.7,
) -> UInt8[np.ndarray, "B H W 3"]:
    """The geometry map laid over the images where the mask is 1.

    Args:
      images: [B, H, W, 3] uint8, or floats in [0, 1].
      geometry: [B, H, W, 1] in [0, 1].
      mask: [B, H, W] coverage in [0, 1].
      alpha: opacity of the geometry.
    """
    weight = alpha * np.asarray(mask)[..., None]
    blended = (1 - weight) * (to_uint8(images) / 255) + weight * np.asarray(geometry)
    return to_uint8(blended)


def grid(columns: Sequence[np.ndarray]) -> UInt8[np.ndarray, "R C 3"]:
    """One picture with a row per image and a column per kind of image.

    Args:
      columns: arrays [B, H, W, 3] or [B, H, W, 1], uint8 or floats in [0, 1], all of one B, H, W.

    Raises:
      ValueError: no columns, or columns that differ in B, H or W.
    """
    shapes = {np.shape(column)[:3] for column in columns}
    if len(shapes) != 1:
        raise ValueError(f"grid columns of shapes {sorted(shapes)}: they must agree in B, H and W")
    rgb = [np.broadcast_to(to_uint8(column), (*np.shape(column)[:3], 3)) for column in columns]
    return np.concatenate([np.concatenate(list(column), axis=0) for column in rgb], axis=1)


def save_png(path: epath.PathLike, image: np.ndarray) -> None:
    """Writes an image [H, W, 3] or [H, W], uint8 or floats in [0, 1], whole, and its folder.

    Raises:
      ValueError: an array that is not an image.
    """
    write_whole(path, png_bytes(image))


def png_bytes(image: np.ndarray) -> bytes:
    """An image [H, W, 3] or [H, W], uint8 or floats in [0, 1], as the content of a PNG.

    Raises:
      ValueError: an array that is not an image.
    """
    pixels = to_uint8(image)
    if pixels.ndim == 3 and pixels.shape[-1] == 1:
        pixels = pixels[..., 0]
    if pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[-1] != 3):
        raise ValueError(f"cannot write an array of shape {np.shape(image)} as an image")
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", compress_level=_EFFORT)
    return buffer.getvalue()
