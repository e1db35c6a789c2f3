"""Runs a compiled function over any number of examples, in batches of one size."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import jax
import numpy as np

from fields_jax.errors import UserError

PyTree = Any
Labels = dict[str, np.ndarray]

# Pictures stay out of the gathered labels: a test set of them may not fit into memory.
PICTURES = ("image", "face_mask")


def map_batches(function: Callable[[PyTree], PyTree], columns: PyTree, batch_size: int) -> PyTree:
    """Applies a batched function to [N, ...] arrays, `batch_size` rows at a time.

    Args:
      function: takes a tree of [batch_size, ...] arrays, returns one.
      columns: tree of [N, ...] arrays, N at least 1.
      batch_size: rows per call; the last call is padded, so that one shape is compiled.

    Returns:
      The results as a tree of [N, ...] numpy arrays.
    """
    count = len(jax.tree.leaves(columns)[0])
    results = []
    for start in range(0, count, batch_size):
        rows = slice(start, start + batch_size)
        part = jax.tree.map(lambda column, rows=rows: np.asarray(column)[rows], columns)
        results.append(call_padded(function, part, batch_size))
    return _concatenate(results)


def predict_set(
    apply: Callable[[np.ndarray], PyTree],
    batches: Iterable[Mapping[str, np.ndarray]],
    batch_size: int,
) -> tuple[PyTree, Labels]:
    """Predictions and labels of a whole set, row by row.

    Args:
      apply: takes images [batch_size, H, W, 3] uint8, returns a tree of [batch_size, ...] arrays.
      batches: batches of fields_jax/batch.py with at most `batch_size` examples each.
      batch_size: the size that `apply` is compiled for; smaller batches are padded.

    Returns:
      The predictions, and every label but the pictures; both as [N, ...] numpy arrays.

    Raises:
      UserError: there are no examples.
    """
    predictions, labels = [], []
    for batch in batches:
        predictions.append(call_padded(apply, batch["image"], batch_size))
        labels.append({key: value for key, value in batch.items() if key not in PICTURES})
    if not predictions:
        raise UserError("nothing to evaluate: the data hold no examples")
    return _concatenate(predictions), _concatenate(labels)


def spread(batches: Iterable[Labels], total: int, count: int) -> tuple[Iterator[Labels], list]:
    """Passes batches on and keeps `count` whole examples, evenly spaced over `total`.

    Which ones are kept depends only on their place, so that two models show the same ones.

    Returns:
      The batches, and a list that has filled up with examples (dicts without a batch dimension and
      with their place in the set as "row") when the batches are used up.
    """
    wanted = set(np.linspace(0, total - 1, min(count, total)).round().astype(int).tolist())
    kept: list[Labels] = []

    def passing() -> Iterator[Labels]:
        row = 0
        for batch in batches:
            for offset in range(len(batch["image"])):
                if row in wanted:
                    example = {key: value[offset] for key, value in batch.items()}
                    kept.append(example | {"row": row})
                row += 1
            yield batch

    return passing(), kept


def call_padded(function: Callable[[PyTree], PyTree], part: PyTree, batch_size: int) -> PyTree:
    count = len(jax.tree.leaves(part)[0])
    padded = jax.tree.map(lambda a: np.pad(a, _behind(a, batch_size - count), mode="edge"), part)
    return jax.tree.map(lambda a: np.asarray(a)[:count], function(padded))


def _behind(array: np.ndarray, rows: int) -> list[tuple[int, int]]:
    if rows < 0:
        raise ValueError(f"a batch of {len(array)} examples is larger than {len(array) + rows}")
    return [(0, rows)] + [(0, 0)] * (array.ndim - 1)


def _concatenate(parts: list[PyTree]) -> PyTree:
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)
