"""Damaged heads, published models and checkpoints: read correctly or refused in one line."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse

from fields_jax.convert import flame, networks, torch_files
from fields_jax.convert.stored_arrays import StoredArray
from fields_jax.errors import UserError
from fields_jax.flame.io import load_flame, read_arrays, save_flame
from fields_jax.outputs.bundle import load_params
from tests.support.damage import ANYTHING, BAD_NPY, RANDOM, damaged, npy, npz, outcomes
from tests.support.heads import random_head
from tests.support.published_files import (
    embedding_folder,
    flame_parts,
    flame_pickle,
    torch_sequence,
    torch_zip,
)

SOURCES = {
    "landmark_embedding.npy": "npy of a dict",
    "mediapipe_landmark_embedding.npz": "npz",
    "203_landmark_embeding_new.npz": "npz",
    "l_eyelid.npy": "npy",
    "FLAME_masks.pkl": "pickle",
    "head_template.obj": "obj",
}


@pytest.fixture
def small(monkeypatch):
    """A FLAME of few vertices, so that a hundred of them are read in a second."""
    for name, size in dict(VERTICES=60, FACES=90, SHAPES=4, EXPRESSIONS=3).items():
        monkeypatch.setattr(flame, name, size)


# Heads.


@pytest.fixture(scope="module")
def head_members(tmp_path_factory) -> dict[str, np.ndarray]:
    path = tmp_path_factory.mktemp("head") / "head.npz"
    save_flame(str(path), random_head())
    with np.load(path) as stored:
        return dict(stored)


def with_meta(members: dict, **changes) -> dict:
    meta = json.loads(members["meta"].tobytes()) | changes
    content = json.dumps({key: value for key, value in meta.items() if value is not ...}).encode()
    return members | {"meta": np.frombuffer(content, np.uint8)}


def with_entry(array: np.ndarray, value) -> np.ndarray:
    changed = array.astype(np.result_type(array, np.asarray(value)))
    changed.reshape(-1)[1] = value
    return changed


HEADS = {
    **{f"{key} gone": (lambda m, key=key: m.pop(key)) for key in ("faces", "meta", "uv")},
    "NaN": lambda m: m.update(template=with_entry(m["template"], np.nan)),
    "1e300": lambda m: m.update(shape_basis=with_entry(m["shape_basis"], 1e300)),
    "fraction": lambda m: m.update(faces=m["faces"] + 0.5),
    "negative": lambda m: m.update(faces=with_entry(m["faces"], -1)),
    "beyond": lambda m: m.update(face_triangles=with_entry(m["face_triangles"], 30)),
    "landmark": lambda m: m.update({"contour.face_index": with_entry(m["contour.face_index"], 90)}),
    "weights": lambda m: m.update({"static_68.barycentric": m["static_68.barycentric"] * 2}),
    "numbers for a mask": lambda m: m.update(front_203=m["front_203"].astype(np.int32)),
    "other vertices": lambda m: m.update(template=m["template"][1:]),
    "one axis more": lambda m: m.update(uv=m["uv"][None]),
    "text": lambda m: m.update(uv=m["uv"].astype(str)),
    "empty": lambda m: m.update(face_vertices=m["face_vertices"][:0]),
    "region": lambda m: m.update({"regions.face": m["regions.face"] + 1000}),
    "templates": lambda m: m.update(expression_templates=m["expression_templates"][:, 1:]),
    "unknown": lambda m: m.update({"\x1b[2Jx": m["uv"]}),
    "meta of text": lambda m: m.update(meta=np.array("meta")),
    "meta of a list": lambda m: m.update(meta=np.frombuffer(b"[1, 2]", np.uint8)),
    "meta torn": lambda m: m.update(meta=m["meta"][:-5]),
    "format 2": lambda m: m.update(with_meta(m, format=2)),
    "a version that is none": lambda m: m.update(with_meta(m, version=[2020])),
    "no parents": lambda m: m.update(with_meta(m, parents=...)),
    "parents": lambda m: m.update(with_meta(m, parents={"a": 1})),
    "names": lambda m: m.update(with_meta(m, expression_names="\x1b[2J")),
    "deep meta": lambda m: m.update(meta=np.frombuffer(b"[" * 10**5, np.uint8)),
}


def chosen_heads(members: dict[str, np.ndarray]) -> list[bytes]:
    found = []
    for change in HEADS.values():
        changed = dict(members)
        change(changed)
        found.append(npz({key: npy(value) for key, value in changed.items()}))
    plain = {key: npy(value) for key, value in members.items()}
    found += [npz(plain | {"uv": content}) for content in BAD_NPY.values()]
    return found


def test_a_head(tmp_path, head_members):
    path = tmp_path / "head.npz"

    def read(content: bytes) -> None:
        path.write_bytes(content)
        load_flame(str(path))

    whole = npz({key: npy(value) for key, value in head_members.items()})
    read(whole)
    chosen = [*chosen_heads(head_members), *ANYTHING.values()]
    assert outcomes(read, iter(chosen), "head.npz") == (0, len(chosen))
    assert sum(outcomes(read, damaged(whole), "head.npz")) == RANDOM


def test_a_published_model_in_place_of_a_head_is_told_what_to_do(tmp_path):
    with pytest.raises(UserError, match=r"fields_jax.convert flame .*generic_model.pkl HEAD.npz"):
        path = tmp_path / "generic_model.pkl"
        path.write_bytes(b"\x80")
        load_flame(str(path))


# What was written of a face.


def test_the_parameters_of_a_face(tmp_path):
    path = tmp_path / "params.npz"

    def read(content: bytes) -> None:
        path.write_bytes(content)
        load_params(path)

    plain = {"camera": npy(np.zeros(3, np.float32)), "vertices": npy(np.ones((60, 3), np.float32))}
    plain |= {"meta": npy(np.array('{"head": {}}')), "conventions": npy(np.array("{}"))}
    whole = npz(plain)
    read(whole)
    chosen = [npz(plain | {"vertices": content}) for key, content in BAD_NPY.items()
              if key != "no numbers"]  # fmt: skip
    texts = ("", "{", "[1]", "null", "[" * 10**5, "9" * 5000, "\x1b[2J")
    chosen += [npz(plain | {"meta": npy(np.array(text))}) for text in texts]
    chosen += [npz({key: plain[key] for key in plain if key != gone}) for gone in ("meta",)]
    chosen += ANYTHING.values()
    assert outcomes(read, iter(chosen), "params.npz") == (0, len(chosen))
    assert sum(outcomes(read, damaged(whole), "params.npz")) == RANDOM


# FLAME's own files.

MODELS = {
    **{f"{key} gone": {key: ...} for key in ("v_template", "f", "weights")},
    "NaN": dict(v_template=np.full((60, 3), np.nan)),
    "1e300": dict(posedirs=np.full((60, 3, 36), 1e300)),
    "text": dict(posedirs="none"),
    "numbers of text": dict(weights=np.full((60, 5), "x")),
    "fractions": dict(f=np.full((90, 3), 0.5)),
    "negative": dict(f=np.full((90, 3), -1)),
    "beyond": dict(f=np.full((90, 3), 60)),
    "sums": dict(weights=np.ones((60, 5))),
    "tree": dict(kintree_table=np.zeros((2, 5), np.int64)),
    "half a tree": dict(kintree_table=np.full((2, 5), 0.5)),
    "another shape": dict(shapedirs=np.zeros((60, 3, 10))),
    "huge sparse": dict(J_regressor=scipy.sparse.csc_matrix((10**6, 60))),
    "objects": dict(f=np.array([{}], object)),
    "a list": dict(v_template=[[0.0, 1.0, 2.0]] * 60),
    "none": dict(v_template=None),
    "complex": dict(v_template=np.zeros((60, 3), complex)),
}


def model(protocol: int = 2, **changes) -> bytes:
    parts = flame_parts(**changes)
    for key in [key for key, value in parts.items() if value is ...]:
        del parts[key]
    return pickle.dumps(parts, protocol)


def test_a_model_of_flame(tmp_path, small):
    path, target = tmp_path / "generic_model.pkl", tmp_path / "head.npz"

    def read(content: bytes) -> None:
        path.write_bytes(content)
        flame.convert_model(str(path), str(target))

    chosen = [model(**changes) for changes in MODELS.values()]
    chosen += [*ANYTHING.values(), pickle.dumps([1]), pickle.dumps({1: 2}), pickle.dumps(None)]
    assert outcomes(read, iter(chosen), "generic_model.pkl", target) == (0, len(chosen))
    for protocol in range(6):
        read(model(protocol))
    for whole in (flame_pickle(), model(5)):
        assert sum(outcomes(read, damaged(whole), "generic_model.pkl", target)) == RANDOM


EXTRA = {
    # Of FLAME 2019, 2020, 2023 and files in the manner of SMPL-X: read by others, not by us.
    "J": np.zeros((5, 3)),
    "bs_type": "lrotmin",
    "weights_prior": np.zeros(3),
    "J_regressor_prior": scipy.sparse.csc_matrix(np.eye(3)),
    "vert_sym_idxs": np.arange(9),
    "part2num": {"head": 15, "jaw": 22},
    "joint2num": {"head": np.int64(15)},
    "dynamic_lmk_faces_idx": np.zeros((79, 17), np.int64),
    "allow": {1, 2},
    "ft": np.zeros((2, 3), np.uint32),
    "names": ["one", "two"],
}


@pytest.mark.parametrize("protocol", range(6))
def test_sound_models_of_all_ages_give_one_head(tmp_path, small, protocol):
    expected, target = None, tmp_path / "head.npz"
    written = [flame_pickle(**EXTRA), model(protocol, **EXTRA)]
    if protocol < 3:
        written.append(flame_pickle(protocol, **EXTRA))
    parts = flame_parts()
    turned = {key: np.asfortranarray(parts[key]) for key in ("v_template", "posedirs", "f")}
    written.append(model(protocol, **turned, J_regressor=parts["J_regressor"].toarray()))
    for content in written:
        (tmp_path / "flame2023.pkl").write_bytes(content)
        assert flame.convert_model(str(tmp_path / "flame2023.pkl"), str(target)) == "2023"
        arrays, meta = read_arrays(str(target))
        meta.pop("sha256")
        for key, array in (expected or arrays).items():
            np.testing.assert_array_equal(array, arrays[key], err_msg=key)
        expected = arrays


@pytest.fixture
def tables(tmp_path, small) -> Path:
    """The folder of what is published around the model, and a converted model beside it."""
    (tmp_path / "generic_model.pkl").write_bytes(model())
    flame.convert_model(str(tmp_path / "generic_model.pkl"), str(tmp_path / "head.npz"))
    faces = read_arrays(str(tmp_path / "head.npz"))[0]["faces"]
    embedding_folder(tmp_path / "tables", faces)
    return tmp_path / "tables"


def chosen_tables(name: str, folder: Path) -> list[bytes]:
    """Files that are wrong in one thing each, by the kind of file."""
    whole = (folder / name).read_bytes()
    if name.endswith(".npz"):
        with np.load(folder / name) as stored:
            members = {key: npy(value) for key, value in stored.items()}
        index = np.load(folder / name)["lmk_face_idx"]
        changes = [{"lmk_face_idx": content} for content in BAD_NPY.values()]
        changes += [
            {"lmk_b_coords": npy(np.full((len(index), 3), bad))} for bad in (np.nan, 2, 1e99)
        ]
        changes += [{"lmk_face_idx": npy(index + more)} for more in (0.5, -90, 90)]
        return [npz(members | change) for change in changes] + [npz(members)[:-30]]
    if name.endswith("eyelid.npy"):
        lids = [np.full((60, 3), bad) for bad in (np.nan, np.inf, 1e300, 50.0)]
        return [*BAD_NPY.values(), *map(npy, lids), npy(np.zeros((3, 60))), whole[:-1]]
    if name.endswith(".npy"):
        pickles = [pickle.dumps(value) for value in ({}, [1], None, {"static_lmk_faces_idx": 1})]
        head = npy(np.array({}, object)).partition(b"\n")[0] + b"\n"
        return [npy(np.zeros(51)), *(head + content for content in pickles), *BAD_NPY.values()]
    if name.endswith(".pkl"):
        regions = [np.array([0.5, 1]), np.array([-1]), np.array([60]), np.zeros(0, int), "x", None]
        found = [{"face": region} for region in regions] + [{"face": np.arange(21), "\x1b": [1]}]
        found += [{"lips": np.arange(3)}, {1: 2}, {"face": np.zeros((3, 3), int)}, {"face": [1, 2]}]
        found += [{"face": np.array([59])}, {"face": np.arange(61)}, {"face": {1, 2}}]
        return [pickle.dumps(value) for value in found]
    lines = whole.decode().splitlines()
    changes = {
        1: ("vt nan 0", "vt 1e300 0", "vt x y", "vt 1", "vt", f"vt {'9' * 5000} 0", "vt 99 0"),
        -1: ("f 1/1 2/2", "f 1/1 2/2 3/99", f"f {'9' * 20}/1 2/2 3/3", "f a/b 2/2 3/3", "f 1/1.5"),
        -2: ("f -1/-1 -2/-2 -3/-3", "f 0/0 0/0 0/0", "f 1 2 3", "f 1/0 2/0 3/0", "f \x1b[2J/1"),
    }
    found = [
        [*lines[:place], line, *lines[place:][1:]] for place in changes for line in changes[place]
    ]
    found += [lines[:-1], lines * 2, [line for line in lines if not line.startswith("vt")]]
    return ["\n".join(one).encode() for one in found]


@pytest.mark.parametrize("name", SOURCES)
def test_a_table_around_flame(tables, name):
    head = tables.parent / "head.npz"
    source, before = tables / name, head.read_bytes()
    whole = source.read_bytes()

    def read(content: bytes) -> None:
        source.write_bytes(content)
        flame.convert_embeddings(str(tables), str(head))

    chosen = [*chosen_tables(name, tables), *ANYTHING.values()]
    assert len(chosen) >= 20
    assert outcomes(read, iter(chosen), name, head) == (0, len(chosen))
    assert sum(outcomes(read, damaged(whole), name, head)) == RANDOM
    assert head.read_bytes() == before
    read(whole)
    load_flame(str(head))


# Torch's files.

TENSORS = {
    "weight": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    "turned": np.arange(6, dtype=np.float32).reshape(2, 3).T,
    "count": np.array([7], np.int64).reshape(()),
}


def read_tensors(path: Path) -> None:
    """Reads as the networks' converters do: known names, known shapes, then the numbers."""
    found = torch_files.read_torch(str(path))
    for name, array in TENSORS.items():
        stored = found.get(name)
        if isinstance(stored, StoredArray) and stored.shape == array.shape:
            assert stored.read().shape == array.shape


@pytest.mark.parametrize("write", [torch_zip, torch_sequence])
def test_a_file_of_torch(tmp_path, write):
    path = tmp_path / "model.pt"

    def read(content: bytes) -> None:
        path.write_bytes(content)
        read_tensors(path)

    whole = write(TENSORS)
    read(whole)
    keys = [{1: 2}, {"a": 1, None: 2}, [1, 2], "x", None, 5]
    chosen = [*ANYTHING.values(), *(pickle.dumps(value, 2) for value in keys)]
    chosen += [whole.replace(b"FloatStorage", b"FloatStorxge"), whole[: len(whole) // 2]]
    chosen += [whole.replace(b"storage", b"st\x1brage"), b"\x1f\x8b" + bytes(30)]
    chosen += [bytes(257) + b"ustar" + bytes(300), len(b"{}").to_bytes(8, "little") + b"{}"]
    assert outcomes(read, iter(chosen), "model.pt") == (0, len(chosen))
    assert sum(outcomes(read, damaged(whole), "model.pt")) == RANDOM


@pytest.mark.parametrize(
    ("content", "remedy"),
    [
        (bytes(257) + b"ustar" + bytes(300), "unpack it"),
        (b"\x1f\x8b" + bytes(30), "gunzip"),
        ((2).to_bytes(8, "little") + b"{}", "safetensors.torch.load_file"),
        (npz({"FLAME2020/generic_model.pkl": b""}), "without data.pkl"),
    ],
)
def test_other_formats_are_told_what_to_do(tmp_path, content, remedy):
    path = tmp_path / "model.pt"
    path.write_bytes(content)
    with pytest.raises(UserError, match=remedy):
        torch_files.read_torch(str(path))


@pytest.mark.parametrize(
    ("offset", "size", "stride"),
    [
        (0, (10**12,), (0,)),
        (0, (10**6, 10**6), (0, 0)),
        (0, (7,), (1,)),
        (5, (2,), (1,)),
        (-1, (2,), (1,)),
        (0, (2,), (-1,)),
        (0, (2, 3), (3,)),
        (0, (-2, 3), (3, 1)),
        (0, (2**62, 2**62, 0), (1, 1, 1)),
        (0, (1,) * 40, (1,) * 40),
        (0, ("2",), (1,)),
        (0, None, (1,)),
    ],
)
def test_a_tensor_that_claims_more_than_its_storage_is_refused(tmp_path, offset, size, stride):
    path = tmp_path / "model.pt"
    path.write_bytes(torch_zip({"weight": np.zeros(6, np.float32)}, view=(offset, size, stride)))
    with pytest.raises(UserError, match=r"model.pt is damaged or holds no state dict"):
        torch_files.read_torch(str(path))


def test_keys_of_parallel_training_are_taken(tmp_path):
    path = tmp_path / "model.pt"
    path.write_bytes(torch_zip({f"module.{key}": array for key, array in TENSORS.items()}))
    assert list(networks._state_dict(str(path))) == list(TENSORS)
