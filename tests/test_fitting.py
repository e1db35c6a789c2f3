"""Faces found again from the landmarks that the embedded head shows."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fields_jax.fitting.landmarks import SETS, Observed, fit_landmarks
from fields_jax.fitting.least_squares import Prior, minimise
from fields_jax.fitting.rig import point_rig, pose_basis, pose_points
from fields_jax.flame import flame
from fields_jax.flame.procedural import procedural_head
from fields_jax.render import project
from fields_jax.types import FlameCoefficients

FACES = 8  # in every fit, so that one program serves all tests
YAWS = np.linspace(-80, 80, FACES)


def faces(rng, *, spread=1.0, jaw=0.45) -> FlameCoefficients:
    """Random people at yaws from -80 to 80 degrees."""
    jaws = np.zeros((FACES, 3))
    jaws[:, 0], jaws[:, 1] = rng.uniform(0, jaw, FACES), rng.normal(0, 0.02, FACES)
    columns = dict(
        shape=spread * rng.normal(size=(FACES, 100)),
        expression=spread * rng.normal(size=(FACES, 50)),
        jaw=jaws,
        eyelid=np.zeros((FACES, 2)),
        pose=np.stack(
            [rng.normal(0, 0.15, FACES), np.deg2rad(YAWS), rng.normal(0, 0.15, FACES)], axis=1
        ),
        camera=np.stack(
            [rng.uniform(6, 9, FACES), rng.normal(0, 0.01, FACES), rng.normal(0.02, 0.01, FACES)],
            axis=1,
        ),
    )
    return FlameCoefficients(**{name: jnp.float32(value) for name, value in columns.items()})


def seen(true: FlameCoefficients, names=tuple(SETS)) -> dict[str, np.ndarray]:
    """Landmarks in the image."""
    output = flame(procedural_head(), true)
    return {
        name: np.asarray(project(getattr(output, name), true.camera)[..., :2]) for name in names
    }


def face_errors(true: FlameCoefficients, found: FlameCoefficients) -> np.ndarray:
    """Distances of the face's vertices in mm [B, K], global pose aside."""
    head = procedural_head()
    still = jnp.zeros_like(true.pose)
    one, other = (
        np.asarray(flame(head, each.replace(pose=still)).vertices)[
            :, np.asarray(head.face_vertices)
        ]
        for each in (true, found)
    )
    return 1e3 * np.linalg.norm(one - other, axis=-1)


def test_rig_is_flame():
    head, true = procedural_head(), faces(np.random.default_rng(0))
    rig = point_rig(head, head.landmarks_203, 50, 100)
    both = jnp.concatenate([true.expression, true.shape], axis=1)
    lids = jnp.full((FACES, 2), 0.7)
    found = jax.vmap(pose_points, (None, 0, 0, 0, 0))(rig, both, true.jaw, lids, true.pose)
    expected = flame(head, true.replace(eyelid=lids)).landmarks_203
    np.testing.assert_allclose(found, expected, atol=1e-6)
    slope = jax.jacfwd(lambda c: pose_points(rig, c, true.jaw[0], lids[0], true.pose[0]))(both[0])
    np.testing.assert_allclose(pose_basis(rig, true.jaw[0], true.pose[0]), slope, atol=1e-6)


def test_least_squares_finds_a_robust_bounded_minimum():
    """A line through points of which one is far off, with the slope held below its bound."""
    x = jnp.arange(10.0)
    y = (2 * x + 1).at[4].set(500.0)
    free = Prior(jnp.zeros(2), jnp.zeros(2), jnp.full(2, -jnp.inf), jnp.full(2, jnp.inf))

    def residuals(line):
        return (line[0] * x + line[1] - y)[:, None]

    scales = jnp.geomspace(100.0, 1.0, 25)
    found = minimise(residuals, jnp.zeros(2), free, jnp.ones(10), scales).parameters
    np.testing.assert_allclose(found, [2, 1], atol=1e-2)
    bound = free.replace(upper=jnp.array([1.5, jnp.inf]))
    weights = jnp.ones(10).at[4].set(0)
    found = minimise(residuals, jnp.zeros(2), bound, weights, jnp.full(25, 1e4)).parameters
    # Slope on its bound; the intercept is then the mean of y - 1.5 x over the nine points left.
    expected = np.mean(np.delete(np.asarray(y - 1.5 * x), 4))
    np.testing.assert_allclose(found, [1.5, expected], rtol=1e-3)


@pytest.mark.parametrize("names", [tuple(SETS), ("landmarks_105",), ("landmarks_68",)])
def test_people_are_found_again_at_any_yaw(names):
    true = faces(np.random.default_rng(1))
    fit = fit_landmarks(procedural_head(), Observed(**seen(true, names)))
    assert fit.valid.all() and fit.converged.all()
    assert np.max(fit.residual) < 0.01
    yaw = np.rad2deg(np.asarray(fit.coefficients.pose[:, 1] - true.pose[:, 1]))
    assert np.abs(yaw).max() < 8
    np.testing.assert_allclose(fit.coefficients.jaw[:, 0], true.jaw[:, 0], atol=0.08)
    # Depth of a face is not in its outline: what one image leaves open, the prior decides.
    assert np.median(face_errors(true, fit.coefficients), axis=1).max() < 5
    neutral = jax.tree.map(jnp.zeros_like, true).replace(camera=true.camera)
    assert np.median(face_errors(true, neutral)) > 1.5 * np.median(
        face_errors(true, fit.coefficients)
    )
    given = {f"residual_{name[-3:].strip('_')}" for name in names}
    for name in ("residual_68", "residual_105", "residual_203"):
        assert np.isfinite(getattr(fit, name)).all() == (name in given)


def test_shut_eyes_a_wink_and_an_open_mouth():
    true = faces(np.random.default_rng(2), spread=0.3, jaw=0.0)
    lids = np.zeros((FACES, 2), np.float32)
    lids[1], lids[3, 0], lids[5, 1] = 1, 1, 1
    jaw = np.array(true.jaw)
    jaw[6] = [0.5, 0, 0]
    pose = true.pose.at[:, 1].multiply(0.25)  # +-20 degrees: both eyes in sight
    true = true.replace(eyelid=jnp.asarray(lids), jaw=jnp.asarray(jaw), pose=pose)
    found = fit_landmarks(procedural_head(), Observed(**seen(true))).coefficients
    np.testing.assert_allclose(found.eyelid, lids, atol=0.2)
    np.testing.assert_allclose(found.jaw[:, 0], jaw[:, 0], atol=0.08)


def test_noise_and_outliers():
    rng = np.random.default_rng(3)
    true = faces(rng)
    points = {}
    for name, clean in seen(true).items():
        noisy = clean + rng.normal(0, 0.004, clean.shape)
        far = rng.random(clean.shape[:2]) < 0.1
        noisy[far] += rng.normal(0, 0.3, (far.sum(), 2))
        points[name] = noisy
    fit = fit_landmarks(procedural_head(), Observed(**points))
    again = seen(fit.coefficients)
    for name, clean in seen(true).items():
        # Seven thousandths of the crop's half side; a robust fit is closer than its data.
        distance = np.linalg.norm(again[name] - clean, axis=-1)
        assert np.median(distance) < 0.008


def test_a_broken_face_harms_no_other():
    true = faces(np.random.default_rng(4))
    points = seen(true)
    whole = fit_landmarks(procedural_head(), Observed(**points))
    broken = {name: np.array(value) for name, value in points.items()}
    broken["landmarks_105"][2, :4] = np.nan  # the rest of the face is still there
    for value in broken.values():
        value[5] = np.nan
    fit = fit_landmarks(procedural_head(), Observed(**broken))
    assert np.asarray(fit.valid).tolist() == [k not in (2, 5) for k in range(FACES)]
    assert np.asarray(fit.residual)[2] < 0.01 and np.isnan(np.asarray(fit.residual)[5])
    others = [k for k in range(FACES) if k not in (2, 5)]
    for one, other in zip(jax.tree.leaves(whole), jax.tree.leaves(fit), strict=True):
        np.testing.assert_array_equal(one[jnp.array(others)], other[jnp.array(others)])
        assert np.isfinite(other[2]).all()


def test_an_unseen_set_is_as_good_as_none():
    true = faces(np.random.default_rng(5))
    points = seen(true)
    alone = fit_landmarks(procedural_head(), Observed(landmarks_105=points["landmarks_105"]))
    wrong = np.zeros((FACES, 68, 2))
    unseen = Observed(
        landmarks_105=points["landmarks_105"],
        landmarks_68=wrong,
        weights_68=np.zeros((FACES, 68)),
    )
    fit = fit_landmarks(procedural_head(), unseen)
    np.testing.assert_array_equal(fit.coefficients.jaw, alone.coefficients.jaw)


@pytest.mark.parametrize(
    ("points", "options", "message"),
    [
        ({}, {}, "give at least one of landmarks_68"),
        ({"landmarks_68": np.zeros((0, 68, 2))}, {}, "no faces to fit"),
        ({"landmarks_105": np.zeros((2, 68, 2))}, {}, r"landmarks_105 of shape \[2, 68, 2\]"),
        (
            {"landmarks_68": np.zeros((2, 68, 2)), "landmarks_105": np.zeros((1, 105, 2))},
            {},
            r"expected \[2, 105, 2\]",
        ),
        ({"landmarks_68": np.zeros((1, 68, 2))}, {"n_shape": 301}, "the head has 300 shape"),
    ],
)
def test_mistakes_are_named(points, options, message):
    with pytest.raises(ValueError, match=message):
        fit_landmarks(procedural_head(), Observed(**points), **options)
