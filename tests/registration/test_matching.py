"""Closest points that face the same way."""

from __future__ import annotations

import numpy as np

from fields_jax.registration.matching import at, match, oriented
from tests.support.meshes import sphere


def test_points_between_two_sheets_go_to_the_one_that_faces_as_they_do():
    """Two flat sheets 2 apart, the upper one facing up, the lower one down."""
    square = np.array([[0, 0, 0], [9, 0, 0], [0, 9, 0], [9, 9, 0.0]])
    vertices = np.concatenate([square + np.array([0, 0, 2]), square])
    faces = np.array([[0, 1, 2], [1, 3, 2], [4, 6, 5], [5, 6, 7]])
    points = np.array([[3, 3, 0.2], [3, 3, 1.8], [5, 6, 0.2], [5, 6, 1.8]])
    up, down = [0, 0, 1.0], [0, 0, -1.0]
    found = match(oriented(vertices, faces), points, np.array([up, down, down, up]), 5.0, 4)
    there = points + found.offset
    np.testing.assert_allclose(there[:, 2], [2, 0, 0, 2], atol=1e-12)
    np.testing.assert_allclose(there[:, :2], points[:, :2], atol=1e-12)
    np.testing.assert_allclose(found.facing, 1)
    np.testing.assert_allclose(at(vertices, faces, found.face, found.barycentric), there)


def test_matches_on_open_edges_are_known():
    vertices, faces = sphere(2)
    whole = oriented(vertices, faces)
    assert not whole.border.any()
    kept = faces[(vertices[faces][:, :, 2] > 0).all(1)]
    half = oriented(vertices, kept)
    points = np.array([[0, 0.1, 1.2], [0, 1.2, -0.5]])
    normals = points / np.linalg.norm(points, axis=1, keepdims=True)
    assert match(half, points, normals, 0.1, 12).border.tolist() == [False, True]
    assert match(whole, points, normals, 0.1, 12).border.tolist() == [False, False]
