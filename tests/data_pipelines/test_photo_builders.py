"""AffectNet and BP4D from folders laid out as the real ones: what is kept, what is left out."""

import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from etils import epath

from data_pipelines import heads, prepare
from data_pipelines.affectnet import affectnet_dataset_builder as affectnet
from data_pipelines.affectnet import eight_class, full
from data_pipelines.bp4d import annotations, layout
from data_pipelines.bp4d import bp4d_dataset_builder as bp4d
from data_pipelines.building import photographs
from fields_jax.flame.procedural import procedural_head
from fields_jax.photos import points
from tests.support import raw_sets


class AffectnetBuilderTest(tfds.testing.DatasetBuilderTestCase):
    """tfds's own checks: downloads, features, splits, citation, reading back."""

    DATASET_CLASS = affectnet.Builder
    BUILDER_CONFIG_NAMES_TO_TEST = ["full"]  # noqa: RUF012
    SPLITS = {"train": 4, "test": 2}  # noqa: RUF012
    SKIP_CHECKSUMS = True

    @classmethod
    def setUpClass(cls):
        cls.EXAMPLE_DIR = os.path.join(tfds.testing.make_tmp_dir(), "raw")
        raw_sets.affectnet_full(Path(cls.EXAMPLE_DIR))
        super().setUpClass()


def read(folder, split):
    """Examples of a prepared split by id."""
    data = tfds.builder_from_directory(folder).as_dataset(split=split)
    return {example["id"].decode(): example for example in tfds.as_numpy(data)}


def rejects(folder):
    lines = (Path(folder) / "prepare_rejects.tsv").read_text().splitlines()[1:]
    return {line.split("\t")[2].rsplit("/", 1)[-1]: line.split("\t")[1] for line in lines}


def test_affectnet_full_keeps_expressions_and_names_the_rest(tmp_path):
    source = raw_sets.affectnet_full(tmp_path / "raw")
    (folder,) = prepare.prepare("affectnet", tmp_path / "data", source=str(source))
    assert folder == epath.Path(tmp_path / "data/affectnet/full/1.1.0")
    train, test = read(folder, "train"), read(folder, "test")
    assert {key: int(e["emotion"]) for key, e in train.items()} == {
        "1/neutral.jpg": 0,
        "1/happy.jpg": 1,
        "2/contempt.jpg": 7,
        "2/no_affect.png": 6,
    }
    assert train["1/happy.jpg"]["valence"] == np.float32(0.7)
    assert [k for k, e in train.items() if not e["has_va"]] == ["2/no_affect.png"]
    assert all(e["has_landmarks_68"] and not e["has_landmarks_105"] for e in train.values())
    assert {key: bool(e["has_landmarks_105"]) for key, e in test.items()} == {
        "3/fear.jpg": True,
        "3/disgust.jpg": False,
    }
    reasons = list(rejects(folder).values())
    assert sorted(reasons) == sorted(
        [
            *("class 8 (none)", "class 9 (uncertain)", "class 10 (no face)", "unknown class"),
            *("valence or arousal out of range", "image missing", "image unreadable"),
            *("landmarks unusable", "row unreadable", "row unreadable", "row unreadable"),
            "named twice",
        ]
    )


def test_affectnet_of_eight_classes(tmp_path):
    source = raw_sets.affectnet_eight(tmp_path / "raw")
    (folder,) = prepare.prepare("affectnet", tmp_path / "data", source=str(source))
    train = read(folder, "train")
    assert {key: int(e["emotion"]) for key, e in train.items()} == {
        "train_set/1": 0,
        "train_set/2": 3,
        "train_set/3": 5,
    }
    assert not train["train_set/3"]["has_va"]
    item = eight_class.catalogue(epath.Path(source)).splits["train"][0]
    before = photographs.state(item.files)
    np.save(source / "train_set/annotations/1_val.npy", np.array("0.25"))
    assert photographs.state(item.files) != before
    assert list(read(folder, "test")) == ["val_set/10"]
    assert sorted(rejects(folder).values()) == [
        "annotation missing",
        "annotation unreadable",
        "class 8 (none)",
    ]


def test_bp4d_splits_by_subject_and_leaves_out_lost_frames(tmp_path):
    source = raw_sets.bp4d(tmp_path / "raw")
    (folder,) = prepare.prepare("bp4d", tmp_path / "data", source=str(source))
    assert folder == epath.Path(tmp_path / "data/bp4d/spontaneous/1.1.0")
    train, test = read(folder, "train"), read(folder, "test")
    assert sorted(train) == ["F001/T1/0000", "F001/T1/0002", "M011/T8/000", "M011/T8/002"]
    assert sorted(test) == ["F007/T2/0000", "F007/T2/0002"]
    assert {int(e["subject"]) for e in train.values()} == {1, 1011}
    assert not any(e[f"has_{kind}"] for e in train.values() for kind in ("flame", "emotion", "va"))
    found = rejects(folder)
    assert found["T11"] == "no such task"
    assert found["0001"] == "tracking lost"
    assert "subject still zipped" in found.values()


def test_bp4d_options_choose_frames(tmp_path):
    source = epath.Path(raw_sets.bp4d(tmp_path / "raw"))

    def keys(**options):
        builder = bp4d.Builder(config="spontaneous", data_dir=tmp_path, **options)
        found = builder.catalogue(source).splits
        return {split: [item.key for item in items] for split, items in found.items()}

    assert keys(test_fold=0)["test"] == []
    assert {key[:4] for key in keys(test_fold=1)["test"]} == {"F001"}
    assert {key[:4] for key in keys(test_fold=2)["test"]} == {"M011"}
    assert keys(coded_only=True)["train"] == ["F001/T1/0000", "M011/T8/000"]
    assert keys(every=2)["train"] == keys()["train"]
    assert keys(every=3)["train"] == ["F001/T1/0000", "M011/T8/000"]
    with pytest.raises(ValueError, match="test_fold must be 1, 2, 3 or 0"):
        keys(test_fold=4)


def test_bp4d_plus_is_recognised_and_has_three_folds(tmp_path):
    raw_sets.bp4d_sequence(tmp_path / "RawData", "F042", "T11")
    raw_sets.bp4d_sequence(tmp_path / "RawData", "F042", "T10")
    assert bp4d.config_of(epath.Path(tmp_path)) == "plus"
    builder = bp4d.Builder(config="plus", data_dir=tmp_path / "data")
    found = builder.catalogue(epath.Path(tmp_path))
    assert [item.key for item in found.splits["train"]] == ["F042/T10/0000", "F042/T10/0002"]
    assert {reason for reason, _ in found.rejects["train"]} == {"no such task", "tracking lost"}
    assert [builder._fold(f"F{n:03d}") for n in range(1, 7)] == [2, 3, 1, 2, 3, 1]


def test_folds_are_disjoint_and_complete():
    everybody = [subject for fold in layout.FOLDS for subject in fold]
    assert [len(fold) for fold in layout.FOLDS] == [14, 14, 13]
    assert sorted(everybody) == [f"F{n:03d}" for n in range(1, 24)] + [
        f"M{n:03d}" for n in range(1, 19)
    ]


def test_fits_give_coefficients_to_the_frames_that_passed(tmp_path):
    source = raw_sets.bp4d(tmp_path / "raw")
    fits = raw_sets.scan_fits(tmp_path / "fits", procedural_head())
    (folder,) = prepare.prepare("bp4d", tmp_path / "data", source=str(source), fits=str(fits))
    train = read(folder, "train")
    flagged = {key: bool(e["has_flame"] and e["has_shape"]) for key, e in train.items()}
    assert flagged == {
        "F001/T1/0000": False,  # its fit is not ok
        "F001/T1/0002": True,
        "M011/T8/000": False,  # no fit
        "M011/T8/002": False,
    }
    stored = np.load(fits / "F001_T1.npz")
    for key in ("expression", "jaw", "eyelid"):
        np.testing.assert_allclose(train["F001/T1/0002"][key], stored[key][2], rtol=1e-6)
    np.testing.assert_allclose(train["F001/T1/0002"]["shape"], stored["shape"], rtol=1e-6)
    assert "sequence without fit" in rejects(folder).values()
    # Training compares these with its head.
    assert heads.labels_of(folder) == (procedural_head().identity, True, False)
    licence = (folder / "LICENSE").read_text()
    assert licence.startswith("Binghamton University's: for research only, not to be passed on. ")
    assert f"Coefficients: that of {heads.in_words(procedural_head().identity)}." in licence
    (without,) = prepare.prepare("bp4d", tmp_path / "without", source=str(source))
    assert heads.labels_of(without) is None
    assert "Coefficients" not in (without / "LICENSE").read_text()


def test_fits_of_another_head_are_refused_by_name(tmp_path):
    source = raw_sets.bp4d(tmp_path / "raw")
    other = dataclasses.replace(procedural_head(), name="FLAME", sha256="f" * 64)
    fits = raw_sets.scan_fits(tmp_path / "fits", other)
    with pytest.raises(ValueError, match=r"F001_T1.npz: fitted with the head FLAME ffffffffffff, "):
        prepare.prepare("bp4d", tmp_path / "data", source=str(source), fits=str(fits))


@pytest.mark.parametrize("damage", ["truncated", "shape", "nan"])
def test_damaged_fits_and_features_cost_only_themselves(tmp_path, damage):
    source = raw_sets.bp4d(tmp_path / "raw")
    fits = raw_sets.scan_fits(tmp_path / "fits", procedural_head())
    file = fits / "F001_T1.npz"
    if damage == "truncated":
        file.write_bytes(file.read_bytes()[:200])
        (source / "2DFeatures/M011_T8.mat").write_bytes(b"MATLAB 5.0 nonsense")
    else:
        content = dict(np.load(file))
        content["jaw"] = content["jaw"][:2] if damage == "shape" else content["jaw"] * np.nan
        np.savez(file, **content)
    builder = bp4d.Builder(config="spontaneous", data_dir=tmp_path, fits=str(fits))
    found = builder.catalogue(epath.Path(source))
    reasons = [reason for reason, _ in found.rejects["train"]]
    assert reasons.count("fit unreadable") == 1
    assert reasons.count("2D features unreadable") == (damage == "truncated")
    assert sum("expression" in item.labels for item in found.splits["test"]) == 1


def test_uncoded_units_and_malformed_tables(tmp_path):
    raw_sets.bp4d_sequence(tmp_path, "F001", "T1")
    table = epath.Path(tmp_path / "AUCoding/AU_OCC/F001_T1.csv")
    assert annotations.read_coded_frames(table) == {0, 1}
    table.write_text("0,1,2\n1,0,0\n")
    with pytest.raises(ValueError, match="not a table of action units"):
        annotations.read_coded_frames(table)


def test_missing_tables_and_columns_are_named(tmp_path):
    source = raw_sets.affectnet_full(tmp_path)
    table = source / "Manually_Annotated/validation.csv"
    table.write_text("subDirectory_filePath,expression\n")
    with pytest.raises(ValueError, match=r"validation.csv: no column facial_landmarks, valence"):
        full.catalogue(epath.Path(source))
    table.unlink()
    with pytest.raises(FileNotFoundError, match="ask the authors"):
        full.catalogue(epath.Path(source))
    with pytest.raises(FileNotFoundError, match="neither Manually_Annotated nor train_set"):
        affectnet.config_of(epath.Path(tmp_path / "data"))


def test_outline_of_49_points_is_about_that_of_the_face():
    face = raw_sets.face_68().astype(np.float64)
    inner = np.delete(face, [*range(17), 60, 64], axis=0)
    box, whole = points.face_box(inner), points.face_box(face)
    assert len(points.face_outline(inner)) == 17 + 49 + 10
    np.testing.assert_allclose(box, whole, atol=0.2 * np.ptp(face))
    turned = points.face_box(face[:, ::-1])  # a face lying on its side
    np.testing.assert_allclose(turned, whole[[1, 0, 3, 2]], rtol=1e-5)


def test_detected_face_must_be_the_annotated_one(tmp_path):
    path = raw_sets.picture(tmp_path / "a.jpg")
    np.save(tmp_path / "a.npy", raw_sets.mesh(20, 20))
    sample = photographs.Sample("a", str(path), raw_sets.face_68())
    with pytest.raises(photographs.Rejected, match="detected faces are not the annotated one"):
        photographs.make_record(sample, size=64, scale=2.0)


@pytest.mark.parametrize("suffix", [".npy", ".pts", ".txt"])
def test_an_annotation_of_68_points_wins_over_a_file_of_68(tmp_path, suffix):
    path = raw_sets.picture(tmp_path / "a.jpg")
    marks = raw_sets.face_68()
    write_68(tmp_path / f"a{suffix}", marks + 3)
    inner = np.delete(marks, [*range(17), 60, 64], axis=0)
    ours, theirs, file = (
        photographs.make_record(photographs.Sample("a", str(path), given), size=256, scale=2.0)
        for given in (marks, inner, None)
    )
    assert ours["has_annotated_68"] and theirs["has_annotated_68"]
    np.testing.assert_array_equal(theirs["landmarks_68"], file["landmarks_68"])
    (tmp_path / f"a{suffix}").unlink()
    alone = photographs.make_record(photographs.Sample("a", str(path), marks), size=256, scale=2.0)
    np.testing.assert_array_equal(ours["landmarks_68"], alone["landmarks_68"])
    np.testing.assert_array_equal(ours["image"], alone["image"])
    write_68(tmp_path / f"a{suffix}", marks / 4)
    with pytest.raises(photographs.Rejected, match="detected faces are not the annotated one"):
        photographs.make_record(photographs.Sample("a", str(path), marks), size=256, scale=2.0)


def write_68(path, marks):
    if path.suffix == ".npy":
        return np.save(path, marks)
    rows = "\n".join(f"{x} {y}" for x, y in marks.tolist())
    pts = f"version: 1\nn_points: 68\n{{\n{rows}\n}}\n"
    return path.write_text(pts if path.suffix == ".pts" else rows)


def test_squeezed_frames_are_stretched(tmp_path):
    path = raw_sets.picture(tmp_path / "a.png", 90, 100)
    marks = raw_sets.face_68(120, 100) * np.array([0.75, 1.0], np.float32)
    squeezed = photographs.Sample("a", str(path), marks, pixel_aspect=4 / 3)
    made = photographs.make_record(squeezed, size=256, scale=2.0)
    width, height = made["face_box"][2:] - made["face_box"][:2]
    expected = np.ptp(points.face_outline(raw_sets.face_68(120, 100)), axis=0)
    np.testing.assert_allclose([width, height], expected, rtol=0.03)
