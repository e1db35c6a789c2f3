"""Gaze from iris points: recovered from projections of eyeballs that were turned."""

from __future__ import annotations

import functools

import numpy as np
import pytest

from fields_jax.fitting import gaze
from fields_jax.flame import flame
from fields_jax.flame.eyes import eyeballs
from fields_jax.flame.procedural import procedural_head
from fields_jax.geometry.rotations import rotation_vector, turned
from fields_jax.geometry.spheres import fit_sphere
from fields_jax.landmark_schemes import EYE_ENDS_478, IRIS_478, MEDIAPIPE_105
from fields_jax.photos.faces import Face
from fields_jax.render import project
from fields_jax.types import FlameCoefficients
from tests.support.heads import random_head, with_joints

SCALE = 7.0
# Four points of an iris 11.7 mm across on an eyeball of 24 mm that looks along +z, in its radii.
ACROSS = 11.7 / 24
BORDER = np.array(
    [
        (ACROSS * x, ACROSS * y, np.sqrt(1 - ACROSS**2))
        for x, y in ((1, 0), (0, 1), (-1, 0), (0, -1))
    ]
)


@functools.cache
def head():
    return procedural_head()


@functools.cache
def reader():
    return gaze.GazeReader(head())


def person(seed: int, pose, eyes, eyelid=(0.0, 0.0)):
    """Arguments of `read` for a face whose eyes are turned."""
    rng, pose = np.random.default_rng(seed), np.asarray(pose, np.float64)
    eyes = np.asarray(eyes, np.float64)

    def rows(values):
        return np.asarray([values], np.float32)

    coefficients = FlameCoefficients(
        shape=rows(rng.normal(0, 0.7, 60)),
        expression=rows(rng.normal(0, 0.3, 50)),
        jaw=np.zeros((1, 3), np.float32),
        eyelid=rows(eyelid),
        pose=rows(pose),
        camera=rows([SCALE, 0.01, -0.02]),
        eyes=rows(eyes),
    )
    face = flame(head(), coefficients)
    marks = np.full((478, 2), np.nan)
    marks[MEDIAPIPE_105] = project(face.landmarks_105, coefficients.camera)[0, :, :2]
    sides = zip(("left", "right"), eyeballs(head()), np.split(eyes, 2), strict=True)
    for side, ball, own in sides:
        centre, radius = fit_sphere(np.asarray(face.vertices[0])[ball].astype(np.float64))
        border = np.stack([turned(pose, turned(own, radius * point)) for point in BORDER])
        iris = (centre + np.concatenate([border.mean(0)[None], border])).astype(np.float32)
        marks[IRIS_478[side]] = project(iris[None], coefficients.camera)[0, :, :2]
    names = ("shape", "expression", "eyelid", "pose", "camera")
    known = {n: np.asarray(getattr(coefficients, n)[0], np.float64) for n in names}
    return known | {"points": marks}


def degrees_apart(first, second) -> float:
    ahead = np.array([0, 0, 1.0])
    a, b = (turned(np.asarray(turn, np.float64), ahead) for turn in (first, second))
    return float(np.rad2deg(np.arccos(np.clip(a @ b, -1, 1))))


@pytest.mark.parametrize("seed", range(6))
def test_gaze_is_found_within_a_degree_of_a_true_face(seed):
    rng = np.random.default_rng(100 + seed)
    pose = rotation_vector(*rng.uniform([-30, -20, -15], [30, 20, 15]))
    turn = rotation_vector(*rng.uniform(-25, 25, 2), 0)
    found = reader().read(**person(seed, pose, np.tile(turn, 2)))
    for read in np.split(found, 2):
        assert degrees_apart(turn, read) < 1.0


def test_errors_of_the_fitted_place_cancel():
    # The whole face a millimetre aside of where the fit has it: the iris moves with its corners.
    turn = rotation_vector(12, -8, 0)
    face = person(1, rotation_vector(10, 5, 0), np.tile(turn, 2))
    shifted = face | {"points": face["points"] + 0.001 * SCALE}
    for read in np.split(reader().read(**shifted), 2):
        assert degrees_apart(turn, read) < 1.0


def test_a_winking_eye_follows_the_open_one():
    turn = rotation_vector(-14, 6, 0)
    found = reader().read(**person(2, (0, 0, 0), np.tile(turn, 2), eyelid=(1.0, 0.0)))
    assert (found[:3] == found[3:]).all()
    assert degrees_apart(turn, found[3:]) < 1.0
    assert reader().read(**person(2, (0, 0, 0), np.tile(turn, 2), (1.0, 1.0))) is None


def test_an_eye_that_is_nearly_shut_is_taken_for_a_wink():
    """Its slit is above the least that tells an iris, and what is told of it is far off."""
    turn = rotation_vector(-14, 6, 0)
    face = person(2, (0, 0, 0), np.tile(turn, 2), eyelid=(0.75, 0.0))
    face["points"][IRIS_478["left"]] += 0.03
    found = reader().read(**face)
    assert (
        0.08 < gaze._opening(face["points"], "left") < 0.5 * gaze._opening(face["points"], "right")
    )
    assert degrees_apart(turn, found[3:]) < 1.0


@pytest.mark.filterwarnings("error")
def test_an_eye_whose_corners_coincide_is_a_closed_one():
    turn = rotation_vector(-14, 6, 0)
    face = person(2, (0, 0, 0), np.tile(turn, 2))
    face["points"][list(EYE_ENDS_478["left"])] = 0.1
    assert gaze._opening(face["points"], "left") == 0
    assert degrees_apart(turn, reader().read(**face)[3:]) < 1.0


@pytest.mark.parametrize(("yaw", "near"), [(50, 1), (-50, 0)])
def test_an_eye_that_is_turned_away_follows_the_near_one(yaw, near):
    turns = np.stack([rotation_vector(8, 3, 0), rotation_vector(-8, 3, 0)])
    found = reader().read(**person(3, rotation_vector(yaw, 0, 0), turns.ravel()))
    for read in np.split(found, 2):
        assert degrees_apart(turns[near], read) < 1.5


def test_no_eye_turns_further_than_eyes_do():
    face = person(4, (0, 0, 0), np.zeros(6))
    for side in ("left", "right"):
        face["points"][IRIS_478[side]] += 1.0
    left = reader().read(**face)[:3]
    assert np.rad2deg(np.linalg.norm(left)) == pytest.approx(gaze.WIDEST)


def in_photograph(points) -> Face:
    """A face of a photograph of 256 pixels whose crop is the photograph."""
    image, whole = np.zeros((256, 256, 3), np.uint8), np.array([0.0, 0.0, 256.0, 256.0])
    return Face("a.png", "a", image, points, whole, 1.0, "landmarks given")


def test_faces_with_irises_look_and_the_others_do_not():
    turn = rotation_vector(10, -5, 0)
    known = person(6, (0, 0, 0), np.tile(turn, 2))
    names = ("shape", "expression", "eyelid", "pose", "camera")
    two = {name: np.stack([known[name]] * 2).astype(np.float32) for name in names}
    coefficients = FlameCoefficients(jaw=np.zeros((2, 3), np.float32), **two)
    pixels = np.nan_to_num((known["points"] + 1) * 128, nan=77.0).astype(np.float32)
    faces = [in_photograph(pixels[:68]), in_photograph(pixels)]
    found, seen = reader().looking(faces, coefficients, 256)
    assert seen == [False, True]
    assert not found.eyes[0].any()
    assert degrees_apart(turn, found.eyes[1, :3]) < 1.0
    hidden = {point: pixels.copy() for point in (470, 263, 386)}  # of an iris, a corner, a lid
    for point, own in hidden.items():
        own[point] = 0  # unseen
    for points in (pixels[:68], None, *hidden.values()):
        others = [in_photograph(points)]
        same, none = reader().looking(others, coefficients, 256)
        assert same is coefficients and none == [False]


def test_a_head_without_joints_of_its_eyes_has_no_gaze():
    blind = gaze.GazeReader(with_joints(random_head(), ("root", "neck", "jaw")))
    assert blind.read(**person(5, (0, 0, 0), np.zeros(6))) is None
