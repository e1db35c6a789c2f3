"""`fields_jax.fit`: faces from pictures and their landmarks, as the command makes them."""

from __future__ import annotations

import dataclasses
import importlib
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import fields_jax
from fields_jax import face3d
from fields_jax.errors import UserError
from fields_jax.flame.io import save_flame
from fields_jax.flame.procedural import procedural_head
from fields_jax.outputs.bundle import load_params
from fields_jax.outputs.worn import read_expression
from tests.support.heads import random_head
from tests.support.portraits import write_photograph


@pytest.fixture(scope="module")
def head():
    return procedural_head()


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fits")
    points = write_photograph(folder / "one.png")[0]
    write_photograph(folder / "bare.png", marked=False)
    return folder, points


@pytest.fixture(autouse=True)
def no_detector(monkeypatch):
    monkeypatch.setattr(face3d, "find_python", lambda: None)


@pytest.fixture(scope="module")
def faces(place, head):
    folder, points = place
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(face3d, "find_python", lambda: None)
        patch.setattr(face3d, "_BATCH", 1)  # so that there is more than one batch
        picture = np.asarray(Image.open(folder / "bare.png").convert("RGB"))
        return fields_jax.fit([folder / "one.png", picture], landmarks=[None, points], head=head)


def test_landmarks_beside_a_file_and_given_ones_are_one(faces, place, capsys):
    named, given = faces
    assert (named.name, named.picture, named.origin) == ("one", 0, "landmark file one.npy")
    assert (given.name, given.picture, given.origin) == ("picture_1", 1, "landmarks given")
    for name in ("shape", "expression", "jaw", "pose", "camera"):
        one, other = (getattr(face.params, name) for face in faces)
        np.testing.assert_allclose(one, other, atol=1e-4, err_msg=name)
    assert named.emotion is None and named.bundle.result.residual < 0.03
    # Mediapipe's 33 and 263 are the outer corners of the eyes, 36 and 45 of the 68.
    off = named.landmarks_68[[36, 45]] - place[1][[33, 263]]
    assert np.abs(off).max() < 2
    assert capsys.readouterr() == ("", "")


def test_mistakes_are_one_line_that_names_the_picture(place, head):
    folder, points = place
    pixels = np.zeros((40, 40, 3), np.uint8)
    for images, options, line in (
        (folder / "none.png", {}, "none.png: no such file"),
        (folder / "bare.png", {}, "bare.png: no landmark file beside it and no face detector"),
        (pixels, {}, "picture_0: no landmark file beside it and no face detector"),
        ([pixels], dict(landmarks=[]), "landmarks has 0 entries for 1 images"),
        (pixels, dict(landmarks=points[:4]), "landmarks of picture_0: expected numbers of shape"),
    ):
        with pytest.raises(UserError, match=line) as caught:
            fields_jax.fit(images, head=head, **options)
        assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match=r"head\.npz"):
        fields_jax.fit(pixels, head=folder / "head.npz")
    assert fields_jax.fit([], head=head) == []


def test_another_face_s_expression_keeps_the_person(faces, head, place):
    face = faces[0]
    other = face.bundle.result.coefficients | {
        "expression": np.float32([1.5, -1.0, 0.5]),
        "jaw": np.float32([0.3, 0, 0]),
        "eyelid": np.float32([1, 0]),
    }
    result = dataclasses.replace(face.bundle.result, coefficients=other)
    donor = face3d.face3d(5, dataclasses.replace(face.bundle, result=result))
    worn = face.with_expression(donor)
    assert worn.picture == 0 and worn.name == "one"
    for name in ("shape", "pose", "camera"):
        np.testing.assert_array_equal(getattr(worn.params, name), getattr(face.params, name))
    np.testing.assert_array_equal(worn.params.jaw, donor.params.jaw)
    np.testing.assert_array_equal(worn.params.expression[:3], donor.params.expression)
    assert worn.params.expression.shape == face.params.expression.shape
    assert not worn.params.expression[3:].any()
    # The jaw opens by 17 degrees: the chin goes down, the brow stays.
    moved = worn.landmarks_68 - face.landmarks_68
    assert moved[8, 1] > 3 and np.abs(moved[27]).max() < 1
    # The texture is of the photograph: baked from the head as it is there.
    np.testing.assert_array_equal(worn.bundle.view.vertices, face.vertices)
    names = worn.write(place[0] / "worn")
    assert "emotion.json" not in names and {"head.glb", "overlay.png", "mesh.obj"} <= set(names)
    arrays, meta = load_params(place[0] / "worn/params.npz")
    assert meta["expression_from"] == "one" and "residual" not in arrays
    np.testing.assert_array_equal(arrays["vertices"], worn.vertices)
    # What was written gives the same expression again.
    again = read_expression(place[0] / "worn/params.npz", head)
    np.testing.assert_array_equal(again.values["jaw"], donor.params.jaw)
    calm = worn.relaxed()
    assert not any(calm.params.expression) and not any(calm.params.jaw)
    np.testing.assert_array_equal(calm.bundle.view.vertices, face.vertices)


def test_an_expression_of_another_head_is_refused_by_both_names(faces, place, tmp_path):
    other = random_head()
    save_flame(str(tmp_path / "other.npz"), other)
    faces[0].write(tmp_path / "mine")
    with pytest.raises(UserError, match=r"procedural'? .*of random .*fields_jax\.transfer") as said:
        read_expression(tmp_path / "mine/params.npz", other)
    assert "\n" not in str(said.value)


def test_the_function_stays_the_function_once_its_command_is_imported(place):
    module = importlib.import_module("fields_jax.fit")
    assert callable(module.main) and fields_jax.fit([]) == []
    code = "import fields_jax, sys; fields_jax.fit.__doc__; print('jax' in sys.modules)"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout == "False\n"
