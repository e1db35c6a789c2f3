"""Distances from points to an aligned mesh, where the alignment and the distances are known."""

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.spatial.transform import Rotation

from fields_jax.evaluation import scan_distance
from fields_jax.geometry.mesh_files import Surface
from tests.support.now_tree import face, moved


@pytest.fixture(scope="module")
def bump():
    return face(31)


def on_surface(mesh, count, seed=0):
    """Points anywhere on the triangles."""
    rng = np.random.default_rng(seed)
    corners = mesh.vertices[mesh.faces[rng.integers(len(mesh.faces), size=count)]]
    return np.einsum("pk,pkd->pd", rng.dirichlet(np.ones(3), count), corners)


def ellipsoid(side=100):
    """A closed surface that no motion carries onto itself, about the size of a head; metres."""
    u, v = np.meshgrid(np.linspace(0, np.pi, side), 2 * np.pi * np.arange(side) / side)
    unit = np.stack([np.sin(u) * np.cos(v), np.sin(u) * np.sin(v), np.cos(u)], -1)
    row, column = np.meshgrid(np.arange(side), np.arange(side - 1), indexing="ij")
    a, b = row * side + column, (row + 1) % side * side + column
    faces = np.stack([np.stack([a, a + 1, b], -1), np.stack([b, a + 1, b + 1], -1)])
    return unit.reshape(-1, 3), faces.reshape(-1, 3)


def test_the_given_frame_moves_nothing(bump):
    mesh, _ = bump
    motion = scan_distance.align(mesh.vertices, mesh, "none")
    assert motion.scale == 1 and (motion.rotation == np.eye(3)).all() and not motion.shift.any()
    inner = np.abs(mesh.vertices[:, :2]).max(axis=1) < 0.05
    above = mesh.vertices[inner] + [0, 0, 0.002]
    distance = scan_distance.surface_distances(above, mesh, motion)
    assert (distance <= 0.002 + 1e-12).all() and distance.min() > 0.0005


@pytest.mark.parametrize("name", ["rigid", "similarity"])
def test_a_moved_mesh_is_carried_back_from_inaccurate_landmarks(bump, name):
    mesh, landmarks = bump
    scale = 0.6 if name == "similarity" else 1.0
    points = on_surface(mesh, 700)
    noisy = landmarks + 0.003 * np.random.default_rng(1).normal(size=landmarks.shape)
    away = mesh._replace(vertices=moved(mesh.vertices, scale))
    motion = scan_distance.align(points, away, name, (moved(noisy, scale), landmarks))
    assert motion.scale == pytest.approx(1 / scale, rel=1e-9)
    assert scan_distance.surface_distances(points, away, motion).max() < 1e-9  # metres
    np.testing.assert_allclose(motion.apply(away.vertices), mesh.vertices, atol=1e-8)
    np.testing.assert_allclose(motion.undo(motion.apply(points)), points, atol=1e-12)


def test_the_refinement_finds_the_minimum_that_another_method_finds(bump):
    """Nelder and Mead's search, which starts there, finds nothing below it."""
    mesh, landmarks = bump
    rng = np.random.default_rng(2)
    points = on_surface(mesh, 80) + 0.002 * rng.normal(size=(80, 3))
    start = scan_distance.landmark_alignment(
        landmarks + 0.002 * rng.normal(size=landmarks.shape), landmarks, scaled=True
    )
    found = scan_distance.refined_alignment(points, mesh, start, scaled=True)

    def squared(motion):
        return 1e6 * np.mean(scan_distance.surface_distances(points, mesh, motion) ** 2)

    def changed(x):
        turn = Rotation.from_rotvec(x[:3]).as_matrix()
        return scan_distance.Alignment(
            found.scale * np.exp(x[6]), turn @ found.rotation, found.shift + 0.1 * x[3:6]
        )

    ours = squared(found)
    assert ours < 0.99 * squared(start)
    limited = dict(maxfev=250)
    near = minimize(
        lambda x: squared(changed(x)), np.zeros(7), method="Nelder-Mead", options=limited
    )
    assert near.fun > ours * (1 - 1e-4)


def test_a_surface_one_millimetre_too_large_keeps_its_distance_unless_scale_is_free():
    """Of a closed surface no turn or shift takes the offset away; a scale takes most of it."""
    unit, faces = ellipsoid()
    radii = np.array([0.07, 0.09, 0.11])
    normal = unit / radii / np.linalg.norm(unit / radii, axis=1, keepdims=True)
    larger = Surface(unit * radii + 0.001 * normal, faces)
    points, rows = (unit * radii)[::37], slice(700, None, 1331)
    pair = larger.vertices[rows], (unit * radii)[rows]
    rigid = scan_distance.align(points, larger, "rigid", pair)
    distance = 1e3 * scan_distance.surface_distances(points, larger, rigid)
    assert rigid.scale == 1 and distance.mean() == pytest.approx(1, rel=0.05)
    free = scan_distance.align(points, larger, "similarity", pair)
    assert scan_distance.surface_distances(points, larger, free).mean() < 0.25e-3


def test_landmarks_are_never_mirrored(bump):
    _, landmarks = bump
    motion = scan_distance.landmark_alignment(landmarks * [-1, 1, 1], landmarks, scaled=True)
    assert np.linalg.det(motion.rotation) == pytest.approx(1)


def test_what_leaves_the_motion_open_is_refused(bump):
    mesh, landmarks = bump
    line = np.linspace(0, 1, 7)[:, None] * [[1, 2, 3]]
    with pytest.raises(ValueError, match="one line"):
        scan_distance.align(mesh.vertices, mesh, "rigid", (line, landmarks))
    with pytest.raises(ValueError, match="there are none"):
        scan_distance.align(mesh.vertices, mesh, "similarity")


def test_scores_and_shares_by_hand():
    scores = scan_distance.distance_scores(np.array([0, 1, 2, 3, 10.0]))
    assert scores["points"] == 5 and scores["median"] == 2 and scores["mean"] == 3.2
    assert scores["std"] == pytest.approx(np.sqrt(12.56))
    shares = scan_distance.cumulative_share(np.array([3, 1, 2.0]), np.array([0, 1, 2.5, 9]))
    np.testing.assert_allclose(shares, [0, 1 / 3, 2 / 3, 1])


def test_the_face_of_a_scan_by_hand():
    """Outer corners 8 apart and a nose of 4: radius 1.4 * 12 / 2, centre at 0.3 * 4 = 1.2."""
    landmarks = np.array(
        [[-4, 4, 0], [-1, 4, 0], [1, 4, 0], [4, 4, 0], [0, 0, 0], [9, 9, 9], [9, 9, 9.0]]
    )
    y = 1.2 + np.array([0, 8.39, 8.41, -8.39, -8.41])
    points = np.column_stack([0 * y, y, 0 * y])
    expected = [True, True, False, True, False]
    np.testing.assert_array_equal(scan_distance.face_region(points, landmarks), expected)
