"""Closest points on triangles against brute force and by hand."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import nnls

from fields_jax.geometry.closest_points import closest_on_triangles, closest_points


def oracle(corners: np.ndarray, point: np.ndarray) -> float:
    """Distance to the convex hull of three points: least squares over weights >= 0 of sum 1."""
    heavy = 1e6  # enforces the sum
    system = np.concatenate([corners.T, heavy * np.ones((1, 3))])
    weights, _ = nnls(system, np.append(point, heavy))
    return float(np.linalg.norm(weights / weights.sum() @ corners - point))


def test_random_triangles_against_an_independent_solver():
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(60, 1, 3))
    # Sizes of very different scale, so that the nearest centre is often not the nearest triangle.
    size = 10.0 ** rng.uniform(-2, 0.3, (60, 1, 1))
    corners = centres + size * rng.normal(size=(60, 3, 3))
    vertices, faces = corners.reshape(-1, 3), np.arange(180).reshape(-1, 3)
    queries = rng.normal(0, 1.5, (80, 3))
    found = closest_points(vertices, faces, queries)
    expected = [[oracle(triangle, query) for triangle in corners] for query in queries]
    np.testing.assert_allclose(found.distance, np.min(expected, axis=1), atol=1e-8)
    points = np.einsum("qk,qkd->qd", found.barycentric, vertices[faces[found.face]])
    np.testing.assert_allclose(np.linalg.norm(points - queries, axis=1), found.distance, atol=1e-12)
    assert found.barycentric.min() >= 0
    np.testing.assert_allclose(found.barycentric.sum(axis=1), 1, atol=1e-12)


def test_inside_edge_and_corner_by_hand():
    vertices = np.array([[0, 0, 0], [2, 0, 0], [0, 2, 0.0]])
    queries = np.array([[0.5, 0.5, 3], [1, -2, 0], [2, 2, 0], [-3, -4, 0.0]])
    found = closest_points(vertices, np.array([[0, 1, 2]]), queries)
    np.testing.assert_allclose(found.distance, [3, 2, np.sqrt(2), 5])
    expected = [[0.5, 0.25, 0.25], [0.5, 0.5, 0], [0, 0.5, 0.5], [1, 0, 0]]
    np.testing.assert_allclose(found.barycentric, expected, atol=1e-12)


def test_triangles_without_area_are_segments_and_points():
    vertices = np.array([[0, 0, 0], [1, 0, 0], [2, 0, 0.0]])
    found = closest_points(vertices, np.array([[0, 1, 2]]), np.array([[1.5, 1, 0], [5, 4, 0.0]]))
    np.testing.assert_allclose(found.distance, [1, 5])
    found = closest_points(vertices, np.array([[1, 1, 1]]), np.array([[1, 0, 2.0]]))
    np.testing.assert_allclose(found.distance, [2])


def test_what_has_no_closest_point_is_refused():
    with pytest.raises(ValueError, match="without triangles"):
        closest_points(np.zeros((3, 3)), np.zeros((0, 3), int), np.zeros((1, 3)))
    with pytest.raises(ValueError, match="finite"):
        closest_points(np.full((3, 3), np.nan), np.array([[0, 1, 2]]), np.zeros((1, 3)))


def test_closest_on_triangles_by_hand():
    triangle = jnp.array([[0, 0, 0], [2, 0, 0], [0, 2, 0.0]])
    points = jnp.array([[0.5, 0.5, 3], [1, -2, 0], [2, 2, 0], [-3, -4, 0.0]])
    weights, squared = closest_on_triangles(jnp.tile(triangle, (4, 1, 1)), points)
    np.testing.assert_allclose(squared, [9, 4, 2, 25], rtol=1e-6)
    expected = [[0.5, 0.25, 0.25], [0.5, 0.5, 0], [0, 0.5, 0.5], [1, 0, 0]]
    np.testing.assert_allclose(weights, expected, atol=1e-6)
