"""The rasteriser against a float64 loop over triangles, and its promises one by one."""

from __future__ import annotations

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fields_jax.render import rasterize
from fields_jax.render.camera import to_pixels
from tests.support.meshes import WILD, oracle, posed_spheres, soup, wild_spheres

MODULE = importlib.import_module("fields_jax.render.rasterize")
BACKENDS = ("scatter", "sorted", "reference")
SIZE = (40, 36)  # shared by most tests, as are the meshes' shapes: compiling is what takes time


@pytest.mark.parametrize("cull", [False, True])
@pytest.mark.parametrize("make", [soup, posed_spheres])
def test_equals_a_float64_loop(make, cull):
    vertices, faces = make(np.random.default_rng(7))
    found = rasterize(vertices, faces, SIZE, cull=cull)
    for image in range(len(vertices)):
        expected, depth, doubt = oracle(vertices[image], faces, SIZE, cull=cull)
        assert doubt.mean() < 0.02
        assert np.mean(expected >= 0) > 0.15
        wrong = np.asarray(found.face_index[image]) != expected
        assert not np.any(wrong & ~doubt)
        sure = (expected >= 0) & ~doubt
        np.testing.assert_allclose(found.depth[image][sure], depth[sure], atol=2e-5)


def test_barycentric_weights_rebuild_the_pixel():
    vertices, faces = posed_spheres(np.random.default_rng(0))
    found = rasterize(vertices, faces, SIZE)
    points = np.asarray(to_pixels(jnp.asarray(vertices), SIZE), np.float64)
    covered = np.asarray(found.face_index) >= 0
    image, row, column = np.nonzero(covered)
    corners = points[image[:, None], faces[np.asarray(found.face_index)[covered]]]
    weights = np.asarray(found.barycentric)[covered]
    rebuilt = np.sum(weights[..., None] * corners, axis=1)
    np.testing.assert_allclose(rebuilt[:, 0], column, atol=1e-4)
    np.testing.assert_allclose(rebuilt[:, 1], row, atol=1e-4)
    np.testing.assert_allclose(rebuilt[:, 2], np.asarray(found.depth)[covered], atol=1e-5)
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-5)
    assert weights.min() > -1e-5
    assert not np.any(np.asarray(found.barycentric)[~covered])
    assert not np.any(np.asarray(found.depth)[~covered])


def test_grids_have_no_holes():
    """Vertices on pixel centres, between them, on 1/256 pixel and anywhere; both diagonals."""
    rng = np.random.default_rng(3)
    row, column = np.mgrid[: SIZE[0] + 4, : SIZE[1] + 4]
    lattice = np.stack([column, row], axis=-1) - 2.0
    grids = [lattice, lattice + 0.5]
    for step in (0.5, 1 / 256, 0):
        jitter = rng.uniform(-0.45, 0.45, lattice.shape)
        grids.append(lattice + (np.round(jitter / step) * step if step else jitter))
    vertices = np.zeros((len(grids), row.size, 3), np.float32)
    points = np.reshape(grids, (len(grids), -1, 2))
    vertices[..., :2] = (2 * points + 1) / [SIZE[1], SIZE[0]] - 1
    vertices[..., 2] = rng.normal(size=vertices.shape[:2])

    index = row * row.shape[1] + column
    a, b, c, d = index[:-1, :-1], index[1:, :-1], index[1:, 1:], index[:-1, 1:]
    falling = np.stack([a, b, c, a, c, d], axis=-1)
    rising = np.stack([a, b, d, d, b, c], axis=-1)
    chosen = np.where(rng.random((*a.shape, 1)) < 0.5, falling, rising).reshape(-1, 3)
    faces = rng.permuted(chosen, axis=1)  # windings and first vertices at random
    found = rasterize(vertices, faces, SIZE)
    assert np.asarray(found.face_index).min() >= 0


def test_equal_depths_go_to_the_lowest_face():
    vertices = np.array([[[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]]], np.float32)
    faces = np.array([[0, 1, 1], [0, 2, 1], [0, 1, 2], [2, 3, 0], [0, 2, 3]])
    # Pixels on the shared diagonal belong to the lower face too.
    expected = [[1, 1, 1, 1], [3, 1, 1, 1], [3, 3, 1, 1], [3, 3, 3, 1]]
    for backend in BACKENDS:
        found = np.asarray(rasterize(vertices, faces, 4, backend=backend).face_index[0])
        np.testing.assert_array_equal(found, expected)


def test_smaller_depth_is_nearer_and_culling_keeps_front_faces():
    # One square seen from both sides: its depth slopes up to the right in faces 0 and 1.
    vertices = np.array([[[-1, -1, 0], [1, -1, 1], [1, 1, 1], [-1, 1, 0]]], np.float32)
    far = vertices + np.array([0, 0, 5])
    vertices = np.concatenate([far, vertices], axis=1).astype(np.float32)
    # Clockwise on the screen: faces 0 and 1 look away.
    faces = np.array([[4, 5, 6], [4, 6, 7], [0, 2, 1], [0, 3, 2]])
    both, culled = rasterize(vertices, faces, 4), rasterize(vertices, faces, 4, cull=True)
    assert set(np.unique(both.face_index)) == {0, 1}
    assert set(np.unique(culled.face_index)) == {2, 3}
    slope = np.array([[1, 3, 5, 7]]) / 8
    np.testing.assert_allclose(both.depth[0], np.tile(slope, (4, 1)), atol=1e-6)
    np.testing.assert_allclose(culled.depth[0], np.tile(slope + 5, (4, 1)), atol=1e-6)


def test_further_passes_lose_nothing():
    vertices, faces = posed_spheres(np.random.default_rng(1))
    whole = rasterize(vertices, faces, SIZE)
    parts = rasterize(vertices, faces, SIZE, jobs=128)
    np.testing.assert_array_equal(whole.face_index, parts.face_index)
    assert np.asarray(parts.passes).min() > 2
    assert np.all(np.asarray(parts.passes) > np.asarray(whole.passes))


def test_default_slots_take_one_to_three_passes():
    vertices, faces = posed_spheres(np.random.default_rng(1), zooms=(0.2, 0.5, 0.7, 0.9))
    passes = np.asarray(rasterize(vertices, faces, SIZE).passes)
    assert passes[0] == 1 and passes.max() <= 3
    slots = MODULE.default_jobs(9976, (112, 112))
    assert 9119 / 3 < slots < 6621  # counted: a head that fills the frame, one at eight tenths
    assert slots % 256 == 128


def test_faces_in_groups_lose_nothing(monkeypatch):
    """Groups exist for frames so large that the jobs of all faces might overflow an int32."""
    vertices, faces = soup(np.random.default_rng(2))
    whole = rasterize(vertices, faces, SIZE)
    monkeypatch.setattr(MODULE, "_MOST_JOBS", 50 * 10 * 18)  # 50 of the 120 faces
    parts = rasterize(vertices, faces, SIZE, jobs=6000)
    np.testing.assert_array_equal(whole.face_index, parts.face_index)
    assert np.asarray(parts.passes).tolist() == [3] * 4


def test_reference_backend_agrees():
    vertices, faces = posed_spheres(np.random.default_rng(5))
    fast = rasterize(vertices, faces, SIZE)
    slow = rasterize(vertices, faces, SIZE, backend="reference")
    np.testing.assert_array_equal(fast.face_index, slow.face_index)


@pytest.mark.parametrize("backend", BACKENDS)
def test_wild_vertices_harm_only_their_faces(backend):
    """The last image, where those faces are not drawn, is what all others show beside them."""
    vertices, faces, wild = wild_spheres(np.random.default_rng(6))
    found = jax.tree.map(np.asarray, rasterize(vertices, faces, SIZE, backend=backend))
    own = wild[found.face_index] & (found.face_index >= 0)
    assert not np.any(own[-1]) and np.sum(np.any(own, axis=(1, 2))) > 15
    for values in (found.face_index, found.barycentric, found.depth):
        assert np.isfinite(values).all()
        np.testing.assert_array_equal(values[~own], values[-1:].repeat(len(WILD), axis=0)[~own])
    # They are seen only where they are nearest.
    hidden = own & (found.face_index[-1] >= 0)
    assert np.all(found.depth[hidden] <= (found.depth[-1] + 0 * found.depth)[hidden])


def test_wild_faces_are_where_a_float64_loop_finds_them():
    vertices, faces, _ = wild_spheres(np.random.default_rng(6))
    found = np.asarray(rasterize(vertices, faces, SIZE, backend="scatter").face_index)
    for image, (axes, value) in enumerate(WILD):
        if value ** len({0, 1}.intersection(axes)) < 1e30:  # beyond, faces are too large to draw
            expected, _, doubt = oracle(vertices[image], faces, SIZE)
            wrong = found[image] != expected
            assert not np.any(wrong & ~doubt) and np.sum(wrong) < 3, (axes, value)


def test_depths_are_compared_to_the_last_bit():
    """Whatever the range: a third square, hidden, reaches as far as float32 does."""
    vertices, faces = (np.zeros_like(array) for array in soup(np.random.default_rng(0)))
    corner = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
    for square, depth in enumerate([np.nextafter(np.float32(0.3), np.float32(1)), 0.3, 3e38]):
        rows = slice(4 * square, 4 * square + 4)
        vertices[:, rows, :2], vertices[:, rows, 2] = corner, depth
        faces[2 * square : 2 * square + 2] = np.array([[0, 1, 2], [0, 2, 3]]) + 4 * square
    for backend in BACKENDS:
        found = rasterize(vertices, faces, SIZE, backend=backend)
        assert set(np.unique(found.face_index)) == {2, 3}


def test_depths_may_reach_from_end_to_end_of_float32():
    """Of two triangles across a square: one by depth, one that is far off to the right as well."""
    vertices, faces = (np.zeros_like(array) for array in soup(np.random.default_rng(0)))
    square = [[-1, -1, 0.1], [1, -1, 0.1], [1, 1, 0.1], [-1, 1, 0.1]]
    steep = [[-3, -1, -3e38], [1, -1, 3e38], [1, 3, -3e38]]
    flat = [[-1, -1, 0], [1e20, -1, 1e20], [-1, 1, 0]]  # z is x + 1
    for image, triangle in enumerate([steep, flat]):
        vertices[image, :7] = [*square, *triangle]
    faces[:3] = [[0, 1, 2], [0, 2, 3], [4, 5, 6]]
    found = np.asarray(rasterize(vertices, faces, SIZE).face_index)
    for image in range(2):
        expected, _, doubt = oracle(vertices[image], faces[:3], SIZE, margin=1e-6)
        assert np.mean(doubt) < 0.1 and 0.01 < np.mean(expected == 2) < 0.99
        assert not np.any((found[image] != expected) & ~doubt)


@pytest.mark.parametrize("cull", [False, True])
def test_of_a_face_listed_twice_the_lowest_index_wins(cull):
    """Once in each winding, in any order: with culling the one that faces the viewer."""
    rng = np.random.default_rng(11)
    vertices, faces = soup(rng)
    faces, order = faces[: len(faces) // 2], rng.permutation(len(faces))
    twice = np.concatenate([faces, faces[:, [0, 2, 1]]])[order]
    row = np.argsort(order).reshape(2, -1)  # of each face and of its reverse
    once = np.concatenate([faces, np.zeros_like(faces)])
    once = np.asarray(rasterize(vertices, once, SIZE, backend="scatter").face_index)
    a, b, c = (vertices[:, faces[:, k]].astype(np.float64) for k in range(3))
    away = np.cross(b - a, c - a)[..., 2] > 0  # clockwise on the screen
    seen = np.where(away, row[1], row[0]) if cull else row.min(axis=0)[None].repeat(4, axis=0)
    expected = [np.where(i < 0, -1, rows[i]) for i, rows in zip(once, seen, strict=True)]
    for backend in BACKENDS:
        found = rasterize(vertices, twice, SIZE, cull=cull, backend=backend)
        np.testing.assert_array_equal(found.face_index, expected)


def test_what_is_nearer_than_near_is_not_drawn():
    """Faces on both sides of the plane and across it, against a float64 loop."""
    vertices, faces = soup(np.random.default_rng(12))
    near, whole = -0.05, rasterize(vertices, faces, SIZE)
    found = {b: rasterize(vertices, faces, SIZE, near=near, backend=b) for b in BACKENDS}
    index = np.asarray(found["reference"].face_index)
    for image, one in enumerate(vertices):
        expected, _, doubt = oracle(one, faces, SIZE, near=near)
        assert doubt.mean() < 0.02
        assert not np.any((index[image] != expected) & ~doubt)
        z = one[faces[index[image][index[image] >= 0]], 2]
        assert np.any(z.min(axis=1) < near) and np.any(z.min(axis=1) > near)
    assert np.asarray(found["reference"].depth)[index >= 0].min() > near - 1e-6
    for backend in BACKENDS:
        np.testing.assert_array_equal(found[backend].face_index, index)
    far_away = rasterize(vertices, faces, SIZE, near=-1e9)
    np.testing.assert_array_equal(far_away.face_index, whole.face_index)


def test_nothing_to_draw():
    vertices, faces = posed_spheres(np.random.default_rng(6))
    for nothing in (vertices + 5, np.full_like(vertices, np.nan), np.zeros_like(vertices)):
        found = rasterize(nothing, faces, SIZE)
        assert np.all(np.asarray(found.face_index) == -1)
        assert not np.any(found.depth) and not np.any(found.barycentric)


def test_an_image_alone_equals_itself_in_a_batch():
    vertices, faces = soup(np.random.default_rng(8), batch=4)
    batch = rasterize(vertices, faces, SIZE)
    for image in range(len(vertices)):
        alone = rasterize(vertices[image : image + 1], faces, SIZE)
        np.testing.assert_array_equal(batch.face_index[image], alone.face_index[0])
        np.testing.assert_array_equal(batch.passes[image], alone.passes[0])
        # Rounded as each program is fused.
        np.testing.assert_allclose(batch.barycentric[image], alone.barycentric[0], atol=1e-6)
        np.testing.assert_allclose(batch.depth[image], alone.depth[0], atol=1e-6)


def test_accelerators_take_the_batch_whole_with_the_same_result(monkeypatch):
    vertices, faces = soup(np.random.default_rng(9), batch=4)
    chunked = rasterize(vertices, faces, SIZE, jobs=1001)
    monkeypatch.setattr(
        jax.lax, "platform_dependent", lambda *arrays, default, **others: default(*arrays)
    )
    whole = rasterize(vertices, faces, SIZE, jobs=1002)
    np.testing.assert_array_equal(chunked.face_index, whole.face_index)


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_lowers_for_accelerators(platform):
    vertices, faces = soup(np.random.default_rng(9), batch=2)
    traced = jax.jit(lambda v: rasterize(v, faces, SIZE)).trace(vertices)
    assert "scatter" in traced.lower(lowering_platforms=(platform,)).as_text()


def test_works_inside_jit_vmap_and_x64():
    vertices, faces = soup(np.random.default_rng(10), batch=4)
    plain = rasterize(vertices, faces, SIZE).face_index
    pairs = jax.jit(jax.vmap(lambda v: rasterize(v, faces, SIZE).face_index))(
        vertices.reshape(2, 2, -1, 3)
    )
    np.testing.assert_array_equal(pairs.reshape(plain.shape), plain)
    with jax.enable_x64(True):
        double = rasterize(vertices.astype(np.float64), faces, SIZE)
        assert double.depth.dtype == jnp.float64
        # Pixel coordinates are rounded at another place; a pixel on an edge may change.
        assert np.mean(np.asarray(double.face_index) != plain) < 2e-3


@pytest.mark.parametrize(
    "arguments, message",
    [
        (dict(vertices=np.zeros((4, 3))), r"vertices of shape \(4, 3\)"),
        (dict(faces=np.zeros((2, 4), int)), r"faces of shape \(2, 4\)"),
        (dict(faces=np.zeros((0, 3), int)), "F > 0"),
        (
            dict(backend="opengl"),
            "unknown backend 'opengl'; known: auto, scatter, sorted, reference",
        ),
        (dict(image_size=0), "image_size 0"),
        (dict(image_size=(8, 8, 3)), "image_size"),
        (dict(image_size=7.5), "image_size 7.5"),
        (dict(jobs=0), "jobs is 0"),
        (dict(near=np.nan), "near is nan"),
        (dict(near=np.zeros(2)), "near is .* expected a number or None"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_mistakes_are_named(arguments, message):
    valid = dict(vertices=np.zeros((1, 4, 3)), faces=np.zeros((2, 3), int), image_size=8)
    with pytest.raises(ValueError, match=message):
        rasterize(**valid | arguments)
