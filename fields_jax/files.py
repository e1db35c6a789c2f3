"""Files in and out, on a disk or in a bucket: read within bounds, written whole or not at all.

Files come from anywhere, and a damaged or hostile one must only lead to an error message. So all
reading goes through here: sizes are compared with the bytes that are there before memory is
allocated, nothing is run, and whatever is wrong becomes a UserError that names the file.
"""

from __future__ import annotations

import codecs
import contextlib
import io
import json
import math
import os
import re
import secrets
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from etils import epath

from fields_jax.errors import MissingFile, UserError, first_line, quoted

T = TypeVar("T")

_MIB, _GIB = 2**20, 2**30
LARGEST_FILE = 16 * _GIB  # checkpoints of torch are the largest files that are read at once
LARGEST_TEXT = 64 * _MIB
LARGEST_LINE = 4 * _MIB
LARGEST_ARRAYS = 2 * _GIB  # of all arrays in one file; a head of FLAME's size holds 0.03
_MOST_AXES, _MOST_ENTRIES = 16, 2**40

# Codes of the types that arrays of files may have: numbers and fixed-length text.
_TYPE = re.compile(r"[<>|=]?(?:b1|[iu][1248]|f[248]|[SU]\d{1,6})")
_NPY_MAGIC = b"\x93NUMPY"
# A dictionary of three entries, as numpy and others write it.
_NPY_HEADER = {
    "descr": re.compile(r"""["']descr["']\s?:\s?["']([^"']{1,20})["']"""),
    "fortran_order": re.compile(r"""["']fortran_order["']\s?:\s?(True|False)"""),
    "shape": re.compile(r"""["']shape["']\s?:\s?\(([0-9L, ]{0,400})\)"""),
}
_NPY_REST = re.compile(r"\s*\{[\s,]*\}\s*")
_NPY_SIDE = re.compile(r" ?([0-9]{1,19})L?(?:,|$)")
_BYTE_ORDER_MARKS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}


def is_remote(path: epath.PathLike) -> bool:
    """Whether a path is in a bucket, where files appear whole and nothing can be locked."""
    return "://" in str(path)


def read_bytes(path: epath.PathLike, *, largest: int = LARGEST_FILE) -> bytes:
    """The content of a file.

    Raises:
      MissingFile: there is no such file.
      UserError: it cannot be opened, or is larger than `largest` bytes.
    """
    file, parts = epath.Path(path), []
    with _refusals_named(path):
        size = file.stat().length
        with file.open("rb") as stream:
            # One read of the size that is told; what is no plain file tells none.
            while size <= largest and (part := stream.read((not parts and size) or _MIB)):
                parts.append(part)
                size = max(size, sum(map(len, parts)))
    if size > largest:
        raise UserError(f"{path} is larger than {largest / _MIB:.0f} MiB, which no such file is")
    return parts[0] if len(parts) == 1 else b"".join(parts)


def read_text(path: epath.PathLike) -> str:
    """A text in UTF-8 or, with a byte-order mark, UTF-16; invalid bytes become U+FFFD.

    Raises:
      MissingFile: there is no such file.
      UserError: it cannot be opened, or is larger than LARGEST_TEXT.
    """
    content = read_bytes(path, largest=LARGEST_TEXT)
    code, start = _text_code(content)
    return content[start:].decode(code, errors="replace")


def read_lines(path: epath.PathLike) -> Iterator[str]:
    """Lines of a text of any length, one at a time, without their ends; see `read_text`.

    Raises:
      MissingFile: there is no such file.
      UserError: it cannot be opened, or a line is longer than LARGEST_LINE.
    """
    file = epath.Path(path)
    with _refusals_named(path), file.open("rb") as stream:
        code, start = _text_code(stream.read(4))
        stream.seek(0)
        if code != "utf-8":  # whose line breaks are other bytes
            yield from read_text(path).splitlines()
            return
        stream.read(start)
        while line := stream.readline(LARGEST_LINE + 1):
            if len(line) > LARGEST_LINE:
                raise UserError(f"{path} has a line of over {LARGEST_LINE // _MIB} MiB")
            yield line.decode(code, errors="replace").rstrip("\r\n")


def read_json(path: epath.PathLike, *, kind: type[T] = dict) -> T:
    """The content of a JSON file.

    Args:
      path: the file.
      kind: the type its outermost value must have.

    Raises:
      MissingFile: there is no such file.
      UserError: no JSON, or of another kind.
    """
    return parse_json(read_text(path), str(path), kind=kind)


def parse_json(text: str | bytes, source: str, *, kind: type[T] = dict) -> T:
    """The content of a JSON text; `source` names it in messages.

    Raises:
      UserError: no JSON, or of another kind.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{source} is no JSON ({first_line(error)})") from error
    if not isinstance(value, kind):
        raise UserError(f"{source} holds a JSON {type(value).__name__}, expected a {kind.__name__}")
    return value


def plain_type(code: str) -> np.dtype | None:
    """The type with numpy's code, if it is one of numbers or fixed-length text, else None."""
    return np.dtype(code) if _TYPE.fullmatch(code) else None


def is_shape(shape: tuple[int, ...]) -> bool:
    """Whether an array may have a shape; numpy limits the sides even of arrays without entries."""
    sides = math.prod(side for side in shape if side)
    return len(shape) <= _MOST_AXES and min(shape, default=0) >= 0 and sides <= _MOST_ENTRIES


def array_of(
    content: bytes | memoryview, dtype: np.dtype, shape: tuple[int, ...], *, fortran: bool = False
) -> np.ndarray:
    """The bytes as an array, read-only and without a copy.

    Args:
      content: at least as many bytes as the array needs.
      dtype: of `plain_type`.
      shape: of the array.
      fortran: whether the first axis runs fastest in `content`.

    Raises:
      ValueError: too few bytes, a shape that no array has, or no text in an array of texts.
    """
    count = math.prod(shape)
    if not is_shape(shape):
        raise ValueError(f"an array of shape {quoted(shape)}")
    if count * dtype.itemsize > len(content):
        raise ValueError(
            f"an array of {count} entries of {dtype.itemsize} bytes in {len(content)} bytes"
        )
    flat = np.frombuffer(content, dtype, count) if count else np.zeros(0, dtype)
    if dtype.kind == "U" and dtype.itemsize:
        signs = flat.view(np.dtype("u4").newbyteorder(dtype.byteorder))
        if signs.max(initial=0) > sys.maxunicode:  # Python itself would fail at these later
            raise ValueError("a text with signs that do not exist")
    return flat.reshape(shape[::-1]).T if fortran else flat.reshape(shape)


def parse_npy(content: bytes, source: str) -> np.ndarray:
    """The array of an .npy file: numbers or text, never objects.

    Raises:
      UserError: another format, damage, or a type that is neither; `source` is named.
    """
    try:
        dtype, shape, fortran, start = npy_header(content)
        if (kind := plain_type(dtype)) is None:
            raise ValueError(f"its type is {quoted(dtype)}, neither numbers nor text")
        array = array_of(memoryview(content)[start:], kind, shape, fortran=fortran)
        return np.array(array, kind.newbyteorder("="))
    except ValueError as error:
        raise UserError(f"{source} is damaged or no .npy ({error})") from error


def npy_header(content: bytes) -> tuple[str, tuple[int, ...], bool, int]:
    """Type code, shape, whether the first axis runs fastest, and where the array's bytes begin.

    Raises:
      ValueError: no header of an .npy.
    """
    if content[:6] != _NPY_MAGIC or len(content) < 10 or content[6] not in (1, 2, 3):
        raise ValueError("it does not begin as one")
    width = 2 if content[6] == 1 else 4
    length, start = int.from_bytes(content[8 : 8 + width], "little"), 8 + width
    if not 0 < length <= min(10_000, len(content) - start):
        raise ValueError(f"a header of {length} bytes")
    text = content[start : start + length].decode("latin1")
    found = {name: pattern.search(text) for name, pattern in _NPY_HEADER.items()}
    rest = text
    for match in filter(None, found.values()):
        rest = rest.replace(match[0], "")
    if not all(found.values()) or not _NPY_REST.fullmatch(rest):
        raise ValueError(f"a header that says {quoted(text)}")
    code, fortran, sides = found["descr"][1], found["fortran_order"][1], found["shape"][1]
    if _NPY_SIDE.sub("", sides).strip():
        raise ValueError(f"a header that says {quoted(text)}")
    shape = tuple(int(side) for side in _NPY_SIDE.findall(sides))
    return code, shape, fortran == "True", start + length


def read_npy(path: epath.PathLike) -> np.ndarray:
    """The array of an .npy file.

    Raises:
      MissingFile: there is no such file.
      UserError: another format, damage, or objects instead of numbers.
    """
    return parse_npy(read_bytes(path, largest=LARGEST_ARRAYS), str(path))


def read_npz(
    path: epath.PathLike, *, what: str = "an .npz", largest: int = LARGEST_ARRAYS
) -> dict[str, np.ndarray]:
    """The arrays of an .npz file.

    Args:
      path: the file.
      what: it should be, for messages.
      largest: bytes of all its arrays together.

    Raises:
      MissingFile: there is no such file.
      UserError: another format, damage, objects instead of numbers, or more than `largest`.
    """
    return parse_npz(read_bytes(path, largest=largest), str(path), what=what, largest=largest)


def parse_npz(
    content: bytes, source: str, *, what: str = "an .npz", largest: int = LARGEST_ARRAYS
) -> dict[str, np.ndarray]:
    """The arrays of the content of an .npz file; `source` names it in messages, else as `read_npz`.

    Raises:
      UserError: another format, damage, objects instead of numbers, or more than `largest`.
    """
    with damage_named(f"{source} is not {what}, or damaged"):
        archive = zipfile.ZipFile(io.BytesIO(content))
        members = archive.infolist()
        names = [member.filename for member in members]
        if len(set(names)) != len(names):
            raise ValueError("two arrays of one name")
        if sum(member.file_size for member in members) > largest:
            raise ValueError(f"its arrays are larger than {largest / _MIB:.0f} MiB")
        return {
            member.filename.removesuffix(".npy"): parse_npy(
                read_member(archive, member), f"{source}: {quoted(member.filename)}"
            )
            for member in members
        }


@contextlib.contextmanager
def damage_named(complaint: str) -> Iterator[None]:
    """Turns any exception that damage causes inside the block into a UserError.

    Args:
      complaint: how the message begins, such as "FILE is not an .npz, or damaged".
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # parsers raise anything at damage
        raise UserError(f"{complaint} ({first_line(error)})") from error


def read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    """A file of an archive, in no more memory than the directory says, however much it unpacks to.

    Raises:
      ValueError: it is shorter than the directory says. Zipfile's own errors for other damage.
    """
    with archive.open(member) as stream:
        content = stream.read(member.file_size)
    if len(content) != member.file_size:
        raise ValueError(f"{quoted(member.filename)} is cut short")
    return content


def write_whole(path: epath.PathLike, content: bytes | str) -> None:
    """Writes a file so that it appears whole: killed in between, the old one is still there.

    Raises:
      OSError: the file cannot be written; nothing is left of the attempt.
    """
    with _beside(epath.Path(path)) as new:
        new.write_bytes(content.encode() if isinstance(content, str) else content)


@contextlib.contextmanager
def whole_file(path: epath.PathLike) -> Iterator[Path]:
    """A place on a disk for what writes its file itself; it gets its name if the block succeeds."""
    if is_remote(path):
        with tempfile.TemporaryDirectory() as spare:
            place = Path(spare) / "file"
            yield place
            epath.Path(place).copy(path, overwrite=True)
    else:
        with _beside(epath.Path(path)) as new:
            yield Path(new)


@contextlib.contextmanager
def _beside(file: epath.Path) -> Iterator[epath.Path]:
    """A hidden file that replaces another after the block, and is removed where that fails.

    Its name is of this process and call, so that two that write the same file do not meet.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    beside = file.with_name(f".{file.name[:40]}.{os.getpid()}-{secrets.token_hex(4)}.new")
    try:
        yield beside
        beside.replace(file)
    except BaseException:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def whole_folder(path: epath.PathLike) -> Iterator[epath.Path]:
    """A folder to fill, which gets its name when the block succeeds and is removed when it fails.

    In a bucket it is moved file by file: not at once, but only after the block.
    """
    folder = epath.Path(path)
    beside = folder.with_name(f".{folder.name}.new")
    beside.rmtree(missing_ok=True)  # of a run that was interrupted
    try:
        yield beside
        beside.rename(folder)
    except Exception:  # not for Ctrl-C and SIGTERM, after which Orbax may still be writing there
        beside.rmtree(missing_ok=True)
        raise


def write_npz(path: epath.PathLike, arrays: Mapping[str, Any], *, compressed: bool = True) -> None:
    """Writes named arrays as one .npz, which appears whole or not at all."""
    write_whole(path, npz_bytes(arrays, compressed=compressed))


def npz_bytes(arrays: Mapping[str, Any], *, compressed: bool = True) -> bytes:
    """Named arrays as the content of an .npz."""
    stored = io.BytesIO()
    write: Callable[..., None] = np.savez_compressed if compressed else np.savez
    write(stored, **arrays)
    return stored.getvalue()


def npy_bytes(array: np.ndarray) -> bytes:
    """An array of numbers or text as the content of an .npy."""
    stored = io.BytesIO()
    np.save(stored, array, allow_pickle=False)
    return stored.getvalue()


def _text_code(start: bytes) -> tuple[str, int]:
    """Encoding of a text by its first bytes, and the length of its byte-order mark."""
    for mark, code in _BYTE_ORDER_MARKS.items():
        if start.startswith(mark):
            return code, len(mark)
    return "utf-8", 0


@contextlib.contextmanager
def _refusals_named(path: epath.PathLike) -> Iterator[None]:
    """Turns the system's errors about a file that the block reads into a one-line UserError."""
    try:
        yield
    except FileNotFoundError:
        raise MissingFile(f"{path}: no such file") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or first_line(error)}") from error
