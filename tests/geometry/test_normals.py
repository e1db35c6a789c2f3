"""Vertex normals by hand; all forms agree."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from fields_jax.fitting.parameters import Layout
from fields_jax.fitting.surface import face_surface
from fields_jax.flame.procedural import procedural_head
from fields_jax.geometry.normals import ring_normals, summed_normals, vertex_normals
from tests.support.meshes import dome


def test_normals_of_a_cube_corner():
    # Three faces of area 1/2, 1 and 2 (doubled: 1, 2, 4) meet at the origin, seen from outside.
    vertices = jnp.array([[[0.0, 0, 0], [-1, 0, 0], [0, -2, 0], [0, 0, -2], [5, 5, 5]]])
    faces = np.array([[0, 1, 2], [0, 3, 1], [0, 2, 3]])
    found = jax.jit(vertex_normals)(vertices, faces)[0]
    np.testing.assert_allclose(found[0], np.array([4, 2, 2]) / 24**0.5, atol=1e-6)
    np.testing.assert_allclose(found[1], np.array([0, 2, 2]) / 8**0.5, atol=1e-6)
    np.testing.assert_array_equal(found[4], 0)  # no face, no normal
    gradient = jax.jit(jax.grad(lambda v: jnp.sum(vertex_normals(v, faces) ** 3)))(vertices)
    assert np.isfinite(gradient).all()


def test_normals_point_out_of_the_head():
    vertices, faces = dome(np.random.default_rng(5))
    normals = np.asarray(jax.jit(vertex_normals)(jnp.float32(vertices), faces))
    np.testing.assert_allclose(np.linalg.norm(normals, axis=-1), 1, atol=1e-5)
    assert np.sum(normals * vertices, axis=-1).min() > 0.05
    # In millimetres the face areas are a million times larger; the directions are the same.
    large = jax.jit(vertex_normals)(jnp.float32(1000 * vertices), faces)
    np.testing.assert_allclose(normals, large, atol=1e-5)


def test_all_forms_agree_on_the_head():
    head = procedural_head()
    tables = face_surface(head, Layout(0, 0))
    # In centimetres, in which no sum is below the floor of `vertex_normals`.
    vertices = 100 * np.asarray(head.template)[np.asarray(head.face_vertices)]
    expected = np.asarray(vertex_normals(jnp.asarray(vertices)[None], tables.triangles))[0]
    gathered = ring_normals(jnp.asarray(vertices)[tables.triangles], tables.ring, tables.ring_size)
    np.testing.assert_allclose(gathered, expected, atol=2e-6)
    total = summed_normals(vertices, tables.triangles)
    total /= np.linalg.norm(total, axis=1, keepdims=True)
    np.testing.assert_allclose(total, expected, atol=2e-6)
