"""The procedural head is what its version says: networks and sets know it by that alone."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from fields_jax.flame.procedural.head import VERSION, _make


def fingerprint(array):
    """Mean, deviation and one product with a wave, which other values or another order change."""
    flat = np.asarray(array, np.float64).ravel()
    wave = np.cos(np.arange(flat.size) * 0.7)
    return [flat.size, flat.mean(), flat.std(), wave @ flat / flat.size]


def test_the_content_is_that_of_the_version():
    arrays = {name: array for name, array in _make(0).items() if array.dtype.kind in "fiub"}
    known = json.loads((Path(__file__).parent / "procedural_content.json").read_text())
    assert known["version"] == VERSION
    assert sorted(known["arrays"]) == sorted(arrays)
    for name, array in arrays.items():
        size, *moments = fingerprint(array)
        assert size == known["arrays"][name][0], f"{name}: raise head.VERSION"
        np.testing.assert_allclose(
            moments,
            known["arrays"][name][1:],
            rtol=1e-4,
            atol=1e-6 * (1e-9 + abs(moments[1])),
            err_msg=f"{name}: raise head.VERSION",
        )
