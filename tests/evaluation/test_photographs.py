"""The referee on photographs: measures by hand, scores of known readings, the command."""

from __future__ import annotations

import csv
import dataclasses
import json

import jax
import numpy as np
import pytest
from PIL import Image

from fields_jax.errors import UserError
from fields_jax.evaluation import photograph_scoring, photographs
from fields_jax.evaluation.expression_measures import MEASURES, interocular, measure
from fields_jax.flame.model import flame
from fields_jax.flame.procedural import procedural_head
from fields_jax.landmark_schemes import EYE_CORNERS_478, MEDIAPIPE_105
from fields_jax.photos.faces import Face
from fields_jax.photos.points import face_box
from fields_jax.render import project
from fields_jax.types import FlameCoefficients
from tests.support.workdirs import write_workdir

ROW = {point: row for row, point in enumerate(MEDIAPIPE_105.tolist())}


def face_by_hand(**moved) -> np.ndarray:
    """[105, 2] of a face whose eye corners are 100 pixels apart; `p13=(x, y)` moves a point."""
    points = np.zeros((105, 2))
    places = {
        **{33: (0, 0), 263: (100, 0), 13: (50, 80), 14: (50, 84), 61: (25, 80), 291: (75, 80)},
        **{105: (15, -30), 159: (15, -6), 145: (15, 4), 334: (85, -30), 386: (85, -6)},
        374: (85, 4),
    }
    places |= {int(name[1:]): place for name, place in moved.items()}
    for point, place in places.items():
        points[ROW[point]] = place
    return points


def test_measures_by_hand():
    found = {name: values[0] for name, values in measure(face_by_hand()[None]).items()}
    expected = dict(
        mouth_opening=0.04, mouth_width=0.5, corner_height=0.02, brow_height=0.24, eye_closure=-0.1
    )
    assert found.keys() == MEASURES.keys()
    for name, value in expected.items():
        assert found[name] == pytest.approx(value), name
    smile = measure(face_by_hand(p61=(20, 70), p291=(80, 70))[None])
    assert smile["corner_height"][0] == pytest.approx(0.12)


def test_measures_do_not_depend_on_place_size_or_turn_in_the_picture():
    face = face_by_hand(p61=(22, 71))
    turn = np.array([[0.6, 0.8], [-0.8, 0.6]])
    before, after = measure(face[None]), measure((3 * face @ turn + (40, -7))[None])
    for name in MEASURES:
        np.testing.assert_allclose(after[name], before[name])


@pytest.fixture(scope="module")
def people() -> tuple[FlameCoefficients, list[Face]]:
    """Twelve faces of the procedural head with their 478 points (of which 105 are true)."""
    head, rng, count = procedural_head(), np.random.default_rng(0), 12
    coefficients = FlameCoefficients(
        shape=rng.normal(0, 0.5, (count, 20)),
        expression=rng.normal(0, 1, (count, 30)),
        jaw=np.abs(rng.normal(0, 0.2, (count, 1))) * [1, 0, 0],
        eyelid=rng.uniform(0, 1, (count, 2)),
        pose=rng.normal(0, 0.05, (count, 3)),
        camera=np.tile([7.0, 0, 0.02], (count, 1)),
    )
    coefficients = jax.tree.map(np.float32, coefficients)
    output = flame(head, coefficients)
    seen = np.asarray(project(output.landmarks_105, coefficients.camera))[..., :2]
    faces = []
    for index, points in enumerate(100 * (seen + 1)):
        dense = np.tile(points.mean(0), (478, 1)) + rng.normal(0, 1, (478, 2))
        dense[[10, 152, 234, 454]] = [[100, 30], [100, 180], [40, 100], [160, 100]]
        dense[MEDIAPIPE_105] = points
        dense = dense.astype(np.float32)
        image = np.full((200, 200, 3), 128, np.uint8)
        box = face_box(dense)
        path = f"face{index}.png"
        faces.append(Face(path, path[:-4], image, dense, box, photographs.CROP_SCALE, ""))
    return coefficients, faces


def test_a_fit_agrees_with_the_picture_and_a_still_face_does_not(people):
    _, faces = people
    head, truth = procedural_head(), photographs.marked(faces)
    fit = photographs.fitted(head, faces)
    scores = photographs.score(truth, fit)
    assert scores["landmarks_105"]["mean"] < 0.01 and scores["landmarks_105"]["failed"] == 0
    assert scores["landmarks_68"] == dict(n=0, mean=None, interval=None, median=None, failed=None)
    for name in ("mouth_opening", "eye_closure", "mouth_width"):
        found = scores["measures"][name]
        assert found["rank"] > 0.9 and 0.8 < found["slope"] < 1.2
        low, high = found["rank_interval"]
        assert low <= found["rank"] <= high
    still = jax.tree.map(np.array, fit.coefficients)
    still.expression[:], still.jaw[:], still.eyelid[:], still.shape[:] = 0, 0, 0, 0
    still = photographs.seen_in_photographs(
        head, still, faces, photographs.CROP_SCALE, photographs.CROP_SIZE
    )
    dull = photographs.score(truth, still)
    assert dull["landmarks_105"]["mean"] > 5 * scores["landmarks_105"]["mean"]
    assert dull["measures"]["mouth_opening"]["rank"] < 0.6


def test_a_shift_of_all_landmarks_is_the_error(people):
    coefficients, faces = people
    truth = photographs.marked(faces)
    unit = interocular(truth.points_105)
    moved = truth.points_105 + np.stack([0.2 * unit, 0 * unit], -1)[:, None].astype(np.float32)
    reading = photographs.Reading(
        coefficients, np.zeros((12, 68, 2)), moved, np.zeros((12, 4, 3)), 1.4, 224
    )
    errors = photographs.landmark_errors(truth, reading)
    np.testing.assert_allclose(errors["landmarks_105"], 0.2, rtol=1e-5)
    assert np.isnan(errors["landmarks_68"]).all()
    assert photographs.score(truth, reading)["landmarks_105"]["failed"] == 1


def test_an_error_needs_both_eye_corners(people):
    """The error is in units of their distance, and points that are not seen are at (0, 0)."""
    coefficients, faces = people
    points = faces[0].points.copy()
    points[EYE_CORNERS_478[0]] = 0
    faces = [dataclasses.replace(faces[0], points=points), *faces[1:]]
    truth = photographs.marked(faces)
    reading = photographs.Reading(
        coefficients, np.zeros((12, 68, 2)), truth.points_105 + 1, np.zeros((12, 4, 3)), 1.4, 224
    )
    errors = photographs.landmark_errors(truth, reading)["landmarks_105"]
    assert np.isnan(errors[0]) and np.isfinite(errors[1:]).all()
    assert photographs.score(truth, reading)["landmarks_105"]["n"] == 11
    first, *_ = photographs.rows(faces, truth, {"network": reading})
    assert np.isnan(first["landmarks_105"]) and np.isnan(first["mouth_width_picture"])


def test_faces_of_one_photograph_are_drawn_together(people):
    coefficients, faces = people
    truth = photographs.marked(faces)
    moved = truth.points_105 + np.linspace(0, 9, 12, dtype=np.float32)[:, None, None]
    reading = photographs.Reading(
        coefficients, np.zeros((12, 68, 2)), moved, np.zeros((12, 4, 3)), 1.4, 224
    )
    group = [dataclasses.replace(face, path="group.png") for face in faces]
    apart, together = (
        photographs.score(photographs.marked(each), reading)["landmarks_105"]
        for each in (faces, [*group[:11], faces[11]])
    )
    assert together["mean"] == apart["mean"]
    assert np.ptp(together["interval"]) > 1.5 * np.ptp(apart["interval"])


def test_a_folder_is_scored_with_networks_beside_the_fit(people, tmp_path):
    _, faces = people
    workdir, _ = write_workdir(tmp_path)
    folder = tmp_path / "photographs"
    folder.mkdir()
    for face in faces[:3]:
        Image.fromarray(face.image).save(folder / f"{face.name}.png")
        np.save(folder / f"{face.name}.npy", face.points)
    Image.fromarray(faces[0].image).save(folder / "unmarked.png")
    out = tmp_path / "out"
    scores = photograph_scoring.score_folder(str(folder), str(out), workdir=str(workdir))
    assert scores == json.loads((out / "photographs.json").read_text())
    assert list(scores["methods"]) == ["network", "one crop", "fit", "refined"]
    assert scores["photographs"] == 3
    assert list(scores["unusable"].values()) == ["no landmark file beside it"]
    rows = list(csv.DictReader((out / "photographs.csv").read_text().splitlines()))
    assert len(rows) == 12 and float(rows[0]["landmarks_105"]) > 0 and rows[0]["landmarks_68"] == ""
    with Image.open(out / "pictures" / "face1.png") as picture:
        assert picture.size == (4 * 256, 256)
    assert "rank mouth_opening" in photograph_scoring.table(scores)
    given = str(folder), str(tmp_path / "again")
    alone = photograph_scoring.score_folder(*given, workdir=str(workdir), fit=False)
    read = {name: scores["methods"][name] for name in ("network", "one crop")}
    assert alone["methods"] == read


def test_folders_without_faces_are_refused_by_name(tmp_path):
    with pytest.raises(UserError, match="none: no such folder"):
        photograph_scoring.score_folder(str(tmp_path / "none"), str(tmp_path / "out"))
    Image.new("RGB", (40, 40)).save(tmp_path / "a.png")
    with pytest.raises(UserError, match="none of the 1 photographs has usable landmarks"):
        photograph_scoring.score_folder(str(tmp_path), str(tmp_path / "out"))
