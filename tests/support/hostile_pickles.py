"""Random pickle programs with the names that readers allow, and a process that reads them.

Run as a program it reads COUNT of them with every function that makes arrays from descriptions, and
prints the outcomes as JSON.
"""

from __future__ import annotations

import collections
import json
import pickle
import pickletools
import resource
import struct
import sys
import time

import numpy as np
import scipy.sparse

from fields_jax.convert.descriptions import (
    Damaged,
    Entries,
    Made,
    Name,
    Persistent,
    entries,
)
from fields_jax.convert.pickles import read_pickle
from fields_jax.convert.stored_arrays import FLAME, sole_object
from fields_jax.convert.torch_files import NAMES as TORCH
from fields_jax.convert.torch_files import array_with_tensors
from fields_jax.errors import UserError

NAMES = sorted(FLAME | TORCH)
HOSTILE = (
    Name("posix", "mkdir"),
    Name("builtins", "eval"),
    Name("builtins", "getattr"),
    Name("numpy", "load"),
    Name("chumpy.ch", "Ch"),
    Name("chumpy.ch_ops", "add"),
)
# Without the first opcode, which gives the protocol, and the last, which ends the program.
SOUND = [
    pickle.dumps(value, protocol)[2:-1]
    for protocol in (2, 3, 4, 5)
    for value in (
        np.arange(6, dtype=np.float32).reshape(2, 3),
        np.asfortranarray(np.ones((2, 2), np.int64)),
        np.float64(1),
        np.array(["text"]),
        np.array([{}], object),
        scipy.sparse.csc_matrix(np.eye(3)),
        collections.OrderedDict(a=np.zeros(2), b=b"bytes"),
    )
]
INERT = (type(None), bool, int, float, str, bytes, list, tuple, Entries, Made, Name, Persistent)


def global_of(name: Name, rng: np.random.Generator | None = None) -> bytes:
    """Pushes a name, by lines or by the stack."""
    if rng is None or rng.random() < 0.5:
        return f"c{name.module}\n{name.name}\n".encode()
    return text(name.module) + text(name.name) + b"\x93"


def text(value: str) -> bytes:
    content = value.encode()
    return b"\x8c" + bytes([len(content)]) + content


def number(value: int) -> bytes:
    return b"J" + struct.pack("<i", value)


def dtype(code: str, order: str = "<", flags: int = 0) -> bytes:
    """Pushes numpy's description of a type, state and all."""
    state = number(3) + text(order) + b"NNN" + number(-1) + number(-1) + number(flags)
    return global_of(Name("numpy", "dtype")) + text(code) + b"\x89\x88\x87R(" + state + b"tb"


def argument(opcode: pickletools.OpcodeInfo, rng: np.random.Generator) -> bytes:
    """Bytes that may follow an opcode; most are sound."""
    kind = opcode.arg.name if opcode.arg else ""
    size = int(rng.integers(6))
    counted = {"1": 1, "4": 4, "8": 8}
    if kind in ("uint1", "uint2", "int4", "uint4", "uint8", "float8"):
        width = int(kind[-1])
        return bytes([size, *[0] * (width - 1)]) if rng.random() < 0.8 else rng.bytes(width)
    if kind[-1:] in counted and kind[:-1] in ("string", "bytes", "unicodestring", "long"):
        told = size if rng.random() < 0.9 else int(rng.integers(256))
        return told.to_bytes(counted[kind[-1]], "little") + rng.bytes(size)
    if kind == "bytearray8":
        return size.to_bytes(8, "little") + rng.bytes(size)
    if kind == "stringnl_noescape_pair":
        name = pick_name(rng)
        return f"{name.module}\n{name.name}\n".encode()
    if kind == "stringnl":
        return b"'text'\n"
    if kind in ("decimalnl_short", "decimalnl_long", "floatnl", "stringnl_noescape"):
        return b"%d\n" % size
    return b"text\n" if kind else b""


def spoiled(content: bytes, rng: np.random.Generator) -> bytes:
    """The content, in half of all cases with a few flipped bits."""
    turned = bytearray(content)
    for place in rng.integers(len(turned), size=max(0, int(rng.integers(-3, 4)))):
        turned[place] ^= 1 << int(rng.integers(8))
    return bytes(turned)


def pick_name(rng: np.random.Generator) -> Name:
    pool = HOSTILE if rng.random() < 0.02 else NAMES
    return pool[rng.integers(len(pool))]


def program(rng: np.random.Generator) -> bytes:
    """A pickle of pieces that make arrays, in half of all cases with any opcode between them."""
    pieces, wild = [b"\x80\x04("], rng.random() < 0.5
    for _ in range(rng.integers(1, 12)):
        pieces.append(wild_piece(rng) if wild and rng.random() < 0.4 else tame_piece(rng))
    return b"".join(pieces) + b"l."


def wild_piece(rng: np.random.Generator) -> bytes:
    opcode = pickletools.opcodes[rng.integers(len(pickletools.opcodes))]
    return opcode.code.encode("latin1") + argument(opcode, rng)


def tame_piece(rng: np.random.Generator) -> bytes:
    """Opcodes that push one more description, or make one from descriptions on the stack."""
    match rng.integers(6):
        case 0:
            return global_of(pick_name(rng), rng) + (b"", b")R", b"N\x85R")[rng.integers(3)]
        case 1:
            code = ("f4", "f8", "i8", "O8", "V8", "S4", "U9", "b1", "f4,O8")[rng.integers(9)]
            return dtype(code, "<>|="[rng.integers(4)], int(rng.integers(64)))
        case 2:
            content = rng.bytes(8 * int(rng.integers(4)))
            return b"C" + bytes([len(content)]) + content
        case 3:
            return b"".join(number(int(n)) for n in rng.integers(-2, 9, 2)) + b"\x86"
        case 4:
            return (b"Q", b"\x85", b"}b", b"Nb", b"2", b"\x94h\x00")[rng.integers(6)]
        case _:
            return spoiled(SOUND[rng.integers(len(SOUND))], rng)


def kinds(value: object) -> set[type]:
    """Types of everything a description is made of."""
    found, seen, waiting = set(), set(), [value]
    while waiting:
        part = waiting.pop()
        found.add(type(part))
        if id(part) in seen:
            continue
        seen.add(id(part))
        if isinstance(part, list | tuple):
            waiting.extend(part)
        if isinstance(part, Entries | Made):
            waiting.extend(one for pair in part.pairs for one in pair)
        if isinstance(part, Made):
            waiting.extend([part.of, *part.arguments, part.state, *part.items])
        if isinstance(part, Persistent):
            waiting.append(part.identifier)
    return found


def parts(value: object) -> list[object]:
    """A description and all its parts that are descriptions themselves."""
    found, waiting = [], [value]
    while waiting and len(found) < 1000:
        part = waiting.pop()
        if isinstance(part, Made | Entries):
            found.append(part)
            waiting.extend(one for pair in part.pairs for one in pair)
        if isinstance(part, Made):
            waiting.extend([*part.arguments, part.state, *part.items])
        if isinstance(part, list | tuple):
            waiting.extend(part)
    return found


def use(value: object) -> int:
    """Does to a description, and to all its parts, whatever the converters may do."""
    arrays = 0
    for part in [value, *parts(value)]:
        for read in (sole_object, entries, lambda part: array_with_tensors(part).read()):
            try:
                found = read(part)
            except Damaged:
                continue
            if isinstance(found, np.ndarray):
                assert found.dtype.kind in "biufSU" and not found.dtype.hasobject
                found.tobytes()  # every byte of it is there
                arrays += 1
    return arrays


def read(content: bytes) -> object:
    found, _ = read_pickle(content, "x.pkl", FLAME | TORCH, ignored=("chumpy",))
    strange = kinds(found) - set(INERT)
    assert not strange, strange
    return found


def main(count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    counts = dict(read=0, refused=0, named=0, arrays=0, slowest=0.0)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(count):
        content, started = program(rng), time.monotonic()
        try:
            counts["arrays"] += use(read(content))
            counts["read"] += 1
        except UserError as error:
            counts["refused"] += 1
            counts["named"] += "which no file of this kind needs" in str(error)
            assert str(error).isprintable()
        counts["slowest"] = max(counts["slowest"], time.monotonic() - started)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps(counts | dict(kilobytes=after - before)))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
