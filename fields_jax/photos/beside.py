"""Which files beside a photograph belong to it.

They are found by name: the points of a.jpg are a.jpg.npy or else a.npy. The first belongs to no
other picture. The second could equally belong to a.png or A.JPG in the same folder; if there is
such a twin, neither gets the file, since one of the two would get another person's points.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from etils import epath

from fields_jax.errors import UserError
from fields_jax.photos import mark_text
from fields_jax.photos.listing import DENSE, LANDMARKS, NOT_READ, folder_of, is_picture, stem_of

_NAMED = 4  # twins that a message names at most


class Shared(UserError):
    """A file, or a name without its suffix, that several pictures could own."""


class Beside(NamedTuple):
    """The landmark file of a photograph.

    Attributes:
      file: None where there is none.
      passed_over: why files with such a name are not landmark files, one reason for each.
    """

    file: epath.Path | None
    passed_over: tuple[str, ...]


def landmark_file(photograph: epath.PathLike) -> Beside:
    """The landmark file beside a photograph that belongs to it.

    For a.jpg that is a.jpg.npy, .pts or .txt, or else a.npy, .pts or .txt if no other picture of
    the folder is called a. A .txt without points is taken for a caption or notes.

    Raises:
      Shared: there is one, but it may be another picture's.
      UserError: the folder cannot be listed, or a .txt not be read.
    """
    path = epath.Path(photograph)
    passed_over: list[str] = []
    for file, others in _candidates(path, LANDMARKS):
        if file.suffix.lower() == ".txt" and mark_text.is_prose(file):
            passed_over.append(f"{file.name} beside it holds no points")
        elif others:
            raise _shared(file, path, others)
        else:
            return Beside(file, tuple(passed_over))
    passed_over += [
        f"{file.name} beside it is none of {', '.join(LANDMARKS)}"
        for file, _ in _candidates(path, NOT_READ)
    ]
    return Beside(None, tuple(passed_over))


def own_file(photograph: epath.PathLike, suffix: str) -> epath.Path | None:
    """The file of a photograph with some suffix, such as DENSE, or None.

    Raises:
      Shared: there is one, but it may be another picture's.
      UserError: the folder cannot be listed.
    """
    path = epath.Path(photograph)
    for file, others in _candidates(path, (suffix,)):
        if others:
            raise _shared(file, path, others)
        return file
    return None


def companions(photograph: epath.PathLike) -> list[epath.Path]:
    """The files beside a photograph that may hold its points, whether or not they are its own.

    Raises:
      UserError: the folder cannot be listed.
    """
    return [file for file, _ in _candidates(epath.Path(photograph), (*LANDMARKS, DENSE))]


def points_file(photograph: epath.PathLike) -> tuple[epath.Path, bool]:
    """Where to write the points of a photograph, and whether that file exists.

    For a.jpg that is a.npy, or a.jpg.npy if another picture is called a as well, or if a.jpg.*
    already has points, which would be read before a.npy.

    Raises:
      UserError: the folder cannot be listed.
    """
    path = epath.Path(photograph)
    folder, stem = folder_of(path.parent), stem_of(path.name)
    owner, twins = folder.claims(f"{stem}.npy")
    named_whole = any(folder.called_whole(path.name, suffix) for suffix in LANDMARKS)
    if owner is not None or twins - {path.name} or named_whole:
        name, there = f"{path.name}.npy", folder.called_whole(path.name, ".npy")
    else:
        name, there = f"{stem}.npy", folder.called(f"{stem}.npy")
    return path.with_name(there or name), there is not None


def find_picture(path: epath.PathLike) -> epath.Path | None:
    """The picture of that name, or the only one that differs from it in the suffix alone.

    Raises:
      Shared: there are several such.
      UserError: the folder cannot be listed.
    """
    path = epath.Path(path)
    folder = folder_of(path.parent)
    if folder.has(path.name):
        return path
    # frame.001 is frame.001.jpg at most, never frame.jpg
    stem = stem_of(path.name) if is_picture(path.name) else path.name
    found = sorted(
        name for name in folder.pictures.get(stem.casefold(), ()) if stem_of(name) == stem
    )
    if len(found) > 1:
        raise Shared(f"{path} is not there, and {_listed(found)} may each be meant: name one whole")
    return path.with_name(found[0]) if found else None


def _candidates(
    photograph: epath.Path, suffixes: Sequence[str]
) -> Iterator[tuple[epath.Path, list[str]]]:
    """Existing files of a photograph, each with the other pictures that it may belong to."""
    folder = folder_of(photograph.parent)
    whole, stem = photograph.name, stem_of(photograph.name)
    for base in dict.fromkeys((whole, stem)):
        for suffix in suffixes:
            if base == whole != stem:
                if name := folder.called_whole(whole, suffix):
                    yield photograph.with_name(name), []
            elif (name := folder.called(base + suffix)) and name != whole:
                owner, twins = folder.claims(name)
                if owner is None:
                    yield photograph.with_name(name), sorted(twins - {whole})


def _shared(file: epath.Path, photograph: epath.Path, others: Sequence[str]) -> Shared:
    suffix = file.name[len(stem_of(photograph.name)) :].lower()
    return Shared(
        f"{file.name} may be that of {_listed([photograph.name, *others])}: name it "
        f"{photograph.name}{suffix} if it is of this one, or rename the pictures"
    )


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _NAMED
    if more > 0:
        return f"{', '.join(names[:_NAMED])} or {more} more"
    return f"{', '.join(names[:-1])} or {names[-1]}"
