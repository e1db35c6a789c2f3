"""The builder of faces from a folder or a manifest, and the command that all sets share."""

import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from absl import logging
from etils import epath
from ml_collections import ConfigDict
from PIL import Image

from data_pipelines import prepare
from data_pipelines.building import photographs, shards
from data_pipelines.faces import faces_dataset_builder as faces
from data_pipelines.faces import manifest
from data_pipelines.reading import mixture
from fields_jax.errors import UserError
from fields_jax.photos import kinds
from fields_jax.photos.points import approximate_68, select_105
from tests.support.raw_sets import face_68, mesh


def write_photograph(folder, name, *, width=120, height=90, points=None, seed=0):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    Image.fromarray(rng.integers(0, 255, (height, width, 3), np.uint8)).save(path)
    np.save(path.with_suffix(".npy"), mesh(width, height, seed) if points is None else points)
    return path


def write_photographs(folder, count=4):
    for index in range(count):
        write_photograph(
            folder, f"day{index % 2}/{index}.{('png', 'jpg')[index // 2 % 2]}", seed=index
        )


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


def test_share_of_the_test_split():
    names = [f"{i}.jpg" for i in range(4000)]
    assert np.mean([manifest.in_test(name, 0.2) for name in names]) == pytest.approx(0.2, abs=0.02)
    assert not any(manifest.in_test(name, 0.0) for name in names)
    assert all(manifest.in_test(name, 1.0) for name in names)


def test_folder_without_a_usable_photograph(tmp_path):
    source = epath.Path(tmp_path / "photographs")
    write_photograph(source, "a.png").with_suffix(".npy").unlink()
    with pytest.raises(ValueError, match="none of its 1 photographs can be used"):
        prepare.prepare("faces", tmp_path / "data", source=str(source))
    assert not (tmp_path / "data/faces/1.2.0").exists()


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ([], "name one set to prepare: synthetic, affectnet, bp4d, faces"),
        (
            ["portraits", "--out=x"],
            "unknown set 'portraits'; known: synthetic, affectnet, bp4d, faces",
        ),
        (["faces"], "--out=DIR is required"),
        (["faces", "--out=x"], "faces needs --source=DIR"),
        (["faces", "--out=x", "--source=absent"], "--source=absent: no such folder"),
        (["faces", "--out=x", "--source=."], r"\.: no photographs"),
        (["faces", "--out=x", "--source=.", "--fits=y"], "--fits is not for faces; it is for bp4d"),
        (["bp4d", "--out=x", "--source=."], r"\.: no sequences such as 2D\+3D/F001/T1/0000.jpg"),
        (["affectnet/nine", "--out=x", "--source=."], "unknown config 'nine'; known: full"),
        (["synthetic", "--dry_run=1"], "synthetic has no raw data"),
        (["synthetic", "--out=x", "--beam_runner=direct"], "--beam_runner is for making sets of"),
        (
            ["faces", "--out=x", "--source=.", "--dry_run=1", "--beam_runner=direct"],
            "--beam_runner is for making sets of",
        ),
    ],
)
def test_mistakes_are_named_in_one_line(arguments, line, tmp_path, monkeypatch):
    (tmp_path / "notes.txt").write_text("no photograph")
    monkeypatch.chdir(tmp_path)
    values = dict(out="", source="", name="", dry_run=False) | prepare._DEFAULTS
    values |= dict(beam_runner="", beam_options=())
    for argument in arguments[1:]:
        key, value = argument.removeprefix("--").split("=")
        values[key] = type(values[key])(value)
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


def test_command_makes_a_set_from_flags(tmp_path):
    write_photographs(epath.Path(tmp_path / "photographs"))
    command = [sys.executable, "-m", "data_pipelines.prepare", "faces", "--name=mine"]
    command += [f"--source={tmp_path / 'photographs'}", f"--out={tmp_path}", "--limit=3"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr.splitlines()[-1] == f"{tmp_path}/faces/mine/1.2.0: train 3"
    assert split_sizes(tmp_path / "faces/mine/1.2.0") == {"train": 3}


def test_remedy_fits_the_set():
    assert prepare.remedy("synthetic/wild2d", "data") == (
        "make it with `python -m data_pipelines.prepare synthetic --out=data`"
    )
    assert "prepare faces --source=DIR --out=gs://b" in prepare.remedy("faces", "gs://b")
    assert "prepare faces --source=DIR --name=raf_db --out=d" in prepare.remedy("faces/raf_db", "d")
    assert "prepare affectnet/full --source=DIR" in prepare.remedy("affectnet/full", "d")


def split_sizes(folder):
    infos = tfds.builder_from_directory(folder).info.splits
    return {split: info.num_examples for split, info in infos.items()}


def test_interrupted_preparation_finishes_what_is_missing(tmp_path, monkeypatch):
    source = tmp_path / "photographs"
    write_photographs(source, 10)
    options = dict(source=str(source), part_size=2, threads=1)
    read, seen = photographs.make_record, []

    def dying(sample, **size):
        if len(seen) == 6:
            raise KeyboardInterrupt
        seen.append(sample.key)
        return read(sample, **size)

    monkeypatch.setattr(photographs, "make_record", dying)
    with pytest.raises(KeyboardInterrupt):
        prepare.prepare("faces", tmp_path / "data", **options)
    root = tmp_path / "data/faces"
    assert not (root / "1.2.0").exists()
    notes = sorted((root / "unfinished_1.2.0").glob("*.json"))
    assert 1 <= len(notes) <= 3
    # What lies about of a part without a note, or with a wrong one, counts for nothing.
    shard = notes[0].with_suffix("")
    shard.write_bytes(shard.read_bytes()[:-1])
    kept = {key for note in notes[1:] for key in keys_of(note)}

    monkeypatch.setattr(
        photographs, "make_record", lambda s, **o: seen.append(s.key) or read(s, **o)
    )
    seen.clear()
    (folder,) = prepare.prepare("faces", tmp_path / "data", **options)
    assert len(seen) == 10 - 2 * len(notes[1:])
    assert not kept & set(seen)
    assert split_sizes(folder) == {"train": 10}
    config = ConfigDict({"root": str(tmp_path / "data"), "eval_crop_scale": 1.4, "threads": 1})
    batches = mixture.evaluation_batches(config, "faces", "train", image_size=16, batch_size=10)
    assert len(set(next(batches)["id"])) == 10
    assert not list(root.glob("unfinished*")) + list(root.glob("incomplete*"))


def keys_of(note):
    """Ids of the records in the shard beside a note."""
    return [
        tf.train.Example.FromString(record).features.feature["id"].bytes_list.value[0].decode()
        for record in tf.data.TFRecordDataset(str(note.with_suffix(""))).as_numpy_iterator()
    ]


def test_changed_items_are_made_again(tmp_path):
    items = [photographs.Sample(f"{i}", f"{i}.png") for i in range(3)]
    shard = epath.Path(tmp_path / "train-0-of-1")
    part = shards.Part(items, 64, 2.0, 1, shard)
    shard.write_bytes(b"12345")
    note = {"items": part.digest(), "bytes": 5, "summary": {"examples": 3}}
    (tmp_path / "train-0-of-1.json").write_text(json.dumps(note))
    part.resume()
    assert part.whole()
    assert len(list(part())) == 3
    marked = photographs.Sample("0", "0.png", face_68())
    changed = shards.Part([marked, *items[1:]], 64, 2.0, 1, shard)
    assert not changed.whole()
    changed.resume()
    assert not shard.exists()
    assert not part.whole()


def test_dry_run_counts_and_writes_nothing(tmp_path, capsys):
    source = tmp_path / "photographs"
    write_photographs(source)
    write_photograph(epath.Path(source), "lonely.png").with_suffix(".npy").unlink()
    prepare.prepare("faces", tmp_path / "data", source=str(source), dry_run=True)
    assert "train: 4 kept, 1 left out (no landmarks: 1)" in capsys.readouterr().err
    assert not (tmp_path / "data").exists()


def test_what_was_passed_over_is_reported(tmp_path, capsys, monkeypatch):
    """In the dry run, in the log, and in every part of the report."""
    source, said = tmp_path / "photographs", []
    write_photographs(source)
    write_photograph(source, "gif.gif")
    for name in ("a.CR2", "b.nef", "c.mov", "d.heic", "notes.txt", ".hidden.jpg"):
        (source / name).write_bytes(b"")
    (source / "day0/back").symlink_to("..")
    monkeypatch.setattr(kinds, "reads_heic", lambda: False)
    monkeypatch.setattr(logging, "warning", lambda text, *values: said.append(text % values))
    prepare.prepare("faces", tmp_path / "data", source=str(source), dry_run=True, test_share=0.5)
    lines = capsys.readouterr().err
    assert sum(int(count) for count in re.findall(r"(\d+) kept", lines)) == 5
    assert sum(int(count) for count in re.findall(r"(\d+) left out", lines)) == 4
    assert "camera raw is not read: " in lines and len(said) == 4
    # Nothing is lost where all photographs are in one split.
    (folder,) = prepare.prepare("faces", tmp_path / "data", source=str(source), test_share=1.0)
    assert split_sizes(folder) == {"test": 5}
    rejects = json.loads((folder / "prepare_report.json").read_text())["splits"]["test"]["rejects"]
    assert rejects["camera raw is not read"] == 2 and sum(rejects.values()) == 4
    assert "left out: HEIC needs pillow-heif" in (folder / "prepare_report.html").read_text()
    table = (folder / "prepare_rejects.tsv").read_text()
    assert f"{source}/c.mov: videos are not read by this version; name pictures of it\n" in table


def test_what_a_split_without_photographs_leaves_out_is_counted(tmp_path, capsys):
    write_photographs(tmp_path, 1)
    table = tmp_path / "table.csv"
    table.write_text("image,split,emotion\nday0/0.png,test,1\nday0/0.png,train,99\n")
    options = dict(source=str(tmp_path), manifest=str(table), dry_run=True)
    prepare.prepare("faces", tmp_path / "data", **options)
    assert "test: 1 kept, 1 left out (labels unreadable: 1)" in capsys.readouterr().err


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


def test_limit_and_the_report(tmp_path):
    source = tmp_path / "photographs"
    write_photographs(source, 6)
    table = tmp_path / "table.csv"
    rows = [f"day{i % 2}/{i}.{('png', 'jpg')[i // 2 % 2]},{i},{i / 10 - 0.2},0.5" for i in range(6)]
    table.write_text("\n".join(["image,emotion,valence,arousal", *rows]))
    options = dict(source=str(source), manifest=str(table))
    (folder,) = prepare.prepare("faces/mine", tmp_path / "data", limit=5, **options)
    assert folder == epath.Path(tmp_path / "data/faces/mine/1.2.0")
    assert split_sizes(folder) == {"train": 5}
    said = json.loads((folder / "prepare_report.json").read_text())
    train = said["splits"]["train"]
    assert train["examples"] == sum(train["emotions"].values()) == 5
    assert sum(sum(bins) for bins in train["intensity"].values()) == 5
    marks = {"has_landmarks_68": 5, "has_landmarks_105": 5}
    assert train["labels"] == marks | {"has_va": 5, "has_emotion": 5}
    page = (folder / "prepare_report.html").read_text()
    assert page.count("<figure>") == 5
    assert page.count("data:image/png") == 2
    with pytest.raises(ValueError, match="was made with --limit=5, not 0; remove it"):
        prepare.prepare("faces/mine", tmp_path / "data", **options)


MANIFEST = """\ufeffimage,split,emotion,valence,arousal,subject,level,landmarks_68,pixel_aspect,id
a.png,train,happy,0.5,0.1,anna,2,,,
b.png,test,4,,,bert,,,1.5,second
c.png,,,,,,,,,
d.png,train,9,,,,,,,
e.png,train,,0.5,,,,,,
f.png,train,,2,0,,,,,
g.png,train,,,,,,1;2;3,,
h.png,valid,,,,,,,,
,train,,,,,,,,
"stray,train
k.png,train,,x,0,,,,,
"""


def test_rows_of_a_manifest(tmp_path):
    table = epath.Path(tmp_path / "table.csv")
    table.write_text(MANIFEST)
    found = manifest.catalogue(table, epath.Path("/photographs"), 0.0)
    first, third, fifth = found.splits["train"]
    assert (first.key, first.image) == ("a.png", "/photographs/a.png")
    assert first.labels == dict(emotion=1, valence=0.5, arousal=0.1, level=2, subject=0)
    assert third.labels == fifth.labels == {}  # one of valence and arousal alone says nothing
    (second,) = found.splits["test"]
    assert (second.key, second.labels, second.pixel_aspect) == (
        "second",
        dict(emotion=4, subject=1),
        1.5,
    )
    assert [
        (reason, detail.split(", line ")[1][:2].rstrip(":"))
        for reason, detail in found.rejects["train"]
    ] == [
        *(("labels unreadable", str(line)) for line in (5, 7, 8)),
        *(("row unreadable", str(line)) for line in (9, 10, 11)),
        ("labels unreadable", "12"),
    ]


def test_manifest_as_jsonl(tmp_path):
    table = epath.Path(tmp_path / "table.jsonl")
    lines = [
        {"image": "a.png", "landmarks_68": face_68().tolist(), "landmarks_203": "a.203.npy"},
        {"image": "b.png", "landmarks": "points/b.npy", "subject": 7},
    ]
    table.write_text("".join(json.dumps(line) + "\n" for line in lines) + "{broken\n[1]\n")
    found = manifest.catalogue(table, epath.Path("/p"), 0.0)
    first, second = found.splits["train"]
    np.testing.assert_allclose(first.marks, face_68())
    assert (first.points_203, second.points) == ("/p/a.203.npy", "/p/points/b.npy")
    assert [reason for reason, _ in found.rejects["train"]] == ["row unreadable"] * 2


def test_subjects_stay_in_one_split(tmp_path):
    table = epath.Path(tmp_path / "table.jsonl")
    rows = [{"image": f"{i}.png", "subject": f"s{i % 20}"} for i in range(200)]
    table.write_text("\n".join(json.dumps(row) for row in rows))
    found = manifest.catalogue(table, epath.Path("/p"), 0.3)
    train, test = ({item.labels["subject"] for item in found.splits[s]} for s in manifest.SPLITS)
    assert train and test
    assert not train & test


@pytest.mark.parametrize(
    ("name", "content", "line"),
    [
        ("a.csv", "path,emotion\n", "names no column `image`"),
        ("a.csv", "image,colour\n", "unknown column 'colour'; known: image, id"),
        ("a.jsonl", '{"image": "a", "colour": 1}\n', "line 1: unknown column 'colour'"),
        ("a.txt", "", r"a manifest is a .csv or a .jsonl file"),
    ],
)
def test_manifests_that_are_none(tmp_path, name, content, line):
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=line):
        manifest.catalogue(epath.Path(tmp_path / name), epath.Path("/p"), 0.0)


def test_dense_landmarks_come_from_files_only(tmp_path):
    path = write_photograph(epath.Path(tmp_path), "a.png")
    dense = np.random.default_rng(0).uniform(40, 60, (203, 2))
    np.save(tmp_path / "a.203.npy", dense)
    made = record_of(path, size=256, scale=2.0)
    np.testing.assert_allclose(made["landmarks_203"], dense - [22, 7], atol=0.6)
    np.save(tmp_path / "a.203.npy", dense[:5])
    with pytest.raises(photographs.Rejected, match=r"a.203.npy: expected numbers \[203, 2\]"):
        record_of(path, size=256, scale=2.0)
