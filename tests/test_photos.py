"""Photographs and landmark files as users have them, and the geometry of crops."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from fields_jax.photos import crops, files, points


def test_105_points_are_the_embedding_s():
    chosen = points.MEDIAPIPE_105
    assert len(set(chosen.tolist())) == 105
    assert chosen.max() < points.N_MEDIAPIPE
    assert chosen[[0, 10, 20, 36, 52, 65]].tolist() == [276, 46, 249, 7, 168, 0]
    groups = np.split(chosen, [10, 20, 36, 52, 65])
    assert [len(group) for group in groups] == [10, 10, 16, 16, 13, 40]
    assert all((np.diff(groups[i]) > 0).all() for i in (0, 1, 2, 3, 5))
    marks = np.arange(478 * 3, dtype=np.float32).reshape(478, 3)
    np.testing.assert_array_equal(points.select_105(marks)[0], marks[276, :2])


def test_crop_matrix_by_hand():
    # Width 20 and height 40 average 30; 1.5 x 30 = 45 pixels about (20, 40) become 90.
    matrix = crops.crop_matrix(np.array([10, 20, 30, 60]), 1.5, 90)
    corners = crops.transform_points(
        matrix, np.array([[20, 40], [20 - 22.5, 40 - 22.5], [20 + 22.5, 40]])
    )
    np.testing.assert_allclose(corners, [[45, 45], [0, 0], [90, 45]], atol=1e-5)
    np.testing.assert_allclose(crops.to_ndc(corners, 90), [[0, 0], [-1, -1], [1, 0]], atol=1e-6)
    with pytest.raises(ValueError, match=r"face box .* is empty"):
        crops.crop_matrix(np.array([10, 20, 10, 20]), 1.5, 90)


@pytest.mark.parametrize("size", [60, 12])
def test_cut_moves_pixels_as_the_matrix_moves_points(size):
    """12 pixels from 40 also goes through the averaging that precedes a strong reduction."""
    rows, columns = np.mgrid[:50, :60] + 0.5
    blob = 250 * np.exp(-(np.hypot(columns - 32, rows - 22) ** 2) / (2 * 4**2))
    image = np.repeat(blob[..., None], 3, axis=2).astype(np.uint8)
    matrix = crops.crop_matrix(np.array([10, 10, 50, 50]), 1.0, size)
    cropped = crops.cut(image, matrix, size)[..., 0].astype(float)
    rows, columns = np.mgrid[:size, :size] + 0.5
    found = np.array([(cropped * columns).sum(), (cropped * rows).sum()]) / cropped.sum()
    np.testing.assert_allclose(
        found, crops.transform_points(matrix, np.array([[32, 22]]))[0], atol=0.05
    )


def test_cut_is_black_where_there_is_no_picture():
    image = np.full((20, 20, 3), 99, np.uint8)
    cropped = crops.cut(image, crops.crop_matrix(np.array([0, 0, 20, 20]), 2.0, 40), 40)
    assert (cropped[10:30, 10:30] == 99).all()
    assert not cropped[:9].any()
    assert not cropped[:, 31:].any()


def test_convex_hull_of_a_square_with_points_inside_and_on_its_edges():
    square = np.array([[0, 0], [4, 0], [4, 4], [0, 4]])
    points = np.concatenate([square, [[2, 2], [2, 0], [1, 3]], square])
    assert {tuple(corner) for corner in crops.convex_hull(points)} == set(map(tuple, square))
    assert len(crops.convex_hull(points)) == 4


def test_hull_mask_fills_the_border_too():
    mask = crops.hull_mask(np.array([[2.9, 3.1], [6.5, 3.9], [6.0, 8.2], [2.0, 8.0]]), 12, 10)
    expected = np.ones((12, 10), np.uint8)
    expected[3:9, 2:7] = 0  # corners are whole pixels: columns 2 to 6, rows 3 to 8
    np.testing.assert_array_equal(mask, expected)
    assert crops.hull_mask(np.array([[-5, -5], [50, -5], [50, 50], [-5, 50]]), 8, 8).max() == 0


def test_hull_mask_agrees_with_half_planes():
    """Random points: every pixel well inside is 0, every pixel well outside is 1."""
    points = np.random.default_rng(0).normal(32, 9, (50, 2))
    mask = crops.hull_mask(points, 64, 64)
    hull = crops.convex_hull(points)
    edge = np.roll(hull, -1, axis=0) - hull
    normal = np.stack([-edge[:, 1], edge[:, 0]], axis=1) / np.linalg.norm(edge, axis=1)[:, None]
    centres = np.stack(np.meshgrid(np.arange(64) + 0.5, np.arange(64) + 0.5), axis=-1)
    depth = np.einsum("hwkc,kc->hwk", centres[:, :, None] - hull, normal).min(axis=-1)
    assert (mask[depth > 1.5] == 0).all()
    assert (mask[depth < -1.5] == 1).all()


def test_photographs_are_turned_upright(tmp_path):
    upright = Image.fromarray(np.arange(6 * 4 * 3, dtype=np.uint8).reshape(6, 4, 3))
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on its side
    content = io.BytesIO()
    upright.transpose(Image.Transpose.ROTATE_90).save(content, "png", exif=exif)
    path = tmp_path / "a.png"
    path.write_bytes(content.getvalue())
    np.testing.assert_array_equal(files.read_photograph(path), np.asarray(upright))
