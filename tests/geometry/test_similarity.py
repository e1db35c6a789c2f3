"""Motions between sets of points."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from fields_jax.geometry.similarity import rigid_motion


def test_rigid_motion_between_point_sets():
    rng = np.random.default_rng(0)
    source, turn = rng.normal(size=(9, 3)), Rotation.from_rotvec([0.3, -1.2, 2.0]).as_matrix()
    rotation, shift, size = rigid_motion(source, 1.5 * source @ turn.T + [1, 2, 3])
    np.testing.assert_allclose(rotation, turn, atol=1e-12)
    assert size == pytest.approx(1.5)
    np.testing.assert_allclose(
        shift, 1.5 * turn @ source.mean(0) + [1, 2, 3] - turn @ source.mean(0), atol=1e-12
    )
    flat = source * [1, 1, -1]  # a mirror image is met by a turn all the same
    assert np.linalg.det(rigid_motion(source, flat)[0]) == pytest.approx(1)
