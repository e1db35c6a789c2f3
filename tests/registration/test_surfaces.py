"""Registration against a head's own copy, whose correspondence is known."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from fields_jax.errors import UserError
from fields_jax.registration.heads import head_surface
from fields_jax.registration.surfaces import EYES, Settings, carry, register, register_both
from tests.support.registered import other_mesh, small_head


@pytest.fixture(scope="module")
def case():
    head = small_head()
    copy = other_mesh(head)
    own, other = head_surface(head), copy.surface
    return head, own, other, copy.places, *register_both(own, other, Settings(rounds=4))


def test_points_of_the_face_are_found_on_another_mesh_of_the_same_head(case):
    head, own, other, places, forward, _ = case
    off = 1e3 * np.linalg.norm(carry(forward, other.faces, other.vertices) - places, axis=1)
    face = np.asarray(head.regions["face"])
    assert np.median(off[face]) < 0.4 and np.percentile(off[face], 95) < 1.5
    landmarks = np.einsum(
        "lc,lcd->ld", own.weights, carry(forward, other.faces, other.vertices)[own.corners]
    )
    inner = np.linalg.norm(landmarks - other.landmarks, axis=1)[17:]
    assert inner.max() < 0.002


def test_there_and_back_leads_home(case):
    head, own, other, _, forward, backward = case
    home = carry(backward, own.faces, own.vertices)  # of the other's vertices, on the head
    back = carry(forward, other.faces, home)
    off = 1e3 * np.linalg.norm(back - own.vertices, axis=1)[np.asarray(head.regions["face"])]
    assert np.median(off) < 0.3


def test_confidence_is_high_where_the_match_is_right(case):
    head, _, other, places, forward, _ = case
    off = 1e3 * np.linalg.norm(carry(forward, other.faces, other.vertices) - places, axis=1)
    assert forward.confidence.min() >= 0 and forward.confidence.max() <= 1
    assert np.median(forward.confidence[np.asarray(head.regions["face"])]) > 0.9
    assert np.median(off[forward.confidence > 0.9]) < np.median(off[forward.confidence < 0.5])


def test_eyeballs_lie_on_the_eyeball_of_their_side(case):
    head, _, other, places, forward, _ = case
    for side in ("left", "right"):
        rows = np.asarray(head.regions[f"{side}_eyeball"])
        assert (other.parts[forward.face_index[rows]] == EYES).all()
        there = carry(forward, other.faces, other.vertices)[rows]
        off = 1e3 * np.linalg.norm(there - places[rows], axis=1)
        assert np.median(off) < 1.5


def test_upper_and_lower_lip_do_not_swap(case):
    """The jaw moves the lower lip alone, which at rest touches the upper one."""
    head, own, other, *_, forward, _ = case
    moves = np.asarray(head.skin_weights)[:, head.joint("jaw")]
    carried = carry(forward, other.faces, other_mesh(head).spread(moves))

    def at_landmarks(values):
        return (own.weights * values[own.corners]).sum(1)

    lips = np.r_[61:64, 65:68]
    np.testing.assert_allclose(at_landmarks(carried)[lips], at_landmarks(moves)[lips], atol=0.15)
    assert at_landmarks(moves)[61:64].max() < 0.3 < 0.7 < at_landmarks(moves)[65:68].min()


def test_a_head_is_itself():
    own = head_surface(small_head())
    found = register(own, own, Settings(lengths=(30.0, 8.0), rounds=2))
    np.testing.assert_allclose(carry(found, own.faces, own.vertices), own.vertices, atol=1e-6)
    itself = own.faces[found.face_index] == np.arange(len(own.vertices))[:, None]
    np.testing.assert_allclose((found.barycentric * itself).sum(1), 1, atol=1e-6)
    np.testing.assert_allclose(found.confidence, 1, atol=1e-6)


def test_a_part_that_the_other_head_lacks_is_not_trusted(case):
    _, own, _, _, _, _ = case
    blind = own.parts != EYES
    other = dataclasses.replace(own, faces=own.faces[blind], parts=own.parts[blind])
    found = register(own, other, Settings(lengths=(30.0,), rounds=1))
    eyes = np.unique(own.faces[~blind])
    assert found.confidence[eyes].max() == 0
    assert (other.parts[found.face_index[eyes]] == 0).all()


def test_what_cannot_be_registered_is_refused(case):
    _, own, _, _, _, _ = case
    with pytest.raises(UserError, match="68 and 51 landmarks"):
        register(own, dataclasses.replace(own, landmarks=own.landmarks[17:], corners=None))
    with pytest.raises(UserError, match="without skin"):
        register(own, dataclasses.replace(own, parts=np.ones(len(own.faces), int)))
    with pytest.raises(UserError, match="not finite"):
        register(own, dataclasses.replace(own, vertices=np.nan * own.vertices))
