"""Faces come back from scans of them with noise, holes and outliers; other things do not."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.scan_fit import vertex_errors
from benchmarks.scans import Faults, movement, scanned
from fields_jax.fitting import correspondence, surface
from fields_jax.fitting.parameters import Layout
from fields_jax.fitting.scan import ScanFitter
from fields_jax.fitting.scan_types import Scan, ScanSettings
from fields_jax.flame.procedural import procedural_head
from fields_jax.geometry.closest_points import closest_points
from tests.support.meshes import sphere

SHAPES = 60
FRAMES = 5


@pytest.fixture(scope="module")
def fitter():
    settings = ScanSettings(points=2000, neutral_frames=3)
    return ScanFitter(procedural_head(), n_shape=SHAPES, settings=settings)


@pytest.fixture(scope="module")
def known():
    """Another subject than the mean: a strong expression, an opening mouth, a blink."""
    rng = np.random.default_rng(5)
    truth = movement(rng, FRAMES, strength=1.0, shapes=SHAPES)
    jaw = np.array(truth.jaw)
    jaw[FRAMES // 2, 0] = 0.35
    truth = truth.replace(jaw=jnp.asarray(jaw))
    return scanned(procedural_head(), truth, rng, Faults(points=12000))


@pytest.fixture(scope="module")
def fitted(fitter, known):
    return fitter.fit(known.scans)


@pytest.fixture(scope="module")
def identity(fitted):
    return fitted.coefficients.shape[0]


def test_vertices_come_back_within_half_a_millimetre(fitted, known):
    errors = vertex_errors(procedural_head(), fitted, known)
    assert errors.shape == (FRAMES, len(procedural_head().face_vertices))
    assert np.median(errors, axis=1).max() < 0.5
    assert np.percentile(errors, 95) < 2
    assert fitted.accepted.all() and fitted.reasons == ("",) * FRAMES
    assert fitted.median_mm.max() < 0.4 and fitted.coverage.min() > 0.85


def test_mouth_lids_and_one_identity_come_back(fitted, known):
    truth, found = known.coefficients, fitted.coefficients
    np.testing.assert_allclose(found.jaw[:, 0], truth.jaw[:, 0], atol=0.06)
    # Expression components narrow the eyes too, so that lids need not shut them alone.
    shut = np.asarray(truth.eyelid) == 1
    assert found.eyelid[shut].min() > 0.5 and found.eyelid[~shut].max() < 0.3
    assert np.ptp(found.shape, axis=0).max() == 0
    assert set(fitted.neutral) >= {0, FRAMES - 1}  # the frames at rest


def ball(scan: Scan) -> Scan:
    """A ball where the face was."""
    points, _ = sphere(5)
    centre = scan.landmarks_51.mean(axis=0) - (0, 0, 0.07)
    return dataclasses.replace(scan, points=0.08 * points + centre)


def half(scan: Scan) -> Scan:
    middle = scan.landmarks_51[13, 0]
    return dataclasses.replace(scan, points=scan.points[scan.points[:, 0] > middle])


def millimetres(scan: Scan) -> Scan:
    return dataclasses.replace(
        scan,
        points=1e3 * scan.points,
        landmarks_51=1e3 * scan.landmarks_51,
        landmarks_105=1e3 * scan.landmarks_105,
    )


def shifted(scan: Scan, metres: float) -> Scan:
    """Landmarks of a frame in which the head was elsewhere."""
    shift = np.array([metres, 0, 0])
    return dataclasses.replace(
        scan, landmarks_51=scan.landmarks_51 + shift, landmarks_105=scan.landmarks_105 + shift
    )


def mixed(scan: Scan) -> Scan:
    """Landmarks in another order."""
    return dataclasses.replace(
        scan, landmarks_51=scan.landmarks_51[::-1], landmarks_105=scan.landmarks_105[::-1]
    )


def bare(scan: Scan) -> Scan:
    return dataclasses.replace(scan, landmarks_51=None, landmarks_105=None)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (ball, "median_mm"),
        (half, "coverage"),
        (millimetres, "e+03 times the size of a head's in metres"),
        (lambda scan: shifted(scan, 0.03), "landmark_mm"),
        (lambda scan: shifted(scan, 0.4), "fewer than 300 scan points within 30 mm"),
        (mixed, "landmark"),
        (bare, "fewer than 6 landmarks"),
        (lambda scan: dataclasses.replace(scan, points=np.full((500, 3), np.nan)), "fewer than"),
    ],
)
def test_what_is_no_face_is_rejected_with_the_reason(fitter, known, identity, spoil, reason):
    """The frame beside it is kept."""
    fit = fitter.fit([known.scans[0], spoil(known.scans[1])], identity)
    assert fit.accepted.tolist() == [True, False]
    assert reason in fit.reasons[1]


def test_points_whose_normals_face_the_other_way_do_not_count(fitter, known, identity):
    scan = known.scans[0]
    toward = np.tile([0.0, 0, 1], (len(scan.points), 1))

    def expression(scan, normals):
        fit = fitter.fit([dataclasses.replace(scan, normals=normals)], identity)
        return np.asarray(fit.coefficients.expression[0])

    moved = dataclasses.replace(scan, points=scan.points + np.array([0, 0, 0.003]))
    plain, facing, turned, elsewhere = (
        expression(*of) for of in ((scan, None), (scan, toward), (scan, -toward), (moved, -toward))
    )
    # The landmarks alone decide, wherever the points are; points that face the head decide more.
    np.testing.assert_allclose(turned, elsewhere, atol=1e-3)
    assert np.linalg.norm(turned - plain) > 2 * np.linalg.norm(facing - plain)


@pytest.mark.usefixtures("unchecked")
def test_misshapen_input_is_named(fitter, known, identity):
    scan = dataclasses.replace(known.scans[0], name="F001/T1/0000")
    with pytest.raises(ValueError, match="no scans to fit"):
        fitter.fit([])
    with pytest.raises(ValueError, match=r"0000: points of shape \[7, 2\], expected \[P, 3\]"):
        fitter.fit([dataclasses.replace(scan, points=np.zeros((7, 2)))], identity)
    with pytest.raises(ValueError, match=r"0000: landmarks_51 of shape \[68, 3\], not \[51, 3\]"):
        fitter.fit([dataclasses.replace(scan, landmarks_51=np.zeros((68, 3)))], identity)
    with pytest.raises(ValueError, match="normals of shape"):
        fitter.fit([dataclasses.replace(scan, normals=np.zeros((1, 3)))], identity)
    with pytest.raises(ValueError, match=r"shape of shape \[3\], expected \[60\]"):
        fitter.fit([scan], np.zeros(3))
    with pytest.raises(ValueError, match="no scan can be fitted; the first: fewer than 6"):
        fitter.fit([bare(scan)])


def test_matches_are_the_exact_closest_points(known):
    """But for those few whose closest triangle is not about a nearest vertex."""
    head = procedural_head()
    tables = surface.face_surface(head, Layout(0, 0))
    vertices = known.vertices[2][np.asarray(head.face_vertices)]
    rng = np.random.default_rng(0)
    near = rng.choice(len(vertices), 800)
    points = vertices[near] + 0.004 * rng.normal(size=(800, 3))
    cloud = correspondence.Cloud(np.float32(points), np.zeros((800, 3)), np.ones(800))
    nearest = correspondence.nearest_vertices(vertices, points)
    found = jax.jit(correspondence.match)(
        tables.replace(rig=None), jnp.float32(vertices), cloud, nearest, 0.01
    )
    exact = closest_points(vertices, tables.triangles, points)
    gap = 1e3 * (np.asarray(found.distance) - exact.distance)
    assert gap.min() > -1e-3 and np.mean(gap > 1e-3) < 0.02 and gap.max() < 1.2
    same = gap < 1e-3
    places = np.einsum(
        "nk,nkd->nd", found.barycentric, vertices[np.asarray(found.corners)], dtype=np.float64
    )
    by_exact = np.einsum("nk,nkd->nd", exact.barycentric, vertices[tables.triangles[exact.face]])
    np.testing.assert_allclose(places[same], by_exact[same], atol=2e-5)
    assert 0 < np.sum(found.inside == 0) < 200  # the border's


def test_derivative_of_the_posed_rig_is_that_of_forward_differentiation(tiny_head):
    rig = surface.face_surface(tiny_head, Layout(4, 5)).rig
    x = jnp.asarray(np.random.default_rng(1).normal(0, 0.3, 20), jnp.float32)
    points, slope = jax.jit(surface.posed_with_jacobian)(rig, x)
    expected = jax.jit(jax.jacfwd(surface.posed, argnums=1))(rig, x)
    np.testing.assert_allclose(points, jax.jit(surface.posed)(rig, x), atol=1e-6)
    np.testing.assert_allclose(slope, expected, atol=2e-5)


def test_a_rig_of_one_identity_is_the_rig_at_that_shape(tiny_head):
    rig = surface.face_surface(tiny_head, Layout(4, 5)).rig
    rng = np.random.default_rng(2)
    x, shape = (jnp.asarray(rng.normal(0, 0.3, n), jnp.float32) for n in (15, 5))
    own = surface.with_shape(rig, shape)
    whole = surface.posed(rig, jnp.concatenate([x, shape]))
    np.testing.assert_allclose(surface.posed(own, x), whole, atol=1e-6)


def test_rings_and_borders_by_hand():
    ring, size = surface._rings(np.array([[0, 1, 2], [0, 2, 3]]), 5)
    assert size.tolist() == [2, 1, 2, 1, 0]
    assert [sorted(set(row)) for row in ring.tolist()] == [[0, 1], [0], [0, 1], [1], [0]]
    head = procedural_head()
    tables = surface.face_surface(head, Layout(0, 0))
    mask = np.asarray(head.template)[np.asarray(head.face_vertices)]
    tip = np.argmax(mask[:, 2])
    assert not tables.border[tip] and tables.border[np.argmax(mask[:, 1])]
