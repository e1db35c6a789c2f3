"""Tables carried over to a mesh on which the right places are known: the same head, shuffled."""

from __future__ import annotations

import numpy as np
import pytest

from fields_jax.convert.registered_tables import rim, surface, tables_by_registration
from fields_jax.flame.procedural import procedural_head
from fields_jax.landmark_schemes import N_203
from fields_jax.types import LandmarkEmbedding
from tests.support.ict_clones import points_of


@pytest.fixture(scope="module")
def head():
    return procedural_head()


@pytest.fixture(scope="module")
def order(head):
    """The head's vertex that each of the shuffled mesh's is."""
    return np.random.default_rng(0).permutation(len(head.template))


@pytest.fixture(scope="module")
def shuffled(head, order):
    """The head with its vertices in another order, its faces backwards, and a metre to the side."""
    faces = np.argsort(order)[np.asarray(head.faces)][::-1]
    points = LandmarkEmbedding(
        face_index=len(faces) - 1 - np.asarray(head.static_68.face_index),
        barycentric=np.asarray(head.static_68.barycentric),
    )
    vertices = np.asarray(head.template, np.float64)[order] + [1, 0, 0]
    return surface(vertices, faces, np.asarray(head.face_parts)[::-1], points)


@pytest.fixture(scope="module")
def tables(head, shuffled):
    return tables_by_registration(head, shuffled)


@pytest.mark.parametrize("name", ["landmarks_105", "landmarks_203"])
def test_landmarks_come_to_lie_where_the_known_head_has_them(head, shuffled, tables, name):
    corners = shuffled.vertices[shuffled.faces[tables[f"{name}.face_index"]]]
    found = (corners * tables[f"{name}.barycentric"][..., None]).sum(-2)
    known = points_of(head, name) + np.array([1, 0, 0])
    np.testing.assert_allclose(found, known, atol=1e-5)


def test_what_belongs_to_the_tables_comes_along(head, tables):
    np.testing.assert_array_equal(tables["mediapipe_index"], head.mediapipe_index)
    assert tables["front_203"].shape == (N_203,)


def test_regions_and_the_face_mask_are_the_known_heads(head, shuffled, order, tables):
    skin = np.unique(np.asarray(head.faces)[np.asarray(head.face_parts) == 0])
    for name in ("face", "nose", "lips", "scalp", "neck", "left_brow", "right_ear"):
        found = set(order[tables[f"regions.{name}"]].tolist())
        known = set(np.intersect1d(head.regions[name], skin).tolist())
        assert len(found ^ known) <= 0.01 * len(known), name
    whole = tables["face_vertices"][tables["face_triangles"]]
    assert np.isin(whole, tables["regions.face"]).all()
    rows = {tuple(row) for row in shuffled.faces.tolist()}
    assert {tuple(row) for row in whole.tolist()} <= rows


def test_the_rim_is_where_edges_have_one_face(head):
    below = np.flatnonzero(np.asarray(head.template)[:, 1] < -0.1)
    found = rim(np.asarray(head.faces), below)
    np.testing.assert_array_equal(found, np.sort(head.regions["boundary"]))
