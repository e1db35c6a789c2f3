"""Frames of one person: places and cameras, gaps filled."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from fields_jax.clips.decode import Frame
from fields_jax.clips.person import Rows, camera_at, place_of, runs, together
from fields_jax.clips.watching import Sighting
from fields_jax.photos import crops
from fields_jax.photos.faces import Face
from fields_jax.render import project


def sighting(index, time, box):
    image = np.zeros((4, 4, 3), np.uint8)
    face = Face("", "x", image, None, np.float32(box), 1.4, "")
    return Sighting(0, Frame(index, time, image, None), face)


def test_places_are_where_the_camera_of_the_crop_sees_the_origin(monkeypatch):
    rng = np.random.default_rng(0)
    boxes = np.concatenate([rng.uniform(0, 50, (5, 2)), rng.uniform(80, 200, (5, 2))], axis=1)
    matrices = np.stack([crops.crop_matrix(box, 1.4, 96) for box in boxes])
    camera = np.column_stack([rng.uniform(4, 9, 5), rng.normal(0, 0.03, (5, 2))]).astype(np.float32)
    place = place_of(camera, matrices, 96)
    points = rng.normal(0, 0.1, (5, 6, 3)).astype(np.float32)
    seen = (np.asarray(project(points, camera))[..., :2] + 1) * 96 / 2
    pixels = (seen - matrices[:, None, :2, 2]) / matrices[:, :1, :1]
    ours = place[:, None, 1:] + np.exp(place[:, None, :1]) * points[..., :2] * (1, -1)
    np.testing.assert_allclose(ours, pixels, atol=2e-3)
    np.testing.assert_allclose(camera_at(place, matrices, 96), camera, rtol=2e-5, atol=1e-6)


def test_lost_frames_are_interpolated_by_their_times_and_marked():
    rows = Rows()
    ends = np.deg2rad([[0.0, 60, 0], [0.0, -60, 0]])
    for index, time, turn, valence in ((0, 0.0, ends[0], 0.5), (3, 1.0, ends[1], -0.5)):
        columns = {
            "shape": np.ones(2),
            "expression": np.full(3, 2 * time),
            "pose": turn,
            "camera": np.array([8.0, 0, 0]),
            "valence": np.float32(valence),
        }
        rows.add(sighting(index, time, [10 + 30 * time, 0, 60 + 30 * time, 50]), columns)
    person = rows.person({0: 0.0, 1: 0.1, 2: 0.7, 3: 1.0, 4: 1.1}, 1.4, 96)
    assert person.frames.tolist() == [0, 1, 2, 3]
    assert person.seen.tolist() == [True, False, False, True] and runs(person.seen) == 1
    np.testing.assert_allclose(person.coefficients["expression"][:, 0], [0, 0.2, 1.4, 2], atol=1e-6)
    turns = Rotation.from_rotvec(person.coefficients["pose"]).as_rotvec(degrees=True)[:, 1]
    np.testing.assert_allclose(turns, [60, 48, -24, -60], atol=1e-4)
    np.testing.assert_allclose(person.boxes[:, 0], [10, 13, 31, 40], atol=1e-4)
    assert np.isnan(person.readings["valence"]).tolist() == [False, True, True, False]
    # The head stands in the middle of each box.
    np.testing.assert_allclose(person.place[:, 1], person.boxes[:, 0] + 25, atol=1e-3)
    np.testing.assert_allclose(person.camera, np.tile([8.0, 0, 0], (4, 1)), atol=1e-5)


def gazes(*columns):
    """A person of frames a tenth of a second apart whose gaze each of the columns tells."""
    rows = Rows()
    for index, gaze in enumerate(columns):
        known = {"shape": np.ones(2), "expression": np.zeros(3), "jaw": np.zeros(3)}
        known |= {"eyelid": np.zeros(2), "pose": np.zeros(3), "camera": np.array([8.0, 0, 0])}
        known["eyes"] = np.full(6, np.nan) if gaze is None else np.tile(np.deg2rad(gaze), 2)
        rows.add(sighting(index, index / 10, [10, 0, 60, 50]), known)
    return rows.person({index: index / 10 for index in range(len(columns))}, 1.4, 96)


def test_behind_a_lid_the_eyes_go_straight_from_where_they_were_to_where_they_are_next():
    left, right = (0.0, 20, 0), (0.0, -10, 0)
    person = gazes(None, left, None, None, right, None)
    found = Rotation.from_rotvec(person.coefficients["eyes"][:, :3]).as_rotvec(degrees=True)
    np.testing.assert_allclose(found[:, 1], [20, 20, 10, 0, -10, -10], atol=1e-4)
    np.testing.assert_allclose(person.coefficients["eyes"][:, 3:], np.deg2rad(found), atol=1e-6)
    assert person.seen.all()


def test_a_gaze_that_is_never_known_is_not_told():
    never, known = gazes(None, None), gazes((0.0, 20, 0))
    assert "eyes" not in never.coefficients and together([never])[0].eyes is None
    # Frames of both are drawn in one batch.
    assert [flame.eyes.any() for flame in together([never, known])] == [False, True]
