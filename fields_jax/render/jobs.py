"""Shares out work of uneven size: jobs of many items into a fixed number of slots."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from fields_jax.platforms import per_platform

ROW = 64


class Pass(NamedTuple):
    """The jobs first ... first + budget - 1 of N items, which are done at once.

    Attributes:
      jobs: [N] jobs of each item, 0 or more.
      ends: [N] their inclusive cumulative sum.
      first: the first job.
      budget: how many job slots there are; a Python int, never traced.
    """

    jobs: Int[Array, " N"]
    ends: Int[Array, " N"]
    first: Int[Array, ""]
    budget: int


def assign(work: Pass) -> tuple[Int[Array, " S"], Int[Array, " S"], Bool[Array, " S"]]:
    """Fills the job slots, item after item.

    Returns:
      For each slot its item, which of the item's jobs it is, and whether it is used.
    """
    jobs, ends, first, budget = work
    begins = ends - jobs
    # An item owns the slots from its beginning to that of the next, none if it has no jobs.
    begun = jnp.zeros(budget, jnp.int32).at[jnp.maximum(begins - first, 0)].add(1, mode="drop")
    owner = cumulative(begun, jobs.shape[0]) - 1
    slots = first + jnp.arange(budget, dtype=jnp.int32)
    return owner, slots - begins[owner], slots < ends[-1]


def cumulative(values: Int[Array, " N"], largest: int) -> Int[Array, " N"]:
    """The inclusive cumulative sum of integers, 0 or more.

    Args:
      values: whose sum is less than 2^31.
      largest: what no sum of `ROW` values in turn exceeds.
    """
    plain = partial(jnp.cumsum, dtype=jnp.int32)
    if largest >= 2**24:  # float32 is not exact
        return plain(values)
    return per_platform(values, cpu=_by_products, default=plain)


def _by_products(values):
    """Sums within rows by a product with a triangle of ones, three times as fast on a CPU."""
    count = values.shape[0]
    rows = -(-count // ROW)
    table = jnp.pad(values, (0, rows * ROW - count)).reshape(rows, ROW).astype(jnp.float32)
    within = (table @ np.triu(np.ones((ROW, ROW), np.float32))).astype(jnp.int32)
    total = within[:, -1]
    before = jnp.cumsum(total, dtype=jnp.int32) - total
    return (within + before[:, None]).reshape(-1)[:count]
