"""Faces from Python: the same as the command's, from paths, pillow images and arrays."""

from __future__ import annotations

import dataclasses
import gc
import json
import re
import subprocess
import sys
import weakref
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

import fields_jax
from fields_jax import face3d, reconstruction
from fields_jax.errors import UserError
from fields_jax.outputs.bundle import load_params
from fields_jax.photos.faces import Detection
from fields_jax.report.packing import pack_workdir
from fields_jax.workdir import packed
from tests.support.kept_programs import kept_names
from tests.support.portraits import write_photograph
from tests.support.workdirs import write_workdir


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("faces")
    workdir, head = write_workdir(folder)
    pack_workdir(str(workdir), str(folder / "packed"))
    points = write_photograph(folder / "one.png")[0]
    write_photograph(folder / "bare.png", marked=False)
    return folder, head, points


@pytest.fixture(autouse=True)
def no_detector(monkeypatch):
    monkeypatch.setattr(face3d, "find_python", lambda: None)


@pytest.fixture(scope="module")
def model(place):
    return fields_jax.load(place[0] / "packed", head=place[1])


def test_a_face_of_a_file_and_what_it_writes(place, model, capsys):
    (face,) = model.reconstruct(place[0] / "one.png")
    assert face.name == "one" and face.picture == 0 and face.origin == "landmark file one.npy"
    assert isinstance(face.params.jaw, np.ndarray) and face.params.jaw.shape == (3,)
    assert face.params.expression.shape == (6,) and face.params.neck is None
    assert face.vertices.shape == (len(model.head.template), 3)
    assert face.triangles.max() < len(face.vertices)
    assert sum(face.emotion["probabilities"].values()) == pytest.approx(1)
    assert (
        max(face.emotion["probabilities"], key=face.emotion["probabilities"].get)
        == (face.emotion["emotion"])
    )
    written = face.write(place[0] / "written" / face.name)
    assert written[0] == "params.npz" and "emotion.json" in written
    arrays, meta = load_params(place[0] / "written/one/params.npz")
    np.testing.assert_array_equal(arrays["jaw"], face.params.jaw)
    np.testing.assert_array_equal(arrays["vertices"], face.vertices)
    np.testing.assert_allclose(arrays["landmarks_68_image"], face.landmarks_68, atol=1e-3)
    assert meta["weights"]["sha256"] == model.inference.meta["sha256"]
    assert json.loads((place[0] / "written/one/emotion.json").read_text()) == face.emotion
    face.glb(place[0] / "alone.glb")
    assert (place[0] / "alone.glb").read_bytes() == (place[0] / "written/one/head.glb").read_bytes()
    assert capsys.readouterr() == ("", "")


def test_only_programs_that_are_kept_are_compiled(place, caplog):
    # JAX compiles each eager operation by itself, and no cache keeps such small programs: seconds
    # before a first face.
    jax.clear_caches()
    with jax.log_compiles():
        model = fields_jax.load(place[0] / "packed", head=place[1])
        (face,) = model.reconstruct(place[0] / "one.png")
        face.glb(place[0] / "kept.glb")
    compiled = set(re.findall(r"Compiling (\S+) with", caplog.text))
    assert compiled and compiled <= kept_names()


def test_paths_images_and_arrays_with_landmarks_or_boxes_are_one(place, model):
    folder, _, points = place
    picture = Image.open(folder / "one.png")
    low, high = points.min(axis=0), points.max(axis=0)
    given = [str(folder / "one.png"), picture, np.asarray(picture.convert("RGB"))]
    box = (*low, *high)
    # Nine, so that they are read in two batches.
    found = model.reconstruct(
        [*given * 2, picture, picture, picture],
        landmarks=[None, points, points, *[None] * 3, points, points[None], points],
        boxes=[None] * 3 + [box] * 3 + [None] * 3,
    )
    assert [face.picture for face in found] == list(range(9))
    assert [face.name for face in found[:3]] == ["one", "picture_1", "picture_2"]
    assert found[1].origin == "landmarks given" and "box given" in found[4].origin
    for face in found[1:]:
        for name in ("expression", "camera", "pose"):
            np.testing.assert_allclose(
                getattr(face.params, name), getattr(found[0].params, name), atol=2e-5
            )
        np.testing.assert_allclose(face.landmarks_68, found[0].landmarks_68, atol=1e-2)


def test_networks_that_answer_nan_spoil_their_face_alone(place, model, monkeypatch):
    """One of two faces that are read together; its result is not finite, which pages refuse."""
    found = face3d.find_given(
        [place[0] / "one.png", place[0] / "bare.png"],
        scale=model.crop_scale,
        boxes=[None, (40, 30, 140, 150)],
    )
    say = type(model.networks).say

    def failing(self, crops, batch_size):
        said = say(self, crops, batch_size)
        first = np.arange(len(crops)) < len(crops) // 2

        def spoil(column):
            return np.where(first.reshape(-1, *[1] * (column.ndim - 1)), np.nan, column)

        return jax.tree.map(spoil, said)

    monkeypatch.setattr(type(model.networks), "say", failing)
    read = model.read([face for _, face in found], 2)
    assert [result.is_finite() for result in read] == [False, True]


def test_a_picture_turned_by_its_metadata_is_read_upright(place, model):
    turned = Image.open(place[0] / "bare.png").convert("RGB")
    notes = turned.getexif()
    notes[0x0112] = 6  # shown turned by a quarter
    pictures = [turned, turned.transpose(Image.Transpose.ROTATE_270)]
    upright, plain = model.reconstruct(pictures, boxes=[(40, 90, 160, 230)] * 2)
    np.testing.assert_allclose(upright.params.camera, plain.params.camera, atol=1e-6)
    assert upright.bundle.face.image.shape == (300, 200, 3)
    assert "box given" in upright.origin


def test_the_detector_is_started_once_and_only_where_it_is_needed(place, model, monkeypatch):
    folder, _, points = place
    started = []

    class Fake:
        def __init__(self, python):
            started.append(python)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            started.append("closed")

        def detect(self, image):
            return [Detection(np.pad(points + offset, ((0, 0), (0, 1))), 0.5) for offset in (0, 3)]

    monkeypatch.setattr(face3d, "find_python", lambda: Path("python"))
    monkeypatch.setattr(face3d, "Detector", Fake)
    model.reconstruct(folder / "one.png")
    assert started == []
    found = model.reconstruct([folder / "bare.png", folder / "bare.png"])
    assert [face.name for face in found] == ["bare_0", "bare_1", "bare_0-2", "bare_1-2"]
    assert started == [Path("python"), "closed"]


def test_faces_of_a_list_have_names_of_their_own(place, model, tmp_path):
    points = write_photograph(tmp_path / "a.png", places=((10, 20), (160, 60)))
    write_photograph(tmp_path / "a_0.png")
    write_photograph(tmp_path / "x/a.png")
    found = model.reconstruct([tmp_path / name for name in ("a.png", "a_0.png", "x/a.png")])
    assert len(points) == 2 and [face.name for face in found] == ["a_0", "a_1", "a_0-2", "a"]


def test_a_long_list_is_read_a_few_pictures_at_a_time(place, model, monkeypatch):
    monkeypatch.setattr(face3d, "_BATCH", 2)
    read, held = [], []
    find = face3d.faces.find_faces

    def counted(photograph, **options):
        for face in find(photograph, **options):
            face = dataclasses.replace(face, image=face.image.copy())
            read.append(weakref.ref(face.image))
            yield face

    monkeypatch.setattr(face3d.faces, "find_faces", counted)
    for number, face in enumerate(model.iterate([place[0] / "one.png"] * 6)):
        held.append(sum(each() is not None for each in read))
        assert face.picture == number and len(read) == 2 * (number // 2 + 1)
        del face
        gc.collect()
    assert len(held) == 6 and max(held) <= 2


def test_mistakes_are_one_line_that_names_the_picture(place, model):
    folder, _, points = place
    pixels = np.zeros((40, 40, 3), np.uint8)
    for images, options, line in (
        (folder / "none.png", {}, "none.png: no such file"),
        (pixels, {}, "picture_0: no face found; give its landmarks"),
        (pixels[..., 0], {}, r"picture_0: expected an \[H, W, 3\] uint8 array of RGB"),
        (pixels.astype(np.float32), {}, "found float32"),
        (pixels, dict(boxes=(1, 2, 3)), "a box has four numbers"),
        (pixels, dict(boxes=(100, 100, 140, 140)), "no face in 40 x 40 pixels"),
        ([pixels], dict(boxes=[]), "boxes has 0 entries for 1 images"),
        (pixels, dict(landmarks=points[:4]), "landmarks of picture_0: expected numbers of shape"),
        (pixels, dict(landmarks=[[1, 2], [3]]), "landmarks of picture_0: expected an array"),
        (pixels, dict(boxes="10,10,90,90"), "picture_0: a box has four numbers .* not 10,10"),
        (pixels, dict(boxes=[1, [2], 3, 4]), "picture_0: the box: expected an array of numbers"),
        ([pixels], dict(boxes=5), "boxes: expected a list, found int"),
        (None, {}, "images: expected a list, found NoneType"),
        (pixels[:0], {}, "picture_0: a picture without pixels"),
        ([Image.fromarray(-np.ones((9, 9), np.float32)), pixels], {}, "picture_0: not a readable"),
    ):
        with pytest.raises(UserError, match=line) as caught:
            model.reconstruct(images, **options)
        assert "\n" not in str(caught.value)
    assert model.reconstruct([]) == []


def test_what_does_not_fit_is_refused(place, tmp_path, monkeypatch):
    folder, head, _ = place
    with pytest.raises(UserError, match="trained with head random 0, this is procedural 2"):
        fields_jax.load(folder / "packed")
    stage1, _ = write_workdir(tmp_path, trained=("pose_encoder", "shape_encoder"))
    with pytest.raises(UserError, match="holds no trained expression_encoder"):
        fields_jax.load(stage1)
    monkeypatch.setattr(packed, "PACKAGED", folder / "packed")
    monkeypatch.setattr(packed, "EMBEDDED", "embedded")
    assert fields_jax.load(head=head).about["weights"]["workdir"] == "embedded"
    monkeypatch.setattr(packed, "PACKAGED", tmp_path / "none")
    with pytest.raises(UserError, match="holds no model"):
        fields_jax.load()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="embedded is no workdir"):
        fields_jax.load(Path("./embedded"))  # a path is never the word


def test_networks_of_other_shapes_than_the_config_says_are_named(place, model):
    wrong = jax.tree.map(lambda leaf: leaf[..., :1], model.inference.variables)
    inference = reconstruction.Inference(
        model.inference.config, model.inference.model, wrong, 0, model.inference.meta
    )
    other = reconstruction.Model(inference, model.head, "DIR")
    with pytest.raises(UserError, match="DIR holds other networks than its config says"):
        other.reconstruct(place[0] / "one.png")


def test_importing_the_package_is_light():
    code = "import fields_jax, sys; assert fields_jax.load.__doc__; print(sorted(sys.modules))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for name in ("jax", "numpy", "flax", "absl"):
        assert f"'{name}'" not in shown.stdout
