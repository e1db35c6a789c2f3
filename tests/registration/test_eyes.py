"""Eyeballs and lids in ARKit's shapes."""

from __future__ import annotations

import numpy as np
import pytest

from fields_jax.arkit import NAMES
from fields_jax.flame.eyes import eyeballs
from fields_jax.flame.procedural import procedural_head
from fields_jax.registration.eyes import clear_eyes, eye_turns
from tests.support.heads import random_head, with_joints


@pytest.fixture(scope="module")
def head():
    return procedural_head()


def test_eyeballs_turn_about_the_axes_of_their_shapes(head):
    turns = eye_turns(head)
    way = {"Up": (0, -1), "Down": (0, 1)}
    for name in NAMES:
        row = turns[NAMES.index(name)]
        if not name.startswith("eyeLook"):
            assert np.abs(row).max() < 1e-3, name
            continue
        side = int(name.endswith("Right"))
        assert np.abs(row[1 - side]).max() < 1e-3
        kind = name.removeprefix("eyeLook").removesuffix("Left").removesuffix("Right")
        axis, sign = way.get(kind, (1, (1 if kind == "Out" else -1) * (1 - 2 * side)))
        assert sign * row[side, axis] > 0.2, name
        assert np.abs(np.delete(row[side], axis)).max() < 1e-3, name


def test_lids_that_move_stay_before_the_eyeball(head):
    """A lid that comes down straight goes through the ball; its end is brought before it."""
    rows = eyeballs(head)[0]
    template = np.asarray(head.template, np.float64)
    centre = np.asarray(head.joint_regressor, np.float64)[head.joint("left_eye")] @ template
    lid = np.flatnonzero(np.asarray(head.eyelid_basis)[0, :, 1] < -0.004)
    assert len(lid) > 5
    moved = np.zeros((len(template), 3, len(NAMES)))
    moved[lid, 1, 0] = np.asarray(head.eyelid_basis)[0, lid, 1]
    straight = moved.copy()
    clear_eyes(head, moved)
    radius = np.linalg.norm(template[rows] - centre, axis=1)
    before = np.linalg.norm(template[lid] + straight[lid, :, 0] - centre, axis=1)
    after = np.linalg.norm(template[lid] + moved[lid, :, 0] - centre, axis=1)
    assert before.min() < radius.min() and after.min() > radius.min()
    assert (after > before - 1e-9).all()
    still = np.setdiff1d(np.arange(len(template)), lid)
    np.testing.assert_array_equal(moved[still], 0)
    np.testing.assert_array_equal(moved[..., 1:], 0)


def test_a_head_without_eyes_is_left_alone():
    head = with_joints(random_head(), ("root", "neck", "jaw"))
    moved = np.random.default_rng(0).normal(size=(60, 3, 52))
    same = moved.copy()
    clear_eyes(head, moved)
    np.testing.assert_array_equal(moved, same)
