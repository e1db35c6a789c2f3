"""Files in and out: bounds, names and whole writes."""

from __future__ import annotations

import io
import json
import os
import zipfile

import numpy as np
import pytest

from fields_jax import files
from fields_jax.errors import UserError, printable, quoted


def npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=True)
    return stream.getvalue()


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=">f4").reshape(2, 3),
        np.asfortranarray(np.arange(24.0).reshape(2, 3, 4)),
        np.zeros((0, 3), np.int16),
        np.array(7, np.uint8),
        np.array([True, False]),
        np.array("meta"),
        np.array([1, 2], np.float16),
    ],
    ids=str,
)
def test_arrays_are_those_that_numpy_reads(tmp_path, array):
    np.save(tmp_path / "a.npy", array)
    np.savez_compressed(tmp_path / "a.npz", named=array)
    for found in (files.read_npy(tmp_path / "a.npy"), files.read_npz(tmp_path / "a.npz")["named"]):
        np.testing.assert_array_equal(found, array)
        assert found.dtype == array.dtype.newbyteorder("=") and found.flags.writeable
        assert found.dtype.isnative


def test_what_is_no_plain_array_is_refused(tmp_path):
    path = tmp_path / "a.npy"
    for array in (np.array([{}], object), np.zeros(2, "f4,i2"), np.zeros(2, complex)):
        path.write_bytes(npy(array))
        with pytest.raises(UserError, match=r"a.npy is damaged or no .npy"):
            files.read_npy(path)
    path.write_bytes(npy(np.array("ab")).replace("b".encode("utf-32-le"), b"\xff" * 4))
    with pytest.raises(UserError, match="a text with signs that do not exist"):
        files.read_npy(path)
    # Claims without the bytes: nothing of that size is asked for.
    huge = npy(np.zeros(3, np.float32)).replace(b"(3,)", b"(999999999999,)")
    path.write_bytes(huge.replace(b" " * 11 + b"\n", b"\n"))
    with pytest.raises(UserError, match="999999999999 entries of 4 bytes in"):
        files.read_npy(path)


def test_a_bomb_and_a_twin_in_an_archive_are_refused(tmp_path):
    path = tmp_path / "bomb.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", bytes(20 * 2**20))
    with pytest.raises(UserError, match="its arrays are larger than 10 MiB"):
        files.read_npz(path, largest=10 * 2**20)
    with zipfile.ZipFile(path, "w") as archive, pytest.warns(UserWarning, match="Duplicate"):
        for _ in range(2):
            archive.writestr("a.npy", npy(np.zeros(1)))
    with pytest.raises(UserError, match="two arrays of one name"):
        files.read_npz(path)


@pytest.mark.parametrize("code", ["utf-8", "utf-8-sig", "utf-16"])
def test_texts_are_read_with_and_without_marks(tmp_path, code):
    path = tmp_path / "text"
    path.write_bytes("é,1\r\n\nlast".encode(code))
    assert files.read_text(path) == "é,1\r\n\nlast"
    assert list(files.read_lines(path)) == ["é,1", "", "last"]


def test_bad_bytes_of_a_text_stay_in_their_line(tmp_path):
    path = tmp_path / "text"
    path.write_bytes(b"one\n\xff\xfa\nthree\n")
    assert list(files.read_lines(path)) == ["one", "\ufffd\ufffd", "three"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "is no JSON"),
        (b"[1]", "holds a JSON list, expected a dict"),
        (b"[" * 10**6, "is no JSON"),
        (b'{"a": ' + b"9" * 5000 + b"}", "is no JSON"),
    ],
)
def test_json_of_another_kind_is_named(tmp_path, content, message):
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(UserError, match=f"x.json {message}"):
        files.read_json(path)


def test_limits_and_missing_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none.json: no such file"):
        files.read_json(tmp_path / "none.json")
    with pytest.raises(UserError, match=f"{tmp_path} cannot be read: Is a directory"):
        files.read_bytes(tmp_path)
    (tmp_path / "large").write_bytes(bytes(11))
    with pytest.raises(UserError, match="large is larger than 0 MiB"):
        files.read_bytes(tmp_path / "large", largest=10)


def test_no_more_memory_is_asked_for_than_a_file_needs(tmp_path):
    """A bound of 16 GiB would fail on every machine with less."""
    (tmp_path / "short").write_bytes(b"12345")
    assert files.read_bytes(tmp_path / "short", largest=2**50) == b"12345"
    with pytest.raises(UserError, match="short is larger than"):
        files.read_bytes(tmp_path / "short", largest=4)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "x.json"
    files.write_whole(path, json.dumps({"a": 1}))

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(type(files.epath.Path(path)), "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        files.write_whole(path, b"new")
    assert os.listdir(tmp_path) == ["x.json"] and files.read_json(path) == {"a": 1}


def test_two_that_write_a_file_do_not_damage_each_other(tmp_path):
    """One begins and ends while the other writes, which is whole after it all the same."""
    path = tmp_path / ("x" * 250)
    with files.whole_file(path) as place:
        place.write_bytes(b"first")
        files.write_whole(path, b"second")
        assert path.read_bytes() == b"second" and place.read_bytes() == b"first"
    assert path.read_bytes() == b"first" and os.listdir(tmp_path) == [path.name]
    with pytest.raises(KeyboardInterrupt), files.whole_file(path) as place:
        place.write_bytes(b"third")
        raise KeyboardInterrupt
    assert path.read_bytes() == b"first" and os.listdir(tmp_path) == [path.name]


def test_messages_can_do_nothing_to_a_terminal():
    assert printable("a\x1b[31m\tb\n  c\u202e\udcff") == r"a\x1b[31m\tb c\u202e\udcff"
    assert str(UserError("Traceback (most\nrecent)\x07")) == r"Traceback (most recent)\x07"
    endless: tuple = ()
    for _ in range(100_000):
        endless = (endless,)
    assert quoted(endless) == "'tuple that cannot be shown'"
    assert quoted(1 << 40_000) == "'int that cannot be shown'"
    assert quoted("x" * 100) == "'" + "x" * 77 + "...'" and quoted("é") == "'é'"
