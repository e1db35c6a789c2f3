"""Verdicts: what speaks against a reading, each reason by itself; evidence by hand."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from fields_jax.flame.landmark_head import landmark_head
from fields_jax.flame.procedural import procedural_head
from fields_jax.geometry.rotations import rotation_vector
from fields_jax.landmark_schemes import MIRRORED
from fields_jax.outputs import confidence, wavering
from fields_jax.outputs.confidence import Evidence, expected_error, judge
from fields_jax.photos.crops import to_photograph, transform_points
from fields_jax.photos.faces import Detection, Face, Finder, varied_matrix

GOOD = Evidence(
    spread=0.02,
    mirror=0.03,
    upside=0.05,
    again=0.6,
    match=0.8,
    turn=10,
    roll=3,
    inside=1,
    overlap=0,
    pixels=120,
)
FITTED = dataclasses.replace(GOOD, spread=np.nan, mirror=np.nan, upside=np.nan, residual=0.02)


def test_good_evidence_is_ok():
    assert judge(GOOD).verdict == judge(FITTED).verdict == "ok"
    assert judge(GOOD).reasons == () and 0.02 < judge(GOOD).error < 0.1
    assert judge(FITTED).error == 0.02


@pytest.mark.parametrize("known", [GOOD, FITTED])
@pytest.mark.parametrize(
    ("worse", "reason"),
    [
        (dict(again=0.0, match=0.0), "the finder sees no face there"),
        (dict(found=0.65), "perhaps no face: probable to 65 %"),
        (dict(match=0.2), "the finder sees the face elsewhere or of another size"),
        (dict(turn=75.0), "turned away by 75 degrees"),
        (dict(roll=170.0), "turned in the picture by 170 degrees"),
        (dict(pixels=30.0), "a face of 30 pixels"),
        (dict(inside=0.8), "80 % of it is in the picture"),
        (dict(overlap=0.7), "another face covers 70 % of it"),
    ],
)
def test_each_doubt_by_itself_is_enough(known, worse, reason):
    verdict = judge(dataclasses.replace(known, **worse))
    assert verdict.verdict != "ok" and reason in verdict.reasons


def test_wavering_readings_fail_and_missed_landmarks_are_suspect():
    wild = judge(dataclasses.replace(GOOD, spread=0.3, mirror=0.3))
    assert wild.verdict == "fail" and "readings of shifted crops differ" in wild.reasons[0]
    assert judge(dataclasses.replace(FITTED, residual=0.09)).verdict == "suspect"
    assert judge(dataclasses.replace(GOOD, inside=0.3)).verdict == "fail"
    turned = judge(dataclasses.replace(GOOD, upside=0.015))
    assert turned.verdict == "fail" and turned.reasons[0].startswith("upside down")


@pytest.mark.parametrize(
    "worse",
    [
        dict(residual=0.83),  # points at random
        dict(residual=confidence.LIMITS[1]),
        dict(turn=171.0),  # left and right swapped
        dict(residual=0.07, again=0.0, match=0.0),
    ],
)
def test_a_fit_to_points_that_are_no_face_fails(worse):
    assert judge(dataclasses.replace(FITTED, **worse)).verdict == "fail"


def test_a_good_fit_that_the_finder_misses_is_only_suspect():
    assert judge(dataclasses.replace(FITTED, again=0.0, match=0.0)).verdict == "suspect"
    assert judge(dataclasses.replace(FITTED, turn=95.0, residual=0.2)).verdict == "suspect"


@pytest.mark.parametrize(
    ("name", "better", "worse"),
    [("spread", 0.01, 0.1), ("mirror", 0.02, 0.2), ("turn", 0, 50), ("inside", 1, 0.7)],
)
def test_the_expected_error_grows_with_what_speaks_against_a_reading(name, better, worse):
    errors = [
        expected_error(dataclasses.replace(GOOD, **{name: value})) for value in (better, worse)
    ]
    assert errors[0] < errors[1]


def test_the_words_hold_no_unknown_numbers():
    told = confidence.in_words(judge(FITTED), FITTED)
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    assert set(told["evidence"]) == {
        *("residual", "again", "match", "turn", "roll", "inside", "overlap", "pixels")
    }


def face(box=(20, 10, 80, 70), shape=(100, 120)):
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    return Face("", "x", image, None, np.float32(box), 1.4, "", overlap=0.25)


@pytest.mark.parametrize(
    ("yaw", "pitch", "roll"), [(40, 0, 0), (0, -30, 0), (0, 0, 80), (0, 0, -170)]
)
def test_turn_and_roll_of_known_poses(yaw, pitch, roll):
    points = np.float32(np.tile([50, 40], (68, 1)))
    points[:17] = 130  # a quarter is beyond the edge
    found = confidence.evidence(face(), points, np.float32(rotation_vector(yaw, pitch, roll)))
    assert found.turn == pytest.approx(max(abs(yaw), abs(pitch)), abs=1e-3)
    assert found.roll == pytest.approx(abs(roll), abs=1e-3)
    assert found.inside == 0.75 and found.pixels == 60 and found.overlap == 0.25


def test_the_second_look_knows_the_face_by_its_place():
    known = face()
    middle, side = np.array([50, 40]), 60 * 2.2  # of the square that is looked at

    def told(box, score=0.7):
        inside = (np.reshape(box, (2, 2)) - middle + side / 2) * 160 / side
        return confidence.look_again(
            Finder("x", lambda image: [Detection(None, score, np.float32(inside.ravel()))]), known
        )

    same = told((20, 10, 80, 70))
    assert same["again"] == pytest.approx(0.7) and same["match"] == pytest.approx(1, abs=1e-3)
    shifted = told((40, 10, 100, 70))  # two thirds of 60 x 60 are shared: 1 / 2 of the union
    assert shifted["match"] == pytest.approx(0.5, abs=1e-3)
    assert told((78, 68, 118, 98))["again"] == 0
    nobody = confidence.look_again(Finder("x", lambda image: []), known)
    assert nobody == {"again": 0.0, "match": 0.0}


def test_readings_that_follow_the_crop_do_not_waver():
    """Landmarks that stay in the photograph have no spread and are their own mirror image."""
    known, size, rng = face(), 96, np.random.default_rng(1)
    truth = rng.uniform(20, 80, (68, 2))
    truth[[36, 45]] = [[40, 30], [60, 30]]

    def seen(matrix, mirrored=False):
        inside = 2 * transform_points(matrix, truth) / size - 1
        if mirrored:
            inside = (inside * (-1, 1))[MIRRORED["landmarks_68"]]
        return np.column_stack([inside, np.zeros(68)])

    plain = known.matrix(size)
    varied = [seen(varied_matrix(known, size, each)) for each in wavering.VARIATIONS]
    points = np.stack([seen(plain), *varied, seen(plain, mirrored=True)])
    found = wavering.wavering(points[None])
    assert found.spread[0] < 1e-5 and found.mirror[0] < 1e-5
    # One crop whose reading lies 2 pixels of the photograph, a tenth of 20, beside the others.
    points[1, :, 0] += 2 * 2 * plain[0, 0] / size
    moved = wavering.wavering(points[None])
    assert moved.upside is None and moved.of(0).keys() == {"spread", "mirror"}
    assert moved.spread[0] == pytest.approx(0.1 * np.sqrt(0.2 * 0.8), rel=0.02)
    turned = -np.concatenate([points[:1], points[2:-1], points[1:2]])  # no crop is where it was
    steady = np.stack([seen(plain), *varied, seen(plain, mirrored=True)])
    both = wavering.wavering(np.concatenate([steady, -steady[:-1]])[None])
    assert both.upside[0] < 1e-5  # the same landmarks, half a turn further
    assert wavering.wavering(np.concatenate([steady, turned])[None]).upside[0] > 0.02
    points[-1, :, 0] += 2 * 2 * plain[0, 0] / size
    assert wavering.wavering(points[None]).mirror[0] == pytest.approx(0.1, rel=0.02)


def test_crops_of_a_face_stand_together():
    crops = wavering.varied_crops([face(), face((0, 0, 50, 50))], 32)
    assert len(crops) == 2 * wavering.CROPS
    np.testing.assert_array_equal(crops[wavering.CROPS - 1], crops[0][:, ::-1])
    np.testing.assert_array_equal(crops[0], face().crop(32))
    more = wavering.varied_crops([face()], 32, upside=True)
    assert len(more) == wavering.CROPS + wavering.TURNED
    np.testing.assert_array_equal(more[wavering.CROPS + 2], crops[2][::-1, ::-1])


def test_landmarks_of_a_small_head_are_those_of_the_whole():
    from tests.support.portraits import coefficients

    head = procedural_head()
    one, other = (
        wavering.posed_landmarks(each, coefficients(2, yaw=0.4))
        for each in (head, landmark_head(head))
    )
    np.testing.assert_allclose(one, other, atol=1e-6)
    assert to_photograph(one[0], np.eye(3), 64).shape == (68, 2)
