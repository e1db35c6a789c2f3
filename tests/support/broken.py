"""The ways in which files break; a reader must read them correctly or refuse them in one line."""

from __future__ import annotations

import copy
import io
import json
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from data_pipelines.building.photographs import Rejected
from fields_jax.errors import UserError

RANDOM = 60  # random corruptions of each kind of file
_STRANGE = ("\x1b[31m", "\0", "\u202e", "\n\r", "nan", "1e999", "-", '"', ",,", "\ufeff", "9" * 400)
# Wrong values to put into JSON.
_OTHERS = (
    *(None, True, -1, 0, 1.5, 1e300, float("nan"), float("inf"), 10**30, "", "x\x1b[31m\n", []),
    *({}, [[]], {"a": 1}, [1, "b"], "9" * 400, -(10**18)),
)


def chosen(content: bytes) -> Iterator[bytes]:
    """Damage seen in practice, for any kind of file."""
    yield from (b"", b"\n", b"\0" * 64, b"\xef\xbb\xbf", b"\xff\xfe", b"\xff" * 300)
    yield from (content[: len(content) // 2], content[:-1], content[1:], content[:9])
    yield from (content + b"\0", content * 2, content + content[: len(content) // 3])
    yield from (content.swapcase(), content[::-1], b"PK\x03\x04" + content)
    yield from (b"null", b"[]", b"5", b"[" * 10**5, b'{"a":' * 10**5, b"9" * 5000)


def drawn(content: bytes, *, seed: int = 0, count: int = RANDOM) -> Iterator[bytes]:
    """Cut, noisy, shuffled, doubled and strange contents, always the same ones."""
    chance = random.Random(seed)
    for number in range(count):
        place = chance.randrange(len(content) + 1)
        end = min(len(content), place + chance.choice((1, 2, 4, 8, 40, 400)))
        lines = content.splitlines(keepends=True) or [b""]
        line = chance.randrange(len(lines))
        strange = chance.choice(_STRANGE).encode()
        flipped = bytearray(content or b"x")
        flipped[chance.randrange(len(flipped))] ^= 1 << chance.randrange(8)
        yield (
            content[:place],
            content[:place] + chance.randbytes(end - place) + content[end:],
            content[:place] + bytes(end - place) + content[end:],
            content[:place] + content[end:],
            content[:end] + content[place:end] * 3 + content[end:],
            content[:place] + strange + content[place:],
            bytes(flipped),
            b"".join([*lines[:line], *lines[line + 1 :]]),
            b"".join([*lines[:line], strange + b"\n", *lines[line:]]),
            b"".join(chance.sample(lines, len(lines))),
        )[number % 10]


def fields(value: Any, *, seed: int = 0, count: int = RANDOM) -> Iterator[bytes]:
    """JSON with a field taken out or put in another's place, at any depth."""
    chance = random.Random(seed)
    for number in range(count):
        made = copy.deepcopy(value)
        place, key = _somewhere(made, chance)
        if number % 4 == 0:
            del place[key]
        else:
            place[key] = _OTHERS[(number + chance.randrange(2)) % len(_OTHERS)]
        yield json.dumps(made).encode()


def arrays(stored: dict[str, np.ndarray], *, seed: int = 0, count: int = RANDOM) -> Iterator[bytes]:
    """An .npz with an array missing, of another type or shape, or with values it cannot have."""
    chance = random.Random(seed)
    for number in range(count):
        made = dict(stored)
        name = chance.choice(sorted(made))
        array = made[name]
        if number % 7 == 0:
            del made[name]
        else:
            made[name] = (
                lambda a: a.astype(str),
                lambda a: a[None],
                lambda a: a[:1] if a.ndim else np.zeros(3),
                lambda a: np.full(a.shape, np.nan),
                lambda a: np.full(a.shape, 1e300),
                lambda a: np.full(a.shape, -7),
            )[number % 7 - 1](np.asarray(array))
        stream = io.BytesIO()
        np.savez(stream, **made)
        yield stream.getvalue()


def outcomes(
    file: Path, contents: Iterable[bytes], read: Callable[[], Any], *, named: str = ""
) -> Counter:
    """How many are read and how many refused; an error without a line that names the file fails.

    Args:
      file: path to write the contents to; reading must not change it.
      contents: of the file, one after the other.
      read: raises UserError, Rejected or FileNotFoundError to refuse a file.
      named: what the line must contain; default: the file's name.
    """
    found: Counter = Counter()
    for content in contents:
        file.write_bytes(content)
        try:
            read()
            found["read"] += 1
        except (UserError, Rejected, FileNotFoundError) as error:
            line = str(error)
            assert line.isprintable() and len(line) < 900, line
            assert (named or file.name) in line, line
            found["refused"] += 1
        assert file.read_bytes() == content
    return found


def _somewhere(value: Any, chance: random.Random) -> tuple[Any, Any]:
    """A container within a JSON value, and a key of it."""
    while True:
        keys = list(value) if isinstance(value, dict) else range(len(value))
        key = chance.choice(list(keys))
        inner = value[key]
        if isinstance(inner, (dict, list)) and inner and chance.random() < 0.8:
            value = inner
        else:
            return value, key
