"""Shares out work of uneven size: jobs of many items into a fixed number of slots."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int


def assign(
    jobs: Int[Array, " N"], ends: Int[Array, " N"], first: Int[Array, ""], budget: int
) -> tuple[Int[Array, " S"], Int[Array, " S"], Bool[Array, " S"]]:
    """Fills the job slots first ... first + budget - 1, item after item.

    Args:
      jobs: [N] jobs of each item, 0 or more.
      ends: [N] their inclusive cumulative sum.
      first: the first slot.
      budget: number of slots.

    Returns:
      For each slot its item, which of the item's jobs it is, and whether it is used.
    """
    begins = ends - jobs
    present = (jobs > 0) & (ends > first)
    slot = jnp.where(present, jnp.maximum(begins - first, 0), budget)
    owner = jnp.zeros(budget, jnp.int32)
    owner = owner.at[slot].max(jnp.arange(jobs.shape[0], dtype=jnp.int32), mode="drop")
    owner = jax.lax.cummax(owner)
    slots = first + jnp.arange(budget, dtype=jnp.int32)
    return owner, slots - begins[owner], slots < ends[-1]
