"""Which files a user means, and reading them."""

from __future__ import annotations

import glob
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
from etils import epath
from jaxtyping import UInt8
from PIL import Image, ImageOps, UnidentifiedImageError

from fields_jax.files import is_remote

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
VIDEO_SUFFIXES = (".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv")
_WILDCARDS = frozenset("*?[")


class Photograph(NamedTuple):
    """A file and the name its results go by.

    Attributes:
      path: as the user named or we found it.
      name: the path below the folder that the user named, or the file's own name, without suffix.
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


def find_photographs(paths: Iterable[str]) -> tuple[list[Photograph], list[Unusable]]:
    """The photographs that files, folders and patterns name; each once, in the order given.

    Folders are searched to any depth for the suffixes of IMAGE_SUFFIXES; a file that is named
    itself may have any. Patterns that no shell has expanded are expanded here.

    Returns:
      The photographs, with distinct names, and what was named and cannot be used.
    """
    photographs, unusable = {}, []
    taken: set[str] = set()
    for given in paths:
        found = list(_expand(given))
        if not found:
            unusable.append(Unusable(epath.Path(given), _nothing_there(epath.Path(given))))
        for path, name in found:
            if path.suffix.lower() in VIDEO_SUFFIXES:
                unusable.append(
                    Unusable(path, "videos are not read by this version; name pictures of it")
                )
            elif str(path) not in photographs:
                photographs[str(path)] = Photograph(path, unique_name(name, taken))
    return list(photographs.values()), unusable


def photographs_below(folder: epath.Path, *suffixes: str) -> Iterator[epath.Path]:
    """Files below a folder that end on `suffixes` (default: IMAGE_SUFFIXES), in order."""
    for path in sorted(folder.iterdir()):
        if path.is_dir():
            yield from photographs_below(path, *suffixes)
        elif path.suffix.lower() in (suffixes or IMAGE_SUFFIXES):
            yield path


def unique_name(name: str, taken: set[str]) -> str:
    """The name, or with -2, -3 ... where it is taken; adds it to `taken`."""
    chosen, count = name, 1
    while chosen in taken:
        count += 1
        chosen = f"{name}-{count}"
    taken.add(chosen)
    return chosen


def read_array(path: epath.Path) -> np.ndarray:
    """Reads a .npy file from outside.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: no such array in it, in one line.
    """
    try:
        with path.open("rb") as file:
            return np.load(file, allow_pickle=False)
    except FileNotFoundError:
        raise
    except Exception as error:  # a damaged header makes numpy raise whatever its parsers raise
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{path}: not a readable .npy array ({reason})") from error


def read_photograph(path: epath.PathLike) -> UInt8[np.ndarray, "H W 3"]:
    """An RGB picture, turned upright by its EXIF note as OpenCV and browsers do.

    Raises:
      ValueError: not a picture, or a damaged one.
    """
    path = epath.Path(path)
    try:
        with path.open("rb") as file:
            image = ImageOps.exif_transpose(Image.open(file))
            if image.mode.startswith("I;16"):  # which pillow would clip, not scale
                image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
            return np.asarray(image.convert("RGB"))
    except UnidentifiedImageError as error:
        raise ValueError(f"{path}: not a readable picture (of no known format)") from error
    except Exception as error:  # formats are read by parsers of their own, with errors of their own
        reason = " ".join(str(error).split())
        raise ValueError(f"{path}: not a readable picture ({reason})") from error


def _expand(given: str) -> Iterator[tuple[epath.Path, str]]:
    """Paths that one argument names, and their names."""
    path = epath.Path(given)
    if path.is_dir():
        for file in photographs_below(path, *IMAGE_SUFFIXES, *VIDEO_SUFFIXES):
            yield file, _without_suffix(file.relative_to(path))
    elif path.exists():
        yield path, path.stem
    elif _WILDCARDS & set(given):
        fixed = next(part for part in path.parents if not _WILDCARDS & set(str(part)))
        remote = is_remote(given)
        found = fixed.glob(str(path.relative_to(fixed))) if remote else _expand_locally(given)
        for file in sorted(found):
            if file.suffix.lower() in IMAGE_SUFFIXES + VIDEO_SUFFIXES:
                yield file, _without_suffix(file.relative_to(fixed))


def _expand_locally(pattern: str) -> Iterator[epath.Path]:
    """As a shell with ** would; epath knows no **."""
    return (epath.Path(found) for found in glob.iglob(pattern, recursive=True))


def _without_suffix(path: epath.Path) -> str:
    return path.with_suffix("").as_posix()


def _nothing_there(path: epath.Path) -> str:
    if path.is_dir():
        return f"no pictures in this folder ({', '.join(IMAGE_SUFFIXES)})"
    if _WILDCARDS & set(str(path)):
        return "no picture matches this pattern"
    return "no such file or folder"
