"""One identity for a clip, and smoothing that leaves the face where it is."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from fields_jax.clips import motion
from fields_jax.clips.measures import jitter
from fields_jax.clips.person import Person
from fields_jax.flame import flame
from fields_jax.flame.landmark_head import landmark_head
from fields_jax.flame.procedural import procedural_head
from fields_jax.types import FlameCoefficients

FRAMES = 48


@pytest.fixture(scope="module")
def head():
    return landmark_head(procedural_head())


def person(seed=0, noise=1.0, shapes=5, expressions=6):
    """A head that turns and smiles, read with errors that are new in each frame."""
    rng = np.random.default_rng(seed)
    times = np.arange(FRAMES) / 30
    swing = np.sin(2 * np.pi * 0.5 * times)[:, None]
    error = noise * rng.standard_normal((FRAMES, 40))
    turn = np.deg2rad(25) * swing * [0.1, 1, 0.05]
    return Person(
        frames=np.arange(FRAMES),
        times=times,
        seen=np.ones(FRAMES, bool),
        coefficients={
            "shape": np.float32(rng.normal(0, 1, shapes) + 0.5 * error[:, :shapes]),
            "expression": np.float32(1.5 * swing + 0.1 * error[:, 10 : 10 + expressions]),
            "jaw": np.float32(np.abs(0.1 * swing) * [1, 0, 0] + 0.01 * error[:, 20:23]),
            "eyelid": np.float32(0.2 + 0.02 * error[:, 23:25]),
            "pose": np.float32(turn + 0.01 * error[:, 25:28]),
        },
        place=np.column_stack([np.full(FRAMES, 7.5), 200 + 40 * swing, np.full(FRAMES, 150.0)])
        + error[:, 30:33] * (0.01, 1, 1),
        boxes=np.tile(np.float32([100, 50, 300, 250]), (FRAMES, 1)),
        readings={"valence": np.float32(0.1 * error[:, 34])},
        scale=1.4,
        size=96,
    )


def test_the_middle_identity_is_that_of_most_frames():
    rng = np.random.default_rng(0)
    shapes = np.float32([1.0, -2.0, 0.5]) + 0.1 * rng.standard_normal((40, 3))
    shapes[:8] = 9  # a fifth of the frames shows a hand
    found = motion.identity(shapes, np.ones(40))
    assert np.abs(found - [1, -2, 0.5]).max() < 0.12
    assert np.abs(shapes.mean(axis=0) - [1, -2, 0.5]).max() > 1  # which the mean is not
    weights = np.ones(40)
    weights[8:] = 1e-4
    assert np.abs(motion.identity(shapes, weights) - 9).max() < 0.1


def test_the_anchor_is_the_middle_of_the_landmarks(head):
    rng = np.random.default_rng(1)
    shapes = rng.normal(0, 1, (3, 20)).astype(np.float32)
    known = motion.anchor(head, 20)
    rest = jnp.zeros((3, 3))
    posed = flame(
        head,
        FlameCoefficients(shapes, jnp.zeros((3, 4)), rest, jnp.zeros((3, 2)), rest, rest),
    )
    marks, root = np.asarray(posed.landmarks_68_static), np.asarray(posed.joints[:, 0])
    np.testing.assert_allclose(known.joint(shapes), root, atol=1e-6)
    np.testing.assert_allclose(known.arm(shapes), marks.mean(axis=1) - root, atol=1e-6)
    spread = marks - marks.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(known.size(shapes), np.sqrt((spread**2).sum(-1).mean(-1)), atol=1e-6)


def test_without_smoothing_only_the_identity_is_made_one(head):
    before = person(noise=0.0)
    after = motion.steadied(before, head, 0.0, np.ones(FRAMES))
    points = [motion.landmarks(each, head) for each in (before, after)]
    np.testing.assert_allclose(points[0], points[1], atol=2e-3)


def test_other_shapes_leave_the_face_where_it_is_and_as_large(head):
    before = person(noise=1.0)
    after = motion.steadied(before, head, 0.0, np.ones(FRAMES))
    assert np.ptp(after.coefficients["shape"], axis=0).max() == 0
    one, other = (motion.landmarks(each, head)[..., :2] for each in (before, after))
    unit = np.median(motion.eye_distances(motion.landmarks(after, head)))
    assert np.abs(one.mean(axis=1) - other.mean(axis=1)).max() < 0.03 * unit
    size = [np.sqrt((p - p.mean(1, keepdims=True)) ** 2).mean() for p in (one, other)]
    assert size[0] == pytest.approx(size[1], rel=0.01)


def test_tremble_falls_to_less_than_half_and_movement_stays(head):
    before, truth = person(noise=1.0), person(noise=0.0)
    after = motion.steadied(before, head, 1.0, np.ones(FRAMES))
    points = [motion.landmarks(each, head) for each in (before, after, truth)]
    unit = motion.eye_distances(points[2])
    seen = np.ones(FRAMES, bool)
    trembles = [jitter(each[..., :2], unit, seen) for each in points]
    assert trembles[1] < 0.3 * trembles[0] and trembles[2] < trembles[1]
    errors = [
        (np.linalg.norm(each - points[2], axis=-1).mean(axis=1) / unit)[5:-5].mean()
        for each in points
    ]
    assert errors[1] < 0.6 * errors[0]  # it is nearer to the truth too
    assert np.ptp(after.coefficients["pose"][:, 1]) > 0.85 * np.ptp(
        truth.coefficients["pose"][:, 1]
    )
    assert after.readings["valence"].std() < 0.5 * before.readings["valence"].std()


def test_more_strength_smooths_more(head):
    before = dataclasses.replace(person(noise=1.0))
    rough = [
        np.abs(
            np.diff(
                motion.steadied(before, head, strength, np.ones(FRAMES)).coefficients["expression"],
                2,
                axis=0,
            )
        ).mean()
        for strength in (0.3, 1.0, 3.0)
    ]
    assert rough[0] > rough[1] > rough[2]
