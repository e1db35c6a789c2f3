"""Shards that are missing, damaged, cut short or hold pictures that do not decode."""

import json
import shutil

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from data_pipelines.reading import mixture, sources
from fields_jax.batch import validate_batch
from tests.support.broken import chosen, drawn, fields, outcomes
from tests.support.dot_sets import assert_same, make_config, take


@pytest.fixture
def damaged(root, tmp_path):
    """A copy of one set, for tests to break."""
    shutil.copytree(root / "dots" / "c", tmp_path / "dots" / "c")
    return make_config(tmp_path, "dots/c=1"), tmp_path / "dots" / "c" / "1.0.0"


def the_shard(folder, split="train"):
    return next(folder.glob(f"*{split}.tfrecord*"))


def rewrite(shard, serialized):
    with tf.io.TFRecordWriter(str(shard)) as writer:
        for each in serialized:
            writer.write(each)


def spoil(folder, rows):
    """Puts garbage in the place of some pictures of train; returns the ids of these examples."""
    shard = the_shard(folder)
    examples = [
        tf.train.Example.FromString(each)
        for each in tf.data.TFRecordDataset(str(shard)).as_numpy_iterator()
    ]
    for row in rows:
        examples[row].features.feature["image"].bytes_list.value[0] = b"\xff\xd8\xff garbage"
    rewrite(shard, [example.SerializeToString() for example in examples])
    return {examples[r].features.feature["id"].bytes_list.value[0].decode() for r in rows}


def test_missing_shard_is_named(damaged):
    config, folder = damaged
    shard = the_shard(folder)
    shard.unlink()
    with pytest.raises(
        sources.DataError, match=f"{shard.name}: shard is missing; remove .*c/1.0.0"
    ):
        take(config, 1)


@pytest.mark.parametrize("cache_examples", [100, 0])
def test_damaged_shard_is_named(damaged, cache_examples):
    config, folder = damaged
    config.cache_examples = cache_examples
    shard = the_shard(folder)
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    with pytest.raises(
        sources.DataError, match=f"{shard.name}: damaged after [0-4] records"
    ) as caught:
        take(config, 3)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("place", "line"), [(6, "ends within a record"), (14, "damaged at byte")])
def test_damage_that_a_balanced_set_walks_over_is_named(damaged, place, line):
    """Of the length, which would ask for a petabyte, and of the content."""
    config, folder = damaged
    config.balanced = "dots/c"
    shard = the_shard(folder)
    content = bytearray(shard.read_bytes())
    content[place] ^= 0x84
    shard.write_bytes(content)
    with pytest.raises(sources.DataError, match=f"{shard.name}: {line}.*remove"):
        take(config, 1)


def test_truncated_set_is_noticed(damaged):
    config, folder = damaged
    kept = list(tf.data.TFRecordDataset(str(the_shard(folder))).as_numpy_iterator())[:3]
    rewrite(the_shard(folder), kept)
    with pytest.raises(sources.DataError, match="3 of 5 records"):
        take(config, 1)


def test_picture_that_does_not_decode_is_named(damaged):
    config, folder = damaged
    shard = the_shard(folder, "test")
    kept = list(tf.data.TFRecordDataset(str(shard)).as_numpy_iterator())
    example = tf.train.Example.FromString(kept[1])
    example.features.feature["image"].bytes_list.value[0] = b"\xff\xd8\xff garbage"
    name = example.features.feature["id"].bytes_list.value[0].decode()
    rewrite(shard, [kept[0], example.SerializeToString(), *kept[2:]])
    line = f"{shard.name}: a picture of example '{name}' does not decode; remove"
    with pytest.raises(sources.DataError, match=line):
        list(mixture.evaluation_batches(config, "dots/c", image_size=16, batch_size=2))


@pytest.mark.parametrize("cache_examples", [100, 0])
def test_unreadable_examples_are_replaced_counted_and_named(damaged, monkeypatch, cache_examples):
    config, folder = damaged
    config.update(max_bad_share=0.3, cache_examples=cache_examples)
    clean = take(config, 4, batch_size=5)
    said = []
    monkeypatch.setattr(mixture.logging, "warning", lambda text, *v: said.append(text % v))
    (bad,) = spoil(folder, [2])
    batches = take(config, 4, batch_size=5)
    for batch, other in zip(batches, clean, strict=True):
        validate_batch(batch, 32)
        assert bad not in batch["id"]
        good = other["id"] != bad
        for key in batch:
            np.testing.assert_array_equal(batch[key][good], other[key][good], err_msg=key)
    assert sum("cannot be read, number 1" in line and repr(bad) in line for line in said) == 1
    for one, other in zip(batches[2:], take(config, 2, batch_size=5, start_step=2), strict=True):
        assert_same(one, other)


def test_what_stands_for_an_unreadable_example_is_the_same_in_every_process(damaged):
    """Also where it is alone in its process's part of a batch."""
    config, folder = damaged
    config.update(max_bad_share=0.5)
    bad = spoil(folder, [0, 3])
    whole = take(config, 3, batch_size=4)
    assert not bad & {name for batch in whole for name in batch["id"]}
    for count in (2, 4):
        parts = [
            take(config, 3, batch_size=4, process=mixture.Process(index, count))
            for index in range(count)
        ]
        for batch, *slices in zip(whole, *parts, strict=True):
            joined = {key: np.concatenate([part[key] for part in slices]) for key in batch}
            for key in batch:
                np.testing.assert_array_equal(batch[key], joined[key], err_msg=key)


def test_records_that_do_not_parse_are_counted_one_by_one(damaged):
    config, folder = damaged
    config.update(max_bad_share=0.3)
    shard = the_shard(folder)
    kept = list(tf.data.TFRecordDataset(str(shard)).as_numpy_iterator())
    rewrite(shard, [b"\x00 nothing", b"\x00 no more", *kept[2:]])
    with pytest.raises(sources.DataError, match=r"2 of 5 examples cannot be read.*'record "):
        take(config, 3, batch_size=5)


def test_too_many_unreadable_examples_stop(damaged):
    config, folder = damaged
    config.max_bad_share = 0.3
    spoil(folder, [1, 3])
    with pytest.raises(sources.DataError, match="2 of 5 examples cannot be read, more than data"):
        take(config, 4, batch_size=5)


def test_set_of_another_schema_is_refused(tmp_path):
    features = tfds.features.FeaturesDict({"x": np.int64})
    tfds.dataset_builders.store_as_tfds_dataset(
        "other", "1.0.0", features, {"train": [(0, {"x": 1})]}, data_dir=tmp_path
    )
    with pytest.raises(sources.DataError, match="has other features than this version reads"):
        take(make_config(tmp_path, "other=1"), 1)


def test_descriptions_are_read_or_refused_by_name(damaged):
    config, folder = damaged
    for name in ("dataset_info.json", "features.json"):
        file = folder / name
        content = file.read_bytes()

        def read():
            sources.open_source(config.root, "dots/c", "train")
            sources.splits(config.root, "dots/c")
            mixture.fingerprint(config)

        contents = [*chosen(content), *drawn(content), *fields(json.loads(content))]
        found = outcomes(file, contents, read, named=str(folder))
        assert found["read"] and found["refused"] > 30, found
        file.unlink()
        with pytest.raises(sources.DataError, match="dots/c"):
            mixture.fingerprint(config)
        file.write_bytes(content)
