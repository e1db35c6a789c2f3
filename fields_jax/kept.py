"""What takes seconds to make and is the same each time: kept beside the compiled programs.

The folder is that of `compile_cache`, which belongs to the user alone; without one nothing is kept.
Names hold a digest of all that the content depends on, the source code among it, so that nothing is
ever out of date, and of arrays a digest of the content, so that damage is noticed.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fields_jax.compile_cache import folder_in_use
from fields_jax.cpu_tuning import soon_compiled
from fields_jax.errors import UserError
from fields_jax.files import npz_bytes, parse_npz, read_bytes, write_whole

_ROOT = Path(__file__).parent
_DIGEST = 32  # bytes of a digest, which a kept program begins with
# By name: what one thread is making, another waits for.
_making: dict[str, threading.Lock] = defaultdict(threading.Lock)


def kept_arrays(
    name: str, depends_on: str, make: Callable[[], Mapping[str, np.ndarray]]
) -> dict[str, np.ndarray]:
    """The arrays that `make` gives, read from the folder where they are kept.

    Args:
      name: of the file; older ones of the same name give way.
      depends_on: everything that the arrays depend on, see `digest`.
      make: makes them.
    """
    with _making[f"{name}-{depends_on}"]:
        return _kept_arrays(name, depends_on, make)


def _kept_arrays(
    name: str, depends_on: str, make: Callable[[], Mapping[str, np.ndarray]]
) -> dict[str, np.ndarray]:
    folder = folder_in_use()
    if folder is None:
        return dict(make())
    begin = f"{name}-{depends_on[:32]}-"
    for file in folder.glob(f"{begin}*.npz"):
        with contextlib.suppress(UserError):  # removed or damaged meanwhile: made anew
            content = read_bytes(file)
            if file.name == f"{begin}{hashlib.sha256(content).hexdigest()}.npz":
                return parse_npz(content, str(file))
    arrays = dict(make())
    content = npz_bytes(arrays, compressed=False)
    with contextlib.suppress(OSError):  # a full disk is no reason to stop
        for old in folder.glob(f"{name}-*.npz"):
            old.unlink(missing_ok=True)
        write_whole(folder / f"{begin}{hashlib.sha256(content).hexdigest()}.npz", content)
    return arrays


def kept_program(function: Any, *arguments: Any, static: tuple = ()) -> Any:
    """What a compiled function gives; its tracing, which takes longer than a run, is kept.

    Args:
      function: of `arguments` and `static`, returning arrays in tuples and dictionaries.
      arguments: arrays, and trees of them.
      static: hashable arguments after them whose `repr` tells them apart.
    """
    import jax

    from fields_jax.platforms import default_platform, traced_for

    platform = default_platform()
    leaves, tree = jax.tree.flatten(arguments)
    leaves = [leaf if isinstance(leaf, jax.Array) else np.asarray(leaf) for leaf in leaves]
    shapes = [f"{leaf.dtype}{leaf.shape}" for leaf in leaves]
    told = [function.__module__, function.__qualname__, *map(repr, static), str(tree), *shapes]

    def flat(*leaves: Any) -> Any:
        return function(*jax.tree.unflatten(tree, leaves), *static)

    flat.__name__ = function.__name__
    folder = folder_in_use()
    settings = (jax.config.jax_enable_x64, jax.config.jax_default_matmul_precision)
    told += [jax.__version__, platform, *map(str, settings)]
    key = digest([_ROOT], told)
    # Within the context for calls, too: elsewhere JAX would trace and compile once more.
    with traced_for(platform):
        if key not in _programs:
            with _making[key]:
                if key not in _programs:
                    stored = folder and _traced(flat, leaves, folder / f"traced-{key}")
                    program = jax.jit(
                        _named(stored or flat, function.__name__),
                        compiler_options=soon_compiled(platform),
                    )
                    given = program(*leaves)  # compiled by this call
                    _programs[key] = program
                    return given
        return _programs[key](*leaves)


_programs: dict[str, Callable] = {}


def _named(function: Callable, name: str) -> Callable:
    """The function with a name, by which profilers and JAX's log know its program."""

    def named(*leaves: Any) -> Any:
        return function(*leaves)

    named.__name__ = name
    return named


def _traced(flat: Callable, leaves: list, file: Path) -> Callable:
    """A function of arrays as the file holds it, or traced and written there."""
    import jax
    from jax import export

    with contextlib.suppress(Exception):  # absent, damaged or of another version: traced anew
        stored = read_bytes(file)
        if hashlib.sha256(stored[_DIGEST:]).digest() == stored[:_DIGEST]:
            return export.deserialize(bytearray(stored[_DIGEST:])).call
    made = export.export(jax.jit(flat))(*leaves)
    with contextlib.suppress(OSError):
        content = bytes(made.serialize())
        write_whole(file, hashlib.sha256(content).digest() + content)
    return made.call


def digest(sources: Iterable[Path], facts: Iterable[str] = ()) -> str:
    """SHA-256 of the Python files below some folders, or of single ones, and of some texts."""
    total = hashlib.sha256()
    for source in sources:
        total.update(_digest_of_source(source))
    for fact in facts:
        total.update(f"{len(fact)} {fact}".encode())
    return total.hexdigest()


@functools.cache
def _digest_of_source(source: Path) -> bytes:
    files = sorted(source.rglob("*.py")) if source.is_dir() else [source]
    total = hashlib.sha256()
    for file in files:
        content = file.read_bytes()
        total.update(f"{file.relative_to(_ROOT)} {len(content)} ".encode() + content)
    return total.digest()
