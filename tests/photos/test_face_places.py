"""Where a face may be in a picture, and landmarks that are unseen."""

from __future__ import annotations

import re

import numpy as np
import pytest
from PIL import Image

from data_pipelines.building import photographs
from fields_jax import landmark_schemes
from fields_jax.fitting import photographs as fit_photographs
from fields_jax.photos import crops, faces, files, points
from tests.photos.test_photos import detector, face_68, find, mesh
from tests.support import raw_sets
from tests.support.heads import random_head

# Boxes in a picture of 200 x 100 pixels, and what is wrong with each.
BOXES = [
    ((10, 20, 90, 95), ""),
    ((-30, -20, 60, 70), ""),  # cut off at a corner
    ((-50, -60, 250, 190), ""),  # a close-up
    ((10, 10, 27, 27), ""),
    ((0.1, 0.1, 0.9, 0.9), r"the box spans 0\.1\.\.0\.9: normalised\? give pixels"),
    ((-1, -1, 1, 1), r"spans -1\.\.1: normalised\?"),
    ((10, 10, 13, 60), "its smaller side is 3 pixels, a face's 16 at least"),
    ((300, 10, 340, 50), "0 % of it is inside, of a face 25 % at least"),
    ((-70, 10, 20, 90), "22 % of it is inside"),
    ((-200, -200, 210, 210), "more than 2 times as large as the picture"),
    ((0, 0, 1e30, 1e30), "no face in 200 x 100 pixels: it is more than 2 times as large"),
    ((0, 0, np.nan, 50), "not all numbers"),
    ((0, 0, np.inf, 50), "not all numbers"),
]


@pytest.mark.parametrize(("box", "reason"), BOXES)
def test_where_a_face_may_be(tmp_path, box, reason):
    """One check of --box, of landmark files, of the detector's answers and of annotations."""
    path = tmp_path / "a.png"
    Image.new("RGB", (200, 100)).save(path)
    (found,) = find(path, box=box)
    assert isinstance(found, files.Unusable) == bool(reason)
    if not reason:
        assert crops.box_fault(box, 100, 200) == "" and found.box.tolist() == list(box)
    else:
        assert re.search(reason, found.reason), found.reason
        assert found.reason.endswith("(box given by the user)")
    low, size = np.array(box[:2], np.float64), np.subtract(box[2:], box[:2])
    ring = np.pad((mesh((0.5, 0.5), 0.5)[:, :2] * size + low).astype(np.float32), ((0, 0), (0, 1)))
    (seen,) = find(path, finder=detector((ring, None)))
    np.save(tmp_path / "a.npy", ring)
    (marked,) = find(path)
    assert isinstance(seen, files.Unusable) == isinstance(marked, files.Unusable) == bool(reason)
    sample = photographs.Sample("a", str(path))
    if reason:
        assert marked.reason.replace("landmark file a.npy", "finder 1") == seen.reason
        with pytest.raises(photographs.Rejected) as caught:
            photographs.make_record(sample, size=64, scale=2.0)
        assert caught.value.reason == photographs.BAD_LANDMARKS
        assert marked.reason.startswith(caught.value.detail.removeprefix(f"{path}: "))
    else:
        assert min(photographs.make_record(sample, size=64, scale=2.0)["image"].shape[:2]) > 16


def test_boxes_that_no_points_have():
    assert "its smaller side is -40 pixels" in crops.box_fault((60, 60, 20, 20), 100, 200)
    assert "more than 2 times as large" in crops.box_fault((-1e308, 0, 1e308, 50), 100, 200)


def test_annotations_pass_the_same_check(tmp_path):
    path = raw_sets.picture(tmp_path / "a.jpg")

    def record(marks):
        sample = photographs.Sample("a", str(path), np.asarray(marks, np.float32))
        return photographs.make_record(sample, size=64, scale=2.0)

    inner = np.delete(raw_sets.face_68(), [*range(17), 60, 64], axis=0)
    for marks in (raw_sets.face_68(), inner):
        assert record(marks)["face_box"].min() > 0
        for spoiled, reason in (
            (marks / 120, "normalised. give pixels"),
            (marks + 1000, "0 % of it is inside"),
            (marks / 10, "its smaller side is"),
            (marks * 1e30, "more than 2 times"),
            (marks * np.nan, "not finite"),
            (np.where(np.arange(len(marks))[:, None] == 30, 0, marks), "1 of its .* are unseen"),
        ):
            with pytest.raises(photographs.Rejected, match=reason):
                record(spoiled)
    np.save(tmp_path / "a.203.npy", np.random.default_rng(0).uniform(0.1, 0.9, (203, 2)))
    with pytest.raises(photographs.Rejected, match=r"its points span 0\.1.*normalised\?"):
        record(raw_sets.face_68())


def test_a_picture_of_a_few_pixels_is_no_face(tmp_path):
    Image.new("RGB", (40, 3)).save(tmp_path / "a.png")
    (refused,) = find(tmp_path / "a.png")
    assert refused.reason.startswith(
        "a picture of 40 x 3 pixels: the smaller side of a face has 16"
    )


UNSEEN = [(0, 0), (-1, -1), (-9999, -9999)]


@pytest.mark.parametrize("placeholder", UNSEEN)
def test_unseen_points_stretch_no_box(tmp_path, placeholder):
    whole = face_68((100, 80), 60)
    marks = whole.copy()
    marks[[0, 1, 2, 40, 17]] = placeholder
    assert points.seen(marks).sum() == 63 and points.seen(whole).all()
    assert points.fault(marks, 200, 300) == ""
    low, high = points.face_box(whole)[:2], points.face_box(whole)[2:]
    box = points.face_box(marks)
    assert (box[:2] >= low).all() and (box[2:] <= high).all()
    np.testing.assert_allclose(box[[1, 2, 3]], points.face_box(whole)[[1, 2, 3]], atol=1e-4)
    dense = np.pad(mesh((100, 80), 60)[:, :2], 0)
    dense[5] = placeholder
    np.testing.assert_allclose(points.face_box(dense), [40, 20, 160, 140], atol=0.1)


def test_points_beyond_a_corner_are_seen_and_turned_signs_are_not():
    face = face_68((30, 24), 50)
    assert ((face < 0).all(axis=1)).any() and points.seen(face).all()
    turned = face_68((150, 120), 60)
    turned[:20] *= -1
    assert points.seen(turned).tolist() == [False] * 20 + [True] * 48
    assert points.face_box(turned).min() > 0
    assert points.seen(face_68((-300, -320), 50)).all()  # no others to compare them with


@pytest.mark.parametrize(
    ("hidden", "reason"),
    [
        (range(35), "35 of its 68 landmarks are unseen"),
        (range(68), "68 of its 68 landmarks are unseen"),
        ([8], "its chin or all of its brows are unseen"),
        (range(17, 27), "its chin or all of its brows are unseen"),
    ],
)
def test_too_many_unseen_points_are_no_face(tmp_path, hidden, reason):
    Image.new("RGB", (200, 160)).save(tmp_path / "a.png")
    marks = face_68((100, 80), 60)
    marks[list(hidden)] = 0
    np.savetxt(tmp_path / "a.txt", marks)
    (refused,) = find(tmp_path / "a.png")
    assert refused.reason.startswith(reason) and refused.reason.endswith("(landmark file a.txt)")


def test_a_record_wants_every_point(tmp_path):
    path = raw_sets.picture(tmp_path / "a.jpg")
    dense = raw_sets.mesh()
    dense[3] = 0
    np.save(tmp_path / "a.npy", dense)
    with pytest.raises(photographs.Rejected, match="1 of its 478 landmarks are unseen, and a rec"):
        photographs.make_record(photographs.Sample("a", str(path)), size=64, scale=2.0)


def test_a_fit_weighs_unseen_points_with_nothing(monkeypatch):
    marks, dense = face_68((100, 80), 60), mesh((100, 80), 60)[:, :2]
    marks[[3, 40]] = -1
    dense[landmark_schemes.MEDIAPIPE_105[7]] = 0
    image = np.zeros((200, 200, 3), np.uint8)
    given = {}

    class Seen(Exception):
        """Ends the call once the landmarks have arrived."""

    def take(model, observed, **_):
        given.update(seen=observed)
        raise Seen

    monkeypatch.setattr(fit_photographs, "fit_landmarks", take)
    with pytest.raises(Seen):
        fit_photographs.fit_faces(
            random_head(),
            [
                faces.Face("", "", image, place, points.face_box(place), 1.4, "")
                for place in (marks, dense)
            ],
        )
    seen = given["seen"]
    assert np.flatnonzero(seen.weights_68[0] == 0).tolist() == [3, 40]
    assert np.flatnonzero(seen.weights_105[1] == 0).tolist() == [7]
    assert not seen.weights_68[1].any() and not seen.weights_105[0].any()
    dense[landmark_schemes.MEDIAPIPE_105[:60]] = -1
    face = faces.Face("", "", image, dense, np.zeros(4), 1.4, "landmark file a.npy")
    assert fit_photographs.unfit(face).startswith(
        "60 of the 105 landmarks that the head knows are unseen"
    )
