"""OBJ files: a cube by hand, and every way in which a file can be wrong."""

from __future__ import annotations

import numpy as np
import pytest

from fields_jax.convert.obj import read_mesh, read_vertices, triangulated
from fields_jax.errors import UserError

SQUARE = """mtllib x.mtl
v 0 0 0
v 1 0 0
v 1 1 0
v 0 1 0
v 0.5 2 1e-1
vt 0 0
vt 1 0
vt 1 1
usemtl skin
f 1/1 2/2 3/3 4/1
usemtl hat
f 4/1 3/2 5/3
usemtl skin
f 5/3 3/1/1 4/2/1
"""


def write(tmp_path, text, name="a.obj"):
    path = tmp_path / name
    path.write_text(text)
    return path


def test_a_square_and_two_triangles(tmp_path):
    mesh = read_mesh(write(tmp_path, SQUARE))
    np.testing.assert_array_equal(mesh.vertices[4], [0.5, 2, 0.1])
    np.testing.assert_array_equal(mesh.polygons, [[0, 1, 2, 3], [3, 2, 4, -1], [4, 2, 3, -1]])
    np.testing.assert_array_equal(mesh.uv_polygons, [[0, 1, 2, 0], [0, 1, 2, -1], [2, 0, 1, -1]])
    assert mesh.material_names == ("skin", "hat")
    np.testing.assert_array_equal(mesh.materials, [0, 1, 0])
    faces, uv_faces, origin = triangulated(mesh)
    # Both halves of the square face the way it does, and come before the next polygon.
    np.testing.assert_array_equal(faces, [[0, 1, 2], [0, 2, 3], [3, 2, 4], [4, 2, 3]])
    np.testing.assert_array_equal(uv_faces[:2], [[0, 1, 2], [0, 2, 0]])
    np.testing.assert_array_equal(origin, [0, 0, 1, 2])


def test_faces_before_the_first_material_have_one_without_a_name(tmp_path):
    mesh = read_mesh(write(tmp_path, SQUARE.replace("usemtl skin\n", "", 1)))
    assert mesh.material_names == ("", "hat", "skin")
    np.testing.assert_array_equal(mesh.materials, [0, 1, 2])


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("v 1 1 0\n", "v 1 1\n", "'v ' without 3 numbers"),
        ("v 1 1 0\n", "v 1 one 0\n", "damaged: could not convert"),
        ("v 1 1 0\n", "v 1 nan 0\n", "not finite"),
        ("f 4/1 3/2 5/3\n", "f 4/1 3/2 6/3\n", "refers to vertices that the file has not"),
        ("f 4/1 3/2 5/3\n", "f 4/1 3/2 5/4\n", "refers to texture coordinates"),
        ("f 4/1 3/2 5/3\n", "f 4/1 3/2\n", "line 13: 'f 4/1 3/2' is no triangle or quad"),
        ("f 4/1 3/2 5/3\n", "f 4/1 3/2 0/3\n", "is no triangle or quad"),
        ("f 4/1 3/2 5/3\n", "f 4 3 5\n", "is no triangle or quad with texture"),
        ("f 4/1 3/2 5/3\n", "f 4/1 3/2 5/3 1/1 2/1\n", "is no triangle or quad"),
        (SQUARE, "<html>not found</html>", "holds no mesh"),
        ("f ", "g ", "holds no mesh: it has no faces"),
    ],
)
def test_what_is_no_such_mesh_is_refused_by_name(tmp_path, old, new, complaint):
    path = write(tmp_path, SQUARE.replace(old, new))
    with pytest.raises(UserError, match=complaint) as refused:
        read_mesh(path)
    assert str(path) in str(refused.value)


def test_further_files_give_vertices_if_their_faces_are_the_same(tmp_path):
    mesh = read_mesh(write(tmp_path, SQUARE))
    moved = write(tmp_path, SQUARE.replace("v 1 1 0", "v 1 1 7"), "b.obj")
    np.testing.assert_array_equal(read_vertices(moved, mesh, "a")[2], [1, 1, 7])
    other_texture = write(tmp_path, SQUARE.replace("f 4/1 3/2", "f 4/2 3/1"), "c.obj")
    np.testing.assert_array_equal(read_vertices(other_texture, mesh, "a"), mesh.vertices)
    for name, text in (
        ("vertices", SQUARE.replace("v 1 1 0\n", "")),
        ("faces", SQUARE.replace("f 4/1 3/2", "f 3/1 4/2")),
        ("faces", SQUARE[: SQUARE.rindex("usemtl")]),
    ):
        with pytest.raises(UserError, match=rf"b.obj is cut short, or of another mesh.*{name}"):
            read_vertices(write(tmp_path, text, "b.obj"), mesh, "a")
