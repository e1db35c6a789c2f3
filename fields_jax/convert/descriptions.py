"""What a pickle says, written down: names, calls, dictionaries and references.

`pickles.read_pickle` makes these descriptions, and none of them does anything. `stored_arrays` and
`torch_files` say which arrays they mean.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from fields_jax.errors import quoted


@dataclasses.dataclass(frozen=True, order=True, slots=True)
class Name:
    """A class or function that a pickle names; it is not looked up."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclasses.dataclass(slots=True, eq=False)
class Entries:
    """A dictionary as it was written: (key, value) in order, any key any number of times."""

    pairs: list[tuple[Any, Any]] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(slots=True, eq=False)
class Made:
    """What calling a name would have made; nothing was called.

    Attributes:
      of: what would have been called.
      arguments: of the call.
      state: handed to the object afterwards (opcode BUILD), or None.
      items: appended to it or added to it.
      pairs: (key, value) assigned to it.
    """

    of: Name
    arguments: tuple[Any, ...] = ()
    state: Any = None
    items: list[Any] = dataclasses.field(default_factory=list)
    pairs: list[tuple[Any, Any]] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(slots=True, eq=False)
class Persistent:
    """Something kept outside the pickle; the pickle holds its identifier alone."""

    identifier: Any


class Damaged(ValueError):
    """The bytes are no pickle, or describe something that cannot be an array or a dictionary."""


def entries(value: Any) -> dict[str, Any]:
    """A described dictionary, plain or ordered, as a real one; the last of equal keys counts.

    Raises:
      Damaged: no dictionary, or a key that is no text.
    """
    pairs = _pairs(value)
    if pairs is None:
        raise Damaged(f"{kind_of(value)} in place of a dictionary")
    odd = [key for key, _ in pairs if not isinstance(key, str)]
    if odd:
        raise Damaged(f"a dictionary has {kind_of(odd[0])} for a key, expected text")
    return dict(pairs)


def is_dictionary(value: Any) -> bool:
    """Whether a description is that of a dictionary."""
    return _pairs(value) is not None


def kind_of(value: Any) -> str:
    """The kind of thing that a description describes, for messages."""
    if isinstance(value, Made):
        return f"a {quoted(value.of)}"
    if isinstance(value, Name | Persistent):
        return "the name of a class" if isinstance(value, Name) else "a reference"
    return "a dictionary" if isinstance(value, Entries) else f"a {type(value).__name__}"


_DICTIONARIES = (Name("collections", "OrderedDict"), Name("collections", "defaultdict"))


def _pairs(value: Any) -> list[tuple[Any, Any]] | None:
    if isinstance(value, Entries):
        return value.pairs
    if not (isinstance(value, Made) and value.of in _DICTIONARIES):
        return None
    # Python 2 hands an OrderedDict its pairs as an argument, lists of two.
    given = value.arguments[0] if value.arguments and value.of.name == "OrderedDict" else []
    if not isinstance(given, list) or not all(map(_is_pair, given)):
        return None
    return [tuple(row) for row in given] + value.pairs


def _is_pair(row: Any) -> bool:
    return isinstance(row, list | tuple) and len(row) == 2
