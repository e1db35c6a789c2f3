"""Files of `torch.save`, read without torch: the zip format and the one before it.

Both are a pickle that says how tensors lie in storages, and the storages' bytes. Storages become
flat numpy arrays, tensors views of them. Torch's classes are stand-ins (see `pickles`).
"""

from __future__ import annotations

import io
import math
import pickle
import zipfile
from collections.abc import Callable, Collection
from typing import Any

import ml_dtypes
import numpy as np
from etils import epath

from fields_jax.convert.pickles import ARRAYS, Names, read_pickle
from fields_jax.errors import UserError

_MAGIC = 0x1950A86A20F9469CFC6C  # of the format before zip
_STORAGES = {
    "DoubleStorage": np.float64,
    "FloatStorage": np.float32,
    "HalfStorage": np.float16,
    "BFloat16Storage": ml_dtypes.bfloat16,
    "LongStorage": np.int64,
    "IntStorage": np.int32,
    "ShortStorage": np.int16,
    "CharStorage": np.int8,
    "ByteStorage": np.uint8,
    "BoolStorage": np.bool_,
}


# What Lightning's checkpoints hold beside the state dict: callbacks, settings and the like.
LIGHTNING = (
    *("pytorch_lightning", "lightning", "lightning_fabric", "omegaconf", "gdl"),
    *("argparse", "enum", "pathlib", "typing"),
)


def read_torch(path: str, ignored: Collection[str] = ()) -> Any:
    """What a file of `torch.save` holds, with numpy arrays for tensors.

    Args:
      path: the file.
      ignored: modules and packages whose objects may occur and are passed over.

    Raises:
      FileNotFoundError: no such file.
      UserError: another format, damage, or a name that has no business in such a file.
    """
    file = epath.Path(path)
    if not file.exists():
        raise FileNotFoundError(f"{path} does not exist")
    content = file.read_bytes()
    if content[:2] == b"PK":
        return _read_zip(content, path, ignored)
    if content[257:262] == b"ustar":
        raise UserError(
            f"{path} is in torch's tar format of before 2017: load it with torch and save it again"
        )
    return _read_sequence(content, path, ignored)


def load_from_bytes(content: bytes) -> np.ndarray:
    """Stands in for `torch.storage._load_from_bytes`: a storage pickled inside another file."""
    return _read_sequence(content, "a storage")


def rebuild_tensor(storage, offset, size, stride, requires_grad=False, hooks=None, metadata=None):
    """Stands in for `torch._utils._rebuild_tensor_v2`: a view of a storage.

    Raises:
      UnpicklingError: the view does not lie within its storage.
    """
    size, stride, offset = tuple(size), tuple(stride), int(offset)
    if not isinstance(storage, np.ndarray) or len(size) != len(stride):
        raise pickle.UnpicklingError("a tensor without a storage or with odd strides")
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if min((offset, *size, *stride)) < 0 or (math.prod(size) and last >= storage.size):
        raise pickle.UnpicklingError("a tensor reaches beyond its storage")
    if not math.prod(size):
        return np.zeros(size, storage.dtype)
    steps = [step * storage.itemsize for step in stride]
    return np.lib.stride_tricks.as_strided(storage[offset:], size, steps, writeable=False)


def _rebuild_parameter(data: np.ndarray, requires_grad: bool = False, hooks: Any = None):
    return data


NAMES: Names = {
    **ARRAYS,
    ("torch._utils", "_rebuild_tensor_v2"): rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
    ("torch.storage", "_load_from_bytes"): load_from_bytes,
    ("torch", "Size"): tuple,
    **{("torch", name): np.dtype(kind) for name, kind in _STORAGES.items()},
}


def _read_zip(content: bytes, source: str, ignored: Collection[str]) -> Any:
    try:
        archive = zipfile.ZipFile(io.BytesIO(content))
        pickles = [name for name in archive.namelist() if name.split("/")[1:] == ["data.pkl"]]
        if len(pickles) != 1:
            raise UserError(f"{source} is a zip file, but none of torch.save: it has no data.pkl")
        folder = pickles[0].removesuffix("data.pkl")
        order = folder + "byteorder"
        if order in archive.namelist() and archive.read(order) != b"little":
            raise UserError(f"{source} was written on a big-endian machine, which is not supported")
        stored = {entry.filename: entry.file_size for entry in archive.infolist()}

        def read_storage(key: str, dtype: np.dtype, count: int) -> np.ndarray:
            name = f"{folder}data/{key}"
            if stored.get(name) != count * dtype.itemsize:
                raise pickle.UnpicklingError(f"storage {key} is absent or of another size")
            return np.frombuffer(archive.read(name), dtype)

        stream = io.BytesIO(archive.read(pickles[0]))
        return read_pickle(stream, source, NAMES, _storages(read_storage), ignored)
    except UserError:
        raise
    except Exception as error:  # a damaged directory can fail zipfile in any way
        raise UserError(f"{source} is a damaged zip file ({error}); fetch it anew") from error


def _read_sequence(content: bytes, source: str, ignored: Collection[str] = ()) -> Any:
    stream = io.BytesIO(content)
    if read_pickle(stream, source, {}) != _MAGIC:
        raise UserError(f"{source} is no file of torch.save")
    read_pickle(stream, source, {})  # version of the format
    machine = read_pickle(stream, source, {})
    if not isinstance(machine, dict) or not machine.get("little_endian", True):
        raise UserError(f"{source} was written on a big-endian machine, which is not supported")
    storages: dict[str, np.ndarray] = {}

    def promise_storage(key: str, dtype: np.dtype, count: int) -> np.ndarray:
        if count * dtype.itemsize > len(content):
            raise pickle.UnpicklingError(f"storage {key} is larger than the file")
        return storages.setdefault(key, np.zeros(count, dtype))

    found = read_pickle(stream, source, NAMES, _storages(promise_storage), ignored)
    keys = read_pickle(stream, source, {})
    if not isinstance(keys, list):
        raise UserError(f"{source} is damaged: it has no list of storages; fetch it anew")
    for key in keys:
        head, storage = stream.read(8), storages.get(key)
        body = b"" if storage is None else stream.read(storage.nbytes)
        if storage is None or len(body) != storage.nbytes or _count(head) != storage.size:
            raise UserError(f"{source} is damaged: storage {key!r} is cut short; fetch it anew")
        storage[:] = np.frombuffer(body, storage.dtype)
    return found


def _count(head: bytes) -> int:
    return int.from_bytes(head, "little")


def _storages(read: Callable[[str, np.dtype, int], np.ndarray]) -> Callable[[Any], np.ndarray]:
    """Resolves torch's persistent ids, ("storage", type, key, device, count, ...)."""
    known: dict[str, np.ndarray] = {}

    def load(identifier: Any) -> np.ndarray:
        kind, dtype, key, _, count, *_ = identifier
        if kind != "storage" or not isinstance(dtype, np.dtype):
            raise pickle.UnpicklingError(f"a persistent id of kind {kind!r}")
        if key not in known:
            known[key] = read(str(key), dtype, int(count))
        return known[key]

    return load
