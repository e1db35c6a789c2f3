"""The procedural head as it is kept between runs."""

from __future__ import annotations

import jax
import numpy as np

from fields_jax import kept
from fields_jax.flame.procedural import procedural_head


def test_a_head_that_was_kept_is_the_one_that_was_made(tmp_path, monkeypatch):
    monkeypatch.setattr(kept, "folder_in_use", lambda: tmp_path)
    procedural_head.cache_clear()
    made = procedural_head()
    monkeypatch.setattr("fields_jax.flame.procedural.head._make", None)  # not called again
    procedural_head.cache_clear()
    read = procedural_head()
    assert read is not made and jax.tree.structure(read) == jax.tree.structure(made)
    for one, other in zip(jax.tree.leaves(read), jax.tree.leaves(made), strict=True):
        np.testing.assert_array_equal(one, other)
        assert one.dtype == other.dtype
