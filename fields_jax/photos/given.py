"""What Python code gives in place of files: pictures, boxes and landmarks, one for each picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from numpy.typing import NDArray
from PIL import Image

from fields_jax.errors import UserError, first_line, printable
from fields_jax.photos.pictures import upright


def per_picture(given: Any, single: bool, count: int, name: str) -> list[Any]:
    """One entry for each picture.

    Raises:
      UserError: `given` is no list, or has more or fewer entries than there are pictures.
    """
    if given is None:
        return [None] * count
    entries = [given] if single else as_list(given, name)
    if len(entries) != count:
        raise UserError(f"{name} has {len(entries)} entries for {count} images: give one for each")
    return entries


def as_list(given: Any, name: str) -> list[Any]:
    """The entries of a list, or of an array.

    Raises:
      UserError: it has none; `name` says what it is.
    """
    try:
        return list(given)
    except TypeError as error:
        raise UserError(f"{name}: expected a list, found {type(given).__name__}") from error


def as_array(numbers: Any, name: str) -> NDArray[Any]:
    """Numbers in any nesting as an array.

    Raises:
      UserError: no numbers, or rows of unequal length; `name` says of what.
    """
    try:
        return np.asarray(numbers)
    except (TypeError, ValueError) as error:
        raise UserError(f"{name}: expected an array of numbers ({first_line(error)})") from error


def as_box(box: Any, path: Path) -> tuple[float, ...] | None:
    """A box as four numbers.

    Raises:
      UserError: more, fewer or something else; `path` is named.
    """
    if box is None:
        return None
    corners = as_array(box, f"{path}: the box").ravel()
    if corners.shape != (4,) or corners.dtype.kind not in "fiu":
        raise UserError(f"{path}: a box has four numbers (x0, y0, x1, y1), not {printable(box)}")
    return tuple(np.float64(corners).tolist())


def as_pixels(picture: Any, path: Path) -> UInt8[np.ndarray, "H W 3"]:
    """A pillow image or an array as RGB of 8 bits, upright.

    Raises:
      UserError: a picture that cannot be read or is empty, an array of another kind; `path` is
        named.
    """
    if isinstance(picture, Image.Image):
        try:
            pixels = upright(picture)
        except UserError as error:
            raise UserError(f"{path}: {error}") from error
    else:
        pixels = as_array(picture, str(path))
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise UserError(
            f"{path}: expected an [H, W, 3] uint8 array of RGB, found {pixels.dtype} "
            f"{list(pixels.shape)}"
        )
    if not pixels.size:
        raise UserError(f"{path}: a picture without pixels, {list(pixels.shape)}")
    return pixels
