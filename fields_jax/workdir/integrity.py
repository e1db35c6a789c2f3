"""Checksums of what a checkpoint holds, taken from the values themselves.

Orbax does not notice flipped bits. So the checksum of the arrays in memory is stored beside them
and compared after they are read: it covers the whole way to the disk and back, on any number of
devices.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from fields_jax.workdir.codec import on_host

PyTree = Any


class DamagedError(Exception):
    """A checkpoint does not hold what was written."""


def tree_checksum(tree: PyTree) -> str:
    """SHA-256 of the leaves of a tree in order: types, shapes and bytes.

    With several processes arrays must be replicated: each process reads its own copy.
    """
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(tree):
        array = np.ascontiguousarray(on_host(leaf))
        digest.update(f"{array.dtype}{array.shape}".encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def json_checksum(value: Any) -> str:
    """SHA-256 of a value that survives JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def verify(expected: Mapping[str, str], found: Mapping[str, str]) -> None:
    """Compares the checksums of some items with those that were written.

    Raises:
      DamagedError: naming the first item that differs.
    """
    for name, checksum in found.items():
        if expected.get(name) != checksum:
            raise DamagedError(f"{name}: the checksum differs")
