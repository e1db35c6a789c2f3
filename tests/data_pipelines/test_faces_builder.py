"""The builder of faces from a folder of photographs, and the records it makes."""

import os

import numpy as np
import pytest
import tensorflow_datasets as tfds
from absl import logging
from etils import epath
from ml_collections import ConfigDict

from data_pipelines import prepare
from data_pipelines.building import photographs
from data_pipelines.faces import faces_dataset_builder as faces
from data_pipelines.faces import manifest
from data_pipelines.reading import mixture
from fields_jax.errors import UserError
from fields_jax.photos.points import approximate_68, select_105
from tests.support.photograph_sets import write_photograph, write_photographs
from tests.support.raw_sets import mesh


def record_of(path, **options):
    return photographs.make_record(photographs.Sample("a.png", str(path)), **options)


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
    made = record_of(path, size=256, scale=2.0)
    # The face is 40 x 36 pixels at (60, 45): the crop is 76 wide and is not enlarged to 256.
    assert made["image"].shape == (76, 76, 3)
    np.testing.assert_allclose(made["face_box"], [18, 20, 58, 56], atol=0.6)
    points = np.load(path.with_suffix(".npy"))[:, :2]
    shift = made["landmarks_105"] - select_105(points)
    np.testing.assert_allclose(shift, np.tile([-22, -7], (105, 1)), atol=0.6)
    assert made["has_landmarks_105"]
    # Mediapipe's nearest points stand in for the 68, and do not pass for an annotation.
    assert made["has_landmarks_68"]
    assert not made["has_annotated_68"]
    shift = made["landmarks_68"] - approximate_68(points)
    np.testing.assert_allclose(shift, np.tile([-22, -7], (68, 1)), atol=0.6)
    inside = made["face_mask"][..., 0] == 0
    assert inside.mean() == pytest.approx(np.pi * 20 * 18 / 76**2, rel=0.1)
    smaller = record_of(path, size=38, scale=2.0)
    np.testing.assert_allclose(
        smaller["landmarks_105"] * 2, made["landmarks_105"] * 76 / 75.9, atol=0.3
    )


@pytest.mark.parametrize(
    ("points", "line"),
    [
        (
            np.zeros((67, 2), np.float32),
            r"expected numbers of shape \[478, 2\] or .*, found float32 \[67, 2\]",
        ),
        (np.full((478, 2), np.inf), "not finite"),
        (np.array(["a"] * 478), "found <U1"),
        (np.array([{}] * 478, object), r"a\.npy is damaged or no \.npy .*neither numbers nor text"),
        (mesh(120, 90) + np.float32(500), "no face in 120 x 90"),
        (np.full((478, 2), 5.0), "no face in 120 x 90"),
    ],
)
def test_unusable_points_are_named(tmp_path, points, line):
    path = write_photograph(epath.Path(tmp_path), "a.png", points=points)
    with pytest.raises(photographs.Rejected, match=line) as caught:
        record_of(path, size=64, scale=2.0)
    assert str(path.with_suffix("")) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_dense_landmarks_come_from_files_only(tmp_path):
    path = write_photograph(epath.Path(tmp_path), "a.png")
    dense = np.random.default_rng(0).uniform(40, 60, (203, 2))
    np.save(tmp_path / "a.203.npy", dense)
    made = record_of(path, size=256, scale=2.0)
    np.testing.assert_allclose(made["landmarks_203"], dense - [22, 7], atol=0.6)
    np.save(tmp_path / "a.203.npy", dense[:5])
    with pytest.raises(photographs.Rejected, match=r"a.203.npy: expected numbers \[203, 2\]"):
        record_of(path, size=256, scale=2.0)


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
    kept_out.sort()
    assert "broken.jpg: not a readable picture" in kept_out[0]
    assert "lonely.png (no landmarks)" in kept_out[1]

    assert made == [epath.Path(tmp_path / "data/faces/1.2.0")]
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
    assert seen["test"] == [name for name in expected if manifest.in_test(name, 0.5)]
    assert sorted(seen["train"] + seen["test"]) == expected


def test_folder_without_a_usable_photograph(tmp_path):
    source = epath.Path(tmp_path / "photographs")
    write_photograph(source, "a.png").with_suffix(".npy").unlink()
    with pytest.raises(ValueError, match="none of its 1 photographs can be used"):
        prepare.prepare("faces", tmp_path / "data", source=str(source))
    assert not (tmp_path / "data/faces/1.2.0").exists()


def test_a_folder_of_nothing_that_is_read_says_why(tmp_path):
    (tmp_path / "a.cr3").write_bytes(b"")
    line = r"nothing to prepare \(camera raw is not read: 1; first: .*a.cr3: camera raw"
    with pytest.raises(UserError, match=line):
        prepare.prepare("faces", tmp_path / "data", source=str(tmp_path))


def test_names_that_are_no_text_are_prepared_and_reported(tmp_path):
    source = tmp_path / "photographs"
    write_photograph(source, os.fsdecode(b"caf\xe9.png"))
    write_photograph(source, os.fsdecode(b"\xe8.png")).with_suffix(".npy").unlink()
    (folder,) = prepare.prepare("faces", tmp_path / "data", source=str(source))
    (example,) = tfds.as_numpy(tfds.builder_from_directory(folder).as_dataset(split="train"))
    assert example["id"].decode() == r"caf\udce9.png"
    assert r"\udce8.png" in (folder / "prepare_rejects.tsv").read_text()
