"""BP4D's files of meshes and of 3D features, one by one."""

import numpy as np
import pytest
import scipy.io
from etils import epath

from data_pipelines.bp4d import meshes, points_83


def test_3d_features_of_a_sequence(tmp_path):
    points = np.random.default_rng(0).normal(size=(83, 3))
    rows = np.zeros((1, 2), [("frame", object), ("pts_3d", object)])
    rows[0, 0], rows[0, 1] = (1, points), (2, np.zeros((0, 0)))
    file = epath.Path(tmp_path / "F001_T1.mat")
    scipy.io.savemat(file, {"fit": rows})
    found = points_83.read_sequence(file)
    assert list(found) == [0]
    np.testing.assert_allclose(found[0], points)
    file.write_bytes(b"MATLAB 5.0 nonsense")
    with pytest.raises(ValueError, match="not a readable file of 3D features"):
        points_83.read_sequence(file)


def test_meshes_by_hand(tmp_path):
    """A square bent from quads and triangles; slashes in all their forms."""
    file = epath.Path(tmp_path / "a.obj")
    vertices = "v 0 0 0 1 1 1\nv 2 0 0 1 1 1\nv 2 2 0 1 1 1\nv 0 2 0 1 1 1\n"
    file.write_text(vertices + "vt 0 0\nvt 1 0\nvt 1 1\nvt 0 1\nf 1/1 2/2 3/3 4/4\nf 1/1 3/3 4/4\n")
    mesh = meshes.read_mesh(file)
    assert mesh.triangles.tolist() == [[0, 1, 2], [0, 2, 3]]
    np.testing.assert_allclose(np.abs(mesh.normals()), np.tile([0, 0, 1], (4, 1)))
    lifted = mesh.lift(np.array([[0.0, 100], [100, 0], [50, 50], [np.nan, 0]]), 100, 100)
    np.testing.assert_allclose(lifted[:2], [[0, 0, 0], [2, 2, 0]])
    assert np.isnan(lifted[2:]).all()
    for faces in ("f 1 2 3\n", "f 1//1 2//1 3//1\n", "f -4 -3 -2\n", "f 1/9/1 2/9/1 3/9/1\n"):
        file.write_text(vertices + "vt 0 0\n" + faces)
        mesh = meshes.read_mesh(file)
        assert mesh.triangles.tolist() == [[0, 1, 2]] and not len(mesh.uv_triangles)
    for text, reason in (
        ("", "0 vertices and 0 faces"),
        (vertices + "f 1 2 9\n", "faces of vertices"),
        (vertices + "v nan 0 0 1 1 1\nf 1 2 3\n", "not finite"),
        (vertices + "f 1 2\n", "not a readable mesh"),
    ):
        file.write_text(text)
        with pytest.raises(ValueError, match=reason):
            meshes.read_mesh(file)
