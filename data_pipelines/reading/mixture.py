"""Batches of numpy arrays from prepared sets.

Training batches are a pure function of (seed, step): a run continues at any step without other
state, and each of several processes takes its slice of the same global batches.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from absl import logging
from ml_collections import ConfigDict

from data_pipelines import heads
from data_pipelines.reading import augmentation
from data_pipelines.reading.bad_examples import BadExamples, tolerant
from data_pipelines.reading.balance import balanced_draws
from data_pipelines.reading.sources import (
    DataError,
    Source,
    damage,
    digest,
    draws,
    in_order,
    newest_version,
    open_source,
    splits,
)
from fields_jax import cpu_tuning
from fields_jax.types import FlameModel

Batch = dict[str, np.ndarray]

# There is no Python control flow for AutoGraph to convert, and its conversion takes seconds.
_as_written = tf.autograph.experimental.do_not_convert


class Process(NamedTuple):
    """One of the processes that share every batch: its number, and how many there are."""

    index: int = 0
    count: int = 1


ALONE = Process()


def training_batches(
    config_data: ConfigDict,
    *,
    image_size: int,
    batch_size: int,
    seed: int,
    start_step: int = 0,
    process: Process = ALONE,
) -> Iterator[Batch]:
    """Endless augmented training batches, as fields_jax/batch.py defines them.

    Args:
      config_data: `config.data`; its `mixture` is "NAME=SHARE,NAME=SHARE" with names of prepared
        sets below its `root`.
      image_size: pixels.
      batch_size: of the global batch; this process yields batch_size / process.count examples.
      seed: of shuffles and augmentation.
      start_step: the first batch is that of this step.
      process: which slice of every batch to yield.

    Raises:
      DataError: a set is absent, damaged (also while iterating) or gets no example of a batch.
    """
    if batch_size % process.count:
        raise DataError(f"batch_size {batch_size} does not divide by {process.count} processes")
    shares = parse_mixture(config_data.mixture)
    counts = draws_per_batch(shares, batch_size)
    sources = [open_source(config_data.root, name, "train") for name, _ in shares]
    balanced = _balanced(config_data, [name for name, _ in shares])

    def draw(index: int, start: int) -> tf.data.Dataset:
        if sources[index].name in balanced:
            return balanced_draws(sources[index], seed, index, start=start)
        return draws(
            sources[index],
            seed,
            index,
            start=start,
            cache_examples=config_data.cache_examples,
            shuffle_buffer=config_data.shuffle_buffer,
        )

    made = _Examples(config_data, image_size, seed, len(sources))
    local = batch_size // process.count
    mine = np.arange(batch_size).reshape(process.count, local)[process.index]
    threads = _threads(config_data)

    def batches_from(step: int, one_by_one: Callable[..., Any] | None = None) -> Iterator[Batch]:
        streams = [
            draw(index, step * count).enumerate(start=step * count)
            for index, count in enumerate(counts)
        ]
        drawn = _slices(streams, counts, mine)
        if one_by_one:
            examples = drawn.unbatch().map(one_by_one, num_parallel_calls=threads)
            return _as_numpy(examples.batch(local), threads)
        planned = drawn.map(made.planned, num_parallel_calls=2)
        examples = planned.unbatch().map(made.pictures, num_parallel_calls=threads)
        labelled = examples.batch(local).map(made.labelled, num_parallel_calls=2)
        return _as_numpy(labelled, threads)

    return _batches(batches_from, made.one, sources, start_step, config_data.max_bad_share)


def evaluation_batches(
    config_data: ConfigDict,
    name: str,
    split: str = "test",
    *,
    image_size: int,
    batch_size: int,
) -> Iterator[Batch]:
    """Batches of a split, once, in file order and not augmented; the last one may be smaller.

    Raises:
      DataError: the set is absent or damaged; also while iterating.
    """
    source = open_source(config_data.root, name, split)

    @_as_written
    def planned(serialized: tf.Tensor) -> augmentation.Example:
        return augmentation.evaluation_plan(
            serialized, image_size=image_size, crop_scale=config_data.eval_crop_scale
        )

    @_as_written
    def pictures(plan: augmentation.Example) -> augmentation.Example:
        return augmentation.pictures(plan, image_size, None)

    @_as_written
    def labelled(made: augmentation.Example) -> augmentation.Example:
        labels = augmentation.labelled(made, image_size)
        return {**labels, "source": tf.zeros_like(labels["subject"])}

    threads = _threads(config_data)
    examples = in_order(source).batch(batch_size).map(planned).unbatch()
    examples = examples.map(pictures, num_parallel_calls=threads)
    batches = examples.batch(batch_size).map(labelled)
    return _named(_as_numpy(batches, threads), [source])


def count_examples(config_data: ConfigDict, name: str, split: str) -> int:
    """How many examples a split holds."""
    return open_source(config_data.root, name, split).size


def split_names(config_data: ConfigDict, name: str) -> list[str]:
    """The splits of a prepared set."""
    return splits(config_data.root, name)


def is_prepared(config_data: ConfigDict, name: str) -> bool:
    """Whether there is such a set below the root."""
    return newest_version(config_data.root, name) is not None


def fingerprint(config_data: ConfigDict) -> dict[str, str]:
    """A hash of what each set of the mixture is: version, features, and sizes in every shard.

    Raises:
      DataError: a set is absent or incomplete.
    """
    names = [name for name, _ in parse_mixture(config_data.mixture)]
    return {name: digest(open_source(config_data.root, name, "train")) for name in names}


def compare_heads(
    config_data: ConfigDict,
    names: Iterable[str],
    head: FlameModel,
    *,
    learnt: bool = False,
    fits_learnt: bool = False,
) -> list[str]:
    """Warnings about prepared sets whose coefficients are of another head; see `heads.compare`."""
    folders = (newest_version(config_data.root, name) for name in names)
    return heads.compare(filter(None, folders), head, learnt=learnt, fits_learnt=fits_learnt)


def fitted_sets(config_data: ConfigDict, names: Iterable[str]) -> list[str]:
    """Folders of the prepared sets whose coefficients come from a landmark fit."""
    folders = (newest_version(config_data.root, name) for name in names)
    return [os.fspath(folder) for folder in heads.fitted(filter(None, folders))]


def parse_mixture(text: str) -> list[tuple[str, float]]:
    """(name, share) pairs of "NAME=SHARE,NAME=SHARE", in order."""
    shares: dict[str, float] = {}
    for part in text.split(","):
        name, _, number = (piece.strip() for piece in part.partition("="))
        try:
            share = float(number)
        except ValueError:
            share = 0.0
        if not name or not 0 < share < float("inf"):
            raise DataError(
                f"data.mixture: {part.strip()!r} is not NAME=SHARE with a share above 0, "
                "such as synthetic/wild2d=8"
            )
        if name in shares:
            raise DataError(f"data.mixture: {name!r} is named twice in {text!r}")
        shares[name] = share
    return list(shares.items())


def draws_per_batch(shares: list[tuple[str, float]], batch_size: int) -> list[int]:
    """floor(share / total x batch) of each source; what is left goes to the first (SMIRK's rule).

    Raises:
      DataError: a source would never be drawn.
    """
    total = sum(share for _, share in shares)
    rounding = 1e-9  # 0.1 + 0.2 + 0.3 exceeds 0.6 in floating point
    counts = [int(share / total * batch_size + rounding) for _, share in shares]
    counts[0] += batch_size - sum(counts)
    for (name, _), count in zip(shares, counts, strict=True):
        if count == 0:
            raise DataError(
                f"data.mixture: {name!r} has no place in a batch of {batch_size}; "
                "raise batch_size or its share, or take it out"
            )
    return counts


def interleave(counts: list[int]) -> np.ndarray:
    """[B] source at each position of a batch, every source spread evenly over it.

    Any run of positions, such as a device's slice, thus holds all kinds about in proportion.
    """
    source = np.repeat(np.arange(len(counts)), counts)
    place = np.concatenate([(np.arange(count) + 0.5) / count for count in counts])
    return source[np.argsort(place, kind="stable")]


class _Examples:
    """Makes training examples, in three steps: `planned` and `labelled` take a whole batch."""

    def __init__(self, config_data: ConfigDict, image_size: int, seed: int, sources: int):
        """Takes the config, pixels, the seed of the run and how many sources there are."""
        self._size, self._augment = image_size, config_data.augment
        self._crop_scale = tuple(config_data.crop_scale)
        # The key of an example is the draw's number folded into this one of its source.
        self._keys = tf.stack(
            [
                tf.random.fold_in([tf.cast(seed, tf.int64), n], tf.zeros([], tf.int64))
                for n in range(sources)
            ]
        )

    @_as_written
    def planned(
        self, source: tf.Tensor, draw: tf.Tensor, serialized: tf.Tensor
    ) -> augmentation.Example:
        """What examples [B] need: sources, numbers of the draws, records."""
        keys = tf.stack([tf.gather(self._keys[:, 0], source), draw], 1)
        plan = augmentation.training_plan(
            serialized,
            keys,
            image_size=self._size,
            crop_scale=self._crop_scale,
            augment=self._augment,
        )
        return {**plan, "source": source}

    @_as_written
    def pictures(self, planned: augmentation.Example) -> augmentation.Example:
        """One example's image and mask."""
        made = augmentation.pictures(planned, self._size, self._augment)
        return {**made, "source": planned["source"]}

    @_as_written
    def labelled(self, made: augmentation.Example) -> augmentation.Example:
        """A batch of them with all labels."""
        labels = augmentation.labelled(made, self._size, self._augment["p_flip"])
        return {**labels, "source": tf.cast(made["source"], tf.int32)}

    @_as_written
    def one(
        self, source: tf.Tensor, draw: tf.Tensor, serialized: tf.Tensor
    ) -> augmentation.Example:
        """A single example, in all steps."""
        plan = self.planned(source[None], draw[None], serialized[None])
        made = self.pictures({key: value[0] for key, value in plan.items()})
        whole = self.labelled({key: value[None] for key, value in made.items()})
        return {key: value[0] for key, value in whole.items()}


def _slices(streams: list[tf.data.Dataset], counts: list[int], mine: np.ndarray) -> tf.data.Dataset:
    """(source, draw, serialized) at the positions `mine` of one global batch after another."""
    source = interleave(counts)
    # Row of each position in the concatenation of all sources' draws of a step.
    row = np.empty(len(source), np.int64)
    row[np.argsort(source, kind="stable")] = np.arange(len(source))

    @_as_written
    def step(*drawn: tuple[tf.Tensor, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        numbers, serialized = (tf.concat(parts, 0) for parts in zip(*drawn, strict=True))
        here = row[mine]
        return tf.constant(source[mine]), tf.gather(numbers, here), tf.gather(serialized, here)

    steps = [stream.batch(count) for stream, count in zip(streams, counts, strict=True)]
    return tf.data.Dataset.zip(tuple(steps)).map(step)


def _batches(
    batches_from: Callable[..., Iterator[Batch]],
    example: Callable[..., augmentation.Example],
    sources: list[Source],
    step: int,
    max_bad_share: float,
) -> Iterator[Batch]:
    """Yields batches from a step on; replaces bad examples once the first one has been met.

    Checking for them halves the speed, so it only starts after the first one.
    """
    failure = tf.errors.OpError  # an abandoned iterator is closed after tensorflow is gone
    try:
        for batch in batches_from(step):
            yield batch
            step += 1
    except failure:
        logging.warning("An example of step %d cannot be read; looking for it.", step)
    marked = tolerant(example)
    bad_examples = BadExamples(sources, max_bad_share, marked)
    for batch in _named(batches_from(step, marked), sources):
        yield bad_examples.replaced(batch)


def _named(batches: Iterator[Batch], sources: list[Source]) -> Iterator[Batch]:
    """Passes batches on; where reading fails, the error names the damaged record."""
    failure = tf.errors.OpError
    try:
        yield from batches
    except failure as error:
        raise damage(sources, error) from error


def _as_numpy(batches: tf.data.Dataset, threads: int) -> Iterator[Batch]:
    options = tf.data.Options()
    options.deterministic = True
    options.threading.private_threadpool_size = threads
    options.threading.max_intra_op_parallelism = 1
    for batch in batches.prefetch(2).with_options(options).as_numpy_iterator():
        yield {**batch, "id": np.array([name.decode() for name in batch["id"]], np.str_)}


def _balanced(config_data: ConfigDict, names: list[str]) -> set[str]:
    """Sets of the mixture to draw by class.

    Raises:
      DataError: one is not in the mixture.
    """
    chosen = {name.strip() for name in config_data.balanced.split(",") if name.strip()}
    if unknown := sorted(chosen - set(names)):
        raise DataError(f"data.balanced: {unknown[0]!r} is not in the mixture ({', '.join(names)})")
    return chosen


def _threads(config_data: ConfigDict) -> int:
    """Half the cores unless the config says otherwise: training wants the rest."""
    return config_data.threads or max(1, cpu_tuning.cores() // 2)
