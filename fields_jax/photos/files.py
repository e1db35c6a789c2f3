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

_LARGEST = 2**31  # bytes: more than 268 million uncompressed pixels of three colours and 16 bits


class Photograph(NamedTuple):
    """A file and the name its results go by.

    Attributes:
      path: as the user named it or as it was found.
      name: the path below the folder that the user named, or the file's own name, without suffix;
        see `names.unique_name`.
    """

    path: epath.Path
    name: str


class Unusable(NamedTuple):
    """A file, or a face in it, that cannot be used.

    Attributes:
      path: the file.
      reason: in a few words, with the remedy where there is one.
    """

    path: epath.Path
    reason: str


def read_photograph(path: epath.PathLike) -> UInt8[np.ndarray, "H W 3"]:
    """The RGB picture of a file, upright; see `pictures.decode`.

    Raises:
      UserError: no such file, an unreadable one, a kind of file that is not read, or a damaged
        picture; in one line.
    """
    path = epath.Path(path)
    if why := why_not_read(path.suffix):  # pillow would read the thumbnail of a camera's raw file
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
    """The message of an error about a file, without the file's name."""
    return str(error).removeprefix(printable(path)).lstrip(": ")
