"""Which photographs a user means: files, folders and patterns, on a disk or in a bucket."""

from __future__ import annotations

import fnmatch
import glob
import itertools
import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from etils import epath

from fields_jax.files import is_remote
from fields_jax.photos import kinds
from fields_jax.photos.files import Photograph, Unusable
from fields_jax.photos.names import (
    EXPORTS,
    OF_A_CLIP,
    OF_A_FACE,
    OF_A_PAGE,
    OF_AN_EXPORT,
    unique_name,
)

NO_PICTURES = f"no pictures in this folder; {kinds.NAMES} are read"
_NOTHING_LINKED = "a link to something that is not there; name the picture itself"
_WILDCARDS = frozenset("*?[")
_LANDMARKS = (".npy", ".pts", ".txt", ".json")  # suffixes of the files that belong to a photograph


class Found(NamedTuple):
    """A file that the user's arguments name.

    Attributes:
      path: as the user named it or as it was found.
      real: the path with links followed: the same for all names of one file.
      reason: why it cannot be used, "WHAT; REMEDY", or "" for a photograph.
    """

    path: epath.Path
    real: str
    reason: str


class _Entry(NamedTuple):
    path: epath.Path
    real: str
    is_folder: bool
    is_link: bool


def find_photographs(paths: Iterable[str]) -> tuple[list[Photograph], list[Unusable]]:
    """The photographs that files, folders and patterns name; each once, in the order given.

    Folders are searched to any depth for the suffixes of kinds.IMAGE_SUFFIXES; a file that the user
    names may have any suffix. Patterns that no shell has expanded are expanded here, into files and
    folders as a shell would. Landmark files named together with their photographs (as by a shell's
    FOLDER/*) are passed over.

    Returns:
      The photographs, with distinct names, and the files that cannot be used.
    """
    found = {}
    for given in paths:
        for thing, name in _expand(given):
            found.setdefault(thing.real, (thing, name))
    things = (thing.path for thing, _ in found.values())
    pictures = {path.parent / path.stem for path in things if kinds.looks_like_picture(path.suffix)}
    photographs, unusable = [], []
    taken: set[str] = set()
    for thing, name in found.values():
        if thing.reason:
            unusable.append(Unusable(thing.path, thing.reason))
        elif not _belongs_to(thing.path, pictures):
            photographs.append(Photograph(thing.path, unique_name(name, taken)))
    return photographs, unusable


def photographs_below(folder: epath.Path) -> Iterator[Found]:
    """Photographs below a folder and files that look like one, in order; each file and folder once.

    Links are followed last: they add files from elsewhere and never change the name of a file that
    is found without them. Hidden files are passed over, and so are the pictures that `reconstruct`
    and `fit` have written: overlay.png and others beside a params.npz, and those of exports.
    """
    return _walk([_Entry(folder, _real(folder), True, False)])


def _walk(roots: Sequence[_Entry]) -> Iterator[Found]:
    """See `photographs_below`."""
    seen: set[str] = set()
    named = {root.path for root in roots}
    waiting, links = _sorted_out(roots)
    while waiting or links:
        entry = waiting.pop() if waiting else links.popleft()
        if entry.real in seen:
            continue
        seen.add(entry.real)
        if not entry.is_folder:
            if kinds.looks_like_picture(entry.path.suffix) and not _was_written(entry.path):
                lost = entry.is_link and not os.path.exists(entry.real)
                why = _NOTHING_LINKED if lost else kinds.why_not_read(entry.path.suffix)
                yield Found(entry.path, entry.real, why)
            continue
        try:
            inside = _inside(entry)
        except OSError as error:
            yield Found(entry.path, entry.real, f"this folder {_closed(error)}")
            continue
        if entry.path not in named and _is_export(entry.path, inside):
            continue
        own, more = _sorted_out(inside)
        waiting += own
        links += more


def _expand(given: str) -> Iterator[tuple[Found, str]]:
    """The files that one argument names, each with the name of its results."""
    path = epath.Path(given)
    if path.is_dir():
        yield from _named_below(path)
    elif path.exists():
        yield Found(path, _real(path), kinds.why_not_read(path.suffix)), path.stem
    elif _WILDCARDS & set(given):
        yield from _matching(path)
    else:
        yield Found(path, given, _absence(path)), ""


def _named_below(folder: epath.Path) -> Iterator[tuple[Found, str]]:
    """The files below a folder, by names relative to it."""
    thing = None
    for thing in photographs_below(folder):
        yield thing, _name(thing.path, folder)
    if thing is None:
        yield Found(folder, _real(folder), NO_PICTURES), ""


def _matching(pattern: epath.Path) -> Iterator[tuple[Found, str]]:
    """The files that a pattern matches, by names relative to its part without wildcards."""
    base = next(part for part in pattern.parents if not _WILDCARDS & set(str(part)))
    thing = None
    for thing in _matches(pattern, base):
        yield thing, _name(thing.path, base)
    if thing is None:
        yield Found(pattern, str(pattern), "no picture matches this pattern"), ""


def _matches(pattern: epath.Path, base: epath.Path) -> Iterator[Found]:
    parts = pattern.relative_to(base).parts
    if "**" in parts:  # glob follows circular links, and epath does not know this pattern
        at = parts.index("**")
        starts = _glob(base.joinpath(*parts[:at]), base)
        found = _walk([entry for entry in starts if entry.is_folder])
        yield from (one for one in found if _fits(one.path.relative_to(base).parts, parts))
    else:
        yield from _walk(_glob(pattern, base))


def _glob(pattern: epath.Path, base: epath.Path) -> list[_Entry]:
    """Files and folders, in order, that a pattern without ** matches."""
    if pattern == base:
        return [_Entry(base, _real(base), base.is_dir(), False)]
    below = str(pattern.relative_to(base))
    found = base.glob(below) if is_remote(base) else map(epath.Path, glob.iglob(str(pattern)))
    hidden = pattern.name.startswith(".")
    return [
        _Entry(path, _real(path), path.is_dir(), not is_remote(path) and os.path.islink(path))
        for path in sorted(found)
        if (hidden or not path.name.startswith("."))
        and not any(map(kinds.is_of_system, path.relative_to(base).parts))
    ]


def _fits(path: Sequence[str], pattern: Sequence[str]) -> bool:
    """Whether a path, given by its parts, matches a pattern or lies below a folder that does."""
    if not pattern:
        return True
    if pattern[0] == "**":
        return any(_fits(path[i:], pattern[1:]) for i in range(len(path) + 1))
    return bool(path) and fnmatch.fnmatchcase(path[0], pattern[0]) and _fits(path[1:], pattern[1:])


def _inside(folder: _Entry) -> list[_Entry]:
    """The entries of a folder, in order, without hidden ones and links that lead back.

    Raises:
      OSError: it cannot be opened.
    """
    if is_remote(folder.path):
        inside = [_Entry(path, str(path), path.is_dir(), False) for path in folder.path.iterdir()]
    else:
        with os.scandir(folder.path) as entries:
            inside = [_local(entry, folder) for entry in entries]
    inside.sort(key=lambda entry: entry.path.name)
    return [
        entry
        for entry in inside
        if not (entry.path.name.startswith(".") or kinds.is_of_system(entry.path.name))
        and not (entry.is_link and _is_within(folder.real, entry.real))
    ]


def _sorted_out(entries: Sequence[_Entry]) -> tuple[list[_Entry], deque[_Entry]]:
    """The entries that are not links, in reverse order, and the links in order."""
    own = [entry for entry in reversed(entries) if not entry.is_link]
    return own, deque(entry for entry in entries if entry.is_link)


def _local(entry: os.DirEntry, folder: _Entry) -> _Entry:
    path = folder.path / entry.name
    if entry.is_symlink():
        return _Entry(path, _real(path), os.path.isdir(path), True)
    is_folder = entry.is_dir(follow_symlinks=False)
    return _Entry(path, os.path.join(folder.real, entry.name), is_folder, False)


def _real(path: epath.Path) -> str:
    return str(path) if is_remote(path) else os.path.realpath(path)


def _is_within(real: str, folder: str) -> bool:
    return os.path.join(real, "").startswith(os.path.join(folder, ""))


def _was_written(path: epath.Path) -> bool:
    """Whether a file is a picture or a film that a command wrote; see `outputs.writers`."""
    kinds_of_results = ((OF_A_FACE[0], (*OF_A_FACE, *OF_A_PAGE)), (OF_A_CLIP[0], OF_A_CLIP))
    return any(
        path.name in names and path.with_name(first).exists() for first, names in kinds_of_results
    )


def _is_export(folder: epath.Path, inside: Sequence[_Entry]) -> bool:
    """Whether a folder holds what a command wrote of a face for a trainer of avatars."""
    return folder.name in EXPORTS and any(entry.path.name == OF_AN_EXPORT for entry in inside)


def _belongs_to(path: epath.Path, pictures: set[epath.Path]) -> bool:
    """Whether a file holds landmarks of one of the pictures, named without their suffixes."""
    if path.suffix.lower() not in _LANDMARKS:
        return False
    beginnings = itertools.accumulate(path.name.split("."), "{}.{}".format)
    return any(path.parent / name in pictures for name in beginnings)


def _name(path: epath.Path, base: epath.Path) -> str:
    below = path.relative_to(base)
    return "/".join((*below.parent.parts, below.stem))


def _absence(path: epath.Path) -> str:
    if is_remote(path):
        return "no such file or folder"
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return "no such file or folder"
    except OSError as error:
        return _closed(error)
    return _NOTHING_LINKED


def _closed(error: OSError) -> str:
    return f"cannot be opened ({error.strerror or error}); see to its permissions"
