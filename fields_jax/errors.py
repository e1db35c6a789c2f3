"""Exceptions that are not bugs: a user's mistake, and a request to stop."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

_QUOTED = 80  # characters of a foreign text that a message repeats


class UserError(ValueError):
    """A user's mistake: the message names the thing and the remedy in one line.

    Text in it from a file or a name is made printable, see `printable`.
    """

    def __init__(self, message: str):
        super().__init__(printable(message))


class MissingFile(UserError, FileNotFoundError):
    """A file or folder that the user named, or that belongs to one, is not there."""


class Preemption(BaseException):
    """The process was asked to end (SIGTERM) and its work is saved."""


def printable(text: object) -> str:
    r"""A text in one line without characters that could control a terminal.

    Line breaks become spaces; control characters, marks that change the direction of writing and
    bytes of names that are not UTF-8 become escapes such as \x1b.
    """
    lines = (line.strip() for line in re.split(r"[\r\n]+", str(text)))
    line = " ".join(filter(None, lines))
    return "".join(sign if sign.isprintable() else _spelled(sign) for sign in line)


def quoted(value: Any) -> str:
    """A value from a file as messages show it: in quotes, printable, and not too long."""
    try:
        text = str(value)
    except (RecursionError, ValueError):  # nested too deep, or an integer too long to be written
        text = f"{type(value).__name__} that cannot be shown"
    text = printable(text[: _QUOTED + 1])
    return f"'{text}'" if len(text) <= _QUOTED else f"'{text[: _QUOTED - 3]}...'"


def first_line(error: BaseException) -> str:
    """The first line of a library's exception, or its type if it has no message."""
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
