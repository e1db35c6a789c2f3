"""Generated sets made shard by shard: of the seed alone, resumed, by many processes and by Beam."""

from __future__ import annotations

import errno
import json

import numpy as np
import pytest
import tensorflow as tf

from data_pipelines import prepare
from data_pipelines.building import shards
from data_pipelines.building.summary import Summary
from data_pipelines.synthetic import face_shards, pictures, samples
from data_pipelines.synthetic.synthetic_dataset_builder import Builder
from fields_jax.errors import UserError
from tests.support.photograph_sets import split_sizes

# 72 faces in `train`, in three shards of up to 32; small pictures.
OPTIONS = dict(size="wide", people=18, image_size=32, shard_size=32)


def stored(folder):
    """Records by id; protobuf orders their bytes differently in each process."""
    found = {}
    for path in sorted(folder.glob("*.tfrecord*")):
        for content in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            example = tf.train.Example.FromString(content)
            key = example.features.feature["id"].bytes_list.value[0].decode()
            assert key not in found
            found[key] = example
    return found


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    (folder,) = prepare.prepare("synthetic", tmp_path_factory.mktemp("whole"), **OPTIONS)
    return folder


def test_a_set_is_in_shards_with_a_report(whole):
    assert split_sizes(whole) == {"train": 72, "test": 2}
    assert len(list(whole.glob("*train*"))) == 3
    assert not list(whole.parent.glob("unfinished*"))
    report = json.loads((whole / "prepare_report.json").read_text())
    assert report["splits"]["train"]["examples"] == 72
    assert report["options"]["people"] == 18 and report["options"]["seed"] == 0
    first = [key for key in stored(whole) if int(key.split("-")[1]) < 8]
    assert len(first) == 32 and first != sorted(first)  # the faces of a subject lie apart


def test_a_killed_run_goes_on_and_other_shards_hold_the_same(whole, tmp_path, monkeypatch):
    """Killed in its second shard; then finished with the shards it has, and at another size."""
    made, make = [], pictures.records

    def dying(drawn, *rest):
        for record in make(drawn, *rest):
            if len(made) == 40:
                raise KeyboardInterrupt
            made.append(record["id"])
            yield record

    monkeypatch.setattr(pictures, "records", dying)
    with pytest.raises(KeyboardInterrupt):
        prepare.prepare("synthetic", tmp_path, **OPTIONS)
    unfinished = tmp_path / "synthetic/wide/unfinished_1.3.0"
    (note,) = unfinished.glob("*tfrecord*.json")
    before = note.with_suffix("").read_bytes()
    with pytest.raises(UserError, match=r"begun with --seed=0, not 1.*another --out"):
        prepare.prepare("synthetic", tmp_path, **OPTIONS, seed=1)
    assert note.with_suffix("").read_bytes() == before
    monkeypatch.setattr(pictures, "records", lambda drawn, *r: made.append("") or make(drawn, *r))
    made.clear()
    (folder,) = prepare.prepare("synthetic", tmp_path, **OPTIONS)
    assert len(made) == 3  # two shards of `train`, one of `test`
    assert stored(folder) == stored(whole)
    assert (folder / note.with_suffix("").name).read_bytes() == before


def test_a_full_disk_is_named_and_costs_no_finished_shard(tmp_path, monkeypatch):
    write = shards.tfds.core.ExampleWriter.write

    def full(self, path, examples):
        if "-00001-of" in path.name:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(self, path, examples)

    monkeypatch.setattr(shards.tfds.core.ExampleWriter, "write", full)
    expected = (
        r"unfinished_1.3.0 cannot be written: No space left on device; make room there or name "
        r"another --out; the same command then goes on where it was$"
    )
    with pytest.raises(UserError, match=expected):
        prepare.prepare("synthetic", tmp_path, **OPTIONS)
    finished = (tmp_path / "synthetic/wide/unfinished_1.3.0").glob("*tfrecord*.json")
    assert [note.name.split("-")[-3] for note in finished] == ["00000"]


def test_one_shard_holds_what_three_hold(whole, tmp_path):
    (folder,) = prepare.prepare("synthetic", tmp_path, **OPTIONS | {"shard_size": 96})
    assert len(list(folder.glob("*train*"))) == 1
    assert stored(folder) == stored(whole)


def test_other_seeds_hold_other_faces_and_are_not_taken_for_these(whole, tmp_path):
    root = whole.parents[2]
    with pytest.raises(UserError, match=r"was made with --seed=0, not 1; .*another --out"):
        prepare.prepare("synthetic", root, **OPTIONS, seed=1)
    with pytest.raises(UserError, match=r"was made with --people=18, not 19"):
        prepare.prepare("synthetic", root, **OPTIONS | {"people": 19})
    first, other = (
        Builder(data_dir=tmp_path, config="wide", seed=seed, **OPTIONS).splits(tmp_path)["test"][0]
        for seed in (0, 1)
    )
    assert first.digest() != other.digest()
    pairs = zip(*(shard.records(Summary()) for shard in (first, other)), strict=True)
    for (_, one), (_, two) in pairs:
        assert not np.array_equal(one["image"], two["image"])


def test_beam_makes_the_same_faces(whole, tmp_path):
    pytest.importorskip("apache_beam")
    options = OPTIONS | {"beam_runner": "direct"}
    (folder,) = prepare.prepare("synthetic", tmp_path, **options)
    assert stored(folder) == stored(whole)


@pytest.mark.slow
def test_workers_make_the_same_faces(whole, tmp_path):
    (folder,) = prepare.prepare("synthetic", tmp_path, **OPTIONS, workers=2)
    assert stored(folder) == stored(whole)
    assert {path.name for path in folder.glob("*.tfrecord*")} == {
        path.name for path in whole.glob("*.tfrecord*")
    }


def test_no_set_trains_on_whom_another_tests(tmp_path):
    """Whatever their numbers of people; a set of the default size has the numbers one by one."""
    for part, size in (samples.SIZES["demo"] | samples.SIZES["wide"]).items():
        whole, kept = size["train"].subjects, size["test"].subjects
        assert samples.numbers(part, "train", 0, whole) == [range(whole)]
        assert samples.numbers(part, "test", 0, kept) == [range(whole, whole + kept)]
        most, largest = samples.MOST_PEOPLE, samples.MOST_PEOPLE // 20
        trained = {n for run in samples.numbers(part, "train", 0, most) for n in run}
        tested = {n for run in samples.numbers(part, "test", 0, largest) for n in run}
        assert (len(trained), len(tested)) == (most, largest) and not trained & tested
        assert max(tested) < 100_000  # where the next part begins
        rows = [n for run in samples.numbers(part, "train", whole - 2, whole + 2) for n in run]
        assert rows == [whole - 2, whole - 1, whole + kept, whole + kept + 1]
    with pytest.raises(UserError, match="a seed has 80,000; make several sets"):
        Builder(data_dir=tmp_path, config="wide", people=samples.MOST_PEOPLE + 1)
    with pytest.raises(ValueError, match="shard_size 33 is no multiple of 32"):
        Builder(data_dir=tmp_path, config="wide", **OPTIONS | {"shard_size": 33})


def test_faces_come_whole_across_the_numbers_that_are_left_out():
    """A range of faces that begins within a subject before them, and ends after them."""
    whole = samples.SIZES["demo"]["levels"]["train"].subjects
    size = samples.Size(whole + 2, 3)
    faces = face_shards.Faces("levels", "train", size, 0, 32, "", "0" * 64, False)
    start, stop = 3 * whole - 2, 3 * whole + 2
    made = [record["id"] for record in faces.records(start, stop, Summary())]
    kept = samples.SIZES["demo"]["levels"]["test"].subjects
    assert [int(name.split("-")[1]) for name in made] == [whole - 1] * 2 + [whole + kept] * 2


def test_the_place_of_a_head_does_not_matter_but_its_content_does(tmp_path):
    faces = face_shards.Faces(
        "wide", "train", samples.Size(2, 4), 0, 32, "a/head.npz", "1" * 64, False
    )

    def digest(**changed):
        return face_shards.FaceShard(faces._replace(**changed), 0, 8, tmp_path / "x").digest()

    assert digest() == digest(head="b/head.npz")
    different = {digest(), digest(head_sha256="2" * 64), digest(procedural_labels=True)}
    assert len(different | {digest(seed=1), digest(image_size=48)}) == 5
