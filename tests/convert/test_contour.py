"""The contour of a head whose outline is known, as it turns."""

from __future__ import annotations

import numpy as np
import pytest

from fields_jax.convert import contour
from fields_jax.convert.contour import at_vertices
from fields_jax.landmark_schemes import CONTOUR_68


@pytest.fixture(scope="module")
def places(ict_head):
    """[79, 17, 3] of the contour, metres."""
    table = ict_head.contour
    points = contour.Points(np.asarray(table.face_index), np.asarray(table.barycentric))
    return contour.places(np.asarray(ict_head.template), np.asarray(ict_head.faces), points)


def test_vertices_as_points_are_the_vertices(clone):
    points = at_vertices(clone.faces, clone.landmarks_68)
    found = contour.places(clone.neutral, clone.faces, points)
    np.testing.assert_array_equal(found, clone.neutral[clone.landmarks_68])


def test_the_frontal_contour_is_the_published_one(clone, places):
    published = clone.neutral[clone.landmarks_68[CONTOUR_68]]
    np.testing.assert_allclose(places[0], published, atol=1e-7)


def test_the_side_that_turns_away_moves_inward_to_the_outline(clone, places):
    """Within 4 mm of the farthest that the skin reaches at the point's height, as it is seen."""
    turn = np.radians(30)
    skin = clone.neutral[clone.layout.rows("face")]
    across = skin[:, 0] * np.cos(turn) + skin[:, 2] * np.sin(turn)
    turned = places[30]
    assert (turned[9:16, 0] < places[0, 9:16, 0]).all()
    for point in turned[11:16]:
        level = np.abs(skin[:, 1] - point[1]) < 0.004
        seen = point[0] * np.cos(turn) + point[2] * np.sin(turn)
        assert seen > across[level].max() - 0.004


def test_the_other_side_goes_back_to_the_jaw_and_stays(clone, places):
    jaw = clone.neutral[list(clone.layout.jaw_right)]
    np.testing.assert_allclose(places[39, 1:8], jaw[1:], atol=0.003)
    assert np.median(np.linalg.norm(places[39, :9] - places[30, :9], axis=1)) < 0.001


def test_the_contour_does_not_jump_and_is_the_same_for_both_sides(places):
    by_yaw = places[[*range(78, 39, -1), *range(40)]]
    assert np.linalg.norm(np.diff(by_yaw, axis=0), axis=2).max() < 0.012
    mirrored = by_yaw[::-1, ::-1] * [-1, 1, 1]
    assert np.median(np.linalg.norm(mirrored - by_yaw, axis=2)) < 0.001
