"""The plate against closed forms."""

from __future__ import annotations

import numpy as np
import pytest

from fields_jax.registration.plate import displaced, plate, pulls


def sheet(count, spacing=1.0):
    """A flat square of triangles: vertices [V, 3], faces, and the row of the middle."""
    x, y = np.meshgrid(np.arange(count), np.arange(count), indexing="ij")
    vertices = spacing * np.stack([x, y, 0 * x], -1).reshape(-1, 3).astype(float)
    corner = (x[:-1, :-1] * count + y[:-1, :-1]).ravel()
    faces = np.concatenate(
        [
            np.stack([corner, corner + count, corner + count + 1], 1),
            np.stack([corner, corner + count + 1, corner + 1], 1),
        ]
    )
    return vertices, faces, (count // 2) * count + count // 2


@pytest.mark.parametrize("length", [4.0, 6.0])
def test_a_point_that_is_pulled_yields_as_plates_on_springs_do(length):
    """An infinite plate on springs yields to a force P by P / (8 l^2) (Westergaard 1926)."""
    vertices, faces, middle = sheet(101)
    tables = plate(vertices, faces)
    area = 50.0
    pull = pulls(
        np.array([[middle] * 3]), np.array([[1.0, 0, 0]]), np.array([area]), np.eye(3)[:1], 101**2
    )
    found = displaced(tables, np.ones(101**2), np.zeros((101**2, 3)), [pull], length)
    compliance = 1 / (8 * length**2)
    expected = area * compliance / (1 + area * compliance)
    assert found[middle, 0] == pytest.approx(expected, rel=0.03)
    np.testing.assert_allclose(found[:, 1:], 0, atol=1e-12)


def test_densities_of_meshes_do_not_matter():
    results = []
    for count, spacing in ((41, 1.0), (81, 0.5)):
        vertices, faces, middle = sheet(count, spacing)
        target = np.sin(vertices / 5)
        tables = plate(vertices, faces)
        found = displaced(tables, np.ones(count**2), target, [], 3.0)
        results.append(found[middle])
    np.testing.assert_allclose(*results, rtol=0.02)


def test_linear_displacements_cost_nothing():
    vertices, faces, _ = sheet(21)
    target = vertices @ np.array([[0.1, 0.2, 0], [0, -0.1, 0.3], [0, 0, 0]]) + [1, 2, 3]
    inside = ((vertices > 1) & (vertices < 19))[:, :2].all(1)
    tables = plate(vertices, faces)
    bent = tables.bending @ target
    # The rim of a Laplacian knows nothing of what lies beyond it.
    np.testing.assert_allclose(bent[inside & (np.abs(vertices - 10).max(1) < 8)], 0, atol=1e-10)


def test_what_nothing_pulls_stays():
    vertices, faces, _ = sheet(5)
    both = np.concatenate([vertices, vertices + 100])
    tables = plate(both, np.concatenate([faces, faces + 25]))
    weight = np.repeat([1.0, 0.0], 25)
    found = displaced(tables, weight, np.ones((50, 3)), [], 1.0)
    np.testing.assert_allclose(found[:25], 1, atol=1e-4)
    np.testing.assert_allclose(found[25:], 0, atol=1e-4)
