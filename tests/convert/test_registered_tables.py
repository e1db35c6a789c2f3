"""Tables carried over to a mesh on which the right places are known: the same head's.

The clone's 68 landmarks are vertices, up to 3 mm from the points that they stand for, and draw the
skin about them along.
"""

from __future__ import annotations

import numpy as np

from fields_jax.landmark_schemes import N_203
from tests.support.ict_clones import points_of


def test_landmarks_come_to_lie_where_the_known_head_has_them(small, ict_head):
    for name in ("landmarks_105", "landmarks_203"):
        gap = np.linalg.norm(points_of(ict_head, name) - points_of(small.head, name), axis=1)
        assert np.median(gap) < 0.0005 and gap.max() < 0.004, name
    np.testing.assert_array_equal(ict_head.mediapipe_index, small.head.mediapipe_index)
    assert ict_head.front_203.shape == (N_203,)


def test_no_point_changes_to_the_other_lip(small, ict_head):
    """Opening the jaw parts the lips; points of both heads go the same way."""
    jaw = np.asarray(small.head.skin_weights)[:, 2]
    known = np.asarray(small.head.landmarks_203.barycentric)
    corners = np.asarray(small.head.faces)[np.asarray(small.head.landmarks_203.face_index)]
    follows = (jaw[corners] * known).sum(1)
    found = np.asarray(ict_head.landmarks_203.barycentric)
    corners = np.asarray(ict_head.faces)[np.asarray(ict_head.landmarks_203.face_index)]
    follow = (np.asarray(ict_head.skin_weights)[:, 2][corners] * found).sum(1)
    lips = slice(48, 108)
    np.testing.assert_allclose(follow[lips], follows[lips], atol=0.15)


def test_regions_and_the_face_mask_are_the_known_heads(small, ict_head):
    order = np.concatenate([small.order, np.full(16, -1)])  # and the boxes of teeth
    for name in ("face", "nose", "lips", "scalp", "neck", "left_brow", "right_ear"):
        found = set(order[np.asarray(ict_head.regions[name])].tolist())
        known = set(np.asarray(small.head.regions[name]).tolist())
        known -= set(np.asarray(small.head.regions["mouth_interior"]).tolist())
        assert len(found & known) > 0.97 * len(found | known), name
    whole = np.asarray(ict_head.face_vertices)[np.asarray(ict_head.face_triangles)]
    assert np.isin(whole, np.asarray(ict_head.regions["face"])).all()
    rows = {tuple(row) for row in np.asarray(ict_head.faces).tolist()}
    assert {tuple(row) for row in whole.tolist()} <= rows
