"""The pictures of a folder and the files that may belong to them, listed once for all pictures."""

from __future__ import annotations

import dataclasses
import errno
import os
import threading
import time
from collections.abc import Iterator
from typing import NamedTuple

from etils import epath

from fields_jax.errors import UserError
from fields_jax.files import is_remote
from fields_jax.photos.kinds import IMAGE_SUFFIXES

LANDMARKS = (".npy", ".pts", ".txt")  # suffixes, in the order they are looked for
DENSE = ".203.npy"
ABOUT = ".landmarks.json"
NOT_READ = (".npz", ".mat", ".csv")  # other programs keep points in them

_COMPANIONS = (*LANDMARKS, DENSE, ABOUT, *NOT_READ)
_NO_FOLDER = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP)

# A listing is renewed when the folder's time of change differs. That time advances in ticks, of 2 s
# on FAT and exFAT and 10 ms elsewhere: a listing made sooner than this after a change may lack
# files added in the same tick.
_TICKS = 2.1
# A folder that changes all the time, such as one that another program fills, is not listed anew for
# every photograph: a listing of over _MANY names is kept for _KEPT times as long as it took.
_MANY, _KEPT = 10_000, 100

_lock = threading.Lock()
_listings: dict[str, _Listing] = {}


@dataclasses.dataclass(frozen=True)
class Folder:
    """The pictures of a folder and the files that may belong to them.

    Case is ignored, as on some disks, unless two pictures' whole names differ in nothing else.

    Attributes:
      files: names of files that may belong to pictures.
      cased: the files whose names have capitals, by their names in small letters.
      pictures: names of pictures by their stems in small letters.
    """

    files: frozenset[str] = frozenset()
    cased: dict[str, str] = dataclasses.field(default_factory=dict)
    pictures: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)

    def called(self, name: str) -> str | None:
        """The file of that name, or else one that differs from it in case."""
        if name in self.files:
            return name
        name = name.casefold()
        return name if name in self.files else self.cased.get(name)

    def called_whole(self, picture: str, suffix: str) -> str | None:
        """The file named after a picture's whole name; only its suffix may differ in case."""
        name = self.called(picture + suffix)
        return name if name and name.startswith(picture) else None

    def has(self, picture: str) -> bool:
        """Whether there is a picture of exactly this name."""
        return picture in self.pictures.get(stem_of(picture).casefold(), ())

    def claims(self, file: str) -> tuple[str | None, set[str]]:
        """The picture whose whole name a file has, or None, and the pictures with its stem."""
        lower = file.lower()
        bases = [file[: -len(end)] for end in _COMPANIONS if lower.endswith(end)]
        owner = next((base for base in bases if self.has(base)), None)
        twins = {name for base in bases for name in self.pictures.get(base.casefold(), ())}
        return owner, twins


def folder_of(path: epath.Path) -> Folder:
    """The content of a folder, empty if there is no such folder.

    Raises:
      UserError: it cannot be listed.
    """
    place = str(path) if is_remote(path) else os.path.abspath(path)
    with _lock:
        try:
            known = _listings.get(place)
            if known is None or not known.holds(place):
                known = _listings[place] = _list(place)
            return known.folder
        except ValueError:  # a name with a zero byte
            return Folder()
        except OSError as error:
            _listings.pop(place, None)
            if isinstance(error, FileNotFoundError) or error.errno in _NO_FOLDER:
                return Folder()
            reason = error.strerror or type(error).__name__
            raise UserError(f"{path} cannot be listed: {reason}") from error


def stem_of(name: str) -> str:
    """A file's name without its suffix."""
    return os.path.splitext(name)[0]


def is_picture(name: str) -> bool:
    """Whether a file of that name is a picture that could be asked for."""
    return os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES


class _Listing(NamedTuple):
    """A folder at the time it was listed.

    Attributes:
      folder: its content.
      version: of the folder on a disk; None in a bucket, where nothing tells of changes.
      begun, took: when it was listed (seconds since 1970), and how long that took.
      count: number of names in it.
    """

    folder: Folder
    version: tuple[int, int, int] | None
    begun: float
    took: float
    count: int

    def holds(self, place: str) -> bool:
        """Whether the listing is still up to date."""
        if self.version is None:
            return True
        if self.count > _MANY and time.time() - self.begun < _KEPT * self.took:
            return True
        settled = self.begun - self.version[-1] * 1e-9 > _TICKS
        return settled and self.version == _version(place)


def _list(place: str) -> _Listing:
    begun, clock = time.time(), time.perf_counter()
    version = None if is_remote(place) else _version(place)
    names, files, pictures = list(_names(place)), [], {}
    for name in names:
        if is_picture(name):
            stem = stem_of(name).casefold()
            pictures[stem] = (*pictures.get(stem, ()), name)
        elif name.lower().endswith(_COMPANIONS):
            files.append(name)
    other = sorted((name for name in files if name != name.casefold()), reverse=True)
    cased = {name.casefold(): name for name in other}
    folder = Folder(frozenset(files), cased, pictures)
    return _Listing(folder, version, begun, time.perf_counter() - clock, len(names))


def _names(place: str) -> Iterator[str]:
    """Names in a folder, without those of folders that are called like pictures."""
    if is_remote(place):
        folder = epath.Path(place)
        yield from (path.name for path in (folder.iterdir() if folder.exists() else ()))
        return
    with os.scandir(place) as entries:
        for entry in entries:
            if not is_picture(entry.name) or not entry.is_dir():
                yield entry.name


def _version(place: str) -> tuple[int, int, int]:
    status = os.stat(place)
    return status.st_dev, status.st_ino, status.st_mtime_ns
