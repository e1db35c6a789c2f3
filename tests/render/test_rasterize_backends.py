"""The backends among each other and against a float64 loop: heads, soups, odd and large shapes."""

from __future__ import annotations

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fields_jax.flame.procedural import procedural_head
from fields_jax.render import antialias, interpolate, rasterize
from fields_jax.render.camera import to_pixels
from tests.support.meshes import oracle, posed_spheres, soup

MODULE = importlib.import_module("fields_jax.render.rasterize")
SIZE = (40, 36)
FAST = ("scatter", "sorted")


def posed_heads(rng, count, zoom=0.85):
    """The procedural head in random poses as `project` returns it, and its faces."""
    head = procedural_head()
    points = np.asarray(head.template, np.float64)
    points = points - (points.max(axis=0) + points.min(axis=0)) / 2
    points /= np.abs(points).max()
    vertices = []
    for yaw, pitch in rng.uniform(-1, 1, (count, 2)) * [np.pi / 3, np.pi / 9]:
        (cy, sy), (cp, sp) = ((np.cos(a), np.sin(a)) for a in (yaw, pitch))
        turn = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]]) @ np.array(
            [[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]]
        )
        vertices.append(zoom * points @ turn.T * [1, -1, -1])
    return np.array(vertices, np.float32), np.asarray(head.faces)


def wrong_pixels(vertices, faces, size, **options):
    """Pixels whose face is not the oracle's: those beyond excuse, and those excused."""
    found = np.asarray(rasterize(vertices, faces, size, **options).face_index)
    wrong = excused = 0
    for image, one in zip(found, vertices, strict=True):
        expected, _, doubt = oracle(one, faces, size, margin=5e-5)
        wrong += np.sum((image != expected) & ~doubt)
        excused += np.sum((image != expected) & doubt)
    return wrong, excused


@pytest.mark.parametrize("backend", FAST)
def test_heads_equal_a_float64_loop(backend):
    vertices, faces = posed_heads(np.random.default_rng(0), 2)
    wrong, excused = wrong_pixels(vertices, faces, (96, 96), backend=backend)
    assert wrong == 0 and excused <= 4


@pytest.mark.slow
def test_fifty_heads_equal_a_float64_loop():
    """2.5 million pixels; and twelve images at six times the zoom."""
    vertices, faces = posed_heads(np.random.default_rng(1), 50)
    wrong, excused = wrong_pixels(vertices, faces, (224, 224))
    print(f"{50 * 224**2} pixels: {wrong} wrong, {excused} excused")
    assert wrong == 0 and excused < 50
    wrong, excused = wrong_pixels(6 * vertices[:12], faces, (224, 224))
    print(f"six times the zoom, {12 * 224**2} pixels: {wrong} wrong, {excused} excused")
    assert wrong == 0 and excused < 50


@pytest.mark.slow
@pytest.mark.parametrize("backend", FAST)
def test_soups_of_slivers_and_huge_triangles_equal_a_float64_loop(backend):
    rng = np.random.default_rng(2)
    vertices, _ = soup(rng, batch=12, triangles=300, spread=3)
    vertices = vertices.reshape(12, 300, 3, 3)
    vertices[:, ::9, 2] = vertices[:, ::9, 1]  # without area
    vertices[:, 1::9, 2] = (vertices[:, 1::9, 0] + vertices[:, 1::9, 1]) / 2  # nearly without
    vertices[:, 2::9] *= 40
    faces = np.arange(900).reshape(300, 3)
    wrong, _ = wrong_pixels(vertices.reshape(12, 900, 3), faces, (128, 120), backend=backend)
    assert wrong == 0


@pytest.mark.parametrize("cull", [False, True])
@pytest.mark.parametrize("make", [soup, posed_spheres])
def test_backends_agree_bit_for_bit(make, cull):
    vertices, faces = make(np.random.default_rng(5))
    slow = rasterize(vertices, faces, SIZE, cull=cull, backend="reference")
    for backend in ("auto", *FAST):
        fast = rasterize(vertices, faces, SIZE, cull=cull, backend=backend)
        np.testing.assert_array_equal(fast.face_index, slow.face_index)
        # What follows from the faces is computed alike but rounded as each program is fused.
        np.testing.assert_allclose(fast.barycentric, slow.barycentric, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(fast.depth, slow.depth, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("zoom", [0.85, 6])
def test_backends_agree_on_heads(zoom):
    vertices, faces = posed_heads(np.random.default_rng(6), 2, zoom)
    found = [np.asarray(rasterize(vertices, faces, 112, backend=b).face_index) for b in FAST]
    np.testing.assert_array_equal(*found)


def test_sorted_tiles_lose_nothing_in_further_passes():
    vertices, faces = posed_spheres(np.random.default_rng(1))
    whole = rasterize(vertices, faces, SIZE, backend="sorted", jobs=6000)
    parts = rasterize(vertices, faces, SIZE, backend="sorted", jobs=129)
    np.testing.assert_array_equal(whole.face_index, parts.face_index)
    assert np.all(np.asarray(whole.passes) == 1)
    assert np.asarray(parts.passes).min() > 2


def among_faces_without_area(rng, faces, count):
    """Faces at random rows of a longer table, and those rows."""
    many = np.zeros((count, 3), np.int64)
    rows = np.sort(rng.choice(count, len(faces), replace=False))
    many[rows] = faces
    return many, rows


@pytest.mark.parametrize("backend", FAST)
def test_two_to_the_eighteen_faces(backend):
    rng = np.random.default_rng(4)
    vertices, faces = soup(rng, batch=1)
    many, rows = among_faces_without_area(rng, faces, 2**18 + 1)
    few = np.asarray(rasterize(vertices, faces, SIZE).face_index)
    found = rasterize(vertices, many, SIZE, backend=backend, jobs=1024)
    np.testing.assert_array_equal(found.face_index, np.where(few < 0, -1, rows[few]))


@pytest.mark.slow
@pytest.mark.parametrize("backend", FAST)
def test_a_large_frame_with_more_jobs_than_an_int32_counts(backend):
    """2^18 + 1 faces at 2048 pixels might have 1.4e11 jobs: they go in 129 groups."""
    rng = np.random.default_rng(7)
    vertices, faces = soup(rng, batch=1, triangles=400)
    size = 2048
    many, rows = among_faces_without_area(rng, faces, 2**18 + 1)
    few = rasterize(vertices, faces, size)
    found = rasterize(vertices, many, size, backend=backend, jobs=2**18)
    index = np.asarray(few.face_index)
    np.testing.assert_array_equal(found.face_index, np.where(index < 0, -1, rows[index]))
    np.testing.assert_allclose(found.depth, few.depth, atol=1e-6)


def test_a_2048_pixel_frame():
    vertices, faces = posed_spheres(np.random.default_rng(8), zooms=(0.9,))
    vertices = np.concatenate([vertices, [[[-3, -1, 9], [1, -1, 9], [1, 3, 9]]]], axis=1)
    faces = np.concatenate([faces, [[len(vertices[0]) - k for k in (1, 2, 3)]]])
    found = rasterize(vertices.astype(np.float32), faces, 2048)
    assert np.all(np.asarray(found.face_index) >= 0)  # the last face fills the frame
    strip = np.asarray(found.face_index)[0, 1000:1004]
    expected, _, doubt = oracle(vertices[0].astype(np.float32), faces, (2048, 2048), margin=1e-3)
    assert not np.any((strip != expected[1000:1004]) & ~doubt[1000:1004])


@settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
@given(
    batch=st.integers(1, 5),
    triangles=st.sampled_from([1, 2, 7, 33]),
    height=st.sampled_from([1, 5, 17]),
    width=st.sampled_from([1, 4, 23]),
    cull=st.booleans(),
    seed=st.integers(0, 99),
)
def test_odd_shapes(batch, triangles, height, width, cull, seed):
    vertices, faces = soup(np.random.default_rng(seed), batch=batch, triangles=triangles, spread=2)
    size = (height, width)
    found = {
        backend: rasterize(vertices, faces, size, cull=cull, backend=backend, jobs=16)
        for backend in FAST
    }
    np.testing.assert_array_equal(*(np.asarray(f.face_index) for f in found.values()))
    fragments = found["scatter"]
    for image in range(batch):
        expected, _, doubt = oracle(vertices[image], faces, size, cull=cull)
        assert not np.any((np.asarray(fragments.face_index[image]) != expected) & ~doubt)
    attributes = to_pixels(jnp.asarray(vertices), size)[..., :1]
    column = np.asarray(interpolate(fragments, vertices, faces, attributes))[..., 0]
    covered = np.asarray(fragments.face_index) >= 0
    expected = np.broadcast_to(np.arange(width), covered.shape)
    np.testing.assert_allclose(column[covered], expected[covered], atol=1e-3)


def test_one_gradient_however_it_is_mapped():
    """Faces, shading and outlines under jit, vmap, pmap, shard_map and remat."""
    vertices, faces = posed_spheres(np.random.default_rng(9))
    vertices = jnp.asarray(vertices)

    def gradient(vertices):
        def loss(vertices):
            fragments = rasterize(vertices, faces, SIZE)
            image = interpolate(fragments, vertices, faces, jnp.sin(5 * vertices))
            return jnp.sum(antialias(image, fragments, vertices, faces) ** 2)

        return jax.grad(loss)(vertices)

    expected = jax.jit(gradient)(vertices)
    assert np.linalg.norm(expected) > 1
    devices = jax.devices()[:2]
    mesh = jax.sharding.Mesh(np.array(devices), ("data",))
    spec = jax.sharding.PartitionSpec("data")
    sharded = jax.shard_map(gradient, mesh=mesh, in_specs=spec, out_specs=spec, check_vma=False)
    shards = vertices.reshape(len(devices), -1, *vertices.shape[1:])
    for found in (
        jax.jit(jax.vmap(jax.checkpoint(gradient)))(vertices[:, None]),
        jax.pmap(gradient, axis_name="data", devices=devices)(shards),
        jax.jit(sharded)(vertices),
    ):
        np.testing.assert_allclose(found.reshape(expected.shape), expected, rtol=1e-4, atol=1e-4)


def test_exports_for_every_platform():
    """Forward and backward of all three operations in one program for cpu, cuda and tpu."""
    # A soup of which no outline is decided by rounding, which may differ from program to program.
    vertices, faces = soup(np.random.default_rng(14), batch=2, triangles=8)

    def loss(vertices):
        fragments = rasterize(vertices, faces, (16, 16))
        image = interpolate(fragments, vertices, faces, vertices)
        return jnp.sum(antialias(image, fragments, vertices, faces) ** 2)

    step = jax.jit(jax.value_and_grad(loss))
    exported = jax.export.export(step, platforms=("cpu", "cuda", "tpu"))(vertices)
    assert exported.platforms == ("cpu", "cuda", "tpu")
    restored = jax.export.deserialize(exported.serialize())
    for found, expected in zip(restored.call(vertices), step(vertices), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (dict(faces=np.zeros((2, 3))), "faces of type float64: expected integers"),
        (dict(faces=np.array([[0, 1, 4]])), "faces name vertices 0 to 4, but there are 4"),
        (dict(faces=np.array([[0, -1, 2]])), "faces name vertices -1 to 2"),
        (dict(vertices=np.zeros((1, 4, 3), int)), "vertices of type int64: expected floats"),
        (dict(image_size=(8, 0)), "image_size"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_mistakes_are_named(arguments, message):
    valid = dict(vertices=np.zeros((1, 4, 3)), faces=np.zeros((2, 3), int), image_size=8)
    with pytest.raises(ValueError, match=message):
        rasterize(**valid | arguments)
