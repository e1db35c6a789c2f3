"""Pickles from outside, read without running what they say.

A pickle is a program that may call anything it can name. Here it may name the few classes that
FLAME's files and torch's are made of, and each of them is a stand-in of ours. All names are
collected first, on inert objects; one that is not on the list is refused before anything is built.
"""

from __future__ import annotations

import _compat_pickle
import collections
import contextlib
import io
import pickle
from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np

from fields_jax.errors import UserError

Names = Mapping[tuple[str, str], Any]


class Chumpy:
    """Stands in for `chumpy.ch.Ch`: an array with a history, of which the array `x` is kept."""

    def __setstate__(self, state: dict) -> None:
        self.x = state["x"]


class Sparse:
    """Stands in for scipy's compressed sparse matrices."""

    by_column: bool

    def __setstate__(self, state: dict) -> None:
        self.shape = state.get("_shape", state.get("shape"))
        self.data, self.indices, self.indptr = (state[k] for k in ("data", "indices", "indptr"))

    def dense(self) -> np.ndarray:
        """The matrix as an array.

        Raises:
          ValueError: indices that do not fit the shape.
        """
        rows, columns = (int(n) for n in self.shape)
        lines = columns if self.by_column else rows
        counts = np.diff(self.indptr)
        if len(counts) != lines or counts.min() < 0 or counts.sum() != len(self.data):
            raise ValueError("a sparse matrix does not fit its shape")
        line = np.repeat(np.arange(lines), counts)
        place = (self.indices, line) if self.by_column else (line, self.indices)
        matrix = np.zeros((rows, columns), self.data.dtype)
        np.add.at(matrix, place, self.data)
        return matrix


class Columns(Sparse):
    """Stands in for `scipy.sparse.csc_matrix`."""

    by_column = True


class Rows(Sparse):
    """Stands in for `scipy.sparse.csr_matrix`."""

    by_column = False


class _ArrayKind:
    """Stands in for `numpy.ndarray`, which files only name."""


def _empty_array(kind: type, shape: Any, code: Any) -> np.ndarray:
    # The state that follows sets shape and type, and numpy checks them against the bytes there.
    return np.ndarray((0,), np.int8)


def _scalar(dtype: np.dtype, content: bytes) -> np.generic:
    return np.frombuffer(content, dtype)[0]


def _new(kind: type, base: type, state: Any) -> Any:
    if not isinstance(kind, type) or kind.__module__ != __name__:
        raise pickle.UnpicklingError(f"cannot make a {kind}")
    return kind.__new__(kind)


ARRAYS: Names = {
    ("numpy", "ndarray"): _ArrayKind,
    ("numpy", "dtype"): np.dtype,
    **{
        (f"numpy.{core}.multiarray", name): value
        for core in ("core", "_core")
        for name, value in (("_reconstruct", _empty_array), ("scalar", _scalar))
    },
    ("_codecs", "encode"): lambda text, code: text.encode("latin1"),  # how Python 3 writes bytes
    ("collections", "OrderedDict"): collections.OrderedDict,
}
FLAME: Names = {
    **ARRAYS,
    ("chumpy.ch", "Ch"): Chumpy,
    ("copyreg", "_reconstructor"): _new,
    ("builtins", "object"): object,
    **{
        (module, f"{kind}_{shape}"): {"csc": Columns, "csr": Rows}[kind]
        for kind in ("csc", "csr")
        for shape in ("matrix", "array")
        for module in ("scipy.sparse", f"scipy.sparse.{kind}", f"scipy.sparse._{kind}")
    },
}


def read_pickle(
    stream: io.BytesIO,
    source: str,
    names: Names,
    persistent_load: Callable[[Any], Any] | None = None,
    ignored: Collection[str] = (),
) -> Any:
    """The object that the pickle at a stream's position describes, built of allowed parts only.

    Args:
      stream: left behind the pickle's end. What Python 2 wrote is read as Latin 1.
      source: what to call it in messages.
      names: {(module, name): what stands for it}.
      persistent_load: resolves persistent ids; without it they are refused.
      ignored: modules and packages whose objects may occur; none is made, `Inert` stands for all.

    Raises:
      UserError: a name that is not allowed, or a pickle that cannot be read to its end.
    """
    start = stream.tell()
    refused = sorted(
        name for name in _named(stream) - names.keys() if not _is_ignored(name[0], ignored)
    )
    if refused:
        found = ", ".join(".".join(name) for name in refused)
        raise UserError(
            f"{source} names {found}, which no file of this kind needs: nothing of it was run; "
            "fetch it anew from its publisher"
        )
    stream.seek(start)
    try:
        return _Reader(stream, names, persistent_load, ignored).load()
    except UserError:
        raise
    except Exception as error:  # a damaged pickle can fail in any way, in any opcode
        raise UserError(
            f"{source} is damaged or of another format ({type(error).__name__}: {error}); "
            "fetch it anew"
        ) from error


# The pure Python unpickler: the C one allocates its memo by indices in the file, so that a flipped
# bit can ask for all memory.
class _Unpickler(pickle._Unpickler):
    def __init__(self, stream: io.BytesIO) -> None:
        super().__init__(stream, encoding="latin1")

    def find_class(self, module: str, name: str) -> Any:
        if self.proto < 3:  # what Python 2 called otherwise
            module, name = _compat_pickle.NAME_MAPPING.get((module, name), (module, name))
            module = _compat_pickle.IMPORT_MAPPING.get(module, module)
        return self.look_up(module, name)

    def get_extension(self, code: int) -> None:
        raise pickle.UnpicklingError(f"extension {code} is not allowed")

    def look_up(self, module: str, name: str) -> Any:
        raise NotImplementedError


class _Reader(_Unpickler):
    def __init__(
        self,
        stream: io.BytesIO,
        names: Names,
        persistent_load: Callable | None,
        ignored: Collection[str],
    ) -> None:
        super().__init__(stream)
        self._names, self._resolve, self._ignored = names, persistent_load, ignored

    def look_up(self, module: str, name: str) -> Any:
        if (module, name) in self._names:
            return self._names[module, name]
        if _is_ignored(module, self._ignored):
            return Inert
        raise pickle.UnpicklingError(f"{module}.{name} is not allowed")

    def persistent_load(self, identifier: Any) -> Any:
        if self._resolve is None:
            raise pickle.UnpicklingError("a persistent id where none belongs")
        return self._resolve(identifier)


class Inert:
    """Takes every call, item and state, and does nothing."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Inert:
        return super().__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def _ignore(self, *args: Any, **kwargs: Any) -> None:
        pass

    __setstate__ = __setitem__ = append = extend = add = update = _ignore


class _Collector(_Unpickler):
    def __init__(self, stream: io.BytesIO) -> None:
        super().__init__(stream)
        self.found: set[tuple[str, str]] = set()

    def look_up(self, module: str, name: str) -> type:
        self.found.add((module, name))
        return Inert

    def persistent_load(self, identifier: Any) -> Inert:
        return Inert()


def _is_ignored(module: str, ignored: Collection[str]) -> bool:
    parts = module.split(".")
    return any(".".join(parts[:k]) in ignored for k in range(1, len(parts) + 1))


def _named(stream: io.BytesIO) -> set[tuple[str, str]]:
    collector = _Collector(stream)
    # What damage hides here is met by the reader, which knows no other names either.
    with contextlib.suppress(Exception):
        collector.load()
    return collector.found
