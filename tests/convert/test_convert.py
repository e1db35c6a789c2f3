"""Heads and arrays from foreign files: correct values, nothing run, damage named."""

from __future__ import annotations

import os
import pickle

import numpy as np
import pytest
import scipy.sparse

from fields_jax.convert import flame, torch_files
from fields_jax.convert.descriptions import Damaged, entries
from fields_jax.convert.pickles import read_pickle
from fields_jax.convert.stored_arrays import FLAME, StoredArray, stored_array
from fields_jax.errors import UserError
from fields_jax.flame.io import load_flame, read_arrays
from tests.support.published_files import (
    embedding_folder,
    flame_pickle,
    torch_sequence,
    torch_zip,
)

TENSORS = {
    "encoder.weight": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    "encoder.turned": np.arange(6, dtype=np.float32).reshape(2, 3).T,
    "half": np.ones(3, np.float16),
    "batches": np.array([7], np.int64).reshape(()),
}


@pytest.fixture(scope="module")
def head(tmp_path_factory):
    """(folder, path of the converted and completed head)."""
    folder = tmp_path_factory.mktemp("flame")
    (folder / "generic_model.pkl").write_bytes(flame_pickle())
    target = str(folder / "head.npz")
    flame.convert_model(str(folder / "generic_model.pkl"), target)
    embedding_folder(folder / "tables", read_arrays(target)[0]["faces"])
    return folder, target


def test_model_and_tables_become_a_head(head):
    folder, target = head
    with pytest.raises(ValueError, match=r"fields_jax.convert embeddings DIR .*head.npz"):
        load_flame(target)
    assert len(flame.convert_embeddings(str(folder / "tables"), target)) == 7
    loaded = load_flame(target)
    assert (loaded.name, loaded.version, len(loaded.sha256)) == ("FLAME", "2020", 64)
    assert loaded.shape_basis.shape == (5023, 3, 300) and loaded.expression_basis.shape[-1] == 100
    np.testing.assert_array_equal(loaded.joint_regressor[2].argmax(), 14)
    np.testing.assert_array_equal(loaded.joint_regressor.sum(1), 1)
    table = np.load(folder / "tables" / "mediapipe_landmark_embedding.npz")
    np.testing.assert_array_equal(loaded.landmarks_105.face_index, table["lmk_face_idx"])
    assert loaded.contour.barycentric.shape == (79, 17, 3) and loaded.front_203.sum() == 9
    assert loaded.face_vertices.shape == (1787,) and loaded.uv.shape == (9, 2)
    inside = np.asarray(loaded.face_vertices)[np.asarray(loaded.face_triangles)]
    assert inside.max() < 1787


@pytest.mark.parametrize("kind", ["csc", "csr"])
def test_sparse_matrices_as_scipy_makes_them_dense(kind):
    matrix = scipy.sparse.random(5, 40, 0.2, format=kind, random_state=0)
    found, _ = read_pickle(pickle.dumps(matrix), "x.pkl", FLAME)
    np.testing.assert_array_equal(stored_array(found).read(), matrix.toarray())


@pytest.mark.parametrize("write", [torch_zip, torch_sequence])
def test_torch_files_are_read_without_torch(tmp_path, write):
    path = tmp_path / "model.pt"
    path.write_bytes(write(TENSORS, epoch=3))
    found = torch_files.read_torch(str(path))
    assert found.pop("epoch") == 3 and list(found) == list(TENSORS)
    for name, array in TENSORS.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
        np.testing.assert_array_equal(found[name].read(), array)


def evil(protocol: int) -> bytes:
    class Evil:
        def __reduce__(self):
            return os.mkdir, (os.environ["EVIL"],)

    return pickle.dumps({"v_template": Evil()}, protocol=protocol)


@pytest.mark.parametrize("protocol", range(6))
def test_a_malicious_pickle_runs_nothing_and_is_refused_by_name(tmp_path, monkeypatch, protocol):
    monkeypatch.setenv("EVIL", str(tmp_path / "made"))
    path = tmp_path / "generic_model.pkl"
    path.write_bytes(evil(protocol))
    with pytest.raises(UserError, match=rf"{path} names \w+\.mkdir"):
        flame.convert_model(str(path), str(tmp_path / "head.npz"))
    assert sorted(os.listdir(tmp_path)) == ["generic_model.pkl"]
    pickle.loads(path.read_bytes())  # what any other reader would have done
    assert (tmp_path / "made").is_dir()


@pytest.mark.parametrize("write", [torch_zip, torch_sequence])
def test_a_malicious_checkpoint_runs_nothing_and_is_refused_by_name(tmp_path, write):
    path = tmp_path / "model.pt"
    path.write_bytes(write(TENSORS, extra=os.system))
    with pytest.raises(UserError, match=r"names \w+\.system"):
        torch_files.read_torch(str(path))


def small_pickle() -> bytes:
    array = np.arange(6.0).reshape(2, 3)
    return pickle.dumps({"a": array, "s": scipy.sparse.csc_matrix(array)}, protocol=2)


def read_small(content: bytes) -> None:
    """Reads as the converters do."""
    found, _ = read_pickle(content, "file", FLAME)
    try:
        for value in entries(found).values():
            stored_array(value).read()
    except Damaged as error:
        raise UserError(f"file: {error}") from error


@pytest.mark.parametrize("kind", ["pickle", "zip", "sequence"])
def test_damaged_files_are_read_or_refused_and_never_crash(tmp_path, kind):
    content = {
        "pickle": small_pickle,
        "zip": lambda: torch_zip(TENSORS),
        "sequence": lambda: torch_sequence(TENSORS),
    }[kind]()
    rng = np.random.default_rng(0)
    refused = 0
    for trial in range(200):
        damaged = bytearray(content)
        if trial % 4 == 0:
            del damaged[rng.integers(len(damaged)) :]
        else:
            for place in rng.integers(len(damaged), size=trial % 4):
                damaged[place] ^= 1 << rng.integers(8)
        path = tmp_path / "file"
        path.write_bytes(damaged)
        try:
            if kind == "pickle":
                read_small(bytes(damaged))
            else:
                found = torch_files.read_torch(str(path))
                for name in found.keys() & TENSORS:
                    if isinstance(found[name], StoredArray):
                        found[name].read()
        except UserError as error:
            refused += 1
            assert "file" in str(error) or "storage" in str(error)
    assert refused > 50


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weights": np.ones((5023, 5))}, "rows of 'weights' are no skinning weights"),
        ({"v_template": np.zeros((5023, 2))}, r"'v_template' has shape \(5023, 2\) of float64"),
        ({"v_template": np.full((5023, 3), np.nan)}, "'v_template' holds values that are not"),
        ({"posedirs": "none"}, "'posedirs' has a str in place of an array"),
        ({"kintree_table": np.zeros((2, 5), np.int64)}, "joint parents"),
        ({"f": np.full((9976, 3), 5023)}, "'f' refers to numbers outside 0..5022"),
    ],
)
def test_a_model_that_is_not_flame_is_refused_by_entry(tmp_path, changes, message):
    path = tmp_path / "generic_model.pkl"
    path.write_bytes(flame_pickle(shapedirs=np.zeros((5023, 3, 400), np.float32), **changes))
    with pytest.raises(UserError, match=message):
        flame.convert_model(str(path), str(tmp_path / "head.npz"))
    assert not (tmp_path / "head.npz").exists()


def test_version_comes_from_the_name_or_the_user(tmp_path):
    names = {
        "flame2023_Open.pkl": "2023 Open",
        "flame2023.pkl": "2023",
        "generic_model.pkl": "2020",
    }
    assert {name: flame._version(name) for name in names} == names
    with pytest.raises(UserError, match="--flame_version"):
        flame._version("model.pkl")


def test_absent_tables_are_named(head, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"has no landmark_embedding.npy"):
        flame.convert_embeddings(str(tmp_path), head[1])
