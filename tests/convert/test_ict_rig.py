"""Joints of ICT's model: spheres and turns that are known."""

from __future__ import annotations

import numpy as np
import pytest

from fields_jax.convert.ict_rig import jaw_motion, sphere
from fields_jax.types import JOINTS
from tests.support.ict_clones import HINGE, TRAVEL


def test_the_centre_of_an_eyeball_does_not_depend_on_its_cornea():
    rng = np.random.default_rng(0)
    way = rng.normal(size=(2000, 3))
    way /= np.linalg.norm(way, axis=1, keepdims=True)
    radius = np.where(way[:, 2] > np.cos(np.radians(30)), 0.0135, 0.012)  # a bulge ahead
    centre = np.array([0.03, 0.02, 0.05])
    np.testing.assert_allclose(sphere(centre + radius[:, None] * way), centre, atol=1e-9)


def test_the_jaw_turns_as_the_lower_teeth_do(clone):
    angle, hinge = jaw_motion(clone)
    assert angle == pytest.approx(TRAVEL, abs=1e-4)
    np.testing.assert_allclose(hinge, HINGE, atol=1e-5)


def test_regressors_give_the_joints_and_weights_sum_to_one(clone, rig):
    assert rig.regressor.shape == (len(JOINTS), len(clone.neutral))
    np.testing.assert_allclose(rig.regressor.sum(1), 1, atol=1e-9)
    np.testing.assert_allclose(rig.regressor @ clone.neutral, rig.joints, atol=1e-9)
    assert np.abs(rig.regressor).max() < 0.2  # averages of many vertices, not differences of few
    np.testing.assert_allclose(rig.skin_weights.sum(1), 1, atol=1e-9)
    assert rig.skin_weights.min() >= 0


def test_joints_move_with_the_people(clone, rig):
    """A person twice as large about a point has joints twice as far from it."""
    larger = rig.regressor @ (2 * clone.neutral + [0.01, 0, 0])
    np.testing.assert_allclose(larger, 2 * rig.joints + [0.01, 0, 0], atol=1e-9)


def test_teeth_follow_a_jaw_wholly_and_eyeballs_their_joints(clone, rig):
    weights, rows = rig.skin_weights, clone.layout.rows
    np.testing.assert_array_equal(weights[rows("lower_teeth"), JOINTS.index("jaw")], 1)
    np.testing.assert_array_equal(weights[rows("upper_teeth"), JOINTS.index("jaw")], 0)
    np.testing.assert_array_equal(weights[rows("left_sclera"), JOINTS.index("left_eye")], 1)
    chin = weights[clone.landmarks_68[8]]
    assert chin[JOINTS.index("jaw")] > 0.5 > chin[JOINTS.index("root")]
    axis = rig.joints[1] - rig.joints[0]
    below = (clone.neutral - rig.joints[0]) @ axis < 0
    assert below.sum() > 20
    np.testing.assert_array_equal(weights[below, 0], 1)
