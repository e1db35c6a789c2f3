"""Prepared sets on disk: finding them, drawing records from them, naming what is damaged in them.

Records stay undecoded here, so that going to a step far ahead costs no image decoding.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from typing import NamedTuple

import tensorflow as tf
import tensorflow_datasets as tfds
from absl import logging
from etils import epath

from data_pipelines import records
from fields_jax import batch
from fields_jax.data_sets import remedy
from fields_jax.errors import UserError, first_line
from fields_jax.files import read_bytes

_OPEN_SHARDS = 16  # read at once when a set is streamed
FOREVER = 2**62

_PICTURES = ("image", "face_mask", "face_box")


class DataError(UserError):
    """Prepared data are absent, damaged or not what the config asks for; one line with a remedy."""


class Source(NamedTuple):
    """One split of one prepared set."""

    name: str
    folder: epath.Path
    shards: list[str]  # paths, in order
    size: int  # examples
    remedy: str  # how to make the set again


def newest_version(root: epath.PathLike, name: str) -> epath.Path | None:
    """Folder of the newest version of a prepared set, if there is any."""
    folder = epath.Path(root) / name
    described = folder.glob("*/dataset_info.json") if folder.exists() else []
    # An interrupted preparation leaves a folder with another kind of name.
    versions = [p.parent for p in described if tfds.core.Version.is_valid(p.parent.name)]
    return max(versions, key=lambda path: tfds.core.Version(path.name), default=None)


def open_source(root: epath.PathLike, name: str, split: str) -> Source:
    """Finds a split and checks that all of it is there.

    Args:
      root: folder of the prepared sets (TFDS's `data_dir`).
      name: directory below root without the version, "faces" or "synthetic/wild2d"; the newest
        version is taken.
      split: "train" or "test".

    Raises:
      DataError: no such set, split or shard, or a set of another schema.
    """
    folder, described, again = _describe(root, name)
    if split not in described:
        raise DataError(f"{name!r} has no split {split!r}; it has {', '.join(described)}")
    shards, size = described[split]
    there = {path.name for path in folder.iterdir()}
    if missing := [path for path in shards if path.name not in there]:
        raise DataError(f"{missing[0]}: shard is missing; {again}")
    if size < 1:
        raise DataError(f"{folder}: split {split!r} is empty; {again}")
    return Source(name, folder, [os.fspath(path) for path in shards], size, again)


def splits(root: epath.PathLike, name: str) -> list[str]:
    """Names of the splits of a prepared set.

    Raises:
      DataError: no such set, or an unreadable one.
    """
    return list(_describe(root, name)[1])


def in_order(source: Source) -> tf.data.Dataset:
    """Undecoded records once, in file order."""
    return tf.data.TFRecordDataset(source.shards)


def draws(
    source: Source, seed: int, index: int, *, start: int, cache_examples: int, shuffle_buffer: int
) -> tf.data.Dataset:
    """Undecoded records for ever, each epoch in an order of its own; a function of seed and index.

    Args:
      source: what to draw from.
      seed: of the run.
      index: of the source, so that two sources never share an order.
      start: how many draws to skip.
      cache_examples: a set of at most this many examples is kept in memory and shuffled as a
        whole; a larger one is streamed through a shuffle buffer.
      shuffle_buffer: examples in that buffer.

    Raises:
      DataError: a set to be kept in memory is damaged.
    """
    if source.size <= cache_examples:
        once = _shuffled_in_memory(tf.constant(_read(source)))
    else:
        once = _shuffled_stream(tf.constant(source.shards), shuffle_buffer)
    first, done = divmod(start, source.size)

    @tf.autograph.experimental.do_not_convert
    def epoch(number: tf.Tensor) -> tf.data.Dataset:
        key = tf.random.fold_in([seed, index], number)
        return once(key).skip(tf.where(number == first, tf.cast(done, tf.int64), 0))

    return tf.data.Dataset.range(first, FOREVER).flat_map(epoch)


def parse_pictures(serialized: tf.Tensor) -> dict[str, tf.Tensor]:
    """Encoded pictures and face boxes of records [B]."""
    return _parsed(serialized, _PICTURES)


def parse_labels(serialized: tf.Tensor) -> dict[str, tf.Tensor]:
    """Everything else of records [B], landmarks in pixels of the stored picture."""
    others = (*_PICTURES, "source")
    return _parsed(serialized, [key for key in batch.EXAMPLE_SPEC if key not in others])


def damage(sources: list[Source], error: Exception) -> DataError:
    """Finds the record or shard that made reading fail, by reading everything once more."""
    logging.info("Reading failed; looking for the damaged record.")
    for source in sources:
        for shard in source.shards:
            good = 0
            try:
                for serialized in tf.data.TFRecordDataset(shard):
                    if fault := _fault(serialized):
                        return DataError(f"{shard}: {fault}; {source.remedy}")
                    good += 1
            except tf.errors.OpError:
                return DataError(f"{shard}: damaged after {good} records; {source.remedy}")
    names = ", ".join(source.name for source in sources)
    return DataError(f"reading {names} failed once and not again: {first_line(error)}; retry")


def digest(source: Source) -> str:
    """A hash of a set's version, features, and sizes in every shard.

    Raises:
      DataError: its description cannot be read.
    """
    try:
        parts = [source.folder / f"{part}.json" for part in ("dataset_info", "features")]
        return hashlib.sha256(b"".join(read_bytes(part) for part in parts)).hexdigest()
    except UserError as error:
        raise DataError(f"{error}; {source.remedy}") from error


def _describe(
    root: epath.PathLike, name: str
) -> tuple[epath.Path, dict[str, tuple[list[epath.Path], int]], str]:
    """Folder of a prepared set, shards and examples of each split, and how to make it again."""
    make = remedy(name, root)
    folder = newest_version(root, name)
    if folder is None:
        raise DataError(f"no prepared set {name!r} in {epath.Path(root) / name}; {make}")
    again = f"remove {folder} and {make}"
    try:
        info = tfds.builder_from_directory(folder).info
        wanted = set(records.features())
        same = wanted - set(batch.OPTIONAL) <= set(info.features) <= wanted
        described = {
            split: (list(part.filepaths), int(part.num_examples))
            for split, part in info.splits.items()
        }
    except Exception as error:  # the reader raises anything at a damaged description
        raise DataError(
            f"{folder}: unreadable description ({first_line(error)}); {again}"
        ) from error
    if not same:
        raise DataError(f"{folder}: has other features than this version reads; {again}")
    return folder, described, again


def _parsed(serialized: tf.Tensor, keys: Iterable[str]) -> dict[str, tf.Tensor]:
    """Fields of many records at once: one by one takes twenty times as long."""
    stored = records.features().get_serialized_info()
    types = {key: stored[key].tf_dtype for key in keys}
    shards_have = (tf.string, tf.float32, tf.int64)
    wanted = {
        key: tf.io.FixedLenFeature(
            stored[key].shape, kind if kind in shards_have else tf.int64, _default(key)
        )
        for key, kind in types.items()
    }
    found = tf.io.parse_example(serialized, wanted)
    return {key: tf.cast(v, types[key]) if v.dtype == tf.int64 else v for key, v in found.items()}


def _default(key: str) -> float | None:
    """What stands for a field that a set made before there was such a label lacks."""
    return float(batch.ABSENT.get(key, 0)) if key in batch.OPTIONAL else None


def _fault(serialized: tf.Tensor) -> str | None:
    """Why a record cannot be decoded, with the record's id; None if it can."""
    known = records.features()
    always = tfds.features.FeaturesDict(
        {key: known[key] for key in known if key not in batch.OPTIONAL}
    )
    try:
        _parsed(serialized[None], batch.OPTIONAL)
        always.deserialize_example(serialized)
    except tf.errors.OpError:
        skip = {key: tfds.decode.SkipDecoding() for key in ("image", "face_mask")}
        try:
            record = always.deserialize_example(serialized, decoders=skip)
        except tf.errors.OpError:
            return "a record does not parse"
        return f"a picture of example {record['id'].numpy().decode()!r} does not decode"
    return None


def _read(source: Source) -> list[bytes]:
    """Every record, in file order."""
    try:
        found = list(in_order(source).as_numpy_iterator())
    except tf.errors.OpError as error:
        raise damage([source], error) from error
    if len(found) != source.size:
        raise DataError(f"{source.folder}: {len(found)} of {source.size} records; {source.remedy}")
    return found


def _shuffled_in_memory(serialized: tf.Tensor):
    def once(key: tf.Tensor) -> tf.data.Dataset:
        order = tf.random.experimental.stateless_shuffle(tf.range(len(serialized)), key)
        return tf.data.Dataset.from_tensor_slices(order).map(lambda row: serialized[row])

    return once


def _shuffled_stream(shards: tf.Tensor, shuffle_buffer: int):
    def once(key: tf.Tensor) -> tf.data.Dataset:
        order = tf.random.experimental.stateless_shuffle(shards, key)
        seed = tf.random.stateless_uniform([], key, None, None, tf.int64)
        return (
            tf.data.Dataset.from_tensor_slices(order)
            .interleave(
                tf.data.TFRecordDataset,
                cycle_length=_OPEN_SHARDS,
                num_parallel_calls=tf.data.AUTOTUNE,
                deterministic=True,
            )
            .shuffle(shuffle_buffer, seed=seed, reshuffle_each_iteration=False)
        )

    return once
