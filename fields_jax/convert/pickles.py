"""Pickles from outside, read as data: what they say is written down and never done.

A pickle is a program for a machine that makes objects. Python's own machine calls what the file
names, even where the names are few and harmless: numpy's `__setstate__` alone follows pointers
that a file chose. So this is another machine. It runs the same 68 opcodes but only writes down what
they say: a class or function is a `Name`, a call is a `Made` with its arguments and state beside
it, a dictionary is a list of pairs (`descriptions`). It calls nothing, looks nothing up and hashes
nothing of the file's.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Collection
from typing import Any

from fields_jax.convert.descriptions import Damaged, Entries, Made, Name, Persistent, kind_of
from fields_jax.errors import UserError, printable

# The largest published file takes 40,000 opcodes. Each costs some hundred bytes of memory at most
# beyond the bytes of the file.
_MOST_OPCODES = 1_000_000
_MOST_DIGITS = 4_000  # of a number written in decimals
_LARGEST_MEMO = 2**32
_PROTOCOLS = 5

# How Python 2 escapes the characters of a text.
_ESCAPE = re.compile(rb"\\(x[0-9a-fA-F]{2}|.|$)", re.DOTALL)
_ESCAPED = {b"\\": b"\\", b"'": b"'", b'"': b'"', b"n": b"\n", b"r": b"\r", b"t": b"\t"}

# Modules that had another name in Python 2.
_RENAMED = {"__builtin__": "builtins", "copy_reg": "copyreg"}


def read_pickle(
    content: bytes,
    source: str,
    names: Collection[Name],
    *,
    ignored: Collection[str] = (),
    start: int = 0,
) -> tuple[Any, int]:
    """Reads what a pickle describes.

    Args:
      content: bytes that hold the pickle. Python 2's strings are read as Latin 1; those of 256
        bytes or more stay bytes.
      source: what to call it in messages.
      names: classes and functions that it may name.
      ignored: modules and packages that it may name anything from; the caller passes it over.
      start: where the pickle begins in `content`.

    Returns:
      The description, made of None, bool, int, float, str, bytes, list, tuple, `Entries`, `Name`,
      `Made` and `Persistent`, and where the pickle ends in `content`.

    Raises:
      UserError: a name that is not allowed, or a pickle that cannot be read to its end.
    """
    machine = _Machine(content, start)
    try:
        found = machine.run()
    except (Damaged, ValueError, IndexError, struct.error, OverflowError) as error:
        # A forbidden name tells more about a file than the place where it breaks.
        _check_names(machine.named, source, names, ignored)
        raise UserError(
            f"{source} is damaged or no pickle ({error} at byte {machine.at}); fetch it anew"
        ) from error
    _check_names(machine.named, source, names, ignored)
    return found, machine.at


def _check_names(
    found: Collection[Name], source: str, names: Collection[Name], ignored: Collection[str]
) -> None:
    refused = sorted(
        name for name in set(found) if name not in names and not _is_within(name.module, ignored)
    )
    if refused:
        shown = ", ".join(printable(name)[:80] for name in refused[:5])
        more = f" and {len(refused) - 5} others" if len(refused) > 5 else ""
        raise UserError(
            f"{source} names {shown}{more}, which no file of this kind needs: nothing of it was "
            "run; fetch it anew from its publisher"
        )


def _is_within(module: str, packages: Collection[str]) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


class _Machine:
    """Runs one pickle; see the module's docstring.

    Attributes:
      at: byte that is read next.
      named: every name that was met.
    """

    def __init__(self, content: bytes, start: int):
        self._content, self.at = content, start
        self.named: list[Name] = []
        self._stack: list[Any] = []
        self._below: list[list[Any]] = []  # stacks under the marks
        self._memo: dict[int, Any] = {}

    def run(self) -> Any:
        for _ in range(_MOST_OPCODES):
            code = self.take(1)
            if code == b".":
                return self.pop()
            if code not in _OPCODES:
                raise Damaged(f"unknown opcode {code!r}")
            _OPCODES[code](self)
        raise Damaged(f"more than {_MOST_OPCODES} opcodes")

    # Bytes of the file.

    def take(self, count: int) -> bytes:
        if not 0 <= count <= len(self._content) - self.at:
            raise Damaged(f"{count} bytes are wanted, {len(self._content) - self.at} are left")
        self.at += count
        return self._content[self.at - count : self.at]

    def line(self) -> bytes:
        end = self._content.find(b"\n", self.at)
        if end < 0:
            raise Damaged("a line without an end")
        found = self.take(end - self.at)
        self.at += 1
        return found

    def number(self, width: int) -> int:
        return int.from_bytes(self.take(width), "little")

    def counted(self, width: int) -> bytes:
        """Bytes after their number, which `width` bytes tell."""
        return self.take(self.number(width))

    def decimal(self) -> int:
        text = self.line().removesuffix(b"L")
        if len(text) > _MOST_DIGITS:
            raise Damaged(f"a number of {len(text)} digits")
        return int(text)

    # The stack.

    def push(self, value: Any) -> None:
        self._stack.append(value)

    def pop(self) -> Any:
        return self._stack.pop()

    def top(self) -> Any:
        return self._stack[-1]

    def mark(self) -> None:
        self._below.append(self._stack)
        self._stack = []

    def since_mark(self) -> list[Any]:
        found, self._stack = self._stack, self._below.pop()
        return found

    def discard(self) -> None:
        if self._stack:
            self._stack.pop()
        else:
            self.since_mark()

    def take_tuple(self, count: int) -> None:
        if count > len(self._stack):
            raise Damaged("a tuple of more than there is")
        values = tuple(self._stack[len(self._stack) - count :])
        del self._stack[len(self._stack) - count :]
        self.push(values)

    # The memo.

    def remember(self, index: int) -> None:
        if not 0 <= index < _LARGEST_MEMO:
            raise Damaged("an index of the memo that no file needs")
        self._memo[index] = self.top()

    def recall(self, index: int) -> None:
        if index not in self._memo:
            raise Damaged("something is used before it is there")
        self.push(self._memo[index])

    # Names and what is made of them.

    def name(self, module: Any, name: Any) -> Name:
        if not (isinstance(module, str) and isinstance(name, str)):
            raise Damaged("a name that is no text")
        found = Name(_RENAMED.get(module, module), name)
        self.named.append(found)
        return found

    def name_of_lines(self) -> Name:
        module, name = (self.line().decode("utf-8") for _ in range(2))
        return self.name(module, name)

    def name_of_stack(self) -> None:
        name, module = self.pop(), self.pop()
        self.push(self.name(module, name))

    def make(self, of: Any, arguments: Any) -> None:
        if not isinstance(of, Name) or not isinstance(arguments, tuple):
            raise Damaged("a call of something that is no name")
        self.push(Made(of, arguments))

    def make_of_stack(self) -> None:
        arguments, of = self.pop(), self.pop()
        self.make(of, arguments)

    def make_with_keywords(self) -> None:
        keywords, arguments, of = self.pop(), self.pop(), self.pop()
        if not isinstance(arguments, tuple):
            raise Damaged("a call without arguments")
        self.make(of, (*arguments, keywords))

    def make_since_mark(self) -> None:
        of, *arguments = self.since_mark()
        self.make(of, tuple(arguments))

    def collect(self, kind: str) -> None:
        self.push(Made(Name("builtins", kind)))

    def frozen_set(self) -> None:
        items = self.since_mark()
        self.collect("frozenset")
        self.top().items.extend(items)

    def set_state(self) -> None:
        state, made = self.pop(), self.top()
        if not isinstance(made, Made):
            raise Damaged(f"a state for {kind_of(made)}")
        made.state = state

    def append(self, values: list[Any]) -> None:
        target = self.top()
        if isinstance(target, Made):
            target.items.extend(values)
        elif isinstance(target, list):
            target.extend(values)
        else:
            raise Damaged(f"items for {kind_of(target)}")

    def assign(self, values: list[Any]) -> None:
        target = self.top()
        if not isinstance(target, Entries | Made) or len(values) % 2:
            raise Damaged(f"entries for {kind_of(target)}")
        target.pairs.extend(zip(values[::2], values[1::2], strict=True))

    def dictionary(self) -> None:
        values = self.since_mark()
        self.push(Entries())
        self.assign(values)

    def version(self) -> None:
        if (version := self.number(1)) > _PROTOCOLS:
            raise Damaged(f"protocol {version} is unknown")


def _integer(machine: _Machine) -> bool | int:
    text = machine.line()
    if text in (b"00", b"01"):
        return text == b"01"
    machine.at -= len(text) + 1
    return machine.decimal()


def _text_in_quotes(machine: _Machine) -> str:
    text = machine.line().strip()
    if len(text) < 2 or text[:1] != text[-1:] or text[:1] not in (b"'", b'"'):
        raise Damaged("a text without quotes")
    return _ESCAPE.sub(_unescaped, text[1:-1]).decode("latin1")


def _unescaped(match: re.Match[bytes]) -> bytes:
    said = match[1]
    if said in _ESCAPED:
        return _ESCAPED[said]
    if len(said) == 3:
        return bytes([int(said[1:], 16)])
    raise Damaged("a text with an unknown escape")


def _signed(content: bytes) -> int:
    return int.from_bytes(content, "little", signed=True)


def _unicode(content: bytes) -> str:
    return content.decode("utf-8", "surrogatepass")


def _pair(machine: _Machine) -> list[Any]:
    value, key = machine.pop(), machine.pop()
    return [key, value]


def _refuse(what: str) -> Callable[[_Machine], None]:
    def refuse(machine: _Machine) -> None:
        raise Damaged(what)

    return refuse


def _nothing(machine: _Machine) -> None:
    pass


# Opcodes that push a value of their own.
_VALUES: dict[bytes, Callable[[_Machine], Any]] = {
    b"N": lambda m: None,
    b"\x88": lambda m: True,
    b"\x89": lambda m: False,
    b"I": _integer,
    b"L": lambda m: m.decimal(),
    b"K": lambda m: m.number(1),
    b"M": lambda m: m.number(2),
    b"J": lambda m: _signed(m.take(4)),
    b"\x8a": lambda m: _signed(m.counted(1)),
    b"\x8b": lambda m: _signed(m.counted(4)),
    b"F": lambda m: float(m.line()),
    b"G": lambda m: struct.unpack(">d", m.take(8))[0],
    b"S": _text_in_quotes,
    b"U": lambda m: m.counted(1).decode("latin1"),
    b"T": lambda m: m.counted(4),  # of 256 bytes or more: an array's, and no text
    b"V": lambda m: m.line().decode("raw-unicode-escape"),
    b"\x8c": lambda m: _unicode(m.counted(1)),
    b"X": lambda m: _unicode(m.counted(4)),
    b"\x8d": lambda m: _unicode(m.counted(8)),
    b"C": lambda m: m.counted(1),
    b"B": lambda m: m.counted(4),
    b"\x8e": lambda m: m.counted(8),
    b"\x96": lambda m: m.counted(8),  # a bytearray
    b")": lambda m: (),
    b"]": lambda m: [],
    b"}": lambda m: Entries(),
    b"l": lambda m: m.since_mark(),
    b"t": lambda m: tuple(m.since_mark()),
    b"c": lambda m: m.name_of_lines(),
    b"P": lambda m: Persistent(m.line().decode("latin1")),
    b"Q": lambda m: Persistent(m.pop()),
}

_OPCODES: dict[bytes, Callable[[_Machine], None]] = {
    **{
        code: (lambda machine, read=read: machine.push(read(machine)))
        for code, read in _VALUES.items()
    },
    b"(": lambda m: m.mark(),
    b"0": lambda m: m.discard(),
    b"1": lambda m: m.since_mark() and None,
    b"2": lambda m: m.push(m.top()),
    b"g": lambda m: m.recall(m.decimal()),
    b"h": lambda m: m.recall(m.number(1)),
    b"j": lambda m: m.recall(m.number(4)),
    b"p": lambda m: m.remember(m.decimal()),
    b"q": lambda m: m.remember(m.number(1)),
    b"r": lambda m: m.remember(m.number(4)),
    b"\x94": lambda m: m.remember(len(m._memo)),
    b"\x85": lambda m: m.take_tuple(1),
    b"\x86": lambda m: m.take_tuple(2),
    b"\x87": lambda m: m.take_tuple(3),
    b"d": lambda m: m.dictionary(),
    b"a": lambda m: m.append([m.pop()]),
    b"e": lambda m: m.append(m.since_mark()),
    b"\x90": lambda m: m.append(m.since_mark()),
    b"s": lambda m: m.assign(_pair(m)),
    b"u": lambda m: m.assign(m.since_mark()),
    b"\x8f": lambda m: m.collect("set"),
    b"\x91": lambda m: m.frozen_set(),
    b"\x93": lambda m: m.name_of_stack(),
    b"R": lambda m: m.make_of_stack(),
    b"\x81": lambda m: m.make_of_stack(),
    b"\x92": lambda m: m.make_with_keywords(),
    b"i": lambda m: m.make(m.name_of_lines(), tuple(m.since_mark())),
    b"o": lambda m: m.make_since_mark(),
    b"b": lambda m: m.set_state(),
    b"\x80": lambda m: m.version(),
    b"\x95": lambda m: m.take(8) and None,  # the length of what follows, for buffered reading
    b"\x82": _refuse("a number in place of a name"),
    b"\x83": _refuse("a number in place of a name"),
    b"\x84": _refuse("a number in place of a name"),
    b"\x97": _refuse("a buffer outside the file"),
    b"\x98": _nothing,  # marks the bytes before as read-only
}
