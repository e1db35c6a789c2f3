"""Files in the formats of FLAME and torch, written without either, for the converters to read."""

from __future__ import annotations

import collections
import contextlib
import io
import pickle
import struct
import sys
import types
import zipfile
from pathlib import Path
from typing import ClassVar

import numpy as np
import scipy.sparse

from fields_jax.convert import flame
from fields_jax.convert.torch_files import MAGIC

_KINDS = {"float32": "FloatStorage", "int64": "LongStorage", "float16": "HalfStorage"}


@contextlib.contextmanager
def pretended(*names: str):
    """Modules that exist only while something is pickled, with a class for each dotted name."""
    made, classes = {}, []
    for name in names:
        module, _, attribute = name.rpartition(".")
        made.setdefault(module, types.ModuleType(module))
        kind = type(attribute, (), {"__module__": module})
        setattr(made[module], attribute, kind)
        classes.append(kind)
    parents = {name.partition(".")[0]: types.ModuleType(name.partition(".")[0]) for name in made}
    with contextlib.ExitStack() as stack:
        for name, module in (parents | made).items():
            before = sys.modules.get(name)
            sys.modules[name] = module
            stack.callback(
                sys.modules.__setitem__ if before else sys.modules.pop, name, *[before or None]
            )
        yield classes


class _Python2(pickle._Pickler):
    """Writes text and bytes as Python 2 wrote strings, and modules by their names in Python 2."""

    # The standard library's own table: dill, which comes with Beam, changes it.
    dispatch: ClassVar = {
        kind: save for kind, save in pickle._Pickler.dispatch.items() if save.__module__ == "pickle"
    } | {
        dict: pickle._Pickler.save_dict,
        type: pickle._Pickler.save_type,
        types.FunctionType: pickle._Pickler.save_global,
    }

    def __init__(self, stream, protocol):
        super().__init__(stream, protocol, fix_imports=True)

    def _string(self, value):
        content = value.encode("latin1") if isinstance(value, str) else value
        if self.proto == 0:
            text = "".join(
                chr(c) if 32 <= c < 127 and c not in b"'\\" else f"\\x{c:02x}" for c in content
            )
            self.write(b"S'" + text.encode() + b"'\n")
        elif len(content) < 256:
            self.write(b"U" + bytes([len(content)]) + content)
        else:
            self.write(b"T" + struct.pack("<i", len(content)) + content)
        self.memoize(value)

    dispatch[str] = dispatch[bytes] = _string


def python2_pickle(value, protocol: int = 2) -> bytes:
    """A value pickled as by Python 2."""
    stream = io.BytesIO()
    _Python2(stream, protocol).dump(value)
    content = stream.getvalue()
    for new, old in ((b"numpy._core", b"numpy.core"), (b"scipy.sparse._c", b"scipy.sparse.c")):
        content = content.replace(new, old)
    return content


@contextlib.contextmanager
def chumpy_array():
    """A function that wraps an array as chumpy 0.70 does, to be pickled inside the block."""
    with pretended("chumpy.ch.Ch") as (kind,):

        def wrap(x, **more):
            made = kind()
            made.__dict__ |= dict(
                _dirty_vars=set(),
                _itr=None,
                _make_dense=False,
                _make_sparse=False,
                _depends_on_deps={"area": {"deps": {"x"}, "value": None, "out_of_date": True}},
                x=x,
                _status="new",
            )
            made.__dict__ |= more
            return made

        yield wrap


def flame_parts(**changes) -> dict:
    """Entries of FLAME's pickle: right shapes, mostly zeros."""
    rng, vertices = np.random.default_rng(0), flame.VERTICES

    def sparse_random(*shape):
        array = np.zeros(shape)
        array.reshape(-1)[:: max(array.size // 500, 1)] = 0.01
        return array

    weights = np.zeros((vertices, 5))
    weights[np.arange(vertices), np.arange(vertices) % 5] = 1
    regressor = np.zeros((5, vertices))
    regressor[np.arange(5), 7 * np.arange(5)] = 1
    return {
        "v_template": rng.standard_normal((vertices, 3)) * 0.1,
        "shapedirs": sparse_random(vertices, 3, flame.SHAPES + flame.EXPRESSIONS),
        "posedirs": sparse_random(vertices, 3, 36),
        "J_regressor": scipy.sparse.csc_matrix(regressor),
        "kintree_table": np.array([[2**32 - 1, 0, 1, 1, 1], range(5)], np.uint32),
        "weights": weights,
        "f": rng.integers(0, vertices, (flame.FACES, 3)).astype(np.uint32),
        "bs_style": "lbs",
    } | changes


def flame_pickle(protocol: int = 2, **changes) -> bytes:
    """A model pickle as Python 2 and chumpy wrote it."""
    parts = flame_parts(**changes)
    with chumpy_array() as wrap:
        if isinstance(parts["shapedirs"], np.ndarray):
            parts["shapedirs"] = wrap(parts["shapedirs"])
        return python2_pickle(parts, protocol)


class _Tensor:
    """Pickled like torch's tensors, as a function of a storage, which is a persistent id.

    `view` replaces the array's (offset, size, stride) by false ones.
    """

    def __init__(self, array: np.ndarray, key: str, rebuild, storage, view=None) -> None:
        self.array, self.key, self.rebuild, self.storage = array, key, rebuild, storage
        strides = tuple(n // array.itemsize for n in array.strides)
        self.view = view or (0, array.shape, strides)

    def __reduce__(self):
        arguments = (self.storage, *self.view, False, collections.OrderedDict())
        return self.rebuild, arguments


def _torch_pickle(
    tree: dict[str, np.ndarray], extra: dict, under: str = "", view: tuple | None = None
) -> tuple[bytes, dict[str, np.ndarray]]:
    names = [f"torch.{kind}" for kind in _KINDS.values()] + ["torch._utils._rebuild_tensor_v2"]
    with pretended(*names) as classes:
        kinds, rebuild = dict(zip(_KINDS, classes, strict=False)), classes[-1]
        marks, storages, stream = {}, {}, io.BytesIO()

        class Pickler(pickle.Pickler):
            def persistent_id(self, obj):
                return marks.get(id(obj))

        described = {}
        for key, (name, array) in enumerate(tree.items()):
            storage = object()
            kind = kinds[array.dtype.name]
            marks[id(storage)] = ("storage", kind, str(key), "cpu", array.size)
            storages[str(key)] = array
            described[name] = _Tensor(array, str(key), rebuild, storage, view)
        described = collections.OrderedDict(described)
        Pickler(stream, protocol=2).dump(({under: described} if under else described) | extra)
    return stream.getvalue(), storages


def _memory(array: np.ndarray) -> bytes:
    return array.ravel(order="K").tobytes()


def torch_zip(
    tree: dict[str, np.ndarray], *, under: str = "", view: tuple | None = None, **extra
) -> bytes:
    """A file of today's torch.save, the tensors under a key of their own if one is given."""
    content, storages = _torch_pickle(tree, extra, under, view)
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("model/data.pkl", content)
        archive.writestr("model/byteorder", b"little")
        for key, array in storages.items():
            archive.writestr(f"model/data/{key}", _memory(array))
    return stream.getvalue()


def torch_sequence(tree: dict[str, np.ndarray], **extra) -> bytes:
    """A file as torch.save wrote it before the zip format."""
    content, storages = _torch_pickle(tree, extra)
    head = [MAGIC, 1001, {"protocol_version": 1001, "little_endian": True}]
    out = b"".join(pickle.dumps(part, protocol=2) for part in head) + content
    out += pickle.dumps(list(storages), protocol=2)
    for array in storages.values():
        out += struct.pack("<q", array.size) + _memory(array)
    return out


def embedding_folder(folder: Path, faces: np.ndarray) -> None:
    """Everything published around the model, in its formats, with random places."""
    rng = np.random.default_rng(1)
    folder.mkdir(parents=True, exist_ok=True)

    def places(*shape):
        weight = rng.random((*shape, 3)) + 0.1
        return rng.integers(0, flame.FACES, shape), weight / weight.sum(-1, keepdims=True)

    names = ("torch._utils._rebuild_tensor_v2", "torch.storage._load_from_bytes")
    static, contour, full = places(51), places(79, 17), places(1, 68)
    with pretended(*names) as (rebuild, load):

        class Storage:
            def __init__(self, array):
                self.array = array

            def __reduce__(self):
                return load, (_storage_bytes(self.array),)

        tensors = [
            _Tensor(array, "0", rebuild, Storage(array))
            for array in (contour[0], contour[1].astype(np.float32))
        ]
        table = {
            "static_lmk_faces_idx": static[0],
            "static_lmk_bary_coords": static[1],
            "dynamic_lmk_faces_idx": tensors[0],
            "dynamic_lmk_bary_coords": tensors[1],
            "full_lmk_faces_idx": full[0],
            "full_lmk_bary_coords": full[1],
        }
        np.save(folder / "landmark_embedding.npy", np.array(table, object), allow_pickle=True)
    for name, count in (("mediapipe_landmark_embedding", 105), ("203_landmark_embeding_new", 203)):
        index, weight = places(count)
        sides = {f"landmark_{s}_indices": np.arange(9) for s in ("front", "left", "right")}
        np.savez(
            folder / f"{name}.npz",
            lmk_face_idx=index,
            lmk_b_coords=weight,
            landmark_indices=np.arange(count),
            **(sides if count == 203 else {}),
        )
    for side in "lr":
        np.save(folder / f"{side}_eyelid.npy", np.zeros((flame.VERTICES, 3)))
    face, lips = (np.arange(flame.VERTICES * count // 5023) for count in (1787, 254))
    masks = pickle.dumps({"face": face, "lips": lips}, protocol=0)
    (folder / "FLAME_masks.pkl").write_bytes(masks)
    lines = [f"vt {i / 9} 0.5" for i in range(9)]
    lines += ["f " + " ".join(f"{v + 1}/{k + 1}" for k, v in enumerate(row)) for row in faces]
    (folder / "head_template.obj").write_text("# template\n" + "\n".join(lines) + "\n")


def _storage_bytes(array: np.ndarray) -> bytes:
    """A storage by itself, in the format before zip."""
    with pretended("torch." + _KINDS[array.dtype.name]) as (kind,):
        storage, stream = object(), io.BytesIO()

        class Pickler(pickle.Pickler):
            def persistent_id(self, obj):
                return ("storage", kind, "0", "cpu", array.size) if obj is storage else None

        Pickler(stream, protocol=2).dump(storage)
    head = [MAGIC, 1001, {"little_endian": True}]
    out = b"".join(pickle.dumps(part, protocol=2) for part in head) + stream.getvalue()
    out += pickle.dumps(["0"], protocol=2)
    return out + struct.pack("<q", array.size) + _memory(array)
