"""What is kept between runs: made once, made anew when it is damaged or something has changed."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import jax.numpy as jnp
import numpy as np
import pytest

from fields_jax import kept
from fields_jax.compile_cache import folder_in_use


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(kept, "folder_in_use", lambda: tmp_path)
    monkeypatch.setattr(kept, "_programs", {})
    return tmp_path


class Counted:
    def __init__(self):
        self.calls = 0

    def __call__(self):
        self.calls += 1
        return {"a": np.arange(5), "b": np.array(["x", "yz"])}


def test_arrays_are_made_once_and_anew_when_something_changed(folder):
    make = Counted()
    first = kept.kept_arrays("thing", "one", make)
    again = kept.kept_arrays("thing", "one", make)
    assert make.calls == 1
    for name, array in first.items():
        np.testing.assert_array_equal(again[name], array)
        assert again[name].dtype == array.dtype
    kept.kept_arrays("thing", "two", make)
    assert make.calls == 2 and len(list(folder.iterdir())) == 1  # the older one gave way


def test_damaged_arrays_are_made_anew(folder):
    make = Counted()
    kept.kept_arrays("thing", "one", make)
    (file,) = folder.iterdir()
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    again = kept.kept_arrays("thing", "one", make)
    assert make.calls == 2 and again["a"].tolist() == [0, 1, 2, 3, 4]


def test_without_a_folder_nothing_is_kept(folder, monkeypatch):
    monkeypatch.setattr(kept, "folder_in_use", lambda: None)
    make = Counted()
    kept.kept_arrays("thing", "one", make)
    kept.kept_arrays("thing", "one", make)
    assert make.calls == 2
    traced.clear()
    for _ in range(2):
        product, _ = kept.kept_program(scaled, {"x": np.ones(2, np.float32)}, static=(3,))
        assert product.tolist() == [3, 3]
    assert traced == [3]
    assert not list(folder.iterdir())


traced = []


def scaled(tree, factor):
    traced.append(factor)
    return tree["x"] * factor, {"sum": jnp.sum(tree["x"])}


def test_a_program_is_traced_once_whatever_the_process(folder, monkeypatch):
    traced.clear()
    for _ in range(3):
        monkeypatch.setattr(kept, "_programs", {})  # as in a new process
        product, rest = kept.kept_program(scaled, {"x": np.float32([1, 2])}, static=(3,))
        assert product.tolist() == [3, 6] and rest["sum"] == 3
    assert traced == [3]
    kept.kept_program(scaled, {"x": np.float32([1, 2])}, static=(4,))
    kept.kept_program(scaled, {"x": np.float32([1, 2, 3])}, static=(3,))
    assert traced == [3, 4, 3]


def test_what_one_thread_makes_another_waits_for(folder):
    traced, made = [], []

    def slowly(x):
        traced.append(threading.get_ident())
        time.sleep(0.2)
        return 2 * x

    def arrays():
        made.append(threading.get_ident())
        time.sleep(0.2)
        return {"a": np.arange(3)}

    with ThreadPoolExecutor(4) as pool:
        doubled = list(pool.map(lambda x: kept.kept_program(slowly, x), np.eye(4)))
        found = list(pool.map(lambda _: kept.kept_arrays("slow", "one", arrays), range(4)))
    np.testing.assert_array_equal(doubled, 2 * np.eye(4))
    assert len(traced) == len(made) == 1
    assert all((each["a"] == np.arange(3)).all() for each in found)


def test_a_damaged_program_is_traced_anew(folder, monkeypatch):
    traced.clear()
    kept.kept_program(scaled, {"x": np.float32([1, 2])}, static=(3,))
    (file,) = folder.iterdir()
    for content in (file.read_bytes()[:-1], b"", b"x" * 300):
        file.write_bytes(content)
        monkeypatch.setattr(kept, "_programs", {})
        product, _ = kept.kept_program(scaled, {"x": np.float32([1, 2])}, static=(3,))
        assert product.tolist() == [3, 6]
    assert traced == [3] * 4


def test_the_folder_is_that_of_the_compiled_programs_unless_they_are_not_kept(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path))
    assert folder_in_use() == tmp_path
    monkeypatch.setenv("JAX_ENABLE_COMPILATION_CACHE", "false")
    assert folder_in_use() is None
    monkeypatch.delenv("JAX_ENABLE_COMPILATION_CACHE")
    for named in ("gs://bucket/programs", "", str(tmp_path / "none")):
        monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", named)
        assert folder_in_use() is None
