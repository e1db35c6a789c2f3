"""Regions of a face that move as a whole cost nothing; what changes in one costs it alone."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from fields_jax.errors import UserError
from fields_jax.evaluation import scan_distance, scan_regions
from fields_jax.evaluation.scan_regions import NONE, REGIONS
from fields_jax.flame.procedural import procedural_head
from fields_jax.geometry.mesh_files import Surface

COUNT = 2500


@pytest.fixture(scope="module")
def face():
    """The skin of the face as a mesh, its regions, and points of it with theirs."""
    head = procedural_head()
    regions = scan_regions.vertex_regions(head)[np.asarray(head.face_vertices)]
    vertices = np.asarray(head.template, np.float64)[np.asarray(head.face_vertices)]
    mesh = Surface(vertices, np.asarray(head.face_triangles))
    rng = np.random.default_rng(0)
    faces = mesh.faces[rng.integers(len(mesh.faces), size=COUNT)]
    weights = rng.dirichlet(np.ones(3), COUNT)
    points = np.einsum("pk,pkd->pd", weights, vertices[faces])
    nearest = faces[np.arange(COUNT), weights.argmax(axis=1)]
    return mesh, regions, points, regions[nearest]


def scores(face, points, *, scaled=False):
    mesh, regions, *_ = face
    start = scan_distance.given_frame()
    return scan_regions.region_scores(points, mesh, start, regions, scaled=scaled)


def test_every_vertex_of_the_face_has_a_region_and_sides_are_alike(face):
    head = procedural_head()
    found = scan_regions.vertex_regions(head)
    inside = np.zeros(len(found), bool)
    inside[np.asarray(head.face_vertices)] = True
    assert (found[inside] != NONE).all() and (found[~inside] == NONE).all()
    x, y, z = np.asarray(head.template, np.float64).T
    for row in range(len(REGIONS)):
        own = found == row
        assert own.sum() > 100 and abs((x[own] > 1e-6).sum() - (x[own] < -1e-6).sum()) <= 2
    centre = {
        name: (y[found == row].mean(), z[found == row].mean()) for row, name in enumerate(REGIONS)
    }
    assert centre["forehead"][0] > centre["nose"][0] > centre["mouth"][0]
    assert centre["nose"][1] == max(depth for _, depth in centre.values())


def test_the_same_face_has_no_distance_anywhere(face):
    found = scores(face, face[2])
    for name in REGIONS:
        assert found[name]["mean"] < 1e-6 and found[name]["points"] > 100
    assert found["mean"] < 1e-6


def test_a_nose_that_is_moved_costs_nothing_once_it_is_aligned_by_itself(face):
    """One alignment of the face blames the nose; its own finds that the form is right."""
    _, _, points, labels = face
    nose = labels == REGIONS.index("nose")
    turn = Rotation.from_rotvec([0.06, 0.03, 0.0])
    middle = points[nose].mean(axis=0)
    away = points.copy()
    away[nose] = turn.apply(points[nose] - middle) + middle + [0, 0, 0.003]
    found = scores(face, away)
    assert found["nose"]["common_mean"] > 1
    assert found["nose"]["mean"] < 0.15 * found["nose"]["common_mean"]
    for name in ("mouth", "forehead", "cheek"):
        assert found[name]["mean"] < 0.05


def test_a_dent_costs_its_region_alone(face):
    _, _, points, labels = face
    brow = labels == REGIONS.index("forehead")
    dented = points.copy()
    wave = np.sin(300 * points[brow, 0]) * np.sin(300 * points[brow, 1])
    dented[brow, 2] += 0.002 * wave
    found = scores(face, dented)
    assert found["forehead"]["mean"] > 0.4
    assert max(found[name]["mean"] for name in REGIONS if name != "forehead") < 0.1
    assert found["mean"] == pytest.approx(np.mean([found[name]["mean"] for name in REGIONS]))


def test_a_region_without_points_has_no_score(face):
    _, _, points, labels = face
    found = scores(face, points[labels != REGIONS.index("mouth")], scaled=True)
    assert found["mouth"] is None is found["mean"] and found["nose"]["mean"] < 1e-6


def test_a_head_without_masks_is_refused():
    head = procedural_head()
    with pytest.raises(UserError, match="has no mask 'lips'"):
        scan_regions.vertex_regions(head.replace(regions=dict(head.regions) | {"lips": []}))
