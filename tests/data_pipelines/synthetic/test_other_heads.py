"""Any head made ready to be rendered, against the procedural head in another order of vertices."""

from __future__ import annotations

import numpy as np
import pytest

from data_pipelines.synthetic.other_heads import carried, furnished, has_part
from data_pipelines.synthetic.surface import describe
from data_pipelines.synthetic.teeth import with_teeth
from fields_jax.flame.procedural import procedural_head
from fields_jax.registration.heads import same_vertices
from fields_jax.registration.surfaces import Correspondence
from fields_jax.types import PARTS, LandmarkEmbedding
from tests.support.heads import with_joints

_EMBEDDINGS = ("static_51", "contour", "static_68", "landmarks_105", "landmarks_203")


@pytest.fixture(scope="module")
def known():
    return describe(*with_teeth(procedural_head()))


@pytest.fixture(scope="module")
def order():
    return np.random.default_rng(0).permutation(len(procedural_head().template))


@pytest.fixture(scope="module")
def shuffled(order):
    """The procedural head with its vertices in another order, its faces backwards, 5 cm lower."""
    head, place = procedural_head(), np.argsort(order)
    tables = {}
    for name in _EMBEDDINGS:
        table = getattr(head, name)
        row = len(head.faces) - 1 - np.asarray(table.face_index)
        tables[name] = LandmarkEmbedding(face_index=row, barycentric=table.barycentric)
    of_vertices = ("shape_basis", "expression_basis", "pose_basis", "skin_weights")
    return head.replace(
        template=np.asarray(head.template)[order] - np.array([0, 0.05, 0], np.float32),
        **{name: np.asarray(getattr(head, name))[order] for name in of_vertices},
        eyelid_basis=np.asarray(head.eyelid_basis)[:, order],
        joint_regressor=np.asarray(head.joint_regressor)[:, order],
        faces=place[np.asarray(head.faces)][::-1].astype(np.int32),
        face_parts=np.asarray(head.face_parts)[::-1],
        face_vertices=np.sort(place[np.asarray(head.face_vertices)]),
        regions={name: place[np.asarray(rows)] for name, rows in head.regions.items()},
        sha256="1" * 64,
        **tables,
    )


@pytest.fixture(scope="module")
def found(order):
    """Where the shuffled head's vertices lie on the procedural head."""
    head = procedural_head()
    same = same_vertices(np.asarray(head.faces), len(order))
    return Correspondence(same.face_index[order], same.barycentric[order], same.confidence[order])


@pytest.fixture(scope="module")
def surface(shuffled, found, known):
    return carried(furnished(shuffled), found, known)


def test_the_same_head_in_another_order_gets_the_same_skin(surface, known, order):
    count = len(order)
    for name, weight in surface.weight.items():
        np.testing.assert_allclose(weight[:count], known.weight[name][order], atol=1e-6)
    np.testing.assert_allclose(surface.scalp_distance[:count], known.scalp_distance[order])
    for kind, waves in surface.waves.items():
        on_skin = known.weight["teeth"][:count][order] == 0
        np.testing.assert_allclose(
            waves[:count][on_skin], known.waves[kind][order][on_skin], atol=1e-5
        )


def test_teeth_of_a_head_that_has_none_are_white_strips(surface, known, order):
    count = len(order)
    assert len(surface.points) == len(known.points) > count
    assert surface.weight["teeth"][count:].all() and not surface.weight["teeth"][:count].any()
    assert 0.1 < surface.openness[count:].min() <= surface.openness[count:].max() <= 0.35
    assert (surface.scalp_distance[count:] == 1).all()  # no hair on them


def test_light_reaches_the_head_by_its_own_shape(surface, known, order):
    """Seen from a little further away, in other pixels."""
    count = len(order)
    off = np.abs(surface.openness[:count] - known.openness[order])
    assert off.mean() < 0.03 and np.ptp(known.openness) > 0.9


def test_eyes_look_from_the_joints_they_turn_about(surface, known, order):
    eyes = surface.weight["eyeballs"] > 0
    direction = surface.eye_direction
    np.testing.assert_allclose(np.linalg.norm(direction[eyes], axis=1), 1)
    assert not direction[~eyes].any()
    expected = known.eye_direction[order][eyes[: len(order)]]
    assert (np.sum(direction[eyes] * expected, axis=1) > np.cos(np.radians(2))).all()


def test_skin_is_plain_where_nothing_is_sure(shuffled, found, known, order):
    doubtful = Correspondence(found.face_index, found.barycentric, 0 * found.confidence)
    surface = carried(furnished(shuffled), doubtful, known)
    for name in ("lips", "brows", "lashes", "blush", "beard"):
        assert not surface.weight[name].any()
    assert not surface.hair(0.01).any()
    np.testing.assert_array_equal(
        surface.weight["eyeballs"][: len(order)], known.weight["eyeballs"][order]
    )


def test_parts_that_a_head_names_are_drawn_as_such(shuffled, found, known):
    parts = np.array(shuffled.face_parts)
    whole = np.asarray(shuffled.faces)
    chosen = {}
    skin = np.flatnonzero(parts == PARTS.index("skin"))
    for name, rows in (("lashes", skin[:50]), ("gums", skin[50:100]), ("teeth", skin[100:150])):
        parts[rows], chosen[name] = PARTS.index(name), np.unique(whole[rows])
    head = furnished(shuffled.replace(face_parts=parts))
    assert has_part(head, "teeth") and len(head.template) == len(shuffled.template)  # no strips
    inside = np.asarray(head.regions["mouth_interior"])
    surface = carried(head, found, known)
    for name, rows in chosen.items():
        rows = np.setdiff1d(rows, inside)
        assert len(rows) and (surface.weight[name][rows] == 1).all()


def test_teeth_need_a_mouth_and_a_jaw(shuffled):
    closed = {k: v for k, v in shuffled.regions.items() if k not in ("mouth_interior", "boundary")}
    head = furnished(shuffled.replace(regions=closed))
    assert not has_part(head, "teeth")
    head = furnished(with_joints(shuffled, ("root", "neck", "left_eye", "right_eye")))
    assert not has_part(head, "teeth")
    rim = np.asarray(head.template)[np.asarray(head.regions["boundary"])]
    landmarks = np.asarray(head.template)[np.asarray(head.face_vertices)]
    assert len(rim) and rim[:, 1].max() < landmarks[:, 1].min()
    assert np.abs(rim[:, 0].mean()) < 2e-3  # all around the neck
