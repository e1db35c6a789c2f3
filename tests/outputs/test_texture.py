"""Textures baked from rendered faces of known colours."""

from __future__ import annotations

import dataclasses
import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import uniform_filter

from fields_jax.flame import flame
from fields_jax.flame.procedural import procedural_head
from fields_jax.outputs.atlas import atlas_of
from fields_jax.outputs.texture import View, _averaged, bake
from fields_jax.render import interpolate, project, rasterize
from fields_jax.types import PARTS
from tests.support.portraits import CAMERA, coefficients

SIZE, PICTURE = 256, 320
MATRIX = np.eye(3, dtype=np.float32)
BACKGROUND = (0, 255, 0)  # a colour that no part of the painted head has


@pytest.fixture(scope="module")
def head():
    return procedural_head()


@pytest.fixture(scope="module")
def atlas(head):
    return atlas_of(head, SIZE)


@pytest.fixture(scope="module")
def places(head, atlas):
    """[S, S, 3] where on the template each texel is, metres."""
    corners = np.asarray(head.template)[np.asarray(head.faces)[atlas.face]]
    return np.einsum("ijk,ijkd->ijd", atlas.weights, corners)


def painted(points):
    """A smooth pattern in 255ths, different on the two sides; green stays below 100."""
    x, y, z = np.moveaxis(points, -1, 0)
    red = 140 + 60 * np.sin(60 * x + 20 * y)
    blue = 140 + 60 * np.cos(50 * y + 30 * z)
    return np.stack([red, 50 + 40 * np.sin(40 * z), blue], axis=-1)


@jax.jit
def _draw(head, known, color):
    vertices = flame(head, known).vertices
    points = project(vertices, known.camera)
    fragments = rasterize(points, head.faces, PICTURE)
    shown = interpolate(fragments, points, head.faces, color[None])
    return vertices, jnp.where(fragments.face_index[..., None] >= 0, shown, jnp.array(BACKGROUND))


def view_of(head, yaw, color=None):
    """A picture of the painted head turned by yaw, radians; the crop is the whole picture."""
    color = painted(np.asarray(head.template)) if color is None else color
    vertices, picture = _draw(head, coefficients(yaw=yaw), jnp.asarray(color, jnp.float32))
    image = np.asarray(picture[0]).round().astype(np.uint8)
    return View(image, np.asarray(vertices[0]), np.float32(CAMERA), MATRIX, PICTURE)


@pytest.fixture(scope="module")
def turned(head):
    """The view, and the texture, of a head turned by half a radian: it shows its left half."""
    view = view_of(head, -0.5)
    return view, bake(head, [view], SIZE)


def seen(texture):
    return texture.shares[..., 0] > 200


def test_texels_that_are_seen_have_the_colours_that_were_painted(atlas, places, turned):
    _, texture = turned
    chosen = seen(texture) & (atlas.face >= 0)
    assert chosen.sum() > 5000
    off = np.abs(texture.color[chosen] - painted(places[chosen]))
    assert off.mean() < 2 and np.quantile(off, 0.99) < 8


def test_nothing_of_the_background_is_on_the_head(turned):
    _, texture = turned
    alpha = texture.shares[..., :2].sum(axis=-1)
    assert np.mean(texture.color[alpha > 0][:, 1] > 110) < 1e-3


def test_the_hidden_half_has_the_colours_of_the_other(atlas, places, turned):
    _, texture = turned
    chosen = (texture.shares[..., 1] > 200) & (atlas.face >= 0)
    assert chosen.sum() > 2000
    # It is the subject's right half, at negative x.
    assert (places[chosen][:, 0] < 0.01).mean() > 0.95
    off = np.abs(texture.color[chosen] - painted(places[chosen] * (-1, 1, 1)))
    assert off.mean() < 3 and np.quantile(off, 0.99) < 12
    own = np.abs(texture.color[chosen] - painted(places[chosen]))
    assert own[:, 0].mean() > 30  # the pattern tells its sides apart


def test_opposite_texels_are_opposite_places(atlas, places):
    known = (atlas.mirror >= 0) & (atlas.face >= 0)
    assert known.sum() > 0.97 * (atlas.face >= 0).sum()
    there = places.reshape(-1, 3)[atlas.mirror[known]]
    off = np.linalg.norm(there * (-1, 1, 1) - places[known], axis=1)
    assert np.median(off) < 1e-3 and np.quantile(off, 0.99) < 4e-3


def test_shares_are_a_whole(turned):
    _, texture = turned
    assert (texture.shares.sum(axis=-1, dtype=int) == 255).all()


def test_a_plain_head_is_plain_to_the_ends_of_its_texture(head, atlas):
    """One colour seen is one colour everywhere on the skin, across seams and in what is filled."""
    color = np.tile(np.float32([120, 60, 200]), (len(head.template), 1))
    texture = bake(head, [view_of(head, 0.3, color)], SIZE)
    skin = atlas.owner == PARTS.index("skin")
    off = np.abs(texture.color[skin].astype(int) - (120, 60, 200))
    assert np.quantile(off, 0.999) <= 4 and off.mean() < 0.5


def test_what_is_behind_is_not_seen(head, atlas, places, turned):
    """The ear and cheek turned away, and the lining of a shut mouth."""
    _, texture = turned
    away = (atlas.face >= 0) & (places[..., 0] < -0.06) & (places[..., 2] < 0.02)
    assert away.sum() > 500 and texture.shares[away][:, 0].max() == 0
    lining = (atlas.face >= 0) & (atlas.owner == PARTS.index("gums"))
    assert lining.sum() > 100 and texture.shares[lining][:, 0].mean() < 10
    red, green, blue = texture.color[lining].mean(axis=0)
    assert red > 1.5 * green and red > 1.5 * blue  # not the skin's blue


def test_a_face_outside_the_picture_is_filled_with_plain_colours(head, atlas):
    view = view_of(head, 0.0)
    beside = view._replace(matrix=np.float32([[1, 0, -5000], [0, 1, 0], [0, 0, 1]]))
    texture = bake(head, [beside], SIZE)
    assert (texture.shares == (0, 0, 255)).all()
    skin = texture.color[atlas.owner == PARTS.index("skin")]
    assert (skin == skin[0]).all() and skin[0].tolist() == [199, 156, 135]


def test_several_pictures_are_averaged_where_each_shows_the_head(head, atlas, places):
    left, right = view_of(head, -0.6), view_of(head, 0.6)
    both = bake(head, (view for view in (left, right)), SIZE)
    one = bake(head, [left], SIZE)
    assert seen(both).sum() > 1.2 * seen(one).sum()
    chosen = seen(both) & (atlas.face >= 0)
    off = np.abs(both.color[chosen] - painted(places[chosen]))
    assert off.mean() < 2
    np.testing.assert_array_equal(bake(head, [right, left], SIZE).shares, both.shares)


def test_large_photographs_are_averaged_not_sampled(head, atlas, turned):
    """A picture four times as large, with noise in each pixel, has a quarter of the noise."""
    view, clean = turned
    rng = np.random.default_rng(0)
    large = np.repeat(np.repeat(view.image, 4, axis=0), 4, axis=1).astype(float)
    noisy = np.clip(large + rng.normal(0, 20, large.shape), 0, 255).astype(np.uint8)
    matrix = np.float32([[0.25, 0, 0], [0, 0.25, 0], [0, 0, 1]])
    texture = bake(head, [view._replace(image=noisy, matrix=matrix)], SIZE)
    chosen = seen(clean) & (atlas.face >= 0)
    off = texture.color[chosen].astype(float) - clean.color[chosen]
    assert off.std() < 10


def test_baking_is_repeatable_and_the_jpeg_shows_the_colours(head, turned):
    view, texture = turned
    again = bake(head, [view], SIZE)
    for field in dataclasses.fields(texture):
        one, other = (getattr(each, field.name) for each in (texture, again))
        np.testing.assert_array_equal(one, other)
    assert texture.jpeg == again.jpeg
    with Image.open(io.BytesIO(texture.jpeg)) as picture:
        off = np.abs(np.asarray(picture).astype(int) - texture.color)
    assert picture.size == (SIZE, SIZE) and off.mean() < 3


def test_a_head_without_texture_coordinates_has_no_texture(head, turned):
    view, _ = turned
    assert bake(head.replace(uv=np.zeros_like(head.uv)), [view], SIZE) is None


def test_means_over_squares_are_those_of_scipy():
    picture = np.random.default_rng(0).uniform(size=(30, 41)).astype(np.float32)
    for side in (1, 5, 9):
        expected = uniform_filter(picture, side, mode="nearest")
        np.testing.assert_allclose(_averaged(picture, side), expected, atol=1e-6)
