"""Manifests: rows, labels and splits of the builder of faces."""

import json

import numpy as np
import pytest
from etils import epath

from data_pipelines import prepare
from data_pipelines.affectnet import affectnet_dataset_builder as affectnet
from data_pipelines.faces import faces_dataset_builder as faces
from data_pipelines.faces import manifest
from tests.support import raw_sets
from tests.support.photograph_sets import write_photographs
from tests.support.raw_sets import face_68

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


def test_no_photograph_is_in_two_splits_or_twice_in_one(tmp_path):
    """Some have several faces, which the points tell apart."""
    marks = ";".join(f"{value:.1f}" for value in face_68().ravel())
    other = ";".join(f"{value:.1f}" for value in face_68().ravel() + 5)
    rows = [
        ("a.png", "one", "train", "", ""),  # the photograph is in test
        ("./a.png", "two", "test", "", ""),
        ("b.png", "same", "train", "", ""),  # the id is in test
        ("c.png", "same", "test", "", ""),
        ("d.png", "left", "train", "", marks),
        ("d.png", "right", "train", "", other),
        ("d.png", "third", "train", "d3.npy", ""),
        ("e.png", "first", "train", "", ""),
        ("e.png", "second", "train", "", ""),  # or the one before
        ("f.png", "child", "train", "f1.npy", ""),  # another face of a photograph in test
        ("f.png", "mother", "test", "f2.npy", ""),
    ]
    table = tmp_path / "table.csv"
    text = [("image", "id", "split", "landmarks", "landmarks_68"), *rows]
    table.write_text("\n".join(map(",".join, text)))
    builder = faces.Builder(data_dir=tmp_path, manifest=str(table))
    found = builder._found(epath.Path(tmp_path))
    kept = {split: {item.key for item in items} for split, items in found.splits.items()}
    twice = {"first", "second"} - kept["train"]
    assert len(twice) == 1
    assert kept["test"] == {"two", "same", "mother"}
    assert kept["train"] == {"left", "right", "third", "first", "second"} - twice
    rejects = {detail.split(":")[0]: reason for reason, detail in found.rejects["train"]}
    moved = dict.fromkeys(("one", "same", "child"), "in another split")
    assert rejects == {**moved, **dict.fromkeys(twice, "named twice")}


def test_a_row_of_both_tables_of_affectnet_stays_in_the_validation_set(tmp_path):
    source = raw_sets.affectnet_full(tmp_path / "raw")
    table = source / "Manually_Annotated/validation.csv"
    (row,) = (
        line
        for line in (table.parent / "training.csv").read_text().splitlines()
        if line.startswith("1/neutral.jpg")
    )
    table.write_text(table.read_text() + row + "\n")
    found = affectnet.Builder(config="full", data_dir=tmp_path)._found(epath.Path(source))
    assert "1/neutral.jpg" in {item.key for item in found.splits["test"]}
    assert "1/neutral.jpg" not in {item.key for item in found.splits["train"]}
    assert "in another split" in {reason for reason, _ in found.rejects["train"]}


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


def test_a_subjects_photographs_go_where_one_of_them_is_said_to_be(tmp_path):
    table = epath.Path(tmp_path / "table.csv")
    table.write_text(
        "image,subject,split\na,s,\nb,s,test\nc,t,\nd,s,train\ne,-1,train\nf,-1,test\n"
    )
    found = manifest.catalogue(table, epath.Path("/p"), 0.0)
    assert [item.key for item in found.splits["test"]] == ["a", "b", "f"]
    assert [item.key for item in found.splits["train"]] == ["c", "e"]
    ((reason, detail),) = found.rejects["train"]
    assert reason == "row unreadable" and "line 5: subject 's' is in test by another row" in detail


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


def test_share_of_the_test_split():
    names = [f"{i}.jpg" for i in range(4000)]
    assert np.mean([manifest.in_test(name, 0.2) for name in names]) == pytest.approx(0.2, abs=0.02)
    assert not any(manifest.in_test(name, 0.0) for name in names)
    assert all(manifest.in_test(name, 1.0) for name in names)


def test_what_a_split_without_photographs_leaves_out_is_counted(tmp_path, capsys):
    write_photographs(tmp_path, 1)
    table = tmp_path / "table.csv"
    table.write_text("image,split,emotion\nday0/0.png,test,1\nday0/0.png,train,99\n")
    options = dict(source=str(tmp_path), manifest=str(table), dry_run=True)
    prepare.prepare("faces", tmp_path / "data", **options)
    assert "test: 1 kept, 1 left out (labels unreadable: 1)" in capsys.readouterr().err
