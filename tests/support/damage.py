"""Damage to files, at random and on purpose, and a check of what readers do with it."""

from __future__ import annotations

import io
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from fields_jax.errors import UserError

RANDOM = 60
MOST_MEMORY = 200 * 2**20  # bytes beyond four times the file


def damaged(content: bytes, count: int = RANDOM, seed: int = 0) -> Iterator[bytes]:
    """The content cut short, with bits turned, with a stretch of it noise, zeros, gone or twice."""
    rng = np.random.default_rng(seed)
    for trial in range(count):
        place, length = int(rng.integers(len(content))), int(rng.integers(1, 300))
        before, there, after = (
            content[:place],
            content[place : place + length],
            content[place + length :],
        )
        kind = trial % 6
        if kind == 0:
            yield before
        elif kind == 1:
            turned = bytearray(content)
            for bit in rng.integers(8 * len(content), size=1 + trial % 4):
                turned[bit // 8] ^= 1 << int(bit) % 8
            yield bytes(turned)
        else:
            filling = (rng.bytes(len(there)), bytes(len(there)), b"", there + there)[kind - 2]
            yield before + filling + after


# Contents of a file that is not what was expected.
ANYTHING = {
    "empty": b"",
    "a byte": b"\x80",
    "text": b"no such thing\n" * 9,
    "zeros": bytes(4096),
    "a page": b"<!DOCTYPE html><title>404</title>",
    "an empty zip": b"PK\x05\x06" + bytes(18),
    "a pickle": b"cposix\nsystem\n(S'true'\ntR.",
    "a picture": b"\x89PNG\r\n\x1a\n" + bytes(40),
    "brackets": b"[" * 20_000,
    "escapes": b"\x1b[2J\x07\x9b" * 20,
}


def npy(array: np.ndarray, **changes: bytes) -> bytes:
    """An .npy file; changes replace texts of its header, whose stored length stays right."""
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=True)
    content = stream.getvalue()
    size = int.from_bytes(content[8:10], "little")
    header = content[10 : 10 + size]
    for new in changes.values():
        old, _, new = new.partition(b"->")
        assert old in header
        header = header.replace(old, new)
    return content[:8] + len(header).to_bytes(2, "little") + header + content[10 + size :]


def npz(members: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip file with .npy members of any content."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return stream.getvalue()


# Contents of one .npy, each wrong in its own way.
BAD_NPY = {
    "objects": npy(np.array([{}], object)),
    "a record": npy(np.zeros(2, "f4,i2")),
    "complex": npy(np.zeros(3, complex)),
    "no numbers": npy(np.array(["x"])),
    "10^12 entries": npy(np.zeros(3), shape=b"(3,)->(999999999999,)"),
    "a negative side": npy(np.zeros(3), shape=b"(3,)->(-3,)"),
    "many axes": npy(np.zeros(3), shape=b"(3,)->(3," + b"1," * 40 + b")"),
    "a side of no number": npy(np.zeros(3), shape=b"(3,)->('x',)"),
    "a type in a list": npy(np.zeros(3), descr=b"'<f8'->[('a','<f8')]"),
    "a type of code": npy(np.zeros(3), descr=b"'<f8'->__import__('os')"),
    "deep brackets": npy(np.zeros(3), shape=b"(3,)->" + b"(" * 5000),
    "a header too long": b"\x93NUMPY\x02\x00\xff\xff\xff\x7f{}",
    "a version": b"\x93NUMPY\x09\x00\x10\x00" + b" " * 16,
}


def outcomes(
    read: Callable[[bytes], object],
    contents: Iterator[bytes],
    name: str,
    target: Path | None = None,
) -> tuple[int, int]:
    """How many of the contents were read and how many refused, as every reader must.

    Args:
      read: reads one content; raises UserError or FileNotFoundError to refuse it.
      contents: the damaged files.
      name: of the file, which every message must contain.
      target: a file that a refusal must not change.
    """
    taken = refused = 0
    before = target.read_bytes() if target and target.exists() else None
    for content in contents:
        tracemalloc.start()
        try:
            read(content)
            taken += 1
        except UserError as error:
            refused += 1
            message = str(error)
            assert name in message, message
            assert message.isprintable() and len(message) < 700, message
            if target:
                assert (target.read_bytes() if target.exists() else None) == before
        finally:
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        assert peak < 4 * len(content) + MOST_MEMORY, (peak, len(content))
        if target:
            target.unlink() if before is None and target.exists() else None
            if before is not None:
                target.write_bytes(before)
    return taken, refused
