"""Scenes that the finder of faces learns from: boxes where the heads are, and none without."""

from __future__ import annotations

import numpy as np
import pytest

from data_pipelines.synthetic import canvas, crowds, cutouts

SIZE = 96


@pytest.fixture(scope="module")
def heads():
    """Heads of one even colour: red faces on discs; the second is turned away."""
    side = 64
    y, x = (np.indices((side, side)) + 0.5) / side
    layers = np.zeros((2, side, side, 4), np.uint8)
    layers[:, (x - 0.5) ** 2 + (y - 0.5) ** 2 < 0.16] = (60, 60, 60, 255)
    layers[:, (abs(x - 0.5) < 0.2) & (abs(y - 0.55) < 0.25)] = (255, 0, 0, 255)
    corners = np.array([[0.3, 0.3], [0.7, 0.3], [0.7, 0.8], [0.3, 0.8]])
    marks = np.random.default_rng(0).uniform(0.35, 0.7, (68, 2))
    return cutouts.Cutouts(
        layers=layers,
        outline=np.tile(corners, (2, 1, 1)),
        marks=np.tile(marks, (2, 1, 1)),
        neck=np.tile([0.5, 0.9], (2, 1)),
        up=np.tile([0.0, -0.225], (2, 1)),
        cloth=np.full((2, 3), 0.2),
        shows=np.array([True, False]),
    )


@pytest.fixture(scope="module")
def walls():
    return crowds.backdrops(4, 0, 64)


def only(heads, row):
    return type(heads)(*(field[row : row + 1] for field in heads))


def test_scenes_are_functions_of_their_generator(heads, walls):
    one, same, other = (
        crowds.crowd(np.random.default_rng(seed), heads, walls, SIZE) for seed in (3, 3, 4)
    )
    assert (one.picture == same.picture).all() and one.boxes.tolist() == same.boxes.tolist()
    assert (one.picture != other.picture).any()
    assert (crowds.backdrops(2, 0, 64) == walls[:2]).all()


def test_boxes_are_where_the_faces_are(heads, walls, monkeypatch):
    """Without turns, clothes, cameras and other things, the box holds what is red and no more."""
    for share in (
        "_CLUTTER",
        "_THINGS",
        "_BEFORE",
        "_DRESSED",
        "_LIT",
        "_STRIPS",
        "_NO_FACE",
        "_EMPTY",
    ):
        monkeypatch.setattr(crowds, share, 0.0)
    monkeypatch.setattr(crowds, "_STEEPEST", 0.0)
    monkeypatch.setattr(crowds, "_MOST", 1)
    monkeypatch.setattr(crowds, "_developed", lambda rng, scene: scene)
    monkeypatch.setattr(crowds, "_gained", lambda picture, gain: picture)
    inside = 0
    for seed in range(30):
        scene = crowds.crowd(np.random.default_rng(seed), only(heads, 0), walls, SIZE)
        red = (scene.picture[..., 0] > 200) & (scene.picture[..., 1:] < 60).all(axis=-1)
        for x0, y0, x1, y1 in scene.boxes:
            if min(x0, y0) < 0 or max(x1, y1) > SIZE or x1 - x0 < 12:
                continue
            rows, columns = np.nonzero(red)
            found = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            np.testing.assert_allclose([x0, y0, x1, y1], found, atol=1.6)
            inside += 1
    assert inside >= 3


def test_heads_turned_away_and_spoilt_faces_are_no_faces(heads, walls, monkeypatch):
    for seed in range(12):
        scene = crowds.crowd(np.random.default_rng(seed), only(heads, 1), walls, SIZE)
        assert len(scene.boxes) == len(scene.unsure) == 0
    monkeypatch.setattr(crowds, "_MOST", 1)
    monkeypatch.setattr(crowds, "_NO_FACE", 1.0)
    for seed in range(12):
        scene = crowds.crowd(np.random.default_rng(seed), heads, walls, SIZE)
        assert not len(scene.boxes)  # and those too small to tell are neither
        assert (scene.unsure[:, 2:] - scene.unsure[:, :2] < 0.3 * SIZE).all()


def test_hidden_faces_are_unsure_or_none(heads):
    face = crowds._Face(np.array([10.0, 10, 30, 30]), crowds.Image.new("L", (40, 40), 255))
    assert crowds._seen(face) == 1
    mask = crowds.Image.new("L", (40, 40), 0)
    mask.paste(255, (0, 0, 40, 25))
    crowds._hide([face], mask)
    assert crowds._seen(face) == pytest.approx(0.25)
    beyond = crowds._Face(np.array([-10.0, 10, 10, 30]), crowds.Image.new("L", (40, 40), 255))
    assert crowds._seen(beyond) == 0.5


def test_coded_colours_come_back():
    values = np.array([[0.0, 0.01, 0.2], [0.7, 1.4, 9.0]])
    back = canvas.LINEAR[canvas.coded(values)]
    np.testing.assert_allclose(back, np.minimum(values, 1.5), rtol=0.03, atol=1e-3)


@pytest.mark.slow
def test_cut_outs_show_heads_and_their_backs():
    (made,) = cutouts.cut_outs(0, 6, seed=0, away=0.5)
    assert made.layers.shape == (6, cutouts.SIZE, cutouts.SIZE, 4) and 0 < made.shows.sum() < 6
    low, high = made.outline.min(axis=1), made.outline.max(axis=1)
    sides = (high - low).mean(axis=1)
    np.testing.assert_allclose(sides, 0.42 / 1.06, rtol=0.12)
    for layer, middle in zip(made.layers, (low + high) / 2, strict=True):
        x, y = (middle * cutouts.SIZE).astype(int)
        assert layer[y, x, 3] == 255 and layer[0, 0].max() == 0
        assert (layer[..., :3] <= layer[..., 3:]).all()
