"""Examples that cannot be read while training are replaced, counted and named."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
from absl import logging

from data_pipelines.reading.sources import DataError, Source

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
        unnamed = tf.data.Dataset.from_tensors(tf.constant(""))
        name = parsed.ignore_errors().concatenate(unnamed).take(1).get_single_element()
        bad = zeros | {"id": name, BAD: tf.constant(True), "source": tf.cast(source, tf.int32)}
        instead = tf.data.Dataset.from_tensors(bad)
        return tried.ignore_errors().concatenate(instead).take(1).get_single_element()

    return made


class BadExamples:
    """The bad examples that a run has met so far; each is replaced by a good one of its source."""

    def __init__(self, sources: list[Source], max_share: float):
        """Takes the sources in order and the fraction of a source that may be bad."""
        self._sources, self._max_share = sources, max_share
        self._ids: list[set[str]] = [set() for _ in sources]

    def replaced(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Counts the bad examples of a batch and puts good ones of the same batch in their place.

        Args:
          batch: of `tolerant` examples; its mark is taken out.

        Raises:
          DataError: a source has too many bad examples, or no good one in this batch.
        """
        bad = batch.pop(BAD)
        row = np.arange(len(bad))
        for place in np.flatnonzero(bad):
            number = batch["source"][place]
            self._count(number, str(batch["id"][place]))
            good = np.flatnonzero(~bad & (batch["source"] == number))
            if not len(good):
                source = self._sources[number]
                raise DataError(f"{source.folder}: a whole batch is unreadable; {source.remedy}")
            row[place] = good[np.searchsorted(good, place) % len(good)]
        return {key: value[row] for key, value in batch.items()} if bad.any() else batch

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
