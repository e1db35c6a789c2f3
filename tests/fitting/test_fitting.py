"""Faces come back from their own landmarks, whatever the view, noise or missing points."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fields_jax.fitting import least_squares, rig
from fields_jax.fitting.landmarks import SETS, FitSettings, Observed, fit_landmarks
from fields_jax.flame.model import flame
from fields_jax.flame.procedural import procedural_head
from fields_jax.render.camera import project
from fields_jax.types import JOINTS, FlameCoefficients
from tests.support.heads import with_joints

B, SHAPES, EXPRESSIONS = 8, 40, 33
YAWS = np.array([-80, -55, -30, -10, 10, 30, 55, 80.0])
WINKS, SHUT, OPEN_MOUTH = (2, 5), (3, 4), (1, 4, 6)


@pytest.fixture(scope="module")
def truth() -> FlameCoefficients:
    """Faces of every yaw: winks, shut eyes, open mouths among them."""
    rng = np.random.default_rng(3)
    expression = rng.normal(0, 0.8, (B, EXPRESSIONS))
    expression[:, 6:10] = 0  # the lids' own components, which do what eyelids do
    jaw, eyelid = np.zeros((B, 3)), np.zeros((B, 2))
    jaw[list(OPEN_MOUTH), 0] = 0.35, 0.45, 0.4
    eyelid[WINKS[0], 0] = eyelid[WINKS[1], 1] = 1
    eyelid[list(SHUT)] = 1
    pose = rng.normal(0, 0.12, (B, 3))
    pose[:, 1] = np.deg2rad(YAWS)
    camera = np.stack([rng.uniform(6, 9, B), *rng.normal(0, 0.01, (2, B))], axis=1)
    arrays = (rng.normal(size=(B, SHAPES)), expression, jaw, eyelid, pose, camera)
    return FlameCoefficients(*(jnp.asarray(array, jnp.float32) for array in arrays))


@pytest.fixture(scope="module")
def landmarks(truth) -> dict[str, np.ndarray]:
    output, dense = flame(procedural_head(), truth), list(SETS)[:3]
    return {n: np.array(project(getattr(output, n), truth.camera)[..., :2]) for n in dense}


def fitted(landmarks, **settings):
    return fit_landmarks(
        procedural_head(),
        Observed(**landmarks),
        n_shape=SHAPES,
        n_expression=EXPRESSIONS,
        settings=FitSettings(**settings),
    )


def face_errors(found: FlameCoefficients, truth: FlameCoefficients) -> np.ndarray:
    """[B, K] mm over the face mask at zero pose."""
    head = procedural_head()
    still = jnp.zeros_like(truth.pose)
    a, b = (flame(head, c.replace(pose=still)).vertices for c in (found, truth))
    return 1e3 * np.linalg.norm(np.asarray(a - b)[:, np.asarray(head.face_vertices)], axis=-1)


@pytest.mark.parametrize(
    "joints",
    [JOINTS, ("root", "neck", "left_eye", "right_eye", "jaw"), ("root", "neck"), ("root",)],
)
def test_rig_is_flame_with_neck_and_eyes_at_rest(tiny_head, joints):
    tiny_head = with_joints(tiny_head, joints)
    rng = np.random.default_rng(0)
    draws = [rng.normal(0, s, n) for s, n in ((1, 5), (1, 4), (0.3, 3), (0.5, 2), (0.7, 3))]
    shape, expression, jaw, eyelid, pose = (jnp.asarray(d, jnp.float32) for d in draws)
    coefficients = FlameCoefficients(
        *(value[None] for value in (shape, expression, jaw, eyelid, pose, jnp.ones(3)))
    )
    # The rig stands for the whole head: eyes skinned to their joints follow the head.
    tables = rig.point_rig(tiny_head, tiny_head.landmarks_203, 4, 5)
    both = jnp.concatenate([expression, shape])
    points = rig.pose_points(tables, both, jaw, eyelid, pose)
    expected = flame(tiny_head, coefficients).landmarks_203[0]
    np.testing.assert_allclose(points, expected, atol=2e-6)
    slope = jax.jacfwd(lambda k: rig.pose_points(tables, k, jaw, eyelid, pose))(both)
    np.testing.assert_allclose(rig.pose_basis(tables, jaw, pose), slope, atol=1e-6)


def test_minimise_solves_a_bounded_problem_by_hand():
    # (x - 3)^2 + (y - 2)^2 + y^2 with x <= 1: x stops at 1, y is the mean of 2 and 0.
    prior = least_squares.Prior(*map(jnp.asarray, ([0.0, 0], [0.0, 1], [-9.0, -9], [1.0, 9])))
    solution = least_squares.minimise(
        lambda x: (x - jnp.array([3.0, 2.0]))[:, None],
        jnp.zeros(2),
        prior,
        jnp.ones(2),
        jnp.full(20, 1e3),
    )
    np.testing.assert_allclose(solution.parameters, [1, 1], atol=1e-4)
    assert solution.cost == pytest.approx(4 + 1 + 1, rel=1e-4)


def test_a_start_outside_the_bounds_is_brought_within_them():
    """Where every step toward the bounds costs, none would ever be taken."""
    prior = least_squares.Prior(*(jnp.array([value]) for value in (0.0, 0.0, 1.0, 1.0)))
    found = least_squares.minimise(
        lambda x: 3 * (x + 1)[:, None], jnp.zeros(1), prior, jnp.ones(1), jnp.full(5, 1e3)
    )
    np.testing.assert_array_equal(found.parameters, [1])


def test_an_outlier_hardly_moves_a_robust_mean():
    seen = jnp.array([[1.0], [1.1], [0.9], [50.0]])
    prior = least_squares.Prior(*(jnp.array([v]) for v in (0.0, 0.0, -99.0, 99.0)))
    scales = jnp.geomspace(50.0, 0.5, 30)
    found = least_squares.minimise(
        lambda x: x[None] - seen, jnp.zeros(1), prior, jnp.ones(4), scales
    ).parameters
    assert found[0] == pytest.approx(1, abs=0.02)


def test_faces_come_back_from_any_yaw(landmarks, truth):
    fit = fitted(landmarks)
    assert fit.valid.all() and fit.converged.all()
    assert np.asarray(fit.residual).max() < 0.005
    assert np.rad2deg(np.abs(fit.coefficients.pose - truth.pose)).max() < 4
    errors = face_errors(fit.coefficients, truth)
    assert np.median(errors, axis=1).max() < 4 and np.median(errors) < 2.5
    np.testing.assert_allclose(fit.coefficients.jaw[:, 0], truth.jaw[:, 0], atol=0.05)
    np.testing.assert_allclose(fit.coefficients.eyelid, truth.eyelid, atol=0.15)


def test_mediapipe_points_alone_open_the_jaw_and_shut_the_eyes(landmarks, truth):
    fit = fitted({"landmarks_105": landmarks["landmarks_105"]})
    assert np.asarray(fit.residual_105).max() < 0.01
    assert np.isnan(fit.residual_68).all() and np.isnan(fit.residual_203).all()
    np.testing.assert_allclose(fit.coefficients.jaw[:, 0], truth.jaw[:, 0], atol=0.08)
    lids = np.asarray(fit.coefficients.eyelid)
    assert (lids[np.asarray(truth.eyelid) == 1] > 0.7).all()
    assert (lids[np.asarray(truth.eyelid) == 0] < 0.3).all()


def test_noise_and_outliers_do_little_harm(landmarks, truth):
    rng = np.random.default_rng(5)
    spoiled = {}
    for name, points in landmarks.items():
        noisy = points + rng.normal(0, 0.006, points.shape)  # about 1 mm
        wrong = rng.random(points.shape[:2]) < 0.1
        noisy[wrong] += rng.normal(0, 0.3, (wrong.sum(), 2))
        spoiled[name] = noisy
    errors = face_errors(fitted(spoiled).coefficients, truth)
    assert np.median(errors, axis=1).max() < 5


def test_upside_down(landmarks, truth):
    fit = fitted({name: -points for name, points in landmarks.items()})
    assert np.asarray(fit.residual).max() < 0.006
    errors = face_errors(fit.coefficients, truth)
    assert np.median(errors) < 3


def test_a_bad_example_harms_only_itself_and_is_flagged(landmarks):
    spoiled = {name: points.copy() for name, points in landmarks.items()}
    spoiled["landmarks_105"][2, 7] = np.nan
    for points in spoiled.values():
        points[5] = np.nan
    fit, clean = fitted(spoiled), fitted(landmarks)
    np.testing.assert_array_equal(fit.valid, [True, True, False, True, True, False, True, True])
    good = np.asarray(fit.valid)
    # The order of summation is the same, so the others do not change by a bit.
    np.testing.assert_array_equal(fit.coefficients.shape[good], clean.coefficients.shape[good])
    assert fit.residual[2] < 0.005, "the other points of the face still fit it"
    assert np.isnan(fit.residual[5]) and not fit.converged[5]
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(fit.coefficients))


def test_a_face_fits_alone_as_in_a_batch(landmarks):
    alone = fitted({name: points[6:7] for name, points in landmarks.items()})
    few = fitted({name: points[4:7] for name, points in landmarks.items()})
    everyone = fitted(landmarks)
    for one, three, eight in zip(*map(jax.tree.leaves, (alone, few, everyone)), strict=True):
        np.testing.assert_array_equal(three, eight[4:7])  # the same program, padded
        np.testing.assert_allclose(one[0], eight[6], atol=2e-3)


@pytest.mark.parametrize(
    ("observed", "message"),
    [
        (Observed(), "at least one of"),
        (Observed(landmarks_68=np.zeros((2, 67, 2))), r"expected \[2, 68, 2\]"),
        (Observed(np.zeros((2, 68, 2)), np.zeros((3, 105, 2))), r"expected \[2, 105, 2\]"),
        (Observed(landmarks_68=np.zeros((0, 68, 2))), "batch size 0"),
    ],
)
def test_wrong_landmarks_are_named(observed, message):
    with pytest.raises(ValueError, match=message):
        fit_landmarks(procedural_head(), observed)


def test_too_many_components_are_named():
    with pytest.raises(ValueError, match="n_shape is 301: the head has 300"):
        fit_landmarks(procedural_head(), Observed(np.zeros((1, 68, 2))), n_shape=301)
