"""Reconstructions as a submission to NoW: neutral heads, landmarks, and where they are put."""

from __future__ import annotations

import json

import numpy as np
import pytest

from fields_jax.errors import UserError
from fields_jax.evaluation.now import photograph_of
from fields_jax.files import npz_bytes
from fields_jax.flame.model import flame
from fields_jax.geometry.mesh_files import read_surface
from fields_jax.geometry.point_files import read_points
from fields_jax.landmark_schemes import NOW_68
from fields_jax.outputs.submission import neutral_head, write_submission
from tests.support.cube import S, cube_head, make_coefficients

SHAPE = np.array([1.5, -1, 0.5, 2])


@pytest.fixture(scope="module")
def head():
    return cube_head()


def write_params(folder, image, shape=SHAPE, box=(0, 0, 9, 9), sha256="0"):
    folder.mkdir(parents=True)
    meta = {"image": image, "head": {"name": "cube", "sha256": sha256}}
    arrays = {"shape": np.asarray(shape, np.float32), "box": np.array(box)}
    texts = {"meta": json.dumps(meta), "conventions": "{}"}
    (folder / "params.npz").write_bytes(npz_bytes(arrays | texts))


def place(path):
    found = photograph_of(path)
    return found and str(found)


def test_the_neutral_head_is_flame_s(head):
    vertices, landmarks = neutral_head(head, SHAPE)
    output = flame(head, make_coefficients(1, shape=SHAPE[None]))
    np.testing.assert_allclose(vertices, output.vertices[0], atol=1e-7)
    expected = np.asarray(output.landmarks_68_static)[0, list(NOW_68)]
    np.testing.assert_allclose(landmarks, expected, atol=1e-7)
    np.testing.assert_allclose(neutral_head(head, SHAPE[:1])[0][:, 1:], vertices[:, 1:], atol=1e-7)


def test_faces_go_where_the_challenge_looks_for_them(head, tmp_path):
    faces, out = tmp_path / "faces", tmp_path / "out"
    write_params(faces / "one", "/data/iphone_pictures/FaMoS_1/selfie/IMG_1.jpg")
    write_params(faces / "two_0", "FaMoS_1/selfie/IMG_2.jpg", shape=np.zeros(S), box=(0, 0, 5, 5))
    write_params(faces / "two_1", "FaMoS_1/selfie/IMG_2.jpg", box=(0, 0, 6, 6))
    write_params(faces / "two_2", "FaMoS_1/selfie/IMG_2.jpg", shape=np.zeros(S), box=(0, 0, 5, 6))
    write_params(faces / "other", "holiday.jpg")
    written = write_submission(str(faces), str(out), head, place)
    assert sorted(written.faces) == ["FaMoS_1/selfie/IMG_1", "FaMoS_1/selfie/IMG_2"]
    assert [file.split("/")[-2] for file in written.others] == ["other"]
    assert [file.split("/")[-2] for file in written.smaller] == ["two_0", "two_2"]
    vertices, landmarks = neutral_head(head, SHAPE)
    for name in written.faces:
        found = read_surface(out / f"{name}.obj")
        np.testing.assert_allclose(found.vertices, vertices, atol=1e-7)
        np.testing.assert_array_equal(found.faces, head.faces)
        np.testing.assert_allclose(read_points(out / f"{name}.npy", 7), landmarks, atol=1e-12)


def test_what_cannot_be_handed_in_is_refused(head, tmp_path):
    with pytest.raises(UserError, match="is no folder"):
        write_submission(str(tmp_path / "none"), str(tmp_path / "out"), head, place)
    write_params(tmp_path / "a" / "x", "x.jpg")
    with pytest.raises(UserError, match="of a photograph in SUBJECT/CHALLENGE"):
        write_submission(str(tmp_path / "a"), str(tmp_path / "out"), head, place)
    write_params(tmp_path / "b" / "x", "a/b/x.jpg", sha256="1")
    with pytest.raises(UserError, match="is of head 'cube' with sha256 '1'"):
        write_submission(str(tmp_path / "b"), str(tmp_path / "out"), head, place)
    write_params(tmp_path / "c" / "x", "a/b/x.jpg", shape=np.full(S, np.nan))
    with pytest.raises(UserError, match="no finite shape"):
        write_submission(str(tmp_path / "c"), str(tmp_path / "out"), head, place)
