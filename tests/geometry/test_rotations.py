"""Rotations against scipy's and by hand."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from fields_jax.geometry.rotations import rodrigues, rotation_vector


def test_no_rotation_is_exactly_the_identity():
    assert (np.asarray(rodrigues(jnp.zeros((2, 3)))) == np.eye(3)).all()


@pytest.mark.parametrize("size", [0.0, 1e-12, 1e-6, 0.02, 0.0316, 0.0317, 1.0, 3.1])
def test_rodrigues_equals_scipy(size):
    vectors = np.random.default_rng(0).standard_normal((5, 3))
    vectors *= size / np.linalg.norm(vectors, axis=1, keepdims=True)
    expected = Rotation.from_rotvec(vectors).as_matrix()
    np.testing.assert_allclose(rodrigues(jnp.asarray(vectors)), expected, atol=5e-7)


def test_gradient_at_zero_rotation_is_the_generators():
    jacobian = jax.jacobian(rodrigues)(jnp.zeros(3))
    generators = np.zeros((3, 3, 3))
    for axis, (i, j) in enumerate([(2, 1), (0, 2), (1, 0)]):
        generators[i, j, axis], generators[j, i, axis] = 1, -1
    np.testing.assert_array_equal(jacobian, generators)


def test_rotation_vector_agrees_with_scipy():
    for angles in [(0, 0, 0), (30, 0, 0), (-45, 20, 15), (1e-3, 0, 0), (40, -20, 10)]:
        yaw, pitch, roll = angles
        expected = Rotation.from_euler("xyz", [pitch, yaw, roll], degrees=True).as_rotvec()
        np.testing.assert_allclose(rotation_vector(*angles), expected, atol=1e-9)
