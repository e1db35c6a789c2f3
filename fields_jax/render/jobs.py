"""Shares out work of uneven size: jobs of many items into a fixed number of slots."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int


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
    present = (jobs > 0) & (ends > first)
    slot = jnp.where(present, jnp.maximum(begins - first, 0), budget)
    owner = jnp.zeros(budget, jnp.int32)
    owner = owner.at[slot].max(jnp.arange(jobs.shape[0], dtype=jnp.int32), mode="drop")
    owner = jax.lax.cummax(owner)
    slots = first + jnp.arange(budget, dtype=jnp.int32)
    return owner, slots - begins[owner], slots < ends[-1]
