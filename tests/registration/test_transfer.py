"""Transfers whose result is known: to the same head, in its own frame and in another."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fields_jax.errors import UserError
from fields_jax.flame import flame
from fields_jax.registration.transfer import Settings, transfer
from fields_jax.render import project
from fields_jax.types import FlameCoefficients
from tests.support.registered import elsewhere, small_head, warped

COUNT = 3


@pytest.fixture(scope="module")
def codes():
    rng = np.random.default_rng(3)

    def normal(size, scale=1.0):
        return (scale * rng.standard_normal((COUNT, size))).astype(np.float32)

    return FlameCoefficients(
        shape=normal(12),
        expression=normal(16),
        jaw=np.float32([[0.2, 0.02, 0], [0, 0, 0], [0.1, 0, -0.02]]),
        eyelid=np.float32([[0, 0], [1, 1], [0.3, 0.6]]),
        pose=normal(3, 0.3),
        camera=np.float32([[8, 0.01, -0.02], [7, 0, 0], [6, 0.02, 0.01]]),
        neck=normal(3, 0.1),
        eyes=normal(6, 0.1),
    )


@pytest.fixture(scope="module")
def same(codes):
    head = small_head()
    return transfer(codes, head, head)


def image_of(head, codes):
    face = flame(head, jax.tree.map(jnp.asarray, codes))
    return np.asarray(project(face.vertices, jnp.asarray(codes.camera)))[..., :2]


def test_a_head_s_own_codes_are_found_again(codes, same):
    assert same.error_mm.shape == (COUNT, 2) and same.error_mm.max() < 0.05
    vertices = [np.asarray(flame(small_head(), each).vertices) for each in (codes, same[0])]
    face = np.asarray(small_head().face_vertices)
    off = 1e3 * np.linalg.norm(vertices[0] - vertices[1], axis=-1)[:, face]
    # Lids and expression share some movements, which differ where the head is turned.
    assert off.max() < 0.5 and off.mean() < 0.05
    np.testing.assert_allclose(same.coefficients.jaw, codes.jaw, atol=2e-3)
    np.testing.assert_allclose(same.coefficients.pose, codes.pose, atol=2e-3)


def test_the_image_does_not_move(codes, same):
    head = small_head()
    face = np.asarray(head.face_vertices)
    before, after = image_of(head, codes), image_of(head, same.coefficients)
    off = np.abs(before - after)[:, face]
    assert off.max() < 4e-3 and off.mean() < 4e-4  # half a pixel of 224, a twentieth in the mean


def test_another_frame_changes_pose_and_camera_alone(codes):
    """The head in another frame: its faces stay where they were in the image."""
    head = small_head()
    plain = dataclasses.replace(
        head, pose_basis=0 * head.pose_basis, eyelid_basis=0 * head.eyelid_basis
    )
    other = elsewhere(plain, pitch=0.2, shift=(0.01, 1.5, -0.2))
    codes = codes.replace(jaw=codes.jaw * np.float32([1, 0, 0]))
    moved = transfer(codes, plain, other)
    assert moved.error_mm.max() < 0.05
    # The jaw's axis is the pitch's, so that its angle is the same in both frames.
    np.testing.assert_allclose(moved.coefficients.jaw, codes.jaw, atol=5e-3)
    np.testing.assert_allclose(moved.coefficients.camera[:, 0], codes.camera[:, 0], rtol=1e-6)
    assert np.abs(moved.coefficients.camera - codes.camera)[:, 2].min() > 1
    face = np.asarray(head.face_vertices)
    before, after = image_of(plain, codes), image_of(other, moved.coefficients)
    assert np.abs(before - after)[:, face].max() < 2e-3
    eyes = np.concatenate([head.regions["left_eyeball"], head.regions["right_eyeball"]])
    assert np.abs(before - after)[:, eyes].max() < 5e-3


def test_neutral_faces_stay_neutral_and_shut_eyes_shut(codes):
    head = small_head()
    still = {name: 0 * getattr(codes, name) for name in ("expression", "jaw", "eyelid")}
    other = head.replace(template=warped(np.asarray(head.template)).astype(np.float32))
    for to in (head, other):
        found = transfer(codes.replace(**still), head, to).coefficients
        for name in still:
            np.testing.assert_allclose(getattr(found, name), 0, atol=1e-3)
    blink = codes.replace(**still | {"eyelid": np.ones((COUNT, 2), np.float32)})
    blink = blink.replace(pose=0 * codes.pose, neck=None)
    shut = _openings(head, transfer(blink, head, head).coefficients)
    assert (shut < 0.15 * _openings(head, codes.replace(**still))).all()


def _openings(head, codes):
    """[B, 4] distances of upper from lower lids."""
    points = flame(head, codes).landmarks_68
    upper, lower = np.array([37, 38, 43, 44]), np.array([41, 40, 47, 46])
    return np.linalg.norm(points[:, upper] - points[:, lower], axis=-1)


def test_faces_of_a_clip_get_one_shape(codes):
    head = small_head()
    found = transfer(codes, head, head, settings=Settings(clip=True, n_shape=5, n_expression=7))
    assert found.coefficients.shape.shape == (COUNT, 5)
    assert found.coefficients.expression.shape == (COUNT, 7)
    assert (found.coefficients.shape == found.coefficients.shape[:1]).all()
    mean = codes.replace(shape=np.repeat(codes.shape.mean(0, keepdims=True), COUNT, axis=0))
    alone = transfer(mean, head, head, settings=Settings(n_shape=5, n_expression=7, batch_size=2))
    np.testing.assert_allclose(found.coefficients.shape, alone.coefficients.shape, atol=1e-3)
    np.testing.assert_allclose(found.error_mm, alone.error_mm, atol=1e-2)


def test_bounds_of_the_other_head_hold(codes):
    head = small_head()
    prior = head.priors["expression"]
    held = jnp.zeros(16).at[3].set(1.0)
    bounds = dict(lower=jnp.maximum(-0.5, held), upper=jnp.maximum(0.7, held))
    other = head.replace(priors=head.priors | {"expression": prior.replace(**bounds)})
    found = np.asarray(transfer(codes, head, other).coefficients.expression)
    assert found.min() >= -0.5 and found.max() <= 1
    assert (found[:, 3] == 1).all() and np.delete(found, 3, axis=1).max() <= np.float32(0.7)


def test_wrong_codes_are_refused(codes):
    head = small_head()
    with pytest.raises(UserError, match="jaw of the codes"):
        transfer(codes.replace(jaw=codes.jaw * np.float32(np.nan)), head, head)
    with pytest.raises(UserError, match="n_expression is 17"):
        transfer(codes.replace(expression=np.zeros((COUNT, 17), np.float32)), head, head)
