"""Trees as one long vector per type, for the parts of a checkpoint that nobody reads by name.

Orbax spends a millisecond or two on every array, whatever its size: one by one, the optimiser's
thousand small moments would cost more time than their bytes.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import numpy as np

PyTree = Any


def on_host(array: jax.Array | np.ndarray) -> np.ndarray:
    """The values of an array; with several processes it must be replicated: each reads its copy."""
    if isinstance(array, jax.Array) and not array.is_fully_addressable:
        array = array.addressable_data(0)
    return np.asarray(array)


def pack(tree: PyTree) -> dict[str, np.ndarray]:
    """The leaves of a tree, type by type, each flattened and joined in the tree's order.

    Args:
      tree: arrays; with several processes they must be replicated.

    Returns:
      {type's name: [count]}, on the host.
    """
    groups: dict[str, list[np.ndarray]] = {}
    for leaf in map(on_host, jax.tree.leaves(tree)):
        groups.setdefault(str(leaf.dtype), []).append(leaf.reshape(-1))
    return {name: np.concatenate(group) for name, group in groups.items()}


def empty(tree: PyTree) -> dict[str, np.ndarray]:
    """Empty vectors of the sizes that `pack` gives for a tree of these shapes, to restore into."""
    sizes: dict[str, int] = {}
    for leaf in jax.tree.leaves(tree):
        sizes[str(leaf.dtype)] = sizes.get(str(leaf.dtype), 0) + math.prod(leaf.shape)
    return {name: np.empty(size, name) for name, size in sizes.items()}


def unpack(packed: dict[str, np.ndarray], like: PyTree) -> PyTree:
    """The tree that was packed.

    Args:
      packed: as `pack` gives it.
      like: a tree of the same shapes; where a leaf names a sharding, its array is put there.
    """
    taken = dict.fromkeys(packed, 0)

    def take(leaf):
        name = str(leaf.dtype)
        begin = taken[name]
        taken[name] += math.prod(leaf.shape)
        array = packed[name][begin : taken[name]].reshape(leaf.shape)
        if (sharding := getattr(leaf, "sharding", None)) is None:
            return array
        return jax.make_array_from_callback(leaf.shape, sharding, lambda part: array[part])

    return jax.tree.map(take, like)
