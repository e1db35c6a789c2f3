"""Reading what a user names: photographs of any kind."""

from __future__ import annotations

import os
from typing import NamedTuple

import numpy as np
from etils import epath
from jaxtyping import UInt8

from fields_jax.errors import MissingFile, UserError, printable
from fields_jax.files import is_remote, read_bytes
from fields_jax.photos.kinds import why_not_read
from fields_jax.photos.pictures import decode

_LARGEST = 2**31  # bytes: a picture of 268 million pixels, three colours of 16 bits, as they are


class Photograph(NamedTuple):
    """A file and the name its results go by.

    Attributes:
      path: as the user named or we found it.
      name: the path below the folder that the user named, or the file's own name, without suffix;
        see `names.unique_name`.
    """

    path: epath.Path
    name: str


class Unusable(NamedTuple):
    """A file, or a face in it, that nothing can be made of.

    Attributes:
      path: the file.
      reason: in a few words, with the remedy where there is one.
    """

    path: epath.Path
    reason: str


def read_photograph(path: epath.PathLike) -> UInt8[np.ndarray, "H W 3"]:
    """The RGB picture of a file, upright; see `pictures.decode`.

    Raises:
      UserError: no such file, one that cannot be read, a kind that is not, or no sound picture; in
        one line.
    """
    path = epath.Path(path)
    if why := why_not_read(path.suffix):  # in camera raw pillow would find a thumbnail
        raise UserError(f"{path}: {why}")
    if not is_remote(path) and path.exists() and not os.path.isfile(path):  # would wait for ever
        raise UserError(f"{path}: no file but a folder, a pipe or a device")
    try:
        return decode(read_bytes(path, largest=_LARGEST), path.suffix)
    except FileNotFoundError as error:
        raise MissingFile(f"{path}: no such file") from error
    except UserError as error:
        raise UserError(f"{path}: {_without(path, error)}") from error


def _without(path: epath.Path, error: UserError) -> str:
    """What an error says of a file, without its name."""
    return str(error).removeprefix(printable(path)).lstrip(": ")
