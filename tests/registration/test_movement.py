"""Displacements of a neutral person against posed heads."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fields_jax.errors import UserError
from fields_jax.flame import flame
from fields_jax.flame.eyes import eyeballs
from fields_jax.registration.movement import (
    Movement,
    displacement,
    jaw_opened,
    jaw_travel,
    movable,
)
from fields_jax.types import FlameCoefficients
from tests.support.heads import random_head, with_joints
from tests.support.registered import small_head


def some_movement(head, scale=1.0) -> Movement:
    rng = np.random.default_rng(1)

    def normal(size, deviation):
        return jnp.asarray(scale * deviation * rng.standard_normal(size), jnp.float32)

    return Movement(
        expression=normal(head.expression_basis.shape[-1], 1),
        jaw=normal(3, 0.3),
        eyelid=normal(2, 1),
        eyes=normal(6, 0.3),
    )


def by_posing(head, movement) -> np.ndarray:
    """The same of two posed heads."""
    rows = jax.tree.map(lambda leaf: jnp.stack([leaf, 0 * leaf]), vars(movement))
    rest = jnp.zeros((2, 3))
    posed = flame(head, FlameCoefficients(shape=rest[:, :1], pose=rest, camera=rest, **rows))
    return np.asarray(posed.vertices[0] - posed.vertices[1])


def heads():
    head = random_head()
    chained = head.replace(parents=(-1, 0, 1, 2, 3))  # eyes that hang on the jaw
    no_correctives = head.replace(pose_basis=np.zeros((60, 3, 0), np.float32))
    return {
        "random": head,
        "chained": chained,
        "jaw alone": with_joints(head, ("root", "neck", "jaw")),
        "root alone": with_joints(head, ("root",)),
        "no correctives": no_correctives,
    }


@pytest.mark.parametrize("name", heads())
def test_it_is_the_difference_of_two_posed_heads(name):
    head = heads()[name]
    movement = some_movement(head)
    rows = np.arange(3, len(head.template))
    moved = displacement(movable(head, rows, 6), movement)
    np.testing.assert_allclose(moved, by_posing(head, movement)[rows], atol=1e-6)


def test_nothing_moves_at_rest_to_the_last_bit():
    head = random_head()
    for apart in (False, True):
        moved = displacement(movable(head, np.arange(60), 6), some_movement(head, 0), apart=apart)
        assert (np.asarray(moved) == 0).all()


def test_turns_apart_add_up():
    head = heads()["no correctives"]
    points = movable(head, np.arange(60), 6)
    rest = some_movement(head, 0)
    turn = np.float32([0.3, -0.2, 0.4])
    each = [displacement(points, rest.replace(jaw=jnp.asarray(turn * axis))) for axis in np.eye(3)]
    found = displacement(points, rest.replace(jaw=jnp.asarray(turn)), apart=True)
    np.testing.assert_allclose(found, sum(each), atol=1e-6)
    composed = displacement(points, rest.replace(jaw=jnp.asarray(turn)))
    assert np.abs(np.asarray(found - composed)).max() > 1e-3


def test_a_shape_of_the_jaw_s_own_has_its_angle():
    head = small_head()
    points = movable(head, np.asarray(head.face_vertices), 0)
    shape = np.asarray(jaw_opened(points, jnp.float32(0.37)))
    assert jaw_travel(points, shape) == pytest.approx(0.37, abs=1e-4)
    # Further than the jaw can go in that direction: where it comes nearest.
    assert 0.5 < jaw_travel(points, 9 * shape) <= 1.0
    assert jaw_travel(points, -shape) == 0
    assert jaw_travel(points, 0 * shape) == 0
    without = dataclasses.replace(points, joint_names=("root", "neck", "left_eye", "right_eye"))
    assert jaw_travel(without, shape) == 0


def test_eyeballs_are_what_turns_with_the_eyes():
    head = small_head()
    for side, rows in zip(("left", "right"), eyeballs(head), strict=True):
        np.testing.assert_array_equal(rows, np.sort(head.regions[f"{side}_eyeball"]))
    left, right = eyeballs(with_joints(random_head(), ("root", "neck", "jaw")))
    assert not len(left) and not len(right)


def test_coefficients_of_another_head_are_refused():
    with pytest.raises(UserError, match="7 expression coefficients for head random, which has 6"):
        movable(random_head(), np.arange(3), 7)
