"""Faces that the networks confirm: crops that settle, what is dropped, and what ships."""

from __future__ import annotations

import re

import jax
import numpy as np
import pytest

from fields_jax import confirming, finder
from fields_jax.geometry.boxes import overlap
from fields_jax.landmark_schemes import BROWS_68, CHIN_68
from fields_jax.outputs.wavering import Wavering
from fields_jax.photos.crops import crop_matrix, to_ndc, transform_points
from fields_jax.photos.faces import Face
from fields_jax.photos.points import face_box
from fields_jax.types import FlameCoefficients
from tests.support.kept_programs import kept_names

SIZE, SCALE = 64, 1.4
LOOSE = np.float32([15, 10, 30, 30])
PICTURE = np.zeros((300, 400, 3), np.uint8)


def marks_at(middle, side):
    """68 points of a face, pixels of the picture."""
    rng = np.random.default_rng(0)
    points = np.float32(rng.uniform(-0.5, 0.5, (68, 2)))
    points[CHIN_68], points[BROWS_68] = (0, 0.5), [[x, -0.2] for x in np.linspace(-0.4, 0.4, 10)]
    return np.float32(middle + side * points)


class Proposer:
    """Says what it is told to."""

    def __init__(self, *found):
        self.found = found

    def look(self, image, least):
        rows = [(box, score) for box, score in self.found if score >= least]
        boxes = np.array([box for box, _ in rows], np.float32).reshape(-1, 4)
        return finder.Found(boxes, np.array([score for _, score in rows], np.float32))


class Networks:
    """See one face where half of it is in the crop; elsewhere something far away that wavers."""

    size = SIZE

    def __init__(self, points):
        self.points, self.asked = points, []
        self.box = face_box(points)

    def landmarks(self, found):
        self.asked.append(len(found))
        return np.stack([self._read(self.matrices.pop(0)) for _ in found])

    def _read(self, matrix):
        shown = (transform_points(matrix, self.points) / SIZE).clip(0, 1)
        sees = ((shown > 0) & (shown < 1)).all(axis=1).mean() > 0.5
        where = self.points if sees else self.points - 900
        return np.pad(to_ndc(transform_points(matrix, where), SIZE), ((0, 0), (0, 1)))

    def examine(self, found, batch_size, *, upside):
        (face,), sees = found, self._sees(found[0])
        matrix = crop_matrix(face.box, SCALE, SIZE)
        flat = FlameCoefficients(
            **dict.fromkeys(("shape", "expression", "jaw", "eyelid"), None),
            pose=np.zeros((1, 3), np.float32),
            camera=None,
        )
        waver = np.float32([0.02 if sees else 0.5])
        said = type("Said", (), {"coefficients": flat})
        return said, self._read(matrix)[None], Wavering(waver, waver)

    def _sees(self, face):
        low, high = np.maximum(face.box[:2], self.box[:2]), np.minimum(face.box[2:], self.box[2:])
        shared = np.prod(np.maximum(high - low, 0))
        return shared > 0.5 * np.prod(self.box[2:] - self.box[:2])


@pytest.fixture
def networks(monkeypatch):
    made = Networks(marks_at((200, 150), 100))
    made.matrices = []
    crop = Face.crop

    def noted(face, size):
        made.matrices.append(face.matrix(size))
        return crop(face, size)

    monkeypatch.setattr(Face, "crop", noted)
    return made


def test_a_crop_follows_what_is_read_in_it(networks):
    loose = networks.box + LOOSE
    (found,) = confirming.Confirmer(Proposer((loose, 0.6)), networks, SCALE).detect(PICTURE)
    np.testing.assert_allclose(found.box, networks.box, atol=0.01)
    assert found.points is None and 0.9 < found.score < 1


def test_places_that_show_one_face_become_one_and_others_are_dropped(networks):
    proposals = (
        (networks.box + LOOSE, 0.5),
        (networks.box - np.float32([25, 0, 25, 0]), 0.45),  # comes to show the same
        ((10, 10, 60, 70), 0.7),  # nothing: what is read there is far outside
        (networks.box, 0.1),  # not even proposed
        ((300, 250, 310, 260), 0.9),  # too small to show anything
    )
    confirmer = confirming.Confirmer(Proposer(*proposals), networks, SCALE)
    (found,) = confirmer.detect(PICTURE)
    np.testing.assert_allclose(found.box, networks.box, atol=0.01)
    weighed = confirmer.weigh(PICTURE)
    assert len(weighed.boxes) == 3 and weighed.errors[2] > 0.5
    np.testing.assert_array_equal(weighed.boxes[2], (10, 10, 60, 70))  # kept, as it cannot follow
    assert networks.asked == [3] * 6


def test_no_proposals_are_no_faces(networks):
    assert confirming.Confirmer(Proposer(), networks, SCALE).detect(PICTURE) == []
    assert networks.asked == []


def test_a_face_is_more_probable_the_surer_the_finder_and_the_steadier_the_reading():
    scores, errors = np.array([0.4, 0.6, 0.6, 0.4]), np.array([0.05, 0.05, 0.5, 0.5])
    boxes = np.array([[x, 0, x + 40, 40] for x in (0, 50, 100, 150)], np.float32)
    rows, sure = confirming.choose(confirming.Weighed(boxes, scores, errors))
    assert rows.tolist() == [1, 0] and (sure >= confirming.PROBABLE).all()


@pytest.mark.parametrize("picture", ["ramp", "noise", "speck"])
def test_what_ships_confirms_no_face_in_nothing(picture):
    made = {
        "ramp": np.repeat(np.linspace(0, 255, 320, dtype=np.uint8)[:, None, None], 200, axis=1),
        "noise": np.random.default_rng(0).integers(0, 256, (200, 160, 1), np.uint8),
        "speck": np.zeros((3, 2, 1), np.uint8),
    }[picture]
    name, detect = confirming.packaged()
    assert name == "found by the network, confirmed by reading it"
    assert detect(np.ascontiguousarray(np.broadcast_to(made, (*made.shape[:2], 3)))) == []


def test_what_ships_frames_generated_faces_closely_by_programs_that_are_kept(caplog):
    from data_pipelines.synthetic import pictures, samples
    from data_pipelines.synthetic.studio import open_studio

    studio = open_studio(192, bite=samples.BITES["wide"])
    drawn = samples.samples("wide", "test", samples.Size(8, 1), 0, 991, studio)
    records = list(pictures.records(drawn, studio.render, 192))
    jax.clear_caches()
    detect, shared = confirming.packaged().detect, []
    with jax.log_compiles():
        for record in records:
            boxes = np.array([one.box for one in detect(record["image"])]).reshape(-1, 4)
            assert len(boxes) <= 1
            shared.append(overlap(np.float32([record["face_box"]]), boxes).union.max(initial=0))
    assert np.sum(np.array(shared) > 0.7) >= 4, shared
    compiled = set(re.findall(r"Compiling (\S+) with", caplog.text))
    assert compiled and compiled <= kept_names()
