"""The folder-of-photographs builder and its command."""

import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds
from absl import logging
from etils import epath
from ml_collections import ConfigDict
from PIL import Image

from data_pipelines import mixture, prepare
from data_pipelines.faces import faces_dataset_builder as faces
from fields_jax.photos.points import N_MEDIAPIPE, select_105


def mesh(width, height, seed=0):
    """478 points on an ellipse a third of the picture wide, with a depth nobody reads."""
    angle = np.random.default_rng(seed).uniform(0, 2 * np.pi, N_MEDIAPIPE)
    x, y = width / 2 + width / 6 * np.cos(angle), height / 2 + height / 5 * np.sin(angle)
    return np.stack([x, y, 0 * x], axis=1).astype(np.float32)


def write_photograph(folder, name, *, width=120, height=90, points=None, seed=0):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    Image.fromarray(rng.integers(0, 255, (height, width, 3), np.uint8)).save(path)
    np.save(path.with_suffix(".npy"), mesh(width, height, seed) if points is None else points)
    return path


def write_photographs(folder):
    for index in range(4):
        write_photograph(folder, f"day{index % 2}/{index}.{('png', 'jpg')[index // 2]}", seed=index)


class FacesBuilderTest(tfds.testing.DatasetBuilderTestCase):
    """tfds's own checks: downloads, features, splits, citation, reading back."""

    DATASET_CLASS = faces.Builder
    SPLITS = {"train": 4}  # noqa: RUF012
    SKIP_CHECKSUMS = True

    @classmethod
    def setUpClass(cls):
        cls.EXAMPLE_DIR = os.path.join(tfds.testing.make_tmp_dir(), "photographs")
        write_photographs(epath.Path(cls.EXAMPLE_DIR))
        super().setUpClass()


def test_record_holds_the_face_where_the_points_say(tmp_path):
    path = write_photograph(epath.Path(tmp_path), "a.png", width=120, height=90)
    made = faces.face_record(path, "a.png", size=256, scale=2.0)
    # The face is 40 x 36 pixels at (60, 45): the crop is 76 wide and is not enlarged to 256.
    assert made["image"].shape == (76, 76, 3)
    np.testing.assert_allclose(made["face_box"], [18, 20, 58, 56], atol=0.6)
    points = np.load(path.with_suffix(".npy"))[:, :2]
    shift = made["landmarks_105"] - select_105(points)
    np.testing.assert_allclose(shift, np.tile([-22, -7], (105, 1)), atol=0.6)
    assert made["has_landmarks_105"]
    assert not made["has_landmarks_68"]
    inside = made["face_mask"][..., 0] == 0
    assert inside.mean() == pytest.approx(np.pi * 20 * 18 / 76**2, rel=0.1)
    smaller = faces.face_record(path, "a.png", size=38, scale=2.0)
    np.testing.assert_allclose(
        smaller["landmarks_105"] * 2, made["landmarks_105"] * 76 / 75.9, atol=0.3
    )


@pytest.mark.parametrize(
    ("points", "line"),
    [
        (
            np.zeros((68, 2), np.float32),
            r"expected numbers of shape \[478, 2\] or \[478, 3\], found",
        ),
        (np.full((478, 2), np.inf), "not finite"),
        (np.array(["a"] * 478), "found <U1"),
        (np.array([{}] * 478, object), r"not a readable \.npy array .*allow_pickle"),
        (mesh(120, 90) + np.float32(500), "no face in 120 x 90"),
        (np.full((478, 2), 5.0), "no face in 120 x 90"),
    ],
)
def test_unusable_points_are_named(tmp_path, points, line):
    path = write_photograph(epath.Path(tmp_path), "a.png", points=points)
    with pytest.raises(ValueError, match=line) as caught:
        faces.face_record(path, "a.png", size=64, scale=2.0)
    assert str(path.with_suffix("")) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_bad_files_are_named_and_kept_out(tmp_path, monkeypatch):
    folder = epath.Path(tmp_path / "photographs")
    write_photographs(folder)
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff no picture")
    np.save(folder / "broken.npy", mesh(10, 10))
    write_photograph(folder, "lonely.png").with_suffix(".npy").unlink()
    said = []
    monkeypatch.setattr(logging, "warning", lambda text, *values: said.append(text % values))
    made = prepare.prepare("faces", tmp_path / "data", source=str(folder), test_share=0.5)
    kept_out = [line for line in said if line.startswith("Kept out: ")]
    assert len(kept_out) == 2
    assert "broken.jpg: not a readable picture" in kept_out[0]
    assert "lonely.npy: no such file" in kept_out[1]

    assert made == [epath.Path(tmp_path / "data/faces/1.0.0")]
    config = ConfigDict({"root": str(tmp_path / "data"), "eval_crop_scale": 1.4, "threads": 1})
    seen = {
        split: sorted(
            name
            for batch in mixture.evaluation_batches(
                config, "faces", split, image_size=16, batch_size=3
            )
            for name in batch["id"]
        )
        for split in ("train", "test")
    }
    expected = ["day0/0.png", "day0/2.jpg", "day1/1.png", "day1/3.jpg"]
    assert seen["test"] == [name for name in expected if faces.in_test(name, 0.5)]
    assert sorted(seen["train"] + seen["test"]) == expected


def test_share_of_the_test_split():
    names = [f"{i}.jpg" for i in range(4000)]
    assert np.mean([faces.in_test(name, 0.2) for name in names]) == pytest.approx(0.2, abs=0.02)
    assert not any(faces.in_test(name, 0.0) for name in names)
    assert all(faces.in_test(name, 1.0) for name in names)


def test_folder_without_a_usable_photograph(tmp_path):
    source = epath.Path(tmp_path / "photographs")
    write_photograph(source, "a.png").with_suffix(".npy").unlink()
    with pytest.raises(ValueError, match="none of its 1 photographs can be used"):
        prepare.prepare("faces", tmp_path / "data", source=str(source))
    assert not (tmp_path / "data/faces/1.0.0").exists()


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ([], "name one set to prepare: synthetic, faces"),
        (["portraits", "--out=x"], "unknown set 'portraits'; known: synthetic, faces"),
        (["faces"], "--out=DIR is required"),
        (["faces", "--out=x"], "faces needs --source=DIR"),
        (["faces", "--out=x", "--source=absent"], "--source=absent: no such folder"),
        (["faces", "--out=x", "--source=."], r"\.: no photographs"),
    ],
)
def test_mistakes_are_named_in_one_line(arguments, line, tmp_path, monkeypatch):
    (tmp_path / "notes.txt").write_text("no photograph")
    monkeypatch.chdir(tmp_path)
    values = {"out": "", "source": "", "size": "demo", "test_share": 0.0}
    for argument in arguments[1:]:
        key, value = argument.removeprefix("--").split("=")
        values[key] = value
    monkeypatch.setattr(prepare.flags, "FLAGS", ConfigDict(values))
    with pytest.raises((ValueError, FileNotFoundError), match=f"^{line}") as caught:
        prepare.main(["prepare", *arguments[:1]])
    assert "\n" not in str(caught.value)


def test_command_prints_its_line_and_status(tmp_path):
    command = [sys.executable, "-m", "data_pipelines.prepare", "faces"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert ended.stderr.strip().startswith("error: --out=DIR is required")
    assert "Traceback" not in ended.stderr


def test_remedy_fits_the_set():
    assert prepare.remedy("synthetic/wild2d", "data") == (
        "make it with `python -m data_pipelines.prepare synthetic --out=data`"
    )
    assert "prepare faces --source=DIR --out=gs://b" in prepare.remedy("faces", "gs://b")
