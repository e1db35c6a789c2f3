"""Spheres through points."""

from __future__ import annotations

import numpy as np

from fields_jax.geometry.spheres import fit_sphere


def test_a_part_of_a_sphere_tells_its_centre_and_radius():
    rng = np.random.default_rng(0)
    way = rng.normal(size=(50, 3))
    way = np.abs(way / np.linalg.norm(way, axis=1, keepdims=True))  # one octant
    centre, radius = fit_sphere(np.array([0.3, -2.0, 5.0]) + 0.012 * way)
    np.testing.assert_allclose(centre, [0.3, -2.0, 5.0], atol=1e-9)
    np.testing.assert_allclose(radius, 0.012, atol=1e-9)
