"""The landmark fit from a reading: what landmarks say moves, what they do not say stays."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fields_jax.errors import UserError
from fields_jax.fitting import refine
from fields_jax.fitting.landmarks import Fit, Guess, Observed, Refinement, refine_landmarks
from fields_jax.fitting.parameters import Layout, pack
from fields_jax.fitting.view import landmark_rigs, projected, view
from fields_jax.flame.model import flame
from fields_jax.flame.procedural import procedural_head
from fields_jax.geometry.rotations import rodrigues, rotation_vector
from fields_jax.landmark_schemes import AVERAGED_5, MEDIAPIPE_105
from fields_jax.photos.faces import Face
from fields_jax.render.camera import project
from fields_jax.types import FieldsOutput, FlameCoefficients

B, SHAPES, EXPRESSIONS = 8, 12, 20
FIVE, DENSE, EXACT, BLIND = slice(0, 3), slice(3, 6), 6, 7
FITTED = 10  # of the shape components
SIZE = 64
SPREAD = dict(shape=0.5, expression=0.4, jaw=0.08, eyelid=0.3, pose=0.1)


def coefficients(rng: np.random.Generator, scale: float) -> FlameCoefficients:
    arrays = dict(
        shape=rng.normal(0, scale, (B, SHAPES)),
        expression=rng.normal(0, scale, (B, EXPRESSIONS)),
        jaw=np.abs(rng.normal(0, 0.1, (B, 1))) * [1, 0, 0],
        eyelid=rng.uniform(0.2, 0.8, (B, 2)),
        pose=rng.normal(0, 0.15, (B, 3)),
        camera=np.tile([7.0, 0.0, 0.02], (B, 1)),
    )
    return FlameCoefficients(**{name: jnp.asarray(a, jnp.float32) for name, a in arrays.items()})


def deviations(like: FlameCoefficients) -> FlameCoefficients:
    whole = {name: jnp.full_like(getattr(like, name), value) for name, value in SPREAD.items()}
    return FlameCoefficients(**whole, camera=jnp.full_like(like.camera, 0.2))


def seen(found: FlameCoefficients, count: int) -> np.ndarray:
    output = flame(procedural_head(), found)
    marks = {68: output.landmarks_68, 105: output.landmarks_105}.get(count, output.landmarks_68)
    points = np.asarray(project(marks, found.camera))[..., :2]
    if count == 5:
        points = np.stack([points[:, list(rows)].mean(axis=1) for rows in AVERAGED_5], axis=1)
    return points


def distance(found: FlameCoefficients, truth: FlameCoefficients) -> np.ndarray:
    """[B] mm over the face mask at zero pose."""
    head = procedural_head()
    a, b = (flame(head, c.replace(pose=jnp.zeros((B, 3)))).vertices for c in (found, truth))
    apart = np.asarray(a - b)[:, np.asarray(head.face_vertices)]
    return 1e3 * np.linalg.norm(apart, axis=-1).mean(axis=-1)


@pytest.fixture(scope="module")
def truth() -> FlameCoefficients:
    return coefficients(np.random.default_rng(0), 0.8)


@pytest.fixture(scope="module")
def reading(truth) -> FlameCoefficients:
    """The truth with errors of about the spread, in another place; the faces EXACT and BLIND."""
    rng = np.random.default_rng(1)
    found = {
        name: np.asarray(getattr(truth, name)) + rng.normal(0, value, getattr(truth, name).shape)
        for name, value in SPREAD.items()
    }
    found["jaw"] *= [1, 0, 0]
    found["camera"] = np.asarray(truth.camera) * [0.8, 1, 1] + [0, 0.03, -0.02]
    for name, values in found.items():
        values[EXACT] = np.asarray(getattr(truth, name))[EXACT]
    found["jaw"], found["eyelid"] = (np.clip(found[name], 0, 0.9) for name in ("jaw", "eyelid"))
    return FlameCoefficients(**{name: jnp.asarray(a, jnp.float32) for name, a in found.items()})


@pytest.fixture(scope="module")
def refined(truth, reading) -> Refinement:
    weights = {count: np.zeros((B, count)) for count in (5, 105)}
    weights[5][FIVE], weights[105][DENSE], weights[5][EXACT] = 1, 1, 1
    marks = Observed(
        landmarks_5=seen(truth, 5),
        landmarks_105=seen(truth, 105),
        weights_5=weights[5],
        weights_105=weights[105],
    )
    guess = Guess(reading, deviations(reading))
    return refine_landmarks(procedural_head(), marks, guess, n_shape=FITTED)


def test_five_points_move_the_head_and_leave_the_face(truth, reading, refined):
    fit = refined.fit
    before, after = np.asarray(refined.before)[FIVE], np.asarray(fit.residual_5)[FIVE]
    assert before.min() > 0.05 and after.max() < 0.02
    np.testing.assert_allclose(fit.coefficients.camera[FIVE, 0], truth.camera[FIVE, 0], rtol=0.08)
    for name in ("shape", "expression"):
        moved = np.abs(np.asarray(getattr(fit.coefficients, name) - getattr(reading, name))[FIVE])
        assert moved.max() < 0.7 * SPREAD[name] and moved.mean() < 0.15 * SPREAD[name], name
    assert (distance(fit.coefficients, reading)[FIVE] < 1.5).all()


def test_dense_landmarks_bring_the_reading_nearer_to_the_truth(truth, reading, refined):
    assert np.asarray(refined.fit.residual_105)[DENSE].max() < 0.006
    assert np.isnan(refined.fit.residual_5[DENSE]).all()
    before, after = (distance(c, truth)[DENSE] for c in (reading, refined.fit.coefficients))
    assert (after < 0.7 * before).all()


def test_a_reading_that_agrees_with_its_landmarks_stays(truth, reading, refined):
    # Also: the five points of the fit are those of the head as it is projected.
    assert refined.before[EXACT] < 1e-4 and refined.fit.residual[EXACT] < 1e-4
    found = jax.tree.map(lambda values: values[EXACT], refined.fit.coefficients)
    expected = jax.tree.map(lambda values: values[EXACT], truth)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-3), found, expected)
    kept, given = (c.shape[:, FITTED:] for c in (refined.fit.coefficients, reading))
    np.testing.assert_array_equal(kept, given)


def test_without_landmarks_the_reading_stays(reading, refined):
    assert not refined.fit.valid[BLIND] and np.isnan(refined.before[BLIND])
    assert refined.fit.valid[:BLIND].all()
    for name in ("shape", "camera", "pose"):
        found, expected = (getattr(c, name)[BLIND] for c in (refined.fit.coefficients, reading))
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_a_guess_of_other_faces_is_refused(truth):
    short = jax.tree.map(lambda values: values[:2], deviations(truth))
    with pytest.raises(ValueError, match="8 faces: expected a guess of 8"):
        refine_landmarks(
            procedural_head(), Observed(landmarks_5=seen(truth, 5)), Guess(truth, short)
        )


class Networks:
    """Stands for networks: reads the same of every crop, but for the turn of a turned one."""

    def __init__(self, known: FlameCoefficients, wavering: float = 0.0):
        self.known, self.wavering, self.calls = known, wavering, 0

    def __call__(self, images: np.ndarray) -> FieldsOutput:
        degrees = refine.VARIATIONS[self.calls % len(refine.VARIATIONS)][3]
        self.calls += 1
        # Clockwise in the picture is a negative turn about the axis that points at the camera.
        turn = np.asarray(rodrigues(jnp.float32([0, 0, -np.deg2rad(degrees)])))
        pose = np.array([0, 0.3, 0], np.float32)
        turned = turn @ np.asarray(rodrigues(pose))
        angle = np.arccos((np.trace(turned) - 1) / 2)
        axis = [turned[k - 1, k - 2] - turned[k - 2, k - 1] for k in range(3)]
        pose = np.tile(np.float32(axis) * angle / (2 * np.sin(angle)), (len(images), 1))
        rows = len(images)
        known = jax.tree.map(lambda a: np.tile(np.asarray(a)[:1], (rows, 1)), self.known)
        known = known.replace(pose=pose, expression=known.expression + self.wavering * self.calls)
        return FieldsOutput(known, None, None, None, None)


def face(points: np.ndarray | None) -> Face:
    image = np.zeros((SIZE, SIZE, 3), np.uint8)
    return Face("", "a", image, points, np.float32([0, 0, SIZE, SIZE]), 1.0, "")


def test_the_spread_is_that_of_the_readings_over_the_floor(truth):
    head, pose = procedural_head(), jnp.tile(jnp.float32([[0, 0.3, 0]]), (2, 1))
    reading = jax.tree.map(lambda a: jnp.tile(a[:1], (2, 1)), truth).replace(pose=pose)
    faces = [face(None)] * 2
    calm = refine.Refiner(Networks(truth), head, SIZE, 2).deviations(faces, reading)
    assert calm.shape.shape == (2, SHAPES)
    for name, expected in (("shape", 0.5), ("expression", 0.5), ("pose", 0.1), ("jaw", None)):
        expected = [0.1, 0.015, 0.015] if expected is None else expected
        np.testing.assert_allclose(getattr(calm, name) - expected, 0, atol=1e-3, err_msg=name)
    # 0.3, 0.6, 0.9, 1.2 away: root mean square 0.8216
    wild = refine.Refiner(Networks(truth, 0.3), head, SIZE, 2).deviations(faces, reading)
    np.testing.assert_allclose(wild.expression, np.hypot(0.8216, 0.5), rtol=1e-3)
    np.testing.assert_allclose(wild.shape, calm.shape)


def test_a_stored_spread_is_the_floor_and_a_wrong_one_is_named(truth):
    head = procedural_head()
    other = jax.tree.map(lambda a: a + 0.25, truth)
    stored = refine.spread_of(other, truth)
    assert set(stored) == {"shape", "expression", "jaw", "eyelid"}
    floor = refine.floors(head, truth, stored)
    assert floor["shape"].shape == (SHAPES,) and floor["pose"].tolist() == pytest.approx([0.1] * 3)
    np.testing.assert_allclose(floor["expression"], 0.25, rtol=1e-5)
    for wrong in (stored | {"jaw": [1.0, 0.0, 1.0]}, stored | {"shape": [1.0]}, {}):
        with pytest.raises(UserError, match="spread holds no"):
            refine.floors(head, truth, wrong)


def test_a_varied_crop_shows_the_head_turned_shifted_and_scaled():
    image = np.zeros((SIZE, SIZE, 3), np.uint8)
    image[28:36, 44:52] = 255  # right of the centre
    turned = refine.varied_crop(
        dataclasses.replace(face(None), image=image), SIZE, (0.0, 0.125, 1.0, 90.0)
    )
    rows, columns = np.nonzero(turned[..., 0] > 127)
    # Clockwise by a quarter: below the centre; then down by an eighth.
    assert abs(rows.mean() + 0.5 - (32 + 16 + 8)) < 0.6 and abs(columns.mean() + 0.5 - 32) < 0.6


def test_faces_without_landmarks_keep_the_reading(truth):
    networks = Networks(truth)
    hidden = np.zeros((68, 2), np.float32)
    hidden[:20] = np.random.default_rng(0).uniform(10, 50, (20, 2))
    faces = [face(None), face(hidden)]
    reading = jax.tree.map(lambda a: a[:2], truth)
    found = refine.Refiner(networks, procedural_head(), SIZE, 2).refine(faces, reading)
    assert found.notes() == [(False, None, None)] * 2 and networks.calls == 0
    jax.tree.map(np.testing.assert_array_equal, found.coefficients, reading)


def test_a_fit_that_is_worse_than_the_reading_is_not_kept(truth, reading, monkeypatch):
    """Two faces with landmarks, of which one fit comes closer, and one without."""
    marked = np.random.default_rng(0).uniform(10, 50, (68, 2)).astype(np.float32)
    faces = [face(marked), face(None), face(marked)]
    before, after = jnp.float32([0.63, 0.2]), jnp.float32([0.87, 0.1])
    fitted = jax.tree.map(lambda a: jnp.asarray(a[:2]) + 1, reading)
    fit = Fit(fitted, *[after] * 5, jnp.ones(2, bool), jnp.ones(2, bool))
    monkeypatch.setattr(refine.Refiner, "solve", lambda *_: Refinement(fit, before))
    own = jax.tree.map(lambda a: a[:3], reading)
    found = refine.Refiner(Networks(truth), procedural_head(), SIZE, 3).refine(faces, own)
    assert found.notes() == [
        (False, pytest.approx(0.63), None),
        (False, None, None),
        (True, pytest.approx(0.2), pytest.approx(0.1)),
    ]
    for name in ("expression", "pose", "camera"):
        kept, given = (np.asarray(getattr(c, name)) for c in (found.coefficients, own))
        np.testing.assert_array_equal(kept[:2], given[:2])
        np.testing.assert_allclose(kept[2], given[1] + 1, rtol=1e-6)


def test_landmarks_are_taken_in_the_crop_that_was_read(truth, reading, monkeypatch):
    """In a photograph with the crop somewhere: what is fitted are the points of that crop."""
    marks = seen(truth, 105)[0]
    dense = np.zeros((478, 2), np.float32)
    dense[MEDIAPIPE_105] = 100 + 30 * marks  # of a crop of 60 pixels about (100, 100)
    box = np.float32([70, 70, 130, 130])
    portrait = dataclasses.replace(face(dense), box=box)
    taken = []

    def solve(self, observed, guess):
        taken.append((observed, guess))
        raise InterruptedError

    monkeypatch.setattr(refine.Refiner, "solve", solve)
    head = procedural_head()
    with pytest.raises(InterruptedError):
        first = jax.tree.map(lambda a: a[:1], reading)
        refine.Refiner(Networks(truth), head, SIZE, 1).refine([portrait], first)
    observed, guess = taken[0]
    np.testing.assert_allclose(observed.landmarks_105[0], marks, atol=1e-5)
    assert observed.weights_105.all() and not observed.weights_5.any()
    np.testing.assert_array_equal(guess.coefficients.camera, reading.camera[:1])


def test_five_points_of_a_turned_head_are_averages_of_its_68():
    pose = rotation_vector(40, 10, 5)
    known = FlameCoefficients(
        *(jnp.zeros((1, k), jnp.float32) for k in (3, 3, 3, 2)),
        pose=jnp.float32(pose)[None],
        camera=jnp.float32([[7, 0, 0]]),
    )
    x = pack(known)[0]
    points = projected(view(landmark_rigs(procedural_head(), Layout(3, 3)), x[:3]), x)
    np.testing.assert_allclose(points[-5:], seen(known, 5)[0], atol=1e-5)
