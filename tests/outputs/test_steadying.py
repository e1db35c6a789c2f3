"""One reading from several crops: exact where they agree, the mean where they do not."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from fields_jax.flame.landmark_head import landmark_head
from fields_jax.flame.procedural import procedural_head
from fields_jax.geometry.rotations import matrix_of, vector_of
from fields_jax.outputs import wavering
from fields_jax.outputs.steadying import steadied
from tests.support.portraits import coefficients

COLUMNS = ("shape", "expression", "jaw", "eyelid", "pose")


@pytest.fixture(scope="module")
def head():
    return landmark_head(procedural_head())


def crops_of(head, known):
    """The readings, and their landmarks, of a network that is right about every crop."""

    def landmarks(one):
        return np.float64(wavering.posed_landmarks(head, jax.tree.map(lambda c: c[None], one))[0])

    plain = landmarks(known)
    ways = wavering.in_plain_crops(np.zeros((1, wavering.UPRIGHT, 1, 2)))[0, :, 0]
    ends = [
        wavering.in_plain_crops(np.full((1, 5, 1, 2), axis))[0, :, 0]
        for axis in (np.array([1.0, 0]), np.array([0, 1.0]))
    ]
    found, points = [], []
    degrees = (0.0, *(variation[3] for variation in wavering.VARIATIONS))
    for index, angle in enumerate(degrees):
        out = np.stack([ends[0][index] - ways[index], ends[1][index] - ways[index]], axis=1)
        inside = (plain[:, :2] - ways[index]) @ np.linalg.inv(out).T
        turn = vector_of(matrix_of(np.float32([0, 0, -np.deg2rad(angle)])) @ matrix_of(known.pose))
        own = known.replace(pose=np.float32(turn), camera=np.float32([1, 0, 0]))
        flat = landmarks(own)[:, :2]
        scale = 1 / np.sqrt(np.linalg.det(out)) * known.camera[0]
        shift = (inside / scale - flat).mean(axis=0)
        own = own.replace(camera=np.float32([scale, shift[0], -shift[1]]))
        np.testing.assert_allclose(landmarks(own)[:, :2], inside, atol=2e-5)
        found.append(own)
        points.append(landmarks(own))
    stacked = jax.tree.map(lambda *rows: np.stack(rows)[None], *found)
    return stacked, np.float32(points)[None]


def test_readings_that_agree_give_the_one_of_the_plain_crop(head):
    known = jax.tree.map(lambda column: np.asarray(column[0]), coefficients(1, yaw=0.4))
    readings, points = crops_of(head, known)

    def landmarks(mean):
        return wavering.posed_landmarks(head, mean)

    mean, marks = steadied(readings, points, landmarks)
    for name in (*COLUMNS, "camera"):
        np.testing.assert_allclose(
            getattr(mean, name)[0], getattr(known, name), atol=2e-5, rtol=1e-4, err_msg=name
        )
    np.testing.assert_allclose(marks, points[:, 0], atol=2e-5)
    np.testing.assert_allclose(marks, landmarks(mean), atol=2e-6)
    # One crop in which the mouth is open half a radian further, and the face seen elsewhere.
    jaw = readings.jaw.copy()
    jaw[:, 3, 0] += 0.5
    points[:, 3, :, 0] += 0.1 / 1.08
    moved, marks = steadied(readings.replace(jaw=jaw), points, landmarks)
    assert moved.jaw[0, 0] - known.jaw[0] == pytest.approx(0.1, abs=1e-5)
    there = marks.mean(axis=1)[0, :2] - landmarks(mean).mean(axis=1)[0, :2]
    assert np.linalg.norm(there) == pytest.approx(0.02 / 1.08**2, rel=0.05)
