"""Draws that give every emotion equally often, from sets of any size.

Records are found by their place in the shards, so that a rare class can be drawn as often as a
frequent one without reading what lies between.
"""

from __future__ import annotations

import os
import struct
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from etils import epath
from google.protobuf.message import DecodeError

from data_pipelines.reading.sources import FOREVER, DataError, Source

_HEADER, _FOOTER = 12, 4  # bytes about a record: its length and a checksum; a checksum


class LabelledRecords(NamedTuple):
    """Where the records with an emotion lie in the shards of a split.

    Attributes:
      shard: [N] number of the shard.
      offset: [N] first byte of the content in its shard.
      length: [N] bytes of the content.
      emotion: [N] class.
    """

    shard: np.ndarray
    offset: np.ndarray
    length: np.ndarray
    emotion: np.ndarray


def find_labelled(source: Source) -> LabelledRecords:
    """Finds the labelled records by walking through all shards of a split once.

    Raises:
      DataError: a shard ends early or is damaged, or no record has a class.
    """
    rows = []
    for number, shard in enumerate(source.shards):
        with epath.Path(shard).open("rb") as file:
            file.seek(0, os.SEEK_END)
            offset, end = 0, file.tell()
            file.seek(0)
            while header := file.read(_HEADER):
                length = struct.unpack("<Q", header[:8])[0] if len(header) == _HEADER else 0
                if not 0 < length <= end - offset - _HEADER:  # before memory is asked for
                    raise DataError(f"{shard}: ends within a record; {source.remedy}")
                content = file.read(length)
                file.read(_FOOTER)
                try:
                    emotion = _emotion(content)
                except DecodeError as error:
                    raise DataError(
                        f"{shard}: damaged at byte {offset}; {source.remedy}"
                    ) from error
                if emotion >= 0:
                    rows.append((number, offset + _HEADER, length, emotion))
                offset += _HEADER + length + _FOOTER
    if not rows:
        raise DataError(f"data.balanced: no record of {source.name!r} has an emotion")
    return LabelledRecords(*np.array(rows, np.int64).T)


def balanced_draws(source: Source, seed: int, index: int, *, start: int) -> tf.data.Dataset:
    """Undecoded records for ever: one of each class, in a random order, again and again.

    Each class goes through all of its records before one comes again. A function of the arguments;
    records without a class are never drawn.

    Args:
      source: what to draw from.
      seed: of the run.
      index: of the source, so that two sources never share an order.
      start: how many draws to skip.

    Raises:
      DataError: see `find_labelled`.
    """
    places = find_labelled(source)
    classes = np.unique(places.emotion)
    round_, done = divmod(start, len(classes))
    streams = [
        _in_turn(np.flatnonzero(places.emotion == emotion), _key(seed, index, int(emotion)), round_)
        for emotion in classes
    ]

    @tf.autograph.experimental.do_not_convert
    def shuffled(number: tf.Tensor, *rows: tf.Tensor) -> tf.Tensor:
        key = tf.random.fold_in(_key(seed, index, -1), number)
        return tf.random.experimental.stateless_shuffle(tf.stack(rows), key)

    numbers = tf.data.Dataset.range(round_, FOREVER)
    rows = tf.data.Dataset.zip((numbers, *streams)).map(shuffled).unbatch().skip(done)
    return rows.map(_reader(source, places), num_parallel_calls=2, deterministic=True)


def _in_turn(rows: np.ndarray, key: tf.Tensor, start: int) -> tf.data.Dataset:
    """The rows of one class for ever, each epoch in an order of its own."""
    known = tf.constant(rows, tf.int64)
    first, done = divmod(start, len(rows))

    @tf.autograph.experimental.do_not_convert
    def epoch(number: tf.Tensor) -> tf.data.Dataset:
        shuffled = tf.random.experimental.stateless_shuffle(known, tf.random.fold_in(key, number))
        skipped = tf.where(number == first, tf.cast(done, tf.int64), 0)
        return tf.data.Dataset.from_tensor_slices(shuffled).skip(skipped)

    return tf.data.Dataset.range(first, FOREVER).flat_map(epoch)


def _reader(source: Source, places: LabelledRecords):
    def read(row: np.ndarray) -> bytes:
        with epath.Path(source.shards[places.shard[row]]).open("rb") as file:
            file.seek(places.offset[row])
            return file.read(places.length[row])

    @tf.autograph.experimental.do_not_convert
    def serialized(row: tf.Tensor) -> tf.Tensor:
        return tf.ensure_shape(tf.numpy_function(read, [row], tf.string), [])

    return serialized


def _key(seed: int, index: int, kind: int) -> tf.Tensor:
    """Key of a source's shuffles of one kind: an emotion, or -1 for the order of emotions."""
    return tf.random.fold_in([tf.cast(seed, tf.int64), index], kind + 1)


def _emotion(content: bytes) -> int:
    features = tf.train.Example.FromString(content).features.feature
    labelled = features["has_emotion"].int64_list.value
    return features["emotion"].int64_list.value[0] if labelled and labelled[0] else -1
