"""Struct arrays in MATLAB's .mat files of version 5 to 7.

scipy's reader follows nested cells without end and allocates as much memory as a damaged file
claims. This one reads only the fields of one struct array, and no element longer than the bytes
that are there. Format: "MAT-File Format", MathWorks, chapter 1.
"""

from __future__ import annotations

import itertools
import math
import struct
import zlib
from collections.abc import Iterator

import numpy as np
from etils import epath

from fields_jax.errors import UserError, quoted
from fields_jax.files import read_bytes

Element = tuple[int, memoryview]  # type and content
Row = dict[str, np.ndarray | None]

_LARGEST = 64 * 2**20  # bytes, packed or not; a sequence's features have about a million
_HEADER = 128
_MATRIX, _PACKED = 14, 15  # types of elements; those of numbers:
_STORED = {
    **{1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4"},
    **{9: "f8", 12: "i8", 13: "u8"},
}
_STRUCT = 2  # a class of matrices; those of numbers:
_NUMBERS = {
    **{6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4"},
    **{14: "i8", 15: "u8"},
}
_COMPLEX = 0x800


def numbered_rows(file: epath.Path, what: str) -> Iterator[tuple[int, Row]]:
    """(number of the picture, row) of BP4D's struct array `fit`, which has one row per frame.

    Its `frame` counts from 1, pictures from 0. Rows without a number are left out.

    Args:
      file: the .mat.
      what: the file should hold, for messages.

    Raises:
      UserError: as `read_struct_array`, or a number that is not whole.
    """
    for row in read_struct_array(file, "fit", what):
        frame = row.get("frame")
        if frame is None or frame.size != 1:
            continue
        if not float(frame.item()).is_integer():  # NaN and infinities are not either
            raise UserError(f"{file}: frame {frame.item()} of `fit` is no whole number")
        yield int(frame.item()) - 1, row


def read_struct_array(file: epath.Path, name: str, what: str) -> list[Row]:
    """The elements of a struct array, each a dict of its fields: numbers, or None for other things.

    Args:
      file: the .mat.
      name: of the array.
      what: the file should hold, for messages.

    Raises:
      FileNotFoundError: there is no such file.
      UserError: not such a file, or damaged.
    """
    content = memoryview(read_bytes(file, largest=_LARGEST))
    try:
        order = _byte_order(content)
        for variable in _variables(content[_HEADER:], order):
            kind, _, shape, found, rest = _matrix(variable, order)
            if found == name and kind == _STRUCT:
                return list(_rows(math.prod(shape), rest, order))
        raise ValueError(f"no struct array {name!r} in it")
    except (ValueError, OverflowError, struct.error, zlib.error) as error:
        raise UserError(f"{file}: not a readable file of {what} ({error})") from error


def _byte_order(content: memoryview) -> str:
    if bytes(content[:10]) == b"MATLAB 7.3":
        raise ValueError("it is of version 7.3: save it with -v7")
    mark = bytes(content[126:_HEADER])
    if mark not in (b"IM", b"MI"):
        raise ValueError("it does not begin as one")
    return "<" if mark == b"IM" else ">"


def _variables(content: memoryview, order: str) -> Iterator[memoryview]:
    """Contents of the matrices at the top level."""
    for kind, found in _elements(content, order):
        if kind == _PACKED:
            unpacked = zlib.decompressobj().decompress(found, _LARGEST + 1)
            if len(unpacked) > _LARGEST:
                raise ValueError(f"a variable of over {_LARGEST // 2**20} MiB")
            ((kind, found),) = _take(_elements(memoryview(unpacked), order), 1)
        if kind == _MATRIX and len(found):
            yield found


def _elements(content: memoryview, order: str) -> Iterator[Element]:
    """Consecutive elements, each preceded by its tag."""
    place = 0
    while place + 8 <= len(content):
        kind, size = struct.unpack_from(f"{order}II", content, place)
        start, room = place + 8, len(content) - place - 8
        if kind >> 16:  # a short element, stored inside its tag
            kind, size, start, room = kind & 0xFFFF, kind >> 16, place + 4, 4
        if size > room:
            raise ValueError(f"an element of {size} bytes where {room} are left")
        yield kind, content[start : start + size]
        place = max(place + 8, start + size)
        place += -place % 8 if kind != _PACKED else 0


def _take(parts: Iterator[Element], count: int) -> list[Element]:
    """The next `count` elements.

    Raises:
      ValueError: there are fewer.
    """
    taken = list(itertools.islice(parts, count))
    if len(taken) < count:
        raise ValueError("it is cut short")
    return taken


def _matrix(
    content: memoryview, order: str
) -> tuple[int, bool, tuple[int, ...], str, Iterator[Element]]:
    """Class, whether it is complex, shape, name and remaining elements of a matrix."""
    parts = _elements(content, order)
    flags, sides, name = (content for _, content in _take(parts, 3))
    (word,) = struct.unpack_from(f"{order}I", flags)
    shape = tuple(np.frombuffer(sides, f"{order}i4").tolist())
    if not shape or min(shape) < 0:
        raise ValueError(f"a matrix of shape {quoted(shape)}")
    return word & 0xFF, bool(word & _COMPLEX), shape, bytes(name).decode("latin1"), parts


def _rows(count: int, parts: Iterator[Element], order: str) -> Iterator[Row]:
    width, names = (content for _, content in _take(parts, 2))
    (length,) = struct.unpack_from(f"{order}i", width)
    if not 0 < length <= len(names):
        raise ValueError("a struct array without names of fields")
    fields = [
        bytes(names[start : start + length]).split(b"\0")[0].decode("latin1")
        for start in range(0, len(names), length)
    ]
    for _ in range(count):
        yield {
            field: _numbers(content, order) if kind == _MATRIX and len(content) else None
            for field, (kind, content) in zip(fields, _take(parts, len(fields)), strict=True)
        }


def _numbers(content: memoryview, order: str) -> np.ndarray | None:
    """A matrix of real numbers; None for one of anything else."""
    kind, is_complex, shape, _, parts = _matrix(content, order)
    if kind not in _NUMBERS or is_complex:
        return None
    if not math.prod(shape):
        return np.zeros(shape, _NUMBERS[kind])
    ((code, stored),) = _take(parts, 1)
    if code not in _STORED:
        raise ValueError(f"numbers of type {code}")
    flat = np.frombuffer(stored, f"{order}{_STORED[code]}")
    if flat.size != math.prod(shape):
        raise ValueError(f"{flat.size} numbers for a matrix of shape {quoted(shape)}")
    return flat.astype(_NUMBERS[kind]).reshape(shape, order="F")
