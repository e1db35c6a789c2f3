"""Heads before a lens: closed forms, and how far a perspective camera is off."""

from __future__ import annotations

import numpy as np
import pytest

from fields_jax.geometry.rotations import matrix_of, vector_of
from fields_jax.outputs.trainers.pinhole import Lens, lens_of, place_before


@pytest.fixture
def points():
    return 0.1 * np.random.default_rng(0).standard_normal((200, 3))


def test_a_head_that_the_lens_saw_is_found_again(points):
    lens = Lens(900.0, np.array([320.0, 240.0]))
    rotation, place = matrix_of(np.array([0.2, -0.5, 0.1])), np.array([0.15, -0.08, -0.9])
    pixels = lens.project(points @ rotation.T + place)
    # By hand: x to the right, y up, looking along -z.
    x, y, z = rotation @ points[7] + place
    np.testing.assert_allclose(pixels[7], [320 + 900 * x / -z, 240 - 900 * y / -z])
    seen = place_before(lens, points, pixels, matrix_of(np.array([0.1, -0.3, 0.0])))
    np.testing.assert_allclose(seen.rotation, rotation, atol=1e-8)
    np.testing.assert_allclose(seen.place, place, atol=1e-8)
    assert seen.off.max() < 1e-5


def test_a_longer_lens_is_nearer_to_one_far_away(points):
    pixels = np.array([500.0, 200.0]) + 800 * points[:, :2] * (1, -1)
    off = []
    for focal in (2.0, 20.0, 200.0):
        lens = lens_of(focal, 480, 640)
        assert lens.focal == 640 * focal and lens.center.tolist() == [320, 240]
        seen = place_before(lens, points, pixels, np.eye(3))
        # At this distance a metre has 800 pixels.
        np.testing.assert_allclose(-seen.place[2], lens.focal / 800, rtol=0.2)
        off.append(seen.off.mean())
    # The error of weak perspective is proportional to depth over distance.
    assert 5 < off[0] / off[1] < 20 and 8 < off[1] / off[2] < 12 and off[2] < 0.1


def test_a_vector_of_a_matrix_is_its_turn():
    for vector in np.random.default_rng(1).uniform(-1, 1, (20, 3)):
        np.testing.assert_allclose(vector_of(matrix_of(vector)), vector, atol=1e-12)
    np.testing.assert_array_equal(vector_of(np.eye(3)), 0)
