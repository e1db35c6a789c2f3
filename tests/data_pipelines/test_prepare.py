"""The command that makes all sets: mistakes, resuming, dry runs and reports."""

import errno
import json
import re
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from absl import logging
from etils import epath
from ml_collections import ConfigDict

from data_pipelines import prepare
from data_pipelines.building import photographs, report
from data_pipelines.building.photo_shards import PhotographShard
from data_pipelines.reading import mixture
from fields_jax import data_sets as sets
from fields_jax.errors import UserError
from fields_jax.photos import kinds
from tests.support.photograph_sets import split_sizes, write_photograph, write_photographs
from tests.support.raw_sets import face_68


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
        (["synthetic", "--out=x", "--workers=0"], "--workers=0: at least one process makes a set"),
        (["synthetic", "--out=x", "--people=0"], "--people=0: a set has at least one person"),
        (["synthetic", "--out=x", "--head=absent.npz"], "head file absent.npz does not exist"),
        (
            ["faces", "--out=x", "--source=.", "--seed=1"],
            "--seed is not for faces; it is for synth",
        ),
        (
            ["synthetic", "--out=x", "--workers=3", "--beam_runner=direct"],
            "--workers are processes without Beam; .*direct_num_workers=3",
        ),
        (
            ["faces", "--out=x", "--source=.", "--dry_run=1", "--beam_runner=direct"],
            "--beam_runner is for making sets, --dry_run makes none",
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
        values[key] = type(0 if values[key] is None else values[key])(value)
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
    assert sets.remedy("synthetic/wild2d", "data") == (
        "make it with `python -m data_pipelines.prepare synthetic --out=data`"
    )
    assert "prepare faces --source=DIR --out=gs://b" in sets.remedy("faces", "gs://b")
    assert "prepare faces --source=DIR --name=raf_db --out=d" in sets.remedy("faces/raf_db", "d")
    assert "prepare affectnet/full --source=DIR" in sets.remedy("affectnet/full", "d")


def test_interrupted_preparation_finishes_what_is_missing(tmp_path, monkeypatch):
    source = tmp_path / "photographs"
    write_photographs(source, 10)
    options = dict(source=str(source), shard_size=2, threads=1)
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
    # What lies about of a shard without a note, or with a wrong one, counts for nothing.
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
    path = epath.Path(tmp_path / "train-0-of-1")
    shard = PhotographShard(items, 64, 2.0, 1, path)
    path.write_bytes(b"12345")
    note = {"items": shard.digest(), "bytes": 5, "summary": {"examples": 3}}
    (tmp_path / "train-0-of-1.json").write_text(json.dumps(note))
    shard.resume()
    assert shard.whole()
    assert len(list(shard())) == 3
    marked = photographs.Sample("0", "0.png", face_68())
    changed = PhotographShard([marked, *items[1:]], 64, 2.0, 1, path)
    assert not changed.whole()
    changed.resume()
    assert not path.exists()
    assert not shard.whole()


def test_points_found_after_an_interruption_count(tmp_path):
    """Whether the shard held the photograph, thanks to its annotation, or had rejected it."""
    path = write_photograph(tmp_path, "a.png")
    path.with_suffix(".npy").rename(tmp_path / "later.npy")
    for marks in (None, face_68(120, 90)):
        items = [photographs.Sample("a", str(tmp_path / "a.jpg"), marks)]
        shard = PhotographShard(items, 64, 2.0, 1, epath.Path(tmp_path / "train-0-of-1"))
        before = shard.digest()
        assert shard.digest() == before
        np.save(path.with_suffix(".npy"), np.load(tmp_path / "later.npy"))
        found = shard.digest()
        np.save(path.with_suffix(".npy"), np.load(tmp_path / "later.npy")[:, :2])
        assert len({before, found, shard.digest()}) == 3
        path.with_suffix(".npy").unlink()
        assert shard.digest() == before


def test_a_set_refused_for_want_of_points_is_made_once_they_are_there(tmp_path):
    source = tmp_path / "photographs"
    write_photographs(source)
    points = {file: file.read_bytes() for file in source.rglob("*.npy")}
    for file in points:
        file.unlink()
    with pytest.raises(UserError, match=r"none of its 4 .*no landmarks: 4"):
        prepare.prepare("faces", tmp_path / "data", source=str(source))
    assert not list(tmp_path.glob("data/faces/*"))
    for file, content in points.items():
        file.write_bytes(content)
    (folder,) = prepare.prepare("faces", tmp_path / "data", source=str(source))
    assert split_sizes(folder) == {"train": 4}


def test_a_report_that_met_a_full_disk_is_written_by_the_next_command(tmp_path, monkeypatch):
    source = tmp_path / "photographs"
    write_photographs(source)
    write_photograph(source, "lonely.png").with_suffix(".npy").unlink()
    options = dict(source=str(source), test_share=0.5)
    (alone,) = prepare.prepare("faces", tmp_path / "alone", **options)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(report, "write_whole", full)
        with pytest.raises(UserError, match="No space left on device; make room there"):
            prepare.prepare("faces", tmp_path / "data", **options)
    with pytest.raises(UserError, match="was made with --limit=0, not 2"):
        prepare.prepare("faces", tmp_path / "data", limit=2, **options)
    (folder,) = prepare.prepare("faces", tmp_path / "data", **options)
    for name in (report.JSON, report.REJECTS, report.HTML):
        assert (folder / name).read_text() == (alone / name).read_text()
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


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
    assert "\tc.mov: a video among pictures; the commands reconstruct and fit" in table


def test_rejects_are_named_below_the_source(tmp_path, monkeypatch):
    """However that is named; only where its name begins one."""
    write_photographs(tmp_path / "pictures")
    write_photograph(tmp_path / "pictures/my", "a.png").with_suffix(".npy").unlink()
    write_photograph(tmp_path / "pictures/pictures", "b.png").with_suffix(".npy").unlink()
    monkeypatch.chdir(tmp_path)
    for number, source in enumerate(("pictures", "./pictures/", str(tmp_path / "pictures"))):
        (folder,) = prepare.prepare("faces", tmp_path / f"data{number}", source=source)
        lines = (folder / report.REJECTS).read_text().splitlines()[1:]
        assert sorted(line.split("\t")[2] for line in lines) == ["my/a.png", "pictures/b.png"]


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
    assert page.index("<p>Licence: That of the photographs.</p>") < page.index("<figure>")
    assert page.count("<figure>") == 5
    assert page.count("data:image/png") == 2
    with pytest.raises(ValueError, match="was made with --limit=5, not 0; remove it"):
        prepare.prepare("faces/mine", tmp_path / "data", **options)
