"""Camera, interpolation and its gradients, shading, the geometry map, masks and pictures."""

from __future__ import annotations

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from fields_jax.render import (
    draw,
    five_light_shade,
    geometry_map,
    interpolate,
    masked_image,
    project,
    rasterize,
)
from fields_jax.types import FlameModel, Fragments
from tests.support.meshes import dome

SIZE = (20, 24)
ONE, PHOTO = np.zeros((1, 4, 4)), np.zeros((1, 4, 4, 3))


def images_of(face_index):
    """Fragments of which only the faces are known, which is all that `interpolate` reads."""
    face_index = jnp.asarray(face_index, jnp.int32)
    empty = jnp.zeros(face_index.shape)
    return Fragments(face_index=face_index, barycentric=empty, depth=empty, passes=empty)


@pytest.fixture(params=["cpu", "accelerator"])
def platform(request, monkeypatch):
    """The code of each platform, both run here."""
    if request.param == "cpu":
        yield
        return
    monkeypatch.setattr(
        jax.lax, "platform_dependent", lambda *arrays, default, **others: default(*arrays)
    )
    jax.clear_caches()
    yield
    jax.clear_caches()


def slope_along(function, values, direction, step=1e-6):
    """Central difference of a function of a tuple of arrays."""
    ahead, behind = (
        [v + sign * step * d for v, d in zip(values, direction, strict=True)] for sign in (1, -1)
    )
    return (function(*ahead) - function(*behind)) / (2 * step)


def test_project_translates_then_scales_and_flips():
    points = jnp.array([[[0.01, 0.02, 0.03], [0.0, 0.0, 0.0]]])
    found = project(points, jnp.array([[10.0, 0.04, -0.01]]))
    np.testing.assert_allclose(found, [[[0.5, -0.1, -0.3], [0.4, 0.1, 0.0]]], atol=1e-7)


def test_interpolate_by_hand(platform):
    # One right triangle over the upper left half of a 4 x 4 frame; values are planes in pixels.
    vertices = jnp.array([[[-0.75, -0.75, 0.0], [1.25, -0.75, 0.0], [-0.75, 1.25, 0.0]]])
    faces = jnp.array([[0, 1, 2]])
    values = jnp.array([[[0.0, 7.0], [4.0, 7.0], [40.0, 7.0]]])  # x + 10 y, and a constant
    row, column = np.mgrid[:4, :4]
    inside = row + column <= 4
    fragments = images_of(np.where(inside, 0, -1)[None])
    found = np.asarray(interpolate(fragments, vertices, faces, values)[0])
    np.testing.assert_allclose(found[..., 0], np.where(inside, column + 10.0 * row, 0), atol=1e-5)
    np.testing.assert_allclose(found[..., 1], np.where(inside, 7.0, 0), atol=1e-5)


def test_interpolated_depth_is_the_rasterised_one():
    vertices, faces = dome(np.random.default_rng(0))
    projected = project(jnp.float32(vertices), jnp.array([[8.0, 0, 0], [6.0, 0.02, 0.01]]))
    fragments = rasterize(projected, faces, SIZE)
    assert 0.2 < np.mean(np.asarray(fragments.face_index) >= 0) < 0.9
    depth = interpolate(fragments, projected, faces, projected[..., 2:])
    np.testing.assert_allclose(depth[..., 0], fragments.depth, atol=1e-6)


def test_gradients_of_interpolate_equal_finite_differences(platform):
    """In float64, along random directions, the faces fixed."""
    rng = np.random.default_rng(1)
    vertices, faces = dome(rng)
    camera = np.array([[8.0, 0, 0], [6.0, 0.02, 0.01]])
    with jax.enable_x64(True):
        projected = project(jnp.array(vertices), jnp.array(camera))
        attributes = jnp.array(rng.normal(size=(*vertices.shape[:2], 4)))
        fragments = rasterize(projected, faces, SIZE)
        weight = rng.normal(size=(2, *SIZE, 4))

        @jax.jit
        def loss(vertices, attributes):
            return jnp.sum(weight * interpolate(fragments, vertices, faces, attributes) ** 2)

        gradient = jax.jit(jax.grad(loss, argnums=(0, 1)))(projected, attributes)
        for which in ((1, 0), (0, 1)):
            direction = [
                share * rng.normal(size=value.shape)
                for share, value in zip(which, (projected, attributes), strict=True)
            ]
            expected = slope_along(loss, (projected, attributes), direction)
            found = sum(jnp.vdot(g, d) for g, d in zip(gradient, direction, strict=True))
            assert abs(expected) > 1
            np.testing.assert_allclose(found, expected, rtol=1e-6)
        assert not np.any(gradient[0][..., 2])  # weights do not depend on z


def test_gradients_of_slivers_are_bounded(platform):
    """With a doubled area of 1e-5 square pixels the gradient stays at a tenth of the true one."""
    # In an 8 x 8 frame, about pixel (4, 4): 1 pixel wide, 1e-5 high.
    corners = np.array([[3.5, 4 - 4e-6], [4.5, 4 - 4e-6], [4.0, 4 + 6e-6]])
    vertices = np.zeros((1, 3, 3))
    vertices[0, :, :2] = (2 * corners + 1) / 8 - 1
    attributes = np.array([[[1.0], [3.0], [2.5]]])
    face_index = np.full((1, 8, 8), -1)
    face_index[0, 4, 4] = 0
    with jax.enable_x64(True):
        fragments = images_of(face_index)

        def loss(vertices):
            return jnp.sum(interpolate(fragments, vertices, np.array([[0, 1, 2]]), attributes))

        gradient = jax.jit(jax.grad(loss))
        found = gradient(jnp.array(vertices))
        direction = np.array([[[0.3, -0.7, 0], [0.2, 0.5, 0], [-0.4, 0.9, 0]]])
        expected = slope_along(loss, [jnp.array(vertices)], [direction], step=1e-12)
        np.testing.assert_allclose(np.vdot(found, direction), expected / 10, rtol=1e-3)
        # Without any area the result is a mean of the corners and nothing is infinite.
        flat = jnp.repeat(jnp.array(vertices[:, :1]), 3, axis=1)
        np.testing.assert_allclose(loss(flat), np.mean(attributes), rtol=1e-6)
        assert np.isfinite(gradient(flat)).all()


def test_empty_pixels_carry_no_gradient(platform):
    vertices, faces = dome(np.random.default_rng(2))
    projected = jnp.float32(vertices * [8, -8, -8])
    fragments = images_of(np.full((2, *SIZE), -1))
    bad = projected.at[:, faces[0]].set(jnp.nan)  # face 0 must not stand in for the background

    @partial(jax.value_and_grad, has_aux=True)
    def total(vertices):
        image = interpolate(fragments, vertices, faces, vertices)
        return jnp.sum(image), image

    (_, image), gradient = jax.jit(total)(bad)
    assert not np.any(image)
    assert not np.any(gradient)


def test_gradients_are_the_same_when_mapped():
    """Under jit, vmap, pmap and shard_map, on as many devices as there are, up to two."""
    vertices, faces = dome(np.random.default_rng(3), batch=4)
    projected = jnp.float32(vertices * [8, -8, -8])

    def gradient(vertices):
        def loss(vertices):
            fragments = rasterize(vertices, faces, SIZE)
            return jnp.sum(interpolate(fragments, vertices, faces, jnp.sin(9 * vertices)) ** 2)

        return jax.grad(loss)(vertices)

    expected = jax.jit(gradient)(projected)
    assert np.linalg.norm(expected) > 1
    devices = jax.devices()[:2]
    shards = projected.reshape(len(devices), -1, *projected.shape[1:])
    mesh = jax.sharding.Mesh(np.array(devices), ("data",))
    spec = jax.sharding.PartitionSpec("data")
    sharded = jax.shard_map(gradient, mesh=mesh, in_specs=spec, out_specs=spec, check_vma=False)
    for found in (
        jax.jit(jax.vmap(gradient))(projected[:, None]),
        jax.pmap(gradient, axis_name="data", devices=devices)(shards),
        jax.jit(sharded)(projected),
    ):
        np.testing.assert_allclose(found.reshape(expected.shape), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("platform_name", ["cuda", "tpu"])
def test_gradients_lower_for_accelerators(platform_name):
    vertices, faces = dome(np.random.default_rng(4))
    fragments = images_of(np.zeros((2, *SIZE)))
    loss = lambda v: jnp.sum(interpolate(fragments, v, faces, v))  # noqa: E731
    lowered = jax.jit(jax.grad(loss)).trace(jnp.float32(vertices))
    assert "scatter" in lowered.lower(lowering_platforms=(platform_name,)).as_text()


@pytest.mark.parametrize(
    "direction, shade",
    [
        ((0, 0, 1), 0.794256),
        ((1, 0, 0), 0.277128),
        ((0, 1, 0), 0.277128),
        ((1, 0, 1), 0.561624),
        ((1, 1, 1), 0.538564),
        ((1, 1, -1), 0.08),
        ((0, 0, -1), 0.0),
        ((1, 0, -1), 0.0),
    ],
)
def test_shade_of_the_reference(direction, shade):
    normal = np.array(direction, np.float32) / np.linalg.norm(direction)
    np.testing.assert_allclose(five_light_shade(jnp.array(normal)), shade, atol=1e-6)
    # Shorter normals, as interpolation leaves them, are darker in proportion.
    np.testing.assert_allclose(five_light_shade(jnp.array(normal) / 2), shade / 2, atol=1e-6)


def head_with(face_vertices, face_triangles):
    """A head of which only the face mask is known, which is all that `geometry_map` reads."""
    empty = {field.name: None for field in dataclasses.fields(FlameModel)}
    return FlameModel(
        **empty
        | dict(face_vertices=jnp.array(face_vertices), face_triangles=jnp.array(face_triangles))
    )


def test_geometry_map_shows_the_face_only():
    # A square facing the camera, two vertices of the head in front that are not of the face.
    corners = [[-0.1, -0.1, 0], [0.1, -0.1, 0], [0.1, 0.1, 0], [-0.1, 0.1, 0]]
    vertices = jnp.array([[[0, 0, 0.5], *corners, [0.1, 0, 0.5]]])
    model = head_with([1, 2, 3, 4], [[0, 1, 2], [0, 2, 3]])
    camera = jnp.array([[5.0, 0, 0.1]])
    image, mask = jax.jit(geometry_map, static_argnums=3)(model, vertices, camera, 8)
    assert image.shape == (1, 8, 8, 1) and mask.shape == (1, 8, 8)
    assert mask.dtype == image.dtype == jnp.float32
    # x from -0.5 to 0.5, y from -1 (up) to 0.
    expected = np.zeros((8, 8))
    expected[:4, 2:6] = 1
    np.testing.assert_array_equal(mask[0], expected)
    np.testing.assert_allclose(image[0, ..., 0], 0.794256 * expected, atol=1e-6)


def test_gradients_of_the_geometry_map():
    """Camera and vertices against finite differences in float64, no pixel changing its face."""
    rng = np.random.default_rng(6)
    vertices, faces = dome(rng, batch=1)
    keep = np.arange(vertices.shape[1])
    with jax.enable_x64(True):
        model = head_with(keep, faces)
        weight = rng.normal(size=SIZE)
        camera = jnp.array([[8.0, 0.003, -0.002]])
        values = (jnp.array(vertices), camera)

        @jax.jit
        def loss(vertices, camera):
            return jnp.sum(weight * geometry_map(model, vertices, camera, SIZE)[0][0, ..., 0])

        gradient = jax.jit(jax.grad(loss, argnums=(0, 1)))(*values)
        for share in ((1, 0), (0, 1)):
            direction = [s * rng.normal(size=v.shape) for s, v in zip(share, values, strict=True)]
            expected = slope_along(loss, values, direction, step=1e-8)
            found = sum(jnp.vdot(g, d) for g, d in zip(gradient, direction, strict=True))
            assert abs(expected) > 1e-2
            np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_masked_image_by_hand():
    image = jnp.full((1, 7, 7, 3), 0.5)
    face_mask = jnp.ones((1, 7, 7)).at[0, 3, 3].set(0)
    rendered = jnp.zeros((1, 7, 7)).at[0, 0, 0].set(1)
    expected = np.full((7, 7), 0.5)
    expected[2:5, 2:5] = 0
    expected[0, 0] = 0
    found = masked_image(image, face_mask, rendered, dilation=1)
    np.testing.assert_array_equal(found[0], np.repeat(expected[..., None], 3, axis=-1))
    whole = masked_image(image, face_mask, jnp.zeros_like(rendered), dilation=0)
    assert np.sum(np.asarray(whole) == 0) == 3


@pytest.mark.parametrize("size, radius", [((64, 64), 3), ((224, 30), 10)])
def test_masked_image_grows_the_hull_as_scipy_does(size, radius):
    rng = np.random.default_rng(7)
    hole = rng.random((2, *size)) < 0.002
    rendered = rng.random((2, *size)) < 0.1
    image = rng.uniform(0.1, 1, (2, *size, 3)).astype(np.float32)
    grown = [ndimage.maximum_filter(h, 2 * radius + 1, mode="constant", cval=0) for h in hole]
    expected = image * (~np.array(grown) & ~rendered)[..., None]
    assert 0.05 < np.mean(expected == 0) < 0.95
    found = masked_image(image, (~hole).astype(np.float32), rendered.astype(np.float32))
    np.testing.assert_array_equal(found, expected)


def test_masks_are_constants_to_the_gradient():
    image, mask = jnp.full((1, 5, 5, 3), 0.5), jnp.full((1, 5, 5), 0.25)
    gradient = jax.grad(lambda *a: jnp.sum(masked_image(*a)), argnums=(0, 1, 2))(image, mask, mask)
    np.testing.assert_allclose(gradient[0], 0.25 * 0.75)
    assert not np.any(gradient[1]) and not np.any(gradient[2])


def test_points_are_drawn_where_they_are():
    images = np.zeros((2, 6, 8, 3), np.uint8)
    # Pixel (row 1, column 2) of a frame 8 wide and 6 high.
    points = np.array([[[-0.375, -0.5], [np.nan, 0], [1.5, 0]], [[1.0, 1.0], [2, 2], [2, 2]]])
    found = draw.draw_points(images, points, (255, 0, 0), radius=0.5)
    assert not np.any(images)
    assert np.argwhere(found[0, ..., 0]).tolist() == [[1, 2]]
    assert found[0, 1, 2].tolist() == [255, 0, 0]
    assert np.argwhere(found[1, ..., 0]).tolist() == [[5, 7]]
    disc = draw.draw_points(images, points, radius=1)[0, ..., 1]
    assert np.argwhere(disc).tolist() == [[0, 2], [1, 1], [1, 2], [1, 3], [2, 2]]


def test_overlay_grid_and_png(tmp_path):
    images = np.full((2, 3, 4, 3), 101, np.uint8)
    geometry, mask = np.ones((2, 3, 4, 1), np.float32), np.zeros((2, 3, 4), np.float32)
    mask[:, 0] = 1
    laid = draw.overlay(images, geometry, mask, alpha=0.5)
    assert laid.dtype == np.uint8
    np.testing.assert_array_equal(laid[:, 0], (101 + 255) / 2)
    np.testing.assert_array_equal(laid[:, 1:], 101)
    sheet = draw.grid([images, laid, geometry])
    assert sheet.shape == (6, 12, 3) and sheet.dtype == np.uint8
    np.testing.assert_array_equal(sheet[:3, 4:8], laid[0])
    np.testing.assert_array_equal(sheet[3:, 8:], 255)
    path = tmp_path / "new" / "sheet.png"
    draw.save_png(path, sheet)
    np.testing.assert_array_equal(np.asarray(Image.open(path)), sheet)


@pytest.mark.parametrize(
    "mistake, message",
    [
        (
            lambda: interpolate(images_of(ONE), np.zeros((1, 3, 3)), ONE, np.zeros((1, 4, 2))),
            r"attributes of shape \(1, 4, 2\) for vertices of shape \(1, 3, 3\)",
        ),
        (
            lambda: interpolate(images_of(ONE), np.zeros((2, 3, 3)), ONE, np.zeros((2, 3, 1))),
            "fragments of 1 images, vertices of 2",
        ),
        (partial(masked_image, PHOTO, ONE[0], ONE), r"face_mask of shape \(4, 4\)"),
        (partial(masked_image, PHOTO, ONE, ONE[..., None]), "rendered_mask of shape"),
        (partial(masked_image, PHOTO, ONE, ONE, dilation=-1), "dilation is -1"),
        (partial(draw.grid, [PHOTO, PHOTO[:, :2]]), "must agree"),
        (partial(draw.draw_points, PHOTO, np.zeros((2, 1, 2))), "points for 2 images"),
        (partial(draw.save_png, "x.png", np.zeros((4, 4, 2))), r"shape \(4, 4, 2\)"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_mistakes_are_named(mistake, message):
    with pytest.raises(ValueError, match=message):
        mistake()
