"""What a command ends with that is no bug: a user's mistake, or a request to stop."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

_QUOTED = 80  # characters of a foreign text that a message repeats


class UserError(ValueError):
    """A mistake of the user's: the message names the thing and the remedy in one line.

    Whatever the message quotes of a file or a name, it is shown as `printable` shows it.
    """

    def __init__(self, message: str):
        super().__init__(printable(message))


class MissingFile(UserError, FileNotFoundError):
    """A file or folder that the user named, or that belongs to one, is not there."""


class Preemption(BaseException):
    """The process was asked to go (SIGTERM) and what it had done is saved."""


def printable(text: object) -> str:
    r"""A text in one line that can do nothing to a terminal: signs that are none are spelled out.

    Line breaks become spaces; control characters, marks that turn the direction of writing and
    bytes of names that are no UTF-8 become escapes such as \x1b.
    """
    lines = (line.strip() for line in re.split(r"[\r\n]+", str(text)))
    line = " ".join(filter(None, lines))
    return "".join(sign if sign.isprintable() else _spelled(sign) for sign in line)


def quoted(value: Any) -> str:
    """How a message repeats something out of a file: in quotes, printable, and not too long."""
    text = printable(str(value)[: _QUOTED + 1])
    return f"'{text}'" if len(text) <= _QUOTED else f"'{text[: _QUOTED - 3]}...'"


def first_line(error: BaseException) -> str:
    """What an exception of a library's says first, or its type where it says nothing."""
    said = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return printable(said[:200])


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """An exception, what it was raised from, and so on."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _spelled(sign: str) -> str:
    return sign.encode("unicode_escape").decode("ascii")
