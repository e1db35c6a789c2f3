"""Skin pixels in SMIRK's masked image: where they are drawn, pasted and left out."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from fields_jax.flame.procedural import procedural_head
from fields_jax.render import (
    Masking,
    geometry_map,
    masked_image,
    project,
    sample_keys,
    synthesizer_input,
)
from fields_jax.render import skin as skin_module
from fields_jax.render.skin import SkinSettings
from tests.support.heads import random_head

# One program each instead of one per operation.
sample_skin = jax.jit(skin_module.sample_skin, static_argnames="count")
pixels_of = jax.jit(skin_module.pixels_of, static_argnames="size")
paste_skin = jax.jit(skin_module.paste_skin, static_argnames=("noise", "drop"))
paint_over = jax.jit(synthesizer_input, static_argnums=0)

SIZE = 16
SETTINGS = SkinSettings(share=0.25, noise=0.05, drop=0.0, cycle_drop=0.0)
# Four triangles in the image plane, counter-clockwise seen from the front (smaller z, y down): a
# whole quarter of the image each, but the second, half of one. The last is seen from behind.
CORNERS = np.array(
    [
        [[-1, -1], [-1, 1], [1, -1]],
        [[0, 0], [0, 1], [1, 0]],
        [[0, 0], [0, 1], [1, 0]],
        [[-1, -1], [1, -1], [-1, 1]],
    ],
    np.float32,
)


def keys(*index: int) -> jax.Array:
    return sample_keys(jax.random.key(0), jnp.array(index))


def flat_head():
    """A head of the four triangles: lips, other face, no face, and face seen from behind."""
    head = random_head(vertices=12, faces=4)
    return head.replace(
        faces=np.arange(12, dtype=np.int32).reshape(4, 3),
        face_vertices=np.array([0, 3, 4, 9], np.int32),
        regions={"lips": np.array([2], np.int32), "neck": np.array([6], np.int32)},
    )


def flat_projection() -> np.ndarray:
    return np.pad(CORNERS.reshape(1, 12, 2), ((0, 0), (0, 0), (0, 1)))


def test_triangles_are_drawn_by_part_area_and_side():
    """Lips count half: 0.5 x 2 against 1 x 0.5; what faces away or is no face counts nothing."""
    head, count = flat_head(), 20_000
    points = sample_skin(keys(0), head, jnp.asarray(flat_projection()), count)
    share = np.bincount(np.asarray(points.triangle[0]), minlength=4) / count
    # Five standard errors of a share of 2/3 among 20,000.
    np.testing.assert_allclose(share, [2 / 3, 1 / 3, 0, 0], atol=5 * np.sqrt(2 / 9 / count))
    assert share[2] == share[3] == 0 and bool(points.found[0])


def test_points_are_uniform_within_a_triangle():
    head, count = flat_head(), 20_000
    points = sample_skin(keys(0), head, jnp.asarray(flat_projection()), count)
    weight = np.asarray(points.barycentric[0], float)
    np.testing.assert_allclose(weight.sum(1), 1, atol=1e-6)
    assert weight.min() >= 0
    # Of a uniform distribution on a triangle: E b = 1/3, E b^2 = 1/6, E b c = 1/12.
    moments = weight.T @ weight / count
    expected = np.full((3, 3), 1 / 12) + np.eye(3) / 12
    np.testing.assert_allclose(weight.mean(0), 1 / 3, atol=0.01)
    np.testing.assert_allclose(moments, expected, atol=0.005)


def test_a_head_seen_from_behind_leaves_the_image_as_it_is():
    head = flat_head()
    turned = flat_projection() * np.array([-1, 1, 1], np.float32)  # the fourth one is no lip
    turned[:, 9:] = 5  # without area
    points = sample_skin(keys(0), head, jnp.asarray(turned), 50)
    assert not bool(points.found[0])
    pixels = pixels_of(points, head.faces, jnp.asarray(turned), (SIZE, SIZE))
    np.testing.assert_array_equal(pixels, SIZE)
    photo = np.full((1, SIZE, SIZE, 3), 0.5, np.float32)
    black = np.zeros_like(photo)
    found = paste_skin(keys(0), black, photo, pixels, pixels, noise=0.1, drop=0.0)
    np.testing.assert_array_equal(found, black)


def test_pixels_by_hand():
    """Corners and centroid of the second triangle; outside of the image its border counts."""
    head, projected = flat_head(), jnp.asarray(flat_projection())
    weights = jnp.array([[[1, 0, 0], [0, 1, 0], [0, 0, 1], [1 / 3, 1 / 3, 1 / 3]]])
    points = sample_skin(keys(0), head, projected, 4).replace(
        triangle=jnp.full((1, 4), 1), barycentric=weights
    )
    found = pixels_of(points, head.faces, projected, (8, SIZE))
    # (row, column) of (0, 0), (0, 1), (1, 0) and (1/3, 1/3) in an image 8 high and 16 wide.
    np.testing.assert_array_equal(found[0], [[4, 8], [7, 8], [4, 15], [5, 10]])
    found = pixels_of(points, head.faces, projected * 3 - 1, (8, SIZE))
    np.testing.assert_array_equal(found[0], [[0, 0], [7, 0], [0, 15], [4, 8]])


def test_pixels_move_with_the_face_and_the_last_of_several_wins():
    photo = np.random.default_rng(0).random((1, SIZE, SIZE, 3), np.float32)
    masked = np.full_like(photo, 0.25)
    photo[0, 1, 1, 2] = 0  # a channel without light leaves the masked image as it is
    source = jnp.array([[[1, 1], [2, 3], [4, 5], [15, 15]]])
    target = jnp.array([[[7, 7], [8, 8], [8, 8], [0, 15]]])
    found = paste_skin(keys(0), masked, photo, source, target, noise=0.0, drop=0.0)
    expected = masked.copy()
    expected[0, 7, 7] = [*photo[0, 1, 1, :2], 0.25]
    expected[0, 8, 8] = photo[0, 4, 5]
    expected[0, 0, 15] = photo[0, 15, 15]
    np.testing.assert_array_equal(found, expected)


def test_noise_is_relative_and_of_every_channel():
    photo = np.full((1, 64, 64, 3), 0.5, np.float32)
    every = jnp.stack(jnp.meshgrid(*[jnp.arange(64)] * 2, indexing="ij"), -1).reshape(1, -1, 2)
    found = paste_skin(keys(0), 0 * photo, photo, every, every, noise=0.05, drop=0.0)
    relative = np.asarray(found[0]).reshape(-1, 3) / 0.5 - 1
    assert relative.std() == pytest.approx(0.05, rel=0.05)
    correlation = np.corrcoef(relative.T)
    assert np.abs(correlation - np.eye(3)).max() < 0.08  # five standard errors


@pytest.mark.parametrize(("size", "width"), [(224, 11), (64, 3)])
def test_squares_are_dropped_in_the_same_share_at_any_size(size, width):
    photo = np.full((4, size, size, 3), 0.5, np.float32)
    every = jnp.stack(jnp.meshgrid(*[jnp.arange(size)] * 2, indexing="ij"), -1).reshape(1, -1, 2)
    every = jnp.tile(every, (4, 1, 1))
    found = paste_skin(keys(0, 1, 2, 3), 0 * photo, photo, every, every, noise=0.0, drop=1e-4)
    dropped = np.asarray(found[..., 0]) == 0
    # 121 places whose square reaches a pixel at 224: 1 - (1 - 1e-4)^121, about 1.2 %.
    assert dropped.mean() == pytest.approx(1 - (1 - 1e-4) ** 121, rel=0.35)
    for image in dropped:  # whole squares, but for the border
        for row, column in zip(*np.nonzero(image), strict=True):
            part = image[max(row - width + 1, 0) : row + width, max(column - width + 1, 0) :]
            assert part[:, : 2 * width].sum() >= (width // 2 + 1) ** 2


def photographs(count: int) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(1)
    image = rng.uniform(0.1, 1, (count, 32, 32, 3)).astype(np.float32)
    vertices = np.tile(random_head().template, (count, 1, 1))
    vertices += 0.001 * rng.standard_normal(vertices.shape).astype(np.float32)
    camera = np.tile(np.float32([6, 0, 0]), (count, 1))
    return vertices, camera, image, np.ones((count, 32, 32), np.float32)


def test_samples_are_independent_of_their_batch():
    """Any split of a batch over devices draws the same; other samples draw otherwise."""
    head, masking = random_head(), Masking(0.0, SETTINGS)
    parts = photographs(4)
    whole = paint_over(masking, head, *parts, keys(0, 1, 2, 3))[1]
    half = paint_over(masking, head, *(p[2:] for p in parts), keys(2, 3))[1]
    np.testing.assert_array_equal(whole[2:], half)
    same = [np.repeat(p[:1], 2, axis=0) for p in parts]
    twins = paint_over(masking, head, *same, keys(0, 1))[1]
    assert np.mean(np.asarray(twins[0] != twins[1])) > 0.05


def test_the_masked_image_keeps_skin_by_smirk_and_none_by_teaser():
    head, parts = random_head(), photographs(2)
    vertices, _, image, face_mask = parts
    geometry, bare = paint_over(Masking(0.1), head, *parts, keys(0, 1))
    rendered = (geometry[..., 0] > 0).astype(jnp.float32)
    hidden = masked_image(image, face_mask, rendered, dilation=3)
    assert np.mean(np.asarray(hidden != bare)) < 0.01  # covered, but without shade
    skin = Masking(0.1, SETTINGS)
    again, kept = paint_over(skin, head, *parts, keys(0, 1))
    np.testing.assert_allclose(geometry, again, atol=1e-6)
    black = np.asarray(bare) == 0
    returned = black & (np.asarray(kept) > 0)
    assert 0.02 < returned.mean() < 0.25
    # With the noise off they are the photograph's own; of another head they come from elsewhere.
    still = Masking(0.1, SkinSettings(share=0.25, noise=0.0, drop=0.0, cycle_drop=0.0))
    kept = np.asarray(paint_over(still, head, *parts, keys(0, 1))[1])
    np.testing.assert_allclose(kept[kept > 0], image[kept > 0], atol=1e-6)
    moved = np.asarray(paint_over(still, head, *parts, keys(0, 1), seen=vertices + 0.02)[1])
    assert np.mean(moved[returned & (moved > 0)] != image[returned & (moved > 0)]) > 0.9


def test_no_gradient_goes_through_the_masked_image():
    head, parts = random_head(), photographs(1)
    masking = Masking(0.0, SETTINGS)

    def total(vertices, camera, image):
        inputs = paint_over(masking, head, vertices, camera, image, parts[3], keys(0))
        return jnp.sum(inputs[1])

    for gradient in jax.grad(total, argnums=(0, 1, 2))(*parts[:3]):
        assert not np.any(gradient)


def test_on_a_whole_head_points_lie_on_visible_skin():
    """On the procedural head seen from the front: on the rendered face or at its very border."""
    head, camera = procedural_head(), jnp.array([[7.0, 0, 0]])
    template = jnp.asarray(head.template)[None]

    @jax.jit
    def draw(head, template):
        projected = project(template, camera)
        points = sample_skin(keys(0), head, projected, 501)
        pixels = pixels_of(points, head.faces, projected, (224, 224))
        return pixels[0], geometry_map(head, template, camera, 224)[1][0]

    pixels, mask = (np.asarray(x) for x in draw(head, template))
    for radius, share in ((0, 0.9), (5, 0.99)):
        near = ndimage.maximum_filter(mask, 2 * radius + 1)
        assert near[pixels[:, 0], pixels[:, 1]].mean() > share
