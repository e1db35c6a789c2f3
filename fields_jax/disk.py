"""Full and read-only disks: one line says where and what to do.

Libraries wrap the system's error in errors of their own, raise it in threads and again while they
clean up; so the whole chain of an exception is searched.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import logging
import sys
from collections.abc import Callable, Iterator
from typing import Any

from absl import logging as absl_logging
from etils import epath

from fields_jax.errors import UserError, causes, first_line

# The system's errors, by number: their texts in libraries' messages, and the remedy.
_REFUSALS = {
    errno.ENOSPC: ("No space left on device", "make room there"),
    errno.EDQUOT: ("Disk quota exceeded", "make room there"),
    errno.EFBIG: ("File too large", "raise the limit of the size of files"),
    errno.EROFS: ("Read-only file system", "make it writable"),
    errno.EACCES: ("Permission denied", "make it writable"),
    errno.EPERM: ("Operation not permitted", "make it writable"),
}
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)  # raised by writing only
# The system's errors about a path, when reading or writing, and the remedy. A missing file is not
# among them: the code that looks for a file says which one, and what it is for.
_OF_PLACES = {
    errno.EACCES: "see to its permissions or name another place",
    errno.EPERM: "see to its permissions or name another place",
    errno.EIO: "the disk may be failing",
    errno.ESTALE: "mount it anew",
    errno.ENAMETOOLONG: "name another place",
    errno.ELOOP: "name another place",
}
_TAKEN = (errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP)


class DiskError(UserError):
    """Something could not be written: the line says where, why and what to do."""


def refusal(error: BaseException | None) -> int | None:
    """The number of a disk's error somewhere in the chain of an exception, or None."""
    for link in causes(error):
        if isinstance(link, OSError) and link.errno in _REFUSALS:
            return link.errno
        for number, (words, _) in _REFUSALS.items():
            if words in str(link):
                return number
    return None


def told(error: BaseException) -> str | None:
    """The line for an exception that was caused by a disk's error, or None."""
    for link in causes(error):
        if isinstance(link, DiskError):
            return str(link)
    number = refusal(error)
    if number not in _FULL:
        return _of_place(error)
    words, cure = _REFUSALS[number]
    for link in causes(error):
        if place := getattr(link, "filename", None):
            return f"{place} cannot be written: {words}; {cure} or name another place"
    said = next((first_line(link) for link in causes(error) if words in str(link)), words)
    return f"a file cannot be written ({said}); {cure} or name another place"


def _of_place(error: BaseException) -> str | None:
    if not isinstance(error, OSError) or error.errno not in _OF_PLACES or error.filename is None:
        return None
    return f"{error.filename}: {error.strerror}; {_OF_PLACES[error.errno]}"


@contextlib.contextmanager
def writing(path: epath.PathLike, *, instead: str, then: str = "") -> Iterator[None]:
    """Turns a disk's errors inside the block into a DiskError about `path`.

    Args:
      path: what is written.
      instead: how to name another place, such as "another --workdir".
      then: what to do after that.

    Raises:
      DiskError: it, or anything else inside the block, could not be written. A UserError passes as
        it is: it already says what is wrong.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        number = refusal(error)
        if number is not None:
            words, cure = _REFUSALS[number]
            line = f"{path} cannot be written: {words}; {cure} or name {instead}"
        elif isinstance(error, OSError) and error.errno in _TAKEN:
            line = f"{path} cannot be written: {error.strerror}; name {instead}"
        else:
            raise
        raise DiskError(f"{line}; {then}" if then else line) from error


def check_folder(path: epath.PathLike, instead: str) -> None:
    """Refuses a path at which no folder can be made because something else is there.

    Args:
      path: of the folder.
      instead: how to name another place, such as "another --out".

    Raises:
      DiskError: it, or what would hold it, is no folder.
    """
    place = epath.Path(path)
    nearest = next((part for part in (place, *place.parents) if part.exists()), None)
    if nearest is not None and not nearest.is_dir():
        raise DiskError(f"{path} cannot be written: {nearest} is no folder; name {instead}")


def make_way(target: epath.Path, instead: str) -> None:
    """Removes an empty folder, since no folder can be renamed to an existing one.

    Args:
      target: the folder, which need not be there.
      instead: how to name another, such as "--out".

    Raises:
      UserError: it holds something or cannot be removed.
    """
    if not target.exists():
        return
    try:
        target.rmdir()
    except (OSError, ValueError) as error:  # what epath raises if it is not empty
        raise UserError(
            f"{target} cannot be made anew ({error}); name another folder with {instead}"
        ) from error


def quiet_orbax() -> None:
    """Keeps messages of Orbax's threads about a full disk off the console.

    The same error is raised as an exception, which `writing` turns into a line. Tensorstore reports
    each later failure to an event loop that is closed by then, which would print stray errors.
    """
    logger = absl_logging.get_absl_logger()
    if _is_news not in logger.filters:
        logger.addFilter(_is_news)
        sys.unraisablehook = functools.partial(_unless_late, sys.unraisablehook)


def _is_news(record: logging.LogRecord) -> bool:
    error = record.exc_info[1] if record.exc_info else None
    return "orbax" not in record.pathname or refusal(error) is None


def _unless_late(show: Callable[[Any], None], raised: Any) -> None:
    if str(raised.exc_value) != "Event loop is closed":
        show(raised)
