"""What a camera and its files do to a picture: blur, exposure, colours, noise, JPEG, borders."""

from __future__ import annotations

import io

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from data_pipelines.synthetic.views import tint

_GAMMA = 1 / 2.2
_MIDDLE = 0.18  # linear grey about which contrast turns
# Shares of the pictures that are grey, blurred, small, packed, and that end close to the face.
_GREY, _BLURRED, _SMALL, _PACKED, _BORDERED = 0.12, 0.35, 0.3, 0.6, 0.35
_NEAREST_BORDER, _FURTHEST_BORDER = 0.5, 1.0  # from the middle of the face, in face boxes


def photographed(
    rng: np.random.Generator, radiance: Float[np.ndarray, "S S 3"]
) -> UInt8[np.ndarray, "S S 3"]:
    """A picture that some camera took of a scene, as some file holds it.

    Args:
      rng: generator.
      radiance: linear colour, 1 is white.
    """
    size = len(radiance)
    picture = radiance.astype(np.float32) * np.float32(2 ** rng.normal(0, 0.6))
    picture *= tint(rng, 0.18).astype(np.float32)
    picture = _MIDDLE * (np.maximum(picture, 0) / _MIDDLE) ** np.float32(rng.uniform(0.75, 1.35))
    if rng.random() < _BLURRED:
        picture = blurred(
            picture,
            *(rng.uniform(0, 1.6, 2) if rng.random() < 0.4 else [rng.uniform(0.2, 1.4)] * 2),
        )
    shoulder = np.float32(rng.uniform(1.0, 2.2))
    value = (1 - np.exp(-shoulder * picture)) / (1 - np.exp(-shoulder) * np.float32(0.3))
    value = np.clip(value, 0, 1) ** np.float32(_GAMMA)
    grey = value @ np.array([0.3, 0.59, 0.11], np.float32)
    colourful = 0.0 if rng.random() < _GREY else rng.uniform(0.45, 1.4)
    value = grey[..., None] + np.float32(colourful) * (value - grey[..., None])
    level = np.float32(rng.uniform(0, 0.02) if rng.random() < 0.75 else rng.uniform(0.02, 0.06))
    noise = level * rng.standard_normal(value.shape, np.float32)
    value = value + (noise if rng.random() < 0.5 else noise[..., :1])
    pixels = np.round(255 * np.clip(value, 0, 1)).astype(np.uint8)
    if rng.random() < _SMALL:
        pixels = _shrunk(rng, pixels, round(size * rng.uniform(0.4, 0.85)))
    if rng.random() < _BORDERED:
        pixels = _bordered(rng, pixels)
    return _packed(pixels, int(rng.integers(18, 92))) if rng.random() < _PACKED else pixels


def blurred(
    picture: Float[np.ndarray, "H W C"], across: float, down: float
) -> Float[np.ndarray, "H W C"]:
    """Smooths by a Gaussian of so many pixels along each axis."""
    for axis, spread in ((1, across), (0, down)):
        reach = int(np.ceil(2.5 * spread))
        if spread < 0.15:
            continue
        kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / spread) ** 2).astype(np.float32)
        kernel /= kernel.sum()
        padding = [(reach, reach) if each == axis else (0, 0) for each in range(3)]
        padded, length = np.pad(picture, padding, mode="edge"), picture.shape[axis]
        picture = sum(
            weight * padded.take(range(k, k + length), axis) for k, weight in enumerate(kernel)
        )
    return picture


def _shrunk(
    rng: np.random.Generator, pixels: UInt8[np.ndarray, "S S 3"], small: int
) -> UInt8[np.ndarray, "S S 3"]:
    """Made smaller and larger again, as of a face far away or a video."""
    ways = (Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.BOX)
    there, back = (ways[index] for index in rng.integers(len(ways), size=2))
    size = len(pixels)
    return np.asarray(
        Image.fromarray(pixels).resize((small, small), there).resize((size, size), back)
    )


def _bordered(
    rng: np.random.Generator, pixels: UInt8[np.ndarray, "S S 3"]
) -> UInt8[np.ndarray, "S S 3"]:
    """Black where the photograph ends, not far from the face: crops reach beyond photographs."""
    size, face = len(pixels), 0.5 * len(pixels)
    made = np.zeros_like(pixels)
    edges = size / 2 + np.array([-1, -1, 1, 1]) * face * rng.uniform(
        _NEAREST_BORDER, _FURTHEST_BORDER, 4
    )
    edges = np.where(rng.random(4) < 0.75, edges, [0, 0, size, size])
    x0, y0, x1, y1 = np.clip(np.round(edges), 0, size).astype(int)
    made[y0:y1, x0:x1] = pixels[y0:y1, x0:x1]
    return made


def _packed(pixels: UInt8[np.ndarray, "S S 3"], quality: int) -> UInt8[np.ndarray, "S S 3"]:
    """As JPEG leaves it."""
    stored = io.BytesIO()
    Image.fromarray(pixels).save(stored, "JPEG", quality=quality)
    return np.asarray(Image.open(stored).convert("RGB"))
