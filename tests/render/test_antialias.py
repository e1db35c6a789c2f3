"""Outlines: the exact change of area and moments, occlusion inside the image, and the plumbing."""

from __future__ import annotations

import importlib
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from fields_jax.flame.procedural import procedural_head
from fields_jax.render import antialias, interpolate, rasterize
from tests.support.meshes import WILD, posed_spheres, wild_spheres

MODULE = importlib.import_module("fields_jax.render.antialias")
# Area by scale, yaw and pitch, first moments by shift and roll: (moment, parameter).
MEASURED = ((0, 0), (0, 1), (0, 2), (1, 4), (2, 5), (1, 3), (2, 3))


def head_at(points, parameters, xp):
    """The head turned, scaled, shifted, and rolled about the frame's centre, as projected."""
    scale, yaw, pitch, roll, right, down = parameters
    zero, one = 0 * scale, 0 * scale + 1
    (cy, sy), (cp, sp), (cr, sr) = ((xp.cos(a), xp.sin(a)) for a in (yaw, pitch, roll))
    turns = [
        [[cr, -sr, zero], [sr, cr, zero], [zero, zero, one]],
        [[one, zero, zero], [zero, cp, -sp], [zero, sp, cp]],
        [[cy, zero, sy], [zero, one, zero], [-sy, zero, cy]],
    ]
    roll_, pitch_, yaw_ = (xp.stack([xp.stack(row) for row in turn]) for turn in turns)
    flip = xp.asarray([1.0, -1.0, -1.0])
    placed = scale * (points @ (pitch_ @ yaw_).T) * flip[None] + xp.stack([right, down, zero])[None]
    return placed @ roll_.T


def mask_moments(points, faces, lines):
    """Area and first moments of what faces cover, in float64: exact along x, many lines along y."""
    # Scanned at an odd angle: lines along a straight edge of the mesh would see it move in leaps.
    turn = np.array([[np.cos(0.7), -np.sin(0.7)], [np.sin(0.7), np.cos(0.7)]])
    points, reach = points[:, :2] @ turn, 1.5
    y = ((np.arange(lines) + 0.5) / lines * 2 - 1) * reach
    corner = points[faces]
    corner = np.take_along_axis(corner, np.argsort(corner[:, :, 1], axis=1)[:, :, None], axis=1)
    first, last = (
        np.ceil((corner[:, k, 1] / reach + 1) / 2 * lines - 0.5).astype(int) for k in (0, 2)
    )
    count = last - first
    face = np.repeat(np.arange(len(faces)), count)
    line = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count) + first[face]
    a, b, c = corner[face, 0], corner[face, 1], corner[face, 2]

    def x_between(p, q):
        rise = q[:, 1] - p[:, 1]
        slope = (q[:, 0] - p[:, 0]) / np.where(rise == 0, 1, rise)
        return p[:, 0] + (y[line] - p[:, 1]) * slope

    long = x_between(a, c)
    short = np.where(y[line] < b[:, 1], x_between(a, b), x_between(b, c))
    left, right = np.minimum(long, short), np.maximum(long, short)
    order = np.lexsort((left, line))
    left, right, line = left[order], right[order], line[order]
    # What lies right of everything before it on its line is newly covered.
    shifted = np.maximum.accumulate(right + 8.0 * line)
    reached = np.concatenate([[-np.inf], shifted[:-1]]) - 8.0 * line
    left = np.maximum(left, reached)
    right = np.maximum(left, right)
    area = right - left
    first = np.array([np.sum((right**2 - left**2) / 2), np.sum(area * y[line])])
    return 2 * reach / lines * np.array([area.sum(), *(turn @ first)])


def derivatives_of_the_head(poses, size, seed, lines_per_pixel=32, step=2e-3):
    """Derivatives of the mask's moments over random poses: found, true [P, 3, 6], areas' ratio.

    The true ones are central differences; they are NaN where the differences ahead and behind
    disagree, as at a pitch of 0, where the near and the far rim of the neck change places.
    """
    head = procedural_head()
    faces, points = np.asarray(head.faces), np.asarray(head.template, np.float64)
    points = points - (points.max(axis=0) + points.min(axis=0)) / 2
    points = points / np.abs(points).max()
    draw = np.random.default_rng(seed).uniform(-1, 1, (poses, 6))
    spread = np.array([0.1, np.pi / 3, np.pi / 9, 0.3, 0.1, 0.1])
    parameters = np.array([0.65, 0, 0, 0, 0, 0]) + spread * draw

    @jax.jit
    def found(parameters):
        def moments(parameters):
            vertices = head_at(jnp.asarray(points, jnp.float32), parameters, jnp)[None]
            fragments = rasterize(vertices, faces, size)
            mask = (fragments.face_index >= 0).astype(jnp.float32)[..., None]
            smooth = antialias(mask, fragments, vertices, faces)[0, ..., 0]
            centre = (2 * jnp.arange(size) + 1) / size - 1
            across, down = smooth * centre[None], smooth * centre[:, None]
            return jnp.stack([jnp.sum(m) for m in (smooth, across, down)]) * (2 / size) ** 2

        return moments(parameters), jax.jacrev(moments)(parameters)

    def exact(parameters):
        return mask_moments(head_at(points, parameters, np), faces, lines_per_pixel * size)

    slopes, true, ratios = [], [], []
    for row in parameters:
        value, slope = found(jnp.asarray(row, jnp.float32))
        here = exact(row)
        ahead = np.array([exact(row + move) - here for move in step * np.eye(6)]).T / step
        behind = np.array([here - exact(row - move) for move in step * np.eye(6)]).T / step
        smooth = np.abs(ahead - behind) < 0.05 * np.hypot(ahead, behind).max(axis=0) + 0.01
        slopes.append(slope)
        true.append(np.where(smooth, (ahead + behind) / 2, np.nan))
        ratios.append(float(value[0]) / here[0])
    return np.array(slopes), np.array(true), np.array(ratios)


def check_derivatives(poses, seed):
    """Strictly 2 % where all of the outline moves one way; elsewhere what cancels is added.

    One pose in fifty may be farther off: what is thinner than a pixel, such as the rim of an ear
    from aside, is seen in part. The worst of 50 is off by 10 % at 224 pixels, 7 at 448, 3.5 at 896.
    """
    found, true, area = derivatives_of_the_head(poses, 224, seed)
    for moment, parameter in MEASURED:
        one, other = found[:, moment, parameter], true[:, moment, parameter]
        largest = np.nanmax(np.abs(other))
        counted = np.abs(other) > 0.01 * largest  # False for NaN
        error = np.abs(one - other)[counted]
        strict = error / np.abs(other[counted])
        print(
            f"moment {moment}, parameter {parameter}, {counted.sum()} poses: relative error "
            f"{np.median(strict):.4f} median, {strict.max():.4f} worst, within 2 % in "
            f"{np.mean(strict < 0.02):.2f}; worst {error.max() / largest:.4f} of the largest value"
        )
        assert counted.sum() > 0.7 * poses
        if parameter in (0, 4, 5):
            assert strict.max() < 0.02
        else:
            near = error < 0.02 * np.abs(other[counted]) + 0.02 * largest
            assert near.sum() >= len(near) - poses // 50 and error.max() < 0.03 * largest
    np.testing.assert_allclose(area, 1, atol=1e-3)


def test_derivatives_of_a_heads_mask_are_exact():
    check_derivatives(poses=4, seed=0)


@pytest.mark.slow
def test_derivatives_of_a_heads_mask_are_exact_over_many_poses():
    check_derivatives(poses=50, seed=1)


def squares(near_half=0.4, angle=0.3):
    """A turned square before one that fills the frame: vertices [1, 8, 3], faces [4, 3]."""
    corner = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]], float)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    near = np.concatenate([near_half * corner @ turn.T, np.full((4, 1), 0.1)], axis=1)
    far = np.concatenate([1.5 * corner, np.full((4, 1), 0.9)], axis=1)
    faces = np.array([[0, 1, 2], [0, 2, 3], [4, 5, 6], [4, 6, 7]])
    return np.concatenate([near, far])[None], faces


def shaded(fragments, values):
    """An image of one value per face, 0 where empty."""
    index = fragments.face_index
    return jnp.where(index >= 0, jnp.asarray(values)[index], 0)[..., None]


def test_an_inner_outline_moves_with_the_square_before_another():
    vertices, faces = squares()
    size, centre = 128, vertices[:, :4].mean(axis=1, keepdims=True)

    def total(parameters, moment):
        scale, right, down = parameters
        shift = jnp.stack([right, down, 0 * down])[None, None]
        moved = scale * (vertices[:, :4] - centre) + centre + shift
        moved = jnp.concatenate([moved.at[..., 2].set(0.1), vertices[:, 4:]], axis=1)
        moved = moved.astype(jnp.float32)
        fragments = rasterize(moved, faces, size)
        image = antialias(shaded(fragments, [1.0, 1.0, 0.25, 0.25]), fragments, moved, faces)
        x = (2 * jnp.arange(size) + 1) / size - 1
        return jnp.sum(image[0, ..., 0] * (x[None] if moment else 1)) * (2 / size) ** 2

    slope = jax.jit(jax.grad(total), static_argnums=1)
    area, contrast = 0.8**2, 0.75
    start = jnp.array([1.0, 0.01, 0.02])
    np.testing.assert_allclose(total(start, 0), 1 + area * contrast, rtol=1e-3)
    found = slope(start, 0)
    np.testing.assert_allclose(found[0], 2 * area * contrast, rtol=0.01)
    np.testing.assert_allclose(found[1:], 0, atol=0.02 * area)
    found = slope(start, 1)
    np.testing.assert_allclose(found[1], area * contrast, rtol=0.01)
    np.testing.assert_allclose(found[2], 0, atol=0.01 * area)


def test_what_is_hidden_has_no_outline():
    vertices, faces = squares()
    vertices[:, :4, 2], vertices[:, 4:, 2] = 0.9, 0.1  # the large square is now before the small
    vertices = jnp.float32(vertices)
    fragments = rasterize(vertices, faces, 16)
    image = shaded(fragments, [1.0, 0.5, 0.25, 0.75])

    def total(image, vertices):
        smooth = antialias(image, fragments, vertices, faces)
        return jnp.sum(smooth**2), smooth

    (_, smooth), slope = jax.value_and_grad(total, argnums=1, has_aux=True)(image, vertices)
    np.testing.assert_array_equal(smooth, image)
    assert not np.any(slope)


def test_what_is_nearer_than_near_has_no_outline():
    vertices, faces = squares()
    vertices[:, 4:, 2] += 0.1 * vertices[:, 4:, 0]
    vertices = jnp.float32(vertices)
    fragments = rasterize(vertices, faces, 16, near=0.5)  # the large square only
    image = jax.random.normal(jax.random.key(0), (1, 16, 16, 1))

    @partial(jax.grad, has_aux=True)
    def slope(vertices, near):
        smooth = antialias(image, fragments, vertices, faces, near=near)
        return jnp.sum(smooth**2), smooth

    found, smooth = slope(vertices, 0.5)
    np.testing.assert_array_equal(smooth, image)
    assert not np.any(found)
    found, smooth = slope(vertices, 0.05)
    assert np.any(smooth != image) and np.any(found)


def test_a_square_by_hand():
    # Columns 1.5 to 4.25 and rows 1.5 to 3.5, pixel centres at whole numbers, in a 6 x 8 frame.
    size = (6, 8)
    box = np.array([[1.5, 1.5], [4.25, 1.5], [4.25, 3.5], [1.5, 3.5]])
    vertices = np.zeros((1, 4, 3), np.float32)
    vertices[0, :, :2] = (2 * box + 1) / [8, 6] - 1
    faces = np.array([[0, 1, 2], [0, 2, 3]])
    fragments = rasterize(vertices, faces, size)
    mask = (fragments.face_index >= 0).astype(jnp.float32)[..., None]
    found = antialias(mask, fragments, vertices, faces)[0, ..., 0]
    expected = np.zeros(size)
    expected[2:4, 2:5] = 1
    expected[2:4, 4] = 0.75
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_gradients_equal_finite_differences_of_the_image():
    """In float64, outlines along the axes, where the weights of the two axes do not change."""
    rng = np.random.default_rng(0)
    size = (9, 12)
    box = np.array([[2.3, 1.8], [7.6, 1.8], [7.6, 6.1], [2.3, 6.1]])
    faces = np.array([[0, 1, 2], [0, 2, 3]])
    with jax.enable_x64(True):
        vertices = np.zeros((1, 4, 3))
        vertices[0, :, :2] = (2 * box + 1) / [12, 9] - 1
        weight = rng.normal(size=(1, *size, 2))
        fragments = rasterize(vertices, faces, size)
        image = jnp.where(fragments.face_index[..., None] >= 0, rng.normal(size=(1, *size, 2)), 0)

        @jax.jit
        def loss(image, vertices):
            return jnp.sum(weight * antialias(image, fragments, vertices, faces))

        gradient = jax.jit(jax.grad(loss, argnums=(0, 1)))(image, vertices)
        # Linear in the image, so that the gradient is the map itself.
        np.testing.assert_allclose(jnp.vdot(gradient[0], image), loss(image, vertices), rtol=1e-10)
        direction = np.zeros((4, 3))
        direction[[1, 2], 0], direction[[0, 3], 0] = 0.7, -0.4
        direction[[0, 1], 1], direction[[2, 3], 1] = 0.3, 1.1
        step = 1e-6 * direction
        expected = (loss(image, vertices + step) - loss(image, vertices - step)) / 2e-6
        assert abs(expected) > 0.1
        np.testing.assert_allclose(jnp.vdot(gradient[1], direction), expected, rtol=1e-6)
        assert not np.any(gradient[1][..., 2])


def smooth_spheres(vertices, faces, size=(40, 36)):
    fragments = rasterize(vertices, faces, size)
    image = jnp.sin(jnp.where(fragments.face_index >= 0, fragments.depth, 2.0))[..., None]
    return antialias(image, fragments, vertices, faces)


def test_mapped_and_in_more_passes_it_is_the_same(monkeypatch):
    vertices, faces = posed_spheres(np.random.default_rng(3))
    vertices = jnp.asarray(vertices)

    def slope(vertices):
        return jax.grad(lambda v: jnp.sum(smooth_spheres(v, faces) ** 2))(vertices)

    image, gradient = smooth_spheres(vertices, faces), jax.jit(slope)(vertices)
    assert np.linalg.norm(gradient) > 1
    alone = smooth_spheres(vertices[1:2], faces)
    np.testing.assert_allclose(alone[0], image[1], atol=1e-6)
    mapped = jax.jit(jax.vmap(jax.checkpoint(slope)))(vertices[:, None])[:, 0]
    np.testing.assert_allclose(mapped, gradient, rtol=1e-4, atol=1e-4)
    monkeypatch.setattr(MODULE, "_BUDGET", 300)
    jax.clear_caches()
    np.testing.assert_allclose(smooth_spheres(vertices, faces), image, atol=1e-6)
    np.testing.assert_allclose(jax.jit(slope)(vertices), gradient, rtol=1e-4, atol=1e-4)
    jax.clear_caches()


def test_wild_vertices_harm_neither_outlines_nor_gradients_of_others():
    """Beside images of wild vertices the same without their faces, under the same weights.

    Pixels count that are three away from where those faces lie, seen or not, and where they lay.
    """
    rng = np.random.default_rng(4)
    vertices, faces, wild = wild_spheres(rng)
    vertices = np.concatenate([vertices, vertices[-1:].repeat(len(vertices), axis=0)])
    attributes = rng.normal(size=(1, *vertices.shape[1:])).repeat(len(vertices), axis=0)
    fragments = rasterize(vertices, faces, (40, 36))
    alone = rasterize(vertices, np.where(wild[:, None], faces, 0), (40, 36))
    theirs = np.asarray(alone.face_index) >= 0
    theirs |= theirs[0]
    near_them = ndimage.binary_dilation(theirs[: len(WILD)], np.ones((1, 7, 7), bool))
    assert 0.2 < near_them.mean() < 0.8
    weight = np.where(near_them, 0, rng.normal(size=near_them.shape))[..., None]
    weight = np.float32(np.concatenate([weight, weight]))

    @partial(jax.grad, argnums=(0, 1), has_aux=True)
    def slope(vertices, attributes):
        image = interpolate(fragments, vertices, faces, attributes)
        smooth = weight * antialias(image, fragments, vertices, faces)
        return jnp.sum(smooth), smooth

    gradients, smooth = jax.jit(slope)(jnp.float32(vertices), jnp.float32(attributes))
    np.testing.assert_array_equal(*np.split(smooth, 2))
    away = np.setdiff1d(np.arange(vertices.shape[1]), faces[wild])
    for gradient in gradients:
        assert np.isfinite(gradient).all() and np.linalg.norm(gradient[0, away]) > 1
        found, expected = np.split(np.asarray(gradient), 2)
        np.testing.assert_allclose(found[:, away], expected[:, away], rtol=1e-5, atol=1e-5)


def test_outlines_toward_vertices_far_off_are_exact():
    """They hardly differ from those toward a vertex a thousand frames away in that direction."""
    _, faces = squares()  # shapes that are compiled already
    vertices = np.full((1, 8, 3), 0.5, np.float32)
    vertices[0, 1:3, :2], faces = [[-0.52, -0.31], [-0.47, 0.33]], 0 * faces
    faces[0] = [0, 1, 2]

    @partial(jax.grad, has_aux=True)
    def slope(vertices):
        fragments = rasterize(vertices, faces, 16)
        mask = (fragments.face_index >= 0).astype(jnp.float32)[..., None]
        smooth = antialias(mask, fragments, vertices, faces)
        return jnp.sum(smooth**2), smooth

    found = []
    for reach in (1e3, 1e10):
        vertices[0, 0, :2] = [reach, 0.1 * reach]
        found.append(slope(jnp.asarray(vertices)))
    (gradient, smooth), (gradient_far, smooth_far) = found
    assert np.any((np.asarray(smooth) > 0.05) & (np.asarray(smooth) < 0.95))
    np.testing.assert_allclose(smooth_far, smooth, atol=0.01)
    np.testing.assert_allclose(gradient_far[:, 1:], gradient[:, 1:], rtol=0.01)


def test_culled_and_whole_spheres_have_the_same_outline():
    vertices, faces = posed_spheres(np.random.default_rng(5), zooms=(0.5, 0.8))
    images = []
    for cull in (False, True):
        fragments = rasterize(vertices, faces, (40, 36), cull=cull)
        mask = (fragments.face_index >= 0).astype(jnp.float32)[..., None]
        images.append(antialias(mask, fragments, vertices, faces, cull=cull))
    assert np.any((np.asarray(images[0]) > 0.01) & (np.asarray(images[0]) < 0.99))
    np.testing.assert_allclose(*images, atol=0.02)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (dict(image=np.zeros((1, 8, 9, 1))), r"image of shape \(1, 8, 9, 1\)"),
        (dict(image=np.zeros((1, 8, 8))), r"image of shape \(1, 8, 8\)"),
        (dict(vertices=np.zeros((2, 4, 3))), r"vertices of shape \(2, 4, 3\) for 1 images"),
        (dict(faces=np.full((2, 3), 4)), "faces name vertices 4 to 4, but there are 4"),
        (dict(faces=np.zeros((2, 3))), "faces of type float64"),
        (dict(image=np.zeros((1, 8, 8, 1), int)), "image of type int64: expected floats"),
        (dict(near=np.nan), "near is nan"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_mistakes_are_named(arguments, message):
    vertices, faces = np.zeros((1, 4, 3)), np.zeros((2, 3), int)
    valid = dict(image=np.zeros((1, 8, 8, 1)), vertices=vertices, faces=faces)
    with pytest.raises(ValueError, match=message):
        antialias(fragments=rasterize(vertices, faces, 8), **valid | arguments)
