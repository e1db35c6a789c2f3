"""Textures of several materials in one square."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from fields_jax.convert.obj import PolygonMesh
from fields_jax.convert.texture_atlas import CELLS, atlas
from fields_jax.errors import UserError

NONE = np.zeros((0, 4), int)


def mesh(uv, names):
    return PolygonMesh(np.zeros((0, 3)), NONE, np.array(uv), NONE, NONE[:, 0], names, b"")


def test_cells_do_not_overlap_and_fill_the_square():
    for (u, v, a), (x, y, b) in itertools.combinations(CELLS, 2):
        assert u + a <= x or x + b <= u or v + a <= y or y + b <= v
    assert sum(side**2 for _, _, side in CELLS) == 1
    assert all(0 <= u <= 1 - side and 0 <= v <= 1 - side for u, v, side in CELLS)


def test_tiles_go_into_the_cells_of_their_materials():
    uv = [[0.0, 0.0], [1.0, 1.0], [0.5, 0.0], [4.0, 0.0], [5.9, 1.0], [5.0, 0.5], [9.0, 9.0]]
    corners = np.array([[0, 1, 2], [3, 4, 5], [0, 1, 2]])
    placed, faces = atlas(mesh(uv, ("face", "eyes", "hat")), np.array([0, 1, 2]), corners)
    assert len(placed) == 9  # of the same coordinates one for each material; the last is unused
    np.testing.assert_allclose(placed[faces[0]], [[0, 0.25], [0.75, 1], [0.375, 0.25]])
    # Two tiles in a row share a cell.
    np.testing.assert_allclose(placed[faces[1]], [[0.75, 0.75], [0.9875, 1], [0.875, 0.875]])
    np.testing.assert_allclose(placed[faces[2]], [[0.75, 0.5], [1, 0.75], [0.875, 0.5]])


def test_too_many_materials_are_refused():
    with pytest.raises(UserError, match="21 materials: texture coordinates have room for 20"):
        atlas(mesh([[0.0, 0.0]], ("m",) * 21), np.zeros(0, int), NONE[:, :3])
