"""Gradient accumulation: a device's batch in parts, one after the other, with the same gradients.

Every loss is that of the whole global batch: a mean over examples divides each part's sum by the
count of the whole batch (`losses.evidence.Part`), and the moments of valence and arousal are taken
over all parts, of which one at a time is differentiated. Only batch normalisation differs: in
training mode it normalises each part by that part's statistics, over all devices.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Array

from fields_jax.losses.evidence import Part, count_examples
from fields_jax.training.recipe import Context

PyTree = Any


def over_parts(
    of_part: Callable[..., tuple[PyTree, tuple[PyTree, PyTree, PyTree]]],
    batch: Mapping[str, Array],
    split: tuple[PyTree, ...],
    *,
    context: Context,
    before: tuple[PyTree, PyTree],
    predict: Callable[[Mapping[str, Array]], dict[str, Array]] | None = None,
) -> tuple[PyTree, tuple[PyTree, PyTree, PyTree]]:
    """Gradients of a device's batch, taken in equal contiguous parts.

    Args:
      of_part: maps a `Part` and parts of `split` to (gradients, (outputs [b, ...], new batch
        statistics, values)); for a single part the `Part` is None.
      batch: this device's examples [D, ...].
      split: trees [D, ...] whose parts `of_part` takes.
      context: what the step is bound to; `recipe.accumulate`, the number of parts, divides D.
      before: the parameters to differentiate by, and the batch statistics each part starts from.
      predict: gives valence and arousal of a part [b]; None where no term needs the whole batch's.

    Returns:
      What `of_part` gives for the whole: sums of gradients and of values, all outputs [D, ...], and
      the batch statistics, changed by the mean of their changes over the parts.
    """
    count, stats = context.recipe.accumulate, before[1]
    if count == 1:
        return of_part(None, *split)
    chex.assert_is_divisible(batch["image"].shape[0], count)
    parts = jax.tree.map(lambda x: x.reshape(count, -1, *x.shape[1:]), (batch, split))
    size = batch["image"].shape[0] // count
    predicted = None
    if predict is not None:
        predicted = _joined(jax.lax.map(predict, parts[0]))
    known = dict(
        parts=count,
        counts=count_examples(batch, context.total, context.recipe.settings),
        affect={name: batch[name] for name in ("valence", "arousal", "has_va")},
        predicted=predicted,
    )

    def take(carry, inputs):
        number, pieces = inputs
        gradients, moved = carry
        found, (outputs, after, values) = of_part(Part(first=number * size, **known), *pieces)
        gradients = jax.tree.map(jnp.add, gradients, found)
        # The statistics of a frozen network do not change, not even by rounding.
        moved = jax.tree.map(lambda m, new, old: m + (new - old) / count, moved, after, stats)
        return (gradients, moved), (outputs, values)

    numbers = jnp.arange(count)
    start = jax.tree.map(jnp.zeros_like, before)
    (gradients, moved), (outputs, values) = jax.lax.scan(take, start, (numbers, parts[1]))
    after = jax.tree.map(jnp.add, stats, moved)
    values = jax.tree.map(lambda x: x.sum(0), values)
    return gradients, (_joined(outputs), after, values)


def _joined(tree: PyTree) -> PyTree:
    """[parts, b, ...] to [parts b, ...]."""
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), tree)
