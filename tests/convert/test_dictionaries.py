"""Dictionaries of arrays in .npz and .npy files, read without running anything."""

from __future__ import annotations

import os

import numpy as np
import pytest

from fields_jax.convert.dictionaries import read_dictionary
from fields_jax.errors import MissingFile, UserError


def test_both_kinds_of_file_give_the_arrays(tmp_path):
    arrays = {"exp": np.arange(6, dtype=np.float32).reshape(2, 3), "shape": np.ones((1, 4))}
    np.savez(tmp_path / "a.npz", **arrays, name=np.array("someone"))
    np.save(tmp_path / "a.npy", arrays | {"name": "someone", "none": None})
    for name in ("a.npz", "a.npy"):
        found = read_dictionary(tmp_path / name)
        assert found.keys() == arrays.keys()
        for key, value in arrays.items():
            np.testing.assert_array_equal(found[key], value)


class Hostile:
    def __reduce__(self):
        return os.mkdir, ("touched",)


def test_nothing_in_a_file_is_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("bad.npy", {"exp": Hostile()})
    with pytest.raises(UserError, match="mkdir"):
        read_dictionary("bad.npy")
    assert not (tmp_path / "touched").exists()


def test_other_files_are_named(tmp_path):
    np.save(tmp_path / "array.npy", np.zeros(3))
    np.save(tmp_path / "list.npy", np.array([1, "a", None], object))
    (tmp_path / "text.npy").write_text("nothing")
    for name, complaint in (
        ("array.npy", "holds one array and no dictionary"),
        ("list.npy", "no dictionary"),
        ("text.npy", "is no .npz and no .npy"),
    ):
        with pytest.raises(UserError, match=complaint):
            read_dictionary(tmp_path / name)
    with pytest.raises(MissingFile):
        read_dictionary(tmp_path / "none.npz")
