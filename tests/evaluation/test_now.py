"""The NoW challenge end to end on a small data set whose errors are known."""

import json

import numpy as np
import pytest

from fields_jax.errors import UserError
from fields_jax.evaluation import now
from fields_jax.landmark_schemes import NOW_68
from tests.support.now_tree import (
    CHALLENGE,
    SUBJECT,
    face,
    moved,
    write_images,
    write_prediction,
    write_scan,
)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A scan of 1,681 points and predictions A, the same mesh, and B, that moved and made smaller.

    C has no prediction.
    """
    folder = tmp_path_factory.mktemp("now")
    mesh, landmarks = face()
    write_scan(folder)
    write_images(folder, *(f"{SUBJECT}/{CHALLENGE}/{name}.jpg" for name in "ABC"))
    write_prediction(folder / "predicted", "A", mesh, landmarks)
    smaller = mesh._replace(vertices=moved(mesh.vertices, 0.8))
    write_prediction(folder / "predicted", "B", smaller, moved(landmarks, 0.8)[None])
    return folder


def scores_of(data, **how):
    photographs = now.read_photographs(str(data))
    return now.score_all(str(data), str(data / "predicted"), photographs, **how)


def test_the_same_mesh_and_a_similar_one_have_no_distance(data):
    scored, missing = scores_of(data)
    assert [str(each) for each in missing] == [f"{SUBJECT}/{CHALLENGE}/C"]
    for each, scale in zip(scored, (1, 1 / 0.8), strict=True):
        assert each.distance_mm.max() < 1e-3  # 1e-6 m; the meshes round to float32
        assert each.scale == pytest.approx(scale, rel=1e-6)
    scores = now.summary(scored, missing, metrical=False)
    assert scores["missing"] == 1 and scores["photographs"] == 2
    assert scores["distance_mm"]["points"] == sum(len(each.distance_mm) for each in scored)
    assert scores["challenges"][CHALLENGE] == scores["distance_mm"]
    assert scores["cumulative"]["share"][1:] == [1.0] * 160 and scores["cumulative"]["mm"][-1] == 8
    json.dumps(scores, allow_nan=False)


def test_the_metrical_variant_sees_the_size(data):
    (same, smaller), _ = scores_of(data, metrical=True)
    assert same.distance_mm.max() < 1e-3 and same.scale == smaller.scale == 1
    assert smaller.distance_mm.mean() > 1


def test_only_the_face_of_a_scan_is_scored(data):
    scan = now.read_scan(str(data), SUBJECT)
    mesh, landmarks = face()
    np.testing.assert_allclose(scan.landmarks, landmarks, atol=1e-11)
    assert 0.4 < len(scan.points) / len(mesh.vertices) < 0.7


def test_points_count_alike_whatever_their_scan():
    first, second = (now.Photograph("s", c, "i") for c in ("selfie", "multiview_neutral"))
    scored = [
        now.Scored(first, np.full(10, 1, np.float32), 1.0),
        now.Scored(second, np.full(30, 3, np.float32), 1.0),
    ]
    scores = now.summary(scored, [], metrical=True)
    assert scores["distance_mm"]["mean"] == 2.5 and scores["distance_mm"]["median"] == 3
    assert scores["challenges"]["selfie"]["mean"] == 1
    curve = now.curve_table(scores).splitlines()
    assert curve[0] == "mm,share" and curve[21] == "1,0.250000" and curve[-1] == "8,1.000000"
    rows = now.image_table(scored).splitlines()
    assert rows[0] == "subject,challenge,image,points,median,mean,std,p95,scale"
    assert rows[2] == "s,multiview_neutral,i,30,3,3,0,3,1"


def test_the_seven_points_are_those_of_the_68():
    assert NOW_68 == (36, 39, 42, 45, 33, 48, 54)


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("a/b/C.jpg", "a/b/C"),
        ("/x/y/a/b/C.D.png", "a/b/C.D"),
        ("a\\b\\C.jpg", "a/b/C"),
        ("b/C.jpg", None),
        ("a/../C.jpg", None),
        ("a/b/C", None),
        ("", None),
    ],
)
def test_photographs_by_path(path, place):
    found = now.photograph_of(path)
    assert (found and str(found)) == place


def test_what_is_missing_or_damaged_is_named(data, tmp_path):
    with pytest.raises(UserError, match=r"no imagepathsvalidation\.txt: name a list"):
        now.read_photographs(str(tmp_path))
    (tmp_path / "list.txt").write_text("A.jpg\n")
    with pytest.raises(UserError, match=r"line 1: 'A\.jpg' is not SUBJECT/CHALLENGE"):
        now.read_photographs(str(data), str(tmp_path / "list.txt"))
    with pytest.raises(UserError, match="names no images of selfie"):
        now.read_photographs(str(data), challenge="selfie")
    with pytest.raises(UserError, match="no mesh for any of 3"):
        now.score_all(str(data), str(tmp_path), now.read_photographs(str(data)))
    with pytest.raises(UserError, match="has no scan"):
        now.read_scan(str(data), "nobody")


def test_a_prediction_in_another_unit_is_refused_only_where_size_counts(data, tmp_path):
    mesh, landmarks = face()
    write_prediction(tmp_path, "A", mesh._replace(vertices=1e3 * mesh.vertices), 1e3 * landmarks)
    photographs = now.read_photographs(str(data))[:1]
    (scored,), _ = now.score_all(str(data), str(tmp_path), photographs)
    assert scored.distance_mm.max() < 1e-3
    with pytest.raises(UserError, match="--mesh_unit=mm"):
        now.score_all(str(data), str(tmp_path), photographs, metrical=True)
    (scored,), _ = now.score_all(str(data), str(tmp_path), photographs, unit="mm", metrical=True)
    assert scored.distance_mm.max() < 1e-3


def test_a_mesh_without_landmarks_is_no_missing_prediction(data, tmp_path):
    mesh, landmarks = face()
    write_prediction(tmp_path, "A", mesh, landmarks)
    (tmp_path / SUBJECT / CHALLENGE / "A.npy").unlink()
    with pytest.raises(UserError, match="has no landmarks"):
        now.score_all(str(data), str(tmp_path), now.read_photographs(str(data)))
