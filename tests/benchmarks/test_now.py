"""The benchmark of NoW measures what it says, on a face of a few hundred triangles."""

from __future__ import annotations

import numpy as np

from benchmarks import now
from tests.support.now_tree import face


def test_the_loop_and_the_closest_points_agree():
    mesh, _ = face(15)
    points = mesh.vertices + 0.01 * np.random.default_rng(0).normal(size=mesh.vertices.shape)
    found = now.race(mesh.vertices, mesh.faces, points, 20)
    assert found["largest_difference_m"] < 1e-12
    assert found["points"] == 225 and found["brute_points"] == 20
    assert found["brute_seconds"] > 0 and found["faster"] > 0
