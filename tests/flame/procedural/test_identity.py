"""Random people of the procedural head are whole."""

from __future__ import annotations

import numpy as np
import pytest

from fields_jax.flame.procedural import identity, procedural_head
from fields_jax.flame.procedural.mesh import head_mesh

PEOPLE = 24


@pytest.fixture(scope="module")
def head():
    return procedural_head()


@pytest.fixture(scope="module")
def people(head):
    amounts = np.random.default_rng(0).normal(size=(PEOPLE, 300))
    basis = np.asarray(head.shape_basis, np.float64)
    return np.asarray(head.template, np.float64) + np.einsum("vdk,nk->nvd", basis, amounts)


def landmarks(head, points):
    corners = points[:, np.asarray(head.faces)[np.asarray(head.static_68.face_index)]]
    return np.einsum("lc,nlcd->nld", np.asarray(head.static_68.barycentric), corners)


def unit_normals(points, faces):
    a, b, c = np.moveaxis(points[..., faces, :], -2, 0)
    normal = np.cross(b - a, c - a)
    return normal / np.linalg.norm(normal, axis=-1, keepdims=True)


def test_faces_do_not_fold(head, people):
    faces = np.asarray(head.faces)
    face = faces[np.isin(faces, np.asarray(head.face_vertices)).all(axis=1)]
    rest = unit_normals(np.asarray(head.template, np.float64), face)
    along = (unit_normals(people, face) * rest).sum(-1)
    assert (along < 0).mean(axis=1).max() < 0.006


def test_features_keep_their_order(head, people):
    heights = landmarks(head, people)[:, [24, 44, 46, 30, 33, 51, 62, 57, 8], 1]
    assert (np.diff(heights, axis=1) < 0).all()


def test_lids_clear_the_eyeballs(head, people):
    for side in ("left", "right"):
        ball = people[:, np.asarray(head.regions[f"{side}_eyeball"])]
        centre = (ball.max(1) + ball.min(1)) / 2
        radius = np.linalg.norm(ball - centre[:, None], axis=-1).max(1)
        lids = people[:, np.asarray(head.regions[f"{side}_eye_region"])]
        clear = np.linalg.norm(lids - centre[:, None], axis=-1).min(1)
        assert (clear - radius).min() > -0.2e-3


def test_lips_do_not_cross(head, people):
    points = landmarks(head, people)
    assert (points[:, [61, 62, 63], 1] - points[:, [67, 66, 65], 1]).min() > -1e-3


def test_people_differ_as_people_do(head, people):
    """Standard deviations of distances on faces in the range of anthropometry (Farkas 1994)."""
    points = landmarks(head, people) * 1e3
    eyes = np.linalg.norm(points[:, 36] - points[:, 45], axis=1)
    mouth = np.linalg.norm(points[:, 48] - points[:, 54], axis=1)
    nose = np.linalg.norm(points[:, 27] - points[:, 33], axis=1)
    face = np.linalg.norm(points[:, 27] - points[:, 8], axis=1)
    for values, least, most in ((eyes, 2, 7), (mouth, 2, 6), (nose, 2, 6), (face, 4, 11)):
        assert least < values.std() < most


def test_most_components_are_symmetric():
    mesh = head_mesh()
    basis = identity.shape_basis(mesh, 0)
    mirrored = basis[mesh.mirror] * np.array([-1, 1, 1])[:, None]
    size = np.abs(basis).max((0, 1))
    symmetric = np.abs(basis - mirrored).max((0, 1)) < 1e-6 * size
    assert 0.7 < symmetric.mean() < 0.95
    assert symmetric[:23].all() and not symmetric[23:26].any()
