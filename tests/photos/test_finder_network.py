"""The finder of faces in the package: letterbox, answers, files, and what photographs get of it."""

from __future__ import annotations

import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from fields_jax import finder
from fields_jax.errors import UserError
from fields_jax.evaluation.finding import curve, match
from fields_jax.geometry.boxes import overlap
from fields_jax.losses.finding import finding_loss, make_targets
from fields_jax.models.finder import CHANNELS, STRIDE, FinderNet
from fields_jax.photos import faces, files

WIDTHS = (4, 4, 4, 4, 4)


@pytest.fixture(scope="module")
def variables():
    model = FinderNet(WIDTHS)
    return dict(jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 32, 32, 3))))


def answer_of(boxes, cells=20):
    """The answer that says exactly these boxes, with a score of 0.88."""
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    targets = make_targets(boxes, boxes[:0], cells, STRIDE)
    logit = np.where(targets.heat > 0.999, 2.0, -6.0)[..., None]
    return np.concatenate([logit, targets.box], axis=-1).astype(np.float32)


def test_an_answer_is_read_as_it_is_taught():
    wanted = [(10, 20, 40, 60), (70.5, 80, 150, 155), (-20, 100, 16, 140)]
    boxes, scores = finder.read_answer(answer_of(wanted), 0.5)
    order = np.argsort(boxes[:, 0])
    np.testing.assert_allclose(boxes[order], sorted(wanted), atol=1e-3)
    np.testing.assert_allclose(scores, 1 / (1 + np.exp(-2)), rtol=1e-5)
    assert len(finder.read_answer(answer_of(wanted), 0.9)[0]) == 0
    assert finder.read_answer(answer_of(wanted), 0.5)[0].shape[1] == CHANNELS - 1


def test_a_letterbox_keeps_the_shape():
    image = np.zeros((50, 200, 3), np.uint8)
    image[:, 100:] = 200
    square, zoom, corner = finder.letterbox(Image.fromarray(image), 160)
    assert zoom == pytest.approx(0.8) and corner.tolist() == [0, 60]
    assert (square[:60] == finder.PAD).all() and (square[100:] == finder.PAD).all()
    assert (square[60:100, :78] == 0).all() and (square[60:100, 82:] == 200).all()


def test_boxes_of_one_face_become_one():
    boxes = np.array([[0, 0, 10, 10], [1, 1, 11, 11], [2, 2, 5, 5], [30, 0, 40, 10]], np.float32)
    assert finder.distinct(boxes, np.array([0.5, 0.9, 0.8, 0.3])) == [1, 3]
    shared = overlap(boxes[:1], boxes)
    np.testing.assert_allclose(shared.union[0], [1, 81 / 119, 0.09, 0])
    np.testing.assert_allclose(shared.smaller[0], [1, 0.81, 1, 0])


def test_faces_hardly_seen_count_as_neither():
    none = np.zeros((0, 4), np.float32)
    inside, unsure = np.array([[8, 8, 72, 72]]), np.array([[80, 80, 144, 144]])
    targets = make_targets(np.float32(inside), np.float32(unsure), 20, 8)
    assert targets.heat[5, 5] == 1 and targets.heat.argmax() == 105
    np.testing.assert_allclose(targets.box[5, 5], [-0.5, -0.5, np.log(8), np.log(8)], rtol=1e-6)
    assert targets.weight[13, 13] == 0 and targets.weight[5, 5] == targets.weight[2, 17] == 1
    bare = make_targets(none, none, 20, 8)
    assert bare.heat.max() == 0 and bare.weight.min() == 1


def test_the_loss_is_least_at_the_targets():
    targets = make_targets(np.float32([[8, 8, 72, 72]]), np.zeros((0, 4), np.float32), 20, 8)
    targets = type(targets)(*(jnp.asarray(part)[None] for part in targets))
    right = (
        jnp.asarray(answer_of([(8, 8, 72, 72)]))[None]
        * jnp.array([9.0, 1, 1, 1, 1])[None, None, None]
    )
    best, parts = finding_loss(right, targets)
    assert float(parts["box"]) == pytest.approx(0, abs=1e-6) and float(best) < 0.02
    wider = right.at[..., 3].add(0.1)
    assert float(finding_loss(wider, targets)[1]["box"]) == pytest.approx(0.1, rel=1e-4)
    missed = right.at[0, 5, 5, 0].set(-8.0)
    assert float(finding_loss(missed, targets)[0]) == pytest.approx(8, rel=0.02)


def test_matches_and_what_a_threshold_gives():
    there = np.array([[0.0, 0, 10, 10], [20, 0, 30, 10]])
    boxes = np.array([[1.0, 0, 11, 10], [0, 0, 10, 10], [50, 50, 60, 60], [80, 0, 90, 10]])
    one = match(boxes, np.array([0.9, 0.8, 0.7, 0.6]), there, np.array([[80.0, 0, 91, 11]]))
    np.testing.assert_allclose(one.found, [0.9, 0])
    np.testing.assert_allclose(one.alarms, [0.8, 0.7])
    none = match(boxes[:0], np.zeros(0), there[:0])
    points = curve([one, none], [0.5, 0.75, 0.95])
    assert [(p.recall, p.alarms) for p in points] == [(0.5, 1.0), (0.5, 0.5), (0.0, 0.0)]


def test_weights_survive_their_files(tmp_path, variables):
    finder.write_network(tmp_path, variables, {"widths": WIDTHS, "threshold": 0.5})
    network = finder.read_network(tmp_path)
    again = jax.tree.leaves(network.variables)
    for ours, theirs in zip(again, jax.tree.leaves(variables), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-6)
    assert network.look(np.zeros((30, 30, 3), np.uint8)).boxes.shape[1] == 4
    weights, about = tmp_path / finder.WEIGHTS, tmp_path / finder.ABOUT
    said = json.loads(about.read_text())
    about.write_text(json.dumps(said | {"format": 2}))
    with pytest.raises(UserError, match="is of format 2, not 1"):
        finder.read_network(tmp_path)
    about.write_text(json.dumps(said))
    weights.write_bytes(weights.read_bytes()[:-9] + b"123456789")
    with pytest.raises(UserError, match=r"is not the file that finder\.json describes; install"):
        finder.read_network(tmp_path)


def test_a_photograph_gets_the_boxes_that_the_network_finds(tmp_path, variables, monkeypatch):
    network = finder.Network(variables, {"widths": WIDTHS, "threshold": 0.5})
    answers = {160: answer_of([(8, 8, 72, 72), (150, 150, 157, 157)]), 320: answer_of([], 40)}
    answers[96] = answer_of([], 12)
    monkeypatch.setattr(finder, "_answer", lambda weights, x, widths: answers[x.shape[1]][None])
    monkeypatch.setattr(finder, "kept_program", lambda f, *args, static: f(*args, *static))
    Image.new("RGB", (320, 320)).save(tmp_path / "a.png")
    found = faces.find_faces(
        files.Photograph(tmp_path / "a.png", "a"),
        scale=1.4,
        finder=faces.Finder(finder.NAME, network.detect),
    )
    (face,) = found  # the other has 14 pixels
    np.testing.assert_allclose(face.box, [16, 16, 144, 144], atol=0.01)
    assert face.points is None and face.scale == 1.4
    assert face.origin == "found by the network, score 0.88"
    answers[160] = answer_of([])
    (nobody,) = faces.find_faces(
        files.Photograph(tmp_path / "a.png", "a"),
        scale=1.4,
        finder=faces.Finder(finder.NAME, network.detect),
    )
    assert nobody.reason.startswith("no face found; give its landmarks, or reconstruct it with")


@pytest.mark.parametrize("size", [(1, 1), (30, 30), (3, 2000), (12_000, 9)])
def test_pictures_of_any_size_are_looked_at(size, variables):
    network = finder.Network(variables, {"widths": WIDTHS, "threshold": 0.0})
    height, width = size
    found = network.look(np.zeros((height, width, 3), np.uint8))
    assert np.isfinite(found.boxes).all() and 0 < len(found.boxes) <= 50
    network.detect(np.zeros((height, width, 3), np.uint8))


def test_what_ships_is_whole_small_and_finds_no_face_in_nothing():
    about = json.loads((finder.PACKAGED / finder.ABOUT).read_text())
    assert re.fullmatch("[0-9a-f]{64}", about["sha256"])
    assert sum(file.stat().st_size for file in finder.PACKAGED.iterdir()) < 600_000
    name, detect = finder.packaged()
    assert name == finder.NAME
    ramp = np.broadcast_to(np.linspace(0, 255, 320, dtype=np.uint8)[:, None, None], (320, 200, 3))
    assert detect(np.ascontiguousarray(ramp)) == []
