"""Examples that cannot be read while training are replaced, counted and named."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
from absl import logging

from data_pipelines.reading.sources import DataError, Source, damage

_REMEMBERED = 256  # examples that stand for bad ones and are kept: making one takes a second
_NEAR = 64  # records at the beginning of a shard, of which one stands for a bad one
BAD = "bad"  # key of a batch of `tolerant` examples: [B] bool

_ID = {"id": tf.io.FixedLenFeature([], tf.string, "")}


def tolerant(example: Callable[..., dict[str, tf.Tensor]]) -> Callable[..., dict[str, tf.Tensor]]:
    """Makes a function that marks an example as bad, and fills it with zeros, instead of failing.

    Args:
      example: makes an example from (source, draw, serialized).
    """

    @tf.autograph.experimental.do_not_convert
    def marked(*drawn: tf.Tensor) -> dict[str, tf.Tensor]:
        return {**example(*drawn), BAD: tf.constant(False)}

    @tf.autograph.experimental.do_not_convert
    def made(source: tf.Tensor, draw: tf.Tensor, serialized: tf.Tensor) -> dict[str, tf.Tensor]:
        tried = tf.data.Dataset.from_tensors((source, draw, serialized)).map(marked)
        zeros = {
            key: tf.zeros([int(size) for size in each.shape], each.dtype)
            for key, each in tried.element_spec.items()
            if each.dtype != tf.string
        }
        parsed = tf.data.Dataset.from_tensors(serialized)
        parsed = parsed.map(lambda text: tf.io.parse_single_example(text, _ID)["id"])
        digest = tf.strings.to_hash_bucket_fast(serialized, 2**62)
        unnamed = tf.data.Dataset.from_tensors(tf.strings.format("record {}", digest))
        name = parsed.ignore_errors().concatenate(unnamed).take(1).get_single_element()
        bad = zeros | {"id": name, BAD: tf.constant(True), "source": tf.cast(source, tf.int32)}
        instead = tf.data.Dataset.from_tensors(bad)
        return tried.ignore_errors().concatenate(instead).take(1).get_single_element()

    return made


class BadExamples:
    """The bad examples that a run has met so far; for each stands a good one of its source.

    Which one depends on the bad example alone, so that every process has it, whatever its slice of
    a batch, and a run that goes on has it again.
    """

    def __init__(
        self, sources: list[Source], max_share: float, example: Callable[..., dict[str, tf.Tensor]]
    ):
        """Starts without any.

        Args:
          sources: of the mixture, in order.
          max_share: fraction of a source that may be bad.
          example: of `tolerant`.
        """
        self._sources, self._max_share, self._example = sources, max_share, example
        self._ids: list[set[str]] = [set() for _ in sources]
        self._found: dict[tuple[int, str], dict[str, Any]] = {}

    def replaced(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Counts the bad examples of a batch and puts good ones in their place.

        Args:
          batch: of `tolerant` examples; its mark is taken out.

        Raises:
          DataError: a source has too many bad examples, or no good one.
        """
        bad = batch.pop(BAD)
        if not bad.any():
            return batch
        row, parts = np.arange(len(bad)), [batch]
        for place in np.flatnonzero(bad):
            number, name = int(batch["source"][place]), str(batch["id"][place])
            self._count(number, name)
            row[place] = len(bad) + len(parts) - 1
            if (number, name) not in self._found:
                if len(self._found) >= _REMEMBERED:
                    self._found.clear()
                self._found[number, name] = self._instead(number, name)
            parts.append(self._found[number, name])
        return {key: np.concatenate([part[key] for part in parts])[row] for key in batch}

    def _instead(self, number: int, name: str) -> dict[str, Any]:
        """A batch of one good example, from a shard and a place in it that the name tells."""
        source = self._sources[number]
        drawn = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")
        first, skipped = drawn % len(source.shards), drawn // len(source.shards) % _NEAR
        shards = [*source.shards[first:], *source.shards[:first]]
        records = tf.data.TFRecordDataset(shards[:1]).skip(skipped)
        records = records.concatenate(tf.data.TFRecordDataset([*shards[1:], shards[0]]))

        @tf.autograph.experimental.do_not_convert
        def made(serialized: tf.Tensor) -> dict[str, tf.Tensor]:
            return self._example(tf.constant(number), tf.zeros([], tf.int64), serialized)

        good = records.map(made).filter(lambda each: ~each[BAD]).take(1).batch(1)
        try:
            for found in good.as_numpy_iterator():
                del found[BAD]
                return {**found, "id": np.array([each.decode() for each in found["id"]], np.str_)}
        except tf.errors.OpError as error:  # of the records themselves
            raise damage([source], error) from error
        raise DataError(f"{source.folder}: not one example can be read; {source.remedy}")

    def _count(self, number: int, name: str) -> None:
        source, ids = self._sources[number], self._ids[number]
        if name not in ids:
            ids.add(name)
            logging.warning("%s: example %r cannot be read, number %d", source.name, name, len(ids))
        if len(ids) > self._max_share * source.size:
            raise DataError(
                f"{source.folder}: {len(ids)} of {source.size} examples cannot be read, more than "
                f"data.max_bad_share allows; the last is {name!r}; {source.remedy}"
            )
