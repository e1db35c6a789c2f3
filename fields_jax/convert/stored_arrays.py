"""Arrays as pickles describe them: numpy's, scipy's sparse matrices and chumpy's arrays.

The whole description is checked first, its sizes against the bytes that are there. Then an array is
made of those bytes alone: no function of numpy, scipy or chumpy takes a state out of the file.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from fields_jax.convert.descriptions import Damaged, Made, Name, entries, kind_of
from fields_jax.errors import quoted
from fields_jax.files import array_of, is_shape, plain_type

_DEEPEST = 8  # chumpy arrays inside each other

_CORES = ("numpy.core", "numpy._core")
_DTYPE = Name("numpy", "dtype")
_RECONSTRUCT = frozenset(Name(f"{core}.multiarray", "_reconstruct") for core in _CORES)
_SCALAR = frozenset(Name(f"{core}.multiarray", "scalar") for core in _CORES)
_FROM_BUFFER = frozenset(Name(f"{core}.numeric", "_frombuffer") for core in _CORES)  # protocol 5
# How Python 3 writes bytes, no bytes, and bytes that may change, in older protocols.
_AROUND_BYTES = (
    *(Name("_codecs", "encode"), Name("builtins", "bytes"), Name("builtins", "bytearray")),
)
_COPY = tuple(Name("copyreg", name) for name in ("_reconstructor", "__newobj__"))
_CHUMPY = Name("chumpy.ch", "Ch")
_SPARSE = {
    Name(module, f"{kind}_{shape}"): kind
    for kind in ("csc", "csr")
    for shape in ("matrix", "array")
    for module in ("scipy.sparse", f"scipy.sparse.{kind}", f"scipy.sparse._{kind}")
}

# What files of plain arrays may name.
ARRAYS = frozenset({
    *(_DTYPE, Name("numpy", "ndarray"), *_AROUND_BYTES),
    *(*_RECONSTRUCT, *_SCALAR, *_FROM_BUFFER),
    *(Name("collections", name) for name in ("OrderedDict", "defaultdict")),
    *(Name("builtins", name) for name in ("set", "frozenset", "object")),
})  # fmt: skip
# What FLAME's files may name, besides anything in the packages of CHUMPY.
FLAME = frozenset({*ARRAYS, *_COPY, *_SPARSE})
CHUMPY = ("chumpy",)  # an array's history may name any part of it, and is passed over


@dataclasses.dataclass(frozen=True)
class StoredArray:
    """An array as a file describes it.

    Attributes:
      dtype: of its numbers.
      shape: of the array.
      read: returns the array, read-only, in no more memory than `shape` needs. Raises Damaged.
    """

    dtype: np.dtype
    shape: tuple[int, ...]
    read: Callable[[], np.ndarray]


def stored_array(value: Any, depth: int = 0) -> StoredArray:
    """The array that a description is of.

    Raises:
      Damaged: no array, one of objects, one whose size and bytes differ, or one that chumpy would
        have to compute.
    """
    if not isinstance(value, Made):
        raise Damaged(f"{kind_of(value)} in place of an array")
    of, state = _class_and_state(value)
    if value.of in _RECONSTRUCT:
        return _numpy_array(state)
    if value.of in _FROM_BUFFER:
        return _buffer(*_arguments(value, 4, 5))
    if value.of in _SCALAR:
        dtype, content = _arguments(value, 2)
        return _plain((), dtype, content, fortran=False)
    if of in _SPARSE:
        return _sparse(_SPARSE[of], entries(state))
    if of == _CHUMPY and depth < _DEEPEST:
        return stored_array(entries(state).get("x"), depth + 1)
    if of.module.split(".")[0] == "chumpy":
        raise Damaged(f"a chumpy expression, {quoted(of)}, which is computed and not stored")
    raise Damaged(f"{kind_of(value)} in place of an array")


def sole_object(value: Any) -> Any:
    """The description inside numpy's array of one object; any other description as it is."""
    if not (isinstance(value, Made) and value.of in _RECONSTRUCT):
        return value
    *_, content = _state_of_array(value.state)
    return content[0] if isinstance(content, list) and len(content) == 1 else value


def whole_numbers(value: Any) -> tuple[int, ...]:
    """A shape, or another tuple of at most 32 whole numbers.

    Raises:
      Damaged: anything else.
    """
    if not isinstance(value, tuple | list) or len(value) > 32:
        raise Damaged(f"{kind_of(value)} in place of a shape")
    return tuple(_whole_number(number) for number in value)


def _whole_number(value: Any) -> int:
    if isinstance(value, Made) and value.of in _SCALAR:
        scalar = stored_array(value)
        value = int(scalar.read()) if scalar.dtype.kind in "iu" else value
    if type(value) is not int:
        raise Damaged(f"{kind_of(value)} in place of a whole number")
    return value


def _class_and_state(made: Made) -> tuple[Name, Any]:
    """The class of the object that was written, which copyreg's helpers take as first argument."""
    of = made.arguments[0] if made.of in _COPY and made.arguments else made.of
    if not isinstance(of, Name):
        raise Damaged("an object of no class")
    state = made.state
    if isinstance(state, tuple) and len(state) == 2 and state[0] is None:
        state = state[1]  # of a class with slots
    return of, state


def _arguments(made: Made, *counts: int) -> tuple[Any, ...]:
    if len(made.arguments) not in counts:
        raise Damaged(f"{kind_of(made)} of {len(made.arguments)} arguments")
    return made.arguments


def _state_of_array(state: Any) -> tuple[Any, Any, bool, Any]:
    """Shape, type, order and content; states written before 2006 lack the version."""
    if not isinstance(state, tuple) or len(state) not in (4, 5):
        raise Damaged("an array without a state")
    shape, dtype, fortran, content = state[-4:]
    return shape, dtype, bool(fortran) if isinstance(fortran, int) else False, content


def _numpy_array(state: Any) -> StoredArray:
    shape, dtype, fortran, content = _state_of_array(state)
    return _plain(whole_numbers(shape), dtype, content, fortran=fortran)


def _buffer(content: Any, dtype: Any, shape: Any, order: Any, axes: Any = None) -> StoredArray:
    """How protocol 5 writes arrays; order K is C with the axes in another order."""
    sides = whole_numbers(shape)
    found = _plain(sides, dtype, content, fortran=order == "F")
    if order != "K" or axes is None:
        return found
    order = whole_numbers(axes)
    if sorted(order) != list(range(len(sides))):
        raise Damaged("an array whose axes are in no order")
    turned = tuple(sides[axis] for axis in order)
    return StoredArray(found.dtype, turned, lambda: found.read().transpose(order))


def _plain(shape: tuple[int, ...], dtype: Any, content: Any, *, fortran: bool) -> StoredArray:
    kind, stored = _dtype(dtype), stored_bytes(content)
    if not is_shape(shape) or math.prod(shape) * kind.itemsize != len(stored):
        raise Damaged(f"an array of shape {quoted(shape)} in {len(stored)} bytes")
    native = kind.newbyteorder("=")

    def read() -> np.ndarray:
        try:
            return array_of(stored, kind, shape, fortran=fortran).astype(native, copy=False)
        except ValueError as error:
            raise Damaged(str(error)) from None

    return StoredArray(native, shape, read)


def _dtype(value: Any) -> np.dtype:
    """The type that `numpy.dtype(code, ...)` and its state describe."""
    if not isinstance(value, Made) or value.of != _DTYPE or not value.arguments:
        raise Damaged(f"{kind_of(value)} in place of a type of numbers")
    code, state = value.arguments[0], value.state
    order = state[1] if isinstance(state, tuple) and len(state) > 1 else "="
    if not isinstance(code, str) or order not in ("<", ">", "|", "="):
        raise Damaged("a type of numbers without a code")
    if (found := plain_type(code)) is None:
        raise Damaged(f"an array of type {quoted(code)}, neither numbers nor text")
    return found.newbyteorder(order) if order in "<>" else found


def stored_bytes(value: Any) -> bytes:
    """Bytes, however the protocol writes them."""
    if isinstance(value, Made) and value.of in _AROUND_BYTES:
        value = value.arguments[0] if value.arguments else b""
    if isinstance(value, str):  # what Python 2 wrote, or Python 3 for it
        try:
            return value.encode("latin1")
        except UnicodeEncodeError:
            raise Damaged("a text in place of bytes") from None
    if not isinstance(value, bytes):
        raise Damaged(f"{kind_of(value)} in place of the bytes of an array")
    return value


def _sparse(kind: str, state: dict[str, Any]) -> StoredArray:
    """A compressed sparse matrix; made dense when it is read."""
    shape = whole_numbers(state.get("_shape", state.get("shape")))
    if len(shape) != 2 or min(shape) < 0:
        raise Damaged(f"a sparse matrix of shape {quoted(shape)}")
    parts = [stored_array(state.get(key)) for key in ("data", "indices", "indptr")]
    if any(len(part.shape) != 1 for part in parts):
        raise Damaged("a sparse matrix of parts that are no rows of numbers")
    if parts[2].shape[0] != (shape[1] if kind == "csc" else shape[0]) + 1:
        raise Damaged(f"a sparse matrix of shape {quoted(shape)}, which its parts do not have")
    return StoredArray(parts[0].dtype, shape, lambda: _dense(kind, shape, parts))


def _dense(kind: str, shape: tuple[int, int], parts: list[StoredArray]) -> np.ndarray:
    data, indices, starts = (part.read() for part in parts)
    lines, width = shape[::-1] if kind == "csc" else shape
    counts = np.diff(starts)
    sound = starts.dtype.kind in "iu" and indices.dtype.kind in "iu" and data.dtype.kind in "biuf"
    sound = sound and starts[0] == 0 and (counts >= 0).all()
    sound = sound and starts[-1] <= len(data) and len(indices) == len(data)
    if not sound or (len(indices) and not 0 <= indices.min() <= indices.max() < width):
        raise Damaged("a sparse matrix does not fit its shape")
    used = int(starts[-1])  # scipy may leave room behind the last entry
    matrix = np.zeros((lines, width), data.dtype)
    np.add.at(matrix, (np.repeat(np.arange(lines), counts), indices[:used]), data[:used])
    return matrix.T if kind == "csc" else matrix
