"""Damaged landmark files lead to one line each."""

from __future__ import annotations

import io
import random

import numpy as np
import pytest
from PIL import Image

from data_pipelines.building import photographs
from fields_jax.errors import UserError
from fields_jax.photos import faces, points
from tests.photos.test_marks import PTS, TEXT
from tests.photos.test_photos import detector, find, mesh


def npy(array: np.ndarray, **options) -> bytes:
    stored = io.BytesIO()
    np.save(stored, array, **options)
    return stored.getvalue()


SOUND = npy(mesh())
HUGE = SOUND.replace(b"(478, 3), }", b"(478, 3" + b"0" * 9 + b"), }").replace(
    b" " * 9 + b"\n", b"\n"
)
# What files called NAME.npy may hold, and no face is read from.
DAMAGED_NPY = [
    b"",
    b"\x93NUMPY",
    b"\x93NUMPY\x09\x00" + SOUND[8:],
    SOUND[:100],
    SOUND[:-1],
    HUGE,
    SOUND.replace(b"(478, 3)", b"(-78, 3)"),
    SOUND.replace(b"<f4", b"<f8"),
    SOUND.replace(b"<f4", b"|O "),
    SOUND.replace(b"'descr'", b"'descx'"),
    SOUND.replace(b"{'descr'", b"[[[[[[[["),
    npy(np.array([{"a": 1}] * 478, object), allow_pickle=True),
    npy(np.array(7.0)),
    npy(np.zeros((0, 478, 2))),
    npy(np.zeros((2, 3, 478, 2))),
    npy(np.full((478, 2), 1e300)),
    npy(np.full((478, 2), -(2**62))),
    npy(np.full((478, 2), np.nan)),
    npy(np.full((478, 2), "12")),
    npy(np.zeros((478, 2), complex)),
    npy(np.zeros((478, 2), [("x", "f4")])),
]
# What is read: all numbers are there, and nothing tells that they should be others.
TAKEN_NPY = [
    SOUND + SOUND,  # more bytes after the array
    SOUND.replace(b"False", b"True "),  # numbers in another order
    npy(np.asfortranarray(mesh())),
    npy(mesh().astype(">f8")),
]
DAMAGED_TEXT = [
    b"",
    b"\xff\xfe",
    b"\xef\xbb\xbf",
    b"\0" * 1000,
    bytes(range(256)) * 10,
    TEXT.encode() * 2,
    TEXT.encode("utf-16")[:-1],
    b"1e999 1\n" * 68,
    b"nan nan\n" * 68,
    b"inf -inf\n" * 68,
    b"1 2\n" * 2_000,
    b"1 " * 5_000,
    b"1\n" * 5_000,
    b"a\n1\n" * 5_000,
    b"9" * 100_000,
    b"-" * 100_000,
    b"{" * 100_000,
    b"68\n68\n" + TEXT.encode(),
    "１２ ３\n".encode() * 68,
    b"0x1 1_0\n" * 68,
    PTS.encode().replace(b"68", b"9" * 50),
    PTS.encode().replace(b"}", b"} trailing words"),
    TEXT.replace(".", "\x1b[31m").encode(),
]
# The last number has fewer digits; another code.
TAKEN_TEXT = [TEXT.encode()[:-3], TEXT.encode("utf-32")]


def attempt(folder, name: str, content: bytes) -> set[str]:
    """Reads a file in every way there is, and wants a face or one line about it.

    Returns:
      Which ways took points from the file.
    """
    (folder / name).write_bytes(content)
    took = set()
    for found in find(folder / "a.png", finder=detector((mesh(), 0.9))):
        said = found.origin if isinstance(found, faces.Face) else found.reason
        if said == f"landmark file {name}":
            took.add("face")
        assert name in said or said == "landmark file a.npy" or said.startswith("no face found")
        assert said.isprintable() and len(said) < 500
    try:
        photographs.make_record(photographs.Sample("a", str(folder / "a.png")), size=64, scale=2.0)
        took.add("record")
    except photographs.Rejected as error:
        assert "a." in error.detail and error.detail.isprintable()
    for read in (points.load_faces, points.load_points):
        try:
            read(folder / name)
        except UserError as error:
            assert name in str(error) and str(error).isprintable()
    (folder / name).unlink()
    return took


@pytest.mark.parametrize("suffix", [".npy", ".txt", ".pts", ".203.npy"])
def test_damaged_files_cost_one_line_each(tmp_path, suffix):
    """25 ways that are known to break readers and 60 corruptions at random, of each kind.

    The known ones are refused but for those of which nothing tells; of the others no one knows.
    """
    Image.new("RGB", (120, 90)).save(tmp_path / "a.png")
    is_text = suffix in (".txt", ".pts")
    sound = PTS.encode() if is_text else SOUND
    refused, taken = (DAMAGED_TEXT, TAKEN_TEXT) if is_text else (DAMAGED_NPY, TAKEN_NPY)
    rng = random.Random(suffix)
    if suffix == ".203.npy":  # which records read besides the other, and 478 points are none of
        np.save(tmp_path / "a.npy", mesh())
        refused, taken = refused + taken, []
    for content in refused:
        assert attempt(tmp_path, f"a{suffix}", content) == set(), content[:200]
    for content in taken:
        assert attempt(tmp_path, f"a{suffix}", content) == {"face", "record"}, content[:200]
    for _ in range(60):
        attempt(tmp_path, f"a{suffix}", corrupted(sound, rng))


def corrupted(data: bytes, rng: random.Random) -> bytes:
    """A few bytes changed, cut out, doubled or cut off."""
    start, stop = sorted(rng.randrange(len(data)) for _ in range(2))
    stop = min(stop, start + 40)
    return rng.choice(
        (
            data[:start] + rng.randbytes(stop - start) + data[stop:],
            data[:start] + data[stop:],
            data[:stop] + data[start:],
            data[:start],
            data[:8] + rng.randbytes(120) + data[128:],
            data[:start] + bytes([data[start] ^ 1 << rng.randrange(8)]) + data[start + 1 :],
        )
    )
