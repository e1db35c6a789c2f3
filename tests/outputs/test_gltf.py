"""The format alone: accessors, sparse displacements, clips, quaternions."""

from __future__ import annotations

import numpy as np
import pytest

from fields_jax.outputs.gltf import (
    VERTICES,
    Channel,
    Document,
    continuous,
    quaternions,
    smallest_indices,
)
from tests.support.gltf_reader import Glb, local_matrix
from tests.support.gltf_validator import issues, why_absent


def test_arrays_are_read_back_from_aligned_places():
    document = Document("test")
    rng = np.random.default_rng(0)
    arrays = [
        rng.integers(0, 255, 5).astype(np.uint8),
        rng.integers(0, 2**16, 3).astype(np.uint16),
        rng.normal(size=(4, 3)).astype(np.float32),
        rng.integers(0, 2**32, 7, dtype=np.uint64).astype(np.uint32),
        rng.normal(size=(6, 2)).astype(np.float32),
    ]
    rows = [document.accessor(array, VERTICES) for array in arrays]
    matrices = rng.normal(size=(2, 4, 4)).astype(np.float32)
    matrix = document.accessor(matrices)
    read = Glb(document.pack(scene=document.add("scenes", nodes=[]), facts={"a": 1}))
    for row, array in zip(rows, arrays, strict=True):
        np.testing.assert_array_equal(read.array(row), array)
    columns_first = matrices.swapaxes(1, 2).reshape(2, 16)
    np.testing.assert_array_equal(read.array(matrix), columns_first)
    assert all(view["byteOffset"] % 4 == 0 for view in read.json["bufferViews"])
    assert read.json["asset"] == {"version": "2.0", "generator": "test", "extras": {"a": 1}}
    assert len(read.binary) == read.json["buffers"][0]["byteLength"] + (-len(read.binary) % 4)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 1.0])
def test_displacements_take_the_smaller_form(share):
    rng = np.random.default_rng(1)
    values = rng.normal(size=(1000, 3)).astype(np.float32)
    values[round(1000 * share) :] = 0
    document = Document("test")
    row = document.displacements(values)
    read = Glb(document.pack(scene=0))
    np.testing.assert_array_equal(read.array(row), values)
    assert ("sparse" in read.json["accessors"][row]) == (share < 1)
    assert len(read.binary) <= min(12000, 14 * max(1, round(1000 * share)) + 4)


def test_indices_never_use_a_types_last_number():
    assert smallest_indices(np.arange(3), 2**16 - 1).dtype == np.uint16
    assert smallest_indices(np.arange(3), 2**16).dtype == np.uint32


def test_what_the_format_lacks_is_refused():
    document = Document("test")
    for array in (np.zeros((2, 5), np.float32), np.zeros((2, 3)), np.zeros((0, 3), np.float32)):
        with pytest.raises(ValueError, match="glTF has no accessor for"):
            document.accessor(array)
    for times in ([], [0.0, 0.0], [-1.0, 0.0]):
        with pytest.raises(ValueError, match="do not increase"):
            document.animation("clip", np.array(times), [])


def test_quaternions_turn_as_matrices_do():
    from scipy.spatial.transform import Rotation

    turns = np.random.default_rng(2).normal(size=(20, 3))
    turns[0] = 0
    turns[1] *= 1e-9
    for turn, found in zip(turns, quaternions(turns), strict=True):
        expected = Rotation.from_rotvec(turn).as_matrix()
        np.testing.assert_allclose(local_matrix({"rotation": found})[:3, :3], expected, atol=1e-12)


def test_turns_of_a_clip_take_the_short_way():
    angles = np.linspace(0, 12, 40)  # nearly two whole turns
    turns = np.stack([0 * angles, angles, 0 * angles], axis=1)
    signed = quaternions(turns) * np.where(np.arange(40) % 3, 1, -1)[:, None]
    found = continuous(signed)
    assert (np.sum(found[1:] * found[:-1], axis=1) > 0.9).all()
    for one, other in zip(found, quaternions(turns), strict=True):
        assert abs(abs(one @ other) - 1) < 1e-12


@pytest.mark.skipif(bool(why_absent()), reason=why_absent())
def test_the_validator_finds_faults(tmp_path):
    """It passes a triangle and refuses the same one with an index too large."""
    for last, clean in ((2, True), (9, False)):
        document = Document("test")
        points = document.accessor(np.eye(3, dtype=np.float32), VERTICES, bounds=True)
        indices = document.accessor(np.array([0, 1, last], np.uint16))
        primitive = {"attributes": {"POSITION": points}, "indices": indices}
        node = document.add("nodes", mesh=document.add("meshes", primitives=[primitive]))
        values = np.array([[0, 0, 0], [0, 1, 0]], np.float32)
        document.animation("clip", np.array([0.0, 0.5]), [Channel(node, "translation", values)])
        file = tmp_path / f"{last}.glb"
        file.write_bytes(document.pack(document.add("scenes", nodes=[node])))
        assert (issues(file) == []) == clean
