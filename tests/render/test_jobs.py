"""Integer sums and quotients that CPUs compute in floats."""

import numpy as np
import pytest

from fields_jax.render.jobs import ROW, cumulative
from fields_jax.render.patches import quotient


@pytest.mark.parametrize("largest", [2**24 - 1, 2**24])
@pytest.mark.parametrize("count", [1, ROW, 5 * ROW + 3])
def test_cumulative_sums_are_exact(count, largest):
    values = np.full(count, largest // ROW, np.int32)
    values[::ROW] += largest % ROW
    np.testing.assert_array_equal(cumulative(values, largest), np.cumsum(values))


@pytest.mark.parametrize("most", [2**20, 2**24])
def test_quotients_are_exact(most):
    rng = np.random.default_rng(0)
    across = np.concatenate([np.arange(1, 2000), rng.integers(1, most, 2000)]).astype(np.int32)
    multiple = (most - 1) // across * across
    for rank in (multiple, multiple - 1, np.full_like(across, most - 1), rng.integers(0, most)):
        rank = np.broadcast_to(rank, across.shape).astype(np.int32)
        np.testing.assert_array_equal(quotient(rank, across, most), rank // across)
