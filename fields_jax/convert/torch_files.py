"""Files of `torch.save`, read without torch: the zip format and the one before it.

Both are a pickle that says how tensors lie in storages, and the storages' bytes. Tensors are
described as `StoredArray`s; a storage is read when a tensor of it is.
"""

from __future__ import annotations

import functools
import io
import itertools
import math
import zipfile
from collections.abc import Callable, Collection, Iterator
from typing import Any

import ml_dtypes
import numpy as np

from fields_jax.convert.descriptions import (
    Damaged,
    Made,
    Name,
    Persistent,
    entries,
    is_dictionary,
    kind_of,
)
from fields_jax.convert.pickles import read_pickle
from fields_jax.convert.stored_arrays import (
    ARRAYS,
    StoredArray,
    stored_array,
    stored_bytes,
    whole_numbers,
)
from fields_jax.errors import UserError, quoted
from fields_jax.files import damage_named, is_shape, read_bytes, read_member

MAGIC = 0x1950A86A20F9469CFC6C  # of the format before zip
_STORAGES = {
    Name("torch", f"{kind}Storage"): np.dtype(dtype)
    for kind, dtype in {
        "Double": np.float64,
        "Float": np.float32,
        "Half": np.float16,
        "BFloat16": ml_dtypes.bfloat16,
        "Long": np.int64,
        "Int": np.int32,
        "Short": np.int16,
        "Char": np.int8,
        "Byte": np.uint8,
        "Bool": np.bool_,
    }.items()
}
_TENSOR = tuple(Name("torch._utils", f"_rebuild_tensor{version}") for version in ("_v2", ""))
_PARAMETER = tuple(
    Name("torch._utils", f"_rebuild_parameter{state}") for state in ("", "_with_state")
)
_FROM_BYTES = Name("torch.storage", "_load_from_bytes")  # a storage pickled in another file
NAMES = frozenset({
    *(*ARRAYS, *_STORAGES, *_TENSOR, *_PARAMETER, _FROM_BYTES),
    *(Name("torch", name) for name in ("Size", "device")),
})  # fmt: skip
_NOTHING_NAMED: frozenset[Name] = frozenset()

# What Lightning's checkpoints hold beside the state dict: callbacks, settings and the like.
LIGHTNING = (
    *("pytorch_lightning", "lightning", "lightning_fabric", "omegaconf", "gdl"),
    *("argparse", "enum", "pathlib", "typing"),
)
_DEEPEST = 8  # dictionaries inside each other that are read
_MOST_ENTRIES = 100_000  # of all dictionaries; networks have some thousands
_ROOM = 64 * 2**20  # bytes an archive may unpack to, beyond four times its own size

Storage = Callable[[], np.ndarray]  # reads the flat array of a storage


def read_torch(path: str, ignored: Collection[str] = ()) -> dict[str, Any]:
    """What a file of `torch.save` holds, a dictionary.

    Args:
      path: the file.
      ignored: modules and packages whose objects may occur and are passed over.

    Returns:
      The dictionary and those inside it, with a `StoredArray` for each tensor. Dictionaries with
      other keys than texts, and whatever is neither number nor text, stay descriptions.

    Raises:
      FileNotFoundError: no such file.
      UserError: another format, damage, or a name that has no business in such a file.
    """
    content = read_bytes(path)
    if other := other_format(content, path):
        raise UserError(other)
    try:
        if content[:2] == b"PK":
            return _read_zip(content, path, ignored)
        found, storages = _read_sequence(content, path, ignored)
        return _dictionary(found, storages)
    except Damaged as error:
        raise UserError(f"{path} is damaged or holds no state dict ({error})") from error


def array_with_tensors(value: Any) -> StoredArray:
    """The array of a description outside torch's files: numpy's, or a tensor with its storage.

    Raises:
      Damaged: as `stored_array`.
    """
    if isinstance(value, Made) and value.of in _TENSOR:
        return _tensor(value, _no_storage)
    return stored_array(value)


def other_format(content: bytes, path: str) -> str:
    """What a published file is that nothing here reads, and what to do; "" for any other."""
    if content[257:262] == b"ustar":
        return (
            f"{path} is a .tar: if it is of torch before 2017, load it with torch and save it "
            "again; else unpack it (tar -xf) and name the .pt or .pth in it"
        )
    if content[:2] == b"\x1f\x8b":
        return f"{path} is packed by gzip: unpack it (gunzip, or tar -xzf) and name the file in it"
    length = int.from_bytes(content[:8], "little")
    if content[8:9] == b"{" and length <= len(content) - 8:
        return (
            f"{path} is a safetensors file: turn it into torch's format by "
            "`torch.save(safetensors.torch.load_file(FILE), NEW.pt)`"
        )
    if content[:4] == b"\x89HDF":
        return f"{path} is an HDF5 file (Keras?), none of torch.save"
    return ""


def _read_zip(content: bytes, source: str, ignored: Collection[str]) -> dict[str, Any]:
    complaint = f"{source} is a damaged zip file"
    with damage_named(complaint):
        archive = zipfile.ZipFile(io.BytesIO(content))
        members = {member.filename: member for member in archive.infolist()}
        if sum(member.file_size for member in members.values()) > 4 * len(content) + _ROOM:
            raise UserError(f"{source} would unpack to many times its size: no file of torch.save")
        pickles = [name for name in members if name.split("/")[1:] == ["data.pkl"]]
        if len(pickles) != 1:
            raise UserError(zip_without(source, members, "data.pkl, none of torch.save"))
        folder = pickles[0].removesuffix("data.pkl")
        order = members.get(folder + "byteorder")
        if order and read_member(archive, order) != b"little":
            raise UserError(f"{source} was written on a big-endian machine, which is not supported")
        described = read_member(archive, members[pickles[0]])
    found, _ = read_pickle(described, source, NAMES, ignored=ignored)

    @functools.lru_cache(maxsize=1)  # tensors of one storage stand together
    def read_storage(name: str) -> bytes:
        with damage_named(complaint):
            return read_member(archive, members[name])

    def storage(key: str, dtype: np.dtype, count: int) -> Storage:
        name = f"{folder}data/{key}"
        if name not in members or members[name].file_size != count * dtype.itemsize:
            raise Damaged(f"storage {quoted(key)} is absent or of another size")
        return lambda: np.frombuffer(read_storage(name), dtype)

    return _dictionary(found, storage)


def zip_without(source: str, members: Collection[str], wanted: str) -> str:
    """The message about a zip file that lacks the wanted members."""
    inside = sorted(name for name in members if name.endswith((".pkl", ".pt", ".pth", ".ckpt")))
    if inside:
        return f"{source} is a zip file that holds {quoted(inside[0])}: unpack it and name that"
    return f"{source} is a zip file without {wanted}"


def _read_sequence(
    content: bytes, source: str, ignored: Collection[str] = ()
) -> tuple[Any, Callable[[str, np.dtype, int], Storage]]:
    """The description of a file of the older format, and its storages."""
    read = functools.partial(read_pickle, content, source)
    magic, at = read(_NOTHING_NAMED)
    if magic != MAGIC:
        raise UserError(f"{source} is no file of torch.save")
    _, at = read(_NOTHING_NAMED, start=at)  # version of the format
    machine, at = read(_NOTHING_NAMED, start=at)
    if not entries(machine).get("little_endian", True):
        raise UserError(f"{source} was written on a big-endian machine, which is not supported")
    found, at = read(NAMES, ignored=ignored, start=at)
    keys, at = read(_NOTHING_NAMED, start=at)
    places: dict[str, int] = {}
    counts = _counts(found)
    if not isinstance(keys, list):
        raise Damaged("it has no list of storages")
    for key in keys:
        if not isinstance(key, str) or key not in counts:
            raise Damaged(f"storage {quoted(key)} belongs to no tensor")
        dtype, count = counts[key]
        end = at + 8 + count * dtype.itemsize
        if end > len(content) or int.from_bytes(content[at : at + 8], "little") != count:
            raise UserError(f"{source} is damaged: storage {quoted(key)} is cut short")
        places[key], at = at + 8, end

    def storage(key: str, dtype: np.dtype, count: int) -> Storage:
        if key not in places or counts[key] != (dtype, count):
            raise Damaged(f"storage {quoted(key)} is absent or of another size")
        start = places[key]
        stored = memoryview(content)[start : start + count * dtype.itemsize]
        return lambda: np.frombuffer(stored, dtype)

    return found, storage


def _counts(found: Any) -> dict[str, tuple[np.dtype, int]]:
    """Type and size of every storage that a description refers to."""
    counts: dict[str, tuple[np.dtype, int]] = {}
    seen: set[int] = set()
    waiting = [found]
    while waiting:
        value = waiting.pop()
        if isinstance(value, Persistent):
            key, dtype, count = _identified(value)
            if counts.setdefault(key, (dtype, count)) != (dtype, count):
                raise Damaged(f"storage {quoted(key)} has two sizes")
        elif id(value) not in seen:
            seen.add(id(value))
            waiting.extend(_parts(value))
    return counts


def _parts(value: Any) -> list[Any]:
    """What a description is made of."""
    if isinstance(value, list | tuple):
        return list(value)
    pairs = getattr(value, "pairs", [])
    parts = [part for pair in pairs for part in pair]
    if isinstance(value, Made):
        parts += [*value.arguments, value.state, *value.items]
    return parts


def _dictionary(
    value: Any,
    storage: Callable[..., Storage],
    depth: int = 0,
    count: Iterator[int] | None = None,
) -> dict[str, Any]:
    count = itertools.count() if count is None else count
    return {key: _plain(entry, storage, depth, count) for key, entry in entries(value).items()}


def _plain(value: Any, storage: Callable[..., Storage], depth: int, count: Iterator[int]) -> Any:
    """Tensors as stored arrays and dictionaries of texts as such; the rest as it is.

    A few bytes may say that dictionaries hold each other many times over, so they are counted.
    """
    if next(count) > _MOST_ENTRIES:
        raise Damaged(f"more than {_MOST_ENTRIES:,} entries")
    if isinstance(value, Made) and value.of in _PARAMETER and value.arguments:
        value = value.arguments[0]
    if isinstance(value, Made) and value.of in _TENSOR:
        return _tensor(value, storage)
    if depth < _DEEPEST and is_dictionary(value):
        try:
            return _dictionary(value, storage, depth + 1, count)
        except Damaged:
            return value  # of no use to us: an optimiser's, numbered by parameter
    return value


def _tensor(made: Made, storage: Callable[..., Storage]) -> StoredArray:
    """A view of a storage; it must lie within it, and claim no more numbers than there are."""
    if len(made.arguments) < 4:
        raise Damaged("a tensor of too few arguments")
    place, offset, size, stride = made.arguments[:4]
    shape, steps = (_numbers(numbers) for numbers in (size, stride))
    dtype, count, read = _storage(place, storage)
    (offset,) = whole_numbers((offset,))
    if len(shape) != len(steps) or min((offset, *steps)) < 0 or not is_shape(shape):
        raise Damaged("a tensor with odd strides")
    entries_of = math.prod(shape)
    last = offset + sum((n - 1) * step for n, step in zip(shape, steps, strict=True))
    if entries_of and (last >= count or entries_of > count - offset):
        raise Damaged("a tensor reaches beyond its storage")

    def view() -> np.ndarray:
        if not entries_of:
            return np.zeros(shape, dtype)
        bytes_apart = [step * dtype.itemsize for step in steps]
        return np.lib.stride_tricks.as_strided(read()[offset:], shape, bytes_apart, writeable=False)

    return StoredArray(dtype, shape, view)


def _numbers(value: Any) -> tuple[int, ...]:
    if isinstance(value, Made) and value.of == Name("torch", "Size") and value.arguments:
        value = value.arguments[0]
    return whole_numbers(value)


def _storage(place: Any, storage: Callable[..., Storage]) -> tuple[np.dtype, int, Storage]:
    """Type and size of the storage that a tensor names, and what reads it."""
    if isinstance(place, Made) and place.of == _FROM_BYTES and len(place.arguments) == 1:
        content = place.arguments[0]
        inner = content if isinstance(content, bytes) else stored_bytes(content)
        place, storage = _read_sequence(inner, "a storage")
    if not isinstance(place, Persistent):
        raise Damaged(f"{kind_of(place)} in place of a storage")
    key, dtype, count = _identified(place)
    return dtype, count, storage(key, dtype, count)


def _identified(place: Persistent) -> tuple[str, np.dtype, int]:
    """Key, type and size out of ("storage", type, key, device, size, ...)."""
    given = place.identifier
    sound = isinstance(given, tuple) and len(given) >= 5 and given[0] == "storage"
    if (
        not sound
        or not isinstance(given[1], Name)
        or given[1] not in _STORAGES
        or not isinstance(given[2], str)
    ):
        raise Damaged("a reference to something that is no storage")
    (count,) = whole_numbers((given[4],))
    if count < 0:
        raise Damaged("a storage of a negative size")
    return given[2], _STORAGES[given[1]], count


def _no_storage(key: str, dtype: np.dtype, count: int) -> Storage:
    raise Damaged("a tensor without its storage")
