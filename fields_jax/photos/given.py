"""What Python code gives in place of files: pictures, boxes and landmarks, one for each picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from fields_jax.errors import UserError
from fields_jax.photos.pictures import upright


def per_picture(given: Any, single: bool, count: int, name: str) -> list[Any]:
    """One entry for each picture.

    Raises:
      UserError: `given` has more or fewer entries than there are pictures.
    """
    if given is None:
        return [None] * count
    entries = [given] if single else list(given)
    if len(entries) != count:
        raise UserError(f"{name} has {len(entries)} entries for {count} images: give one for each")
    return entries


def as_box(box: Any, path: Path) -> tuple[float, ...] | None:
    """A box as four numbers.

    Raises:
      UserError: more or fewer; `path` is named.
    """
    if box is None:
        return None
    corners = np.asarray(box, np.float64).ravel()
    if corners.shape != (4,):
        raise UserError(f"{path}: a box has four numbers (x0, y0, x1, y1), not {len(corners)}")
    return tuple(corners.tolist())


def as_pixels(picture: Any, path: Path) -> UInt8[np.ndarray, "H W 3"]:
    """A pillow image or an array as RGB of 8 bits, upright.

    Raises:
      UserError: an array that is no such picture; `path` is named.
    """
    if isinstance(picture, Image.Image):
        return upright(picture)
    pixels = np.asarray(picture)
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise UserError(
            f"{path}: expected an [H, W, 3] uint8 array of RGB, found {pixels.dtype} "
            f"{list(pixels.shape)}"
        )
    return pixels
