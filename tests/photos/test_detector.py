"""The face detector: its process, the command, and mediapipe if it is installed."""

from __future__ import annotations

import errno
import functools
import json
import os
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from data_pipelines import landmarks
from fields_jax.photos import mediapipe_child
from fields_jax.photos.detector import Detector, DetectorError, find_python, lasting
from fields_jax.photos.faces import NotLookedAt, find_faces
from fields_jax.photos.files import Photograph, Unusable
from fields_jax.photos.points import load_faces, select_105
from tests.support.portraits import face_picture, write_photograph

# Finds as many faces as the first pixel says: rings as wide as the image is, below its top.
FAKE = """
import json, sys
import numpy as np
print("noise", file=sys.stderr)
options = sys.argv[1:]
print(json.dumps({"name": "fake " + " ".join(options)}), flush=True)
for line in sys.stdin:
    request = json.loads(line)
    image = np.load(request["image"])
    count = int(image[0, 0, 0])
    angle = np.linspace(0, 2 * np.pi, 478)
    ring = np.stack([1 + np.cos(angle), 1 + np.sin(angle), 0 * angle], axis=1)
    points = np.tile(ring.astype(np.float32) * image.shape[1] / 2, (count, 1, 1))
    np.save(request["points"], points)
    print(json.dumps({"scores": [0.5] * count}), flush=True)
"""


def program(tmp_path, text):
    path = tmp_path / "child.py"
    path.write_text(text)
    return path


def test_images_go_out_and_points_come_back(tmp_path):
    script = program(tmp_path, FAKE)
    with Detector(sys.executable, script=script, max_faces=3, min_score=0.25) as detector:
        assert detector.name == "fake --max_faces=3 --min_score=0.25"
        for count in (2, 0, 1):
            image = np.full((20, 10 * (count + 1), 3), count, np.uint8)
            faces = detector.detect(image)
            assert len(faces) == count
            for face in faces:
                assert face.score == 0.5
                assert face.points.shape == (478, 3)
                assert np.ptp(face.points[:, 0]) == pytest.approx(10 * (count + 1), rel=1e-4)
        child = detector._child
    assert child.poll() is not None


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('print(\'{"error": "no models here"}\')', "cannot go on: no models here$"),
        ("raise SystemExit('libGL.so is missing')", "status 1 .*libGL.so is missing.*make landm"),
        ("print('hello')", "answered 'hello', not JSON"),
        ("print('{}')", "answered '{}', without name"),
        ("", "status 0 .it said nothing"),
    ],
)
def test_a_detector_that_does_not_start_says_why(tmp_path, text, line):
    with pytest.raises(DetectorError, match=line) as caught:
        Detector(sys.executable, script=program(tmp_path, text))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("answer", "line"),
    [
        ("raise SystemExit('out of memory')", "ended with status 1 .out of memory"),
        ("print(json.dumps({'scores': [1, 1]}), flush=True)", r"points \(1, 478, 3\), scores '\[1"),
        ("print(json.dumps({'scores': 1}), flush=True)", "scores '1'"),
        ("print(json.dumps({}), flush=True)", "answered '{}', without scores"),
        ("print(json.dumps([]), flush=True)", r"answered '\[\]', not JSON"),
        (
            "import os; os.remove(request['points']); print('{\"scores\": []}', flush=True)",
            "left no points .*points.npy: no such file",
        ),
    ],
)
def test_a_detector_that_fails_later_says_why(tmp_path, answer, line):
    text = FAKE.replace('print(json.dumps({"scores": [0.5] * count}), flush=True)', answer)
    image = np.full((4, 4, 3), 1, np.uint8)
    with (
        Detector(sys.executable, script=program(tmp_path, text)) as detector,
        pytest.raises(DetectorError, match=line),
    ):
        detector.detect(image)


def test_a_picture_at_which_the_detector_fails_harms_no_other(tmp_path):
    answer = "print(json.dumps({'error': 'too large'} if count == 2 else {'scores': [0.5] * count}"
    text = FAKE.replace('print(json.dumps({"scores": [0.5] * count}', answer)
    photographs = []
    for count in (1, 2, 1):
        path = tmp_path / f"{len(photographs)}.png"
        Image.fromarray(np.full((30, 40, 3), count, np.uint8)).save(path)
        photographs.append(Photograph(path, path.stem))
    with Detector(sys.executable, script=program(tmp_path, text)) as detector:
        found = [list(find_faces(each, scale=1.4, finder=detector.finder)) for each in photographs]
    assert [len(each) for each in found] == [1, 1, 1]
    assert found[1] == [Unusable(photographs[1].path, "the face detector failed at it: too large")]
    assert not any(isinstance(each, Unusable) for each in (*found[0], *found[2]))


def test_a_detector_that_ends_at_a_picture_is_started_anew_once(tmp_path):
    dies = "    if count == 2: raise SystemExit('killed')\n    angle ="
    script = program(tmp_path, FAKE.replace("    angle =", dies))
    one, two = (np.full((30, 40, 3), count, np.uint8) for count in (1, 2))
    with lasting(sys.executable, script=script) as finder:
        assert len(finder.detect(one)) == 1
        with pytest.raises(NotLookedAt, match=r"status 1 \(killed\)"):
            finder.detect(two)
        assert len(finder.detect(one)) == 1
        with pytest.raises(DetectorError, match=r"status 1 \(killed\)"):
            finder.detect(two)


def test_a_detector_that_has_gone_is_noticed(tmp_path):
    text = FAKE.replace("for line in sys.stdin:", "raise SystemExit('gone')\nfor line in []:")
    with Detector(sys.executable, script=program(tmp_path, text)) as detector:
        detector._child.wait()
        for _ in range(2):
            with pytest.raises(DetectorError, match=r"status 1 \(gone\)"):
                detector.detect(np.zeros((4, 4, 3), np.uint8))


def command(monkeypatch, script, *paths, **values):
    defaults = dict(overwrite=False, task="", python=sys.executable, max_faces=4, min_score=0.5)
    monkeypatch.setattr(landmarks.flags, "FLAGS", ConfigDict(defaults | values))
    monkeypatch.setattr(landmarks, "Detector", functools.partial(Detector, script=script))
    return landmarks.main(["landmarks", *map(str, paths)])


def test_command_writes_points_beside_photographs(tmp_path, monkeypatch, capsys):
    script, folder = program(tmp_path, FAKE), tmp_path / "photographs"
    folder.mkdir()
    for name, count in (("one.png", 1), ("two.png", 2), ("none.png", 0), ("kept.png", 1)):
        Image.fromarray(np.full((30, 40, 3), count, np.uint8)).save(folder / name)
    np.save(folder / "kept.npy", np.zeros((478, 2)))
    (folder / "broken.jpg").write_bytes(b"no picture")

    assert command(monkeypatch, script, folder) == 0
    said = capsys.readouterr()
    assert "3 faces in 4 photographs, 1 landmark files kept" in said.out
    assert "none.png: no face found" in said.out and "broken.jpg: not a readable" in said.out
    assert "4/4 photographs" in said.err and "noise" not in said.err + said.out
    assert np.load(folder / "one.npy").shape == (478, 3)
    assert load_faces(folder / "two.npy").shape == (2, 478, 2)
    assert json.loads((folder / "two.landmarks.json").read_text())["scores"] == [0.5, 0.5]
    assert not np.load(folder / "kept.npy").any()
    assert not (folder / "none.npy").exists()

    assert command(monkeypatch, script, folder / "kept.png", overwrite=True) == 0
    assert np.load(folder / "kept.npy").any()
    assert command(monkeypatch, script, folder / "none.png") == 2


def test_twins_get_files_of_their_own(tmp_path, monkeypatch, capsys):
    """A file that may be another picture's is neither kept for one nor written over."""
    script, folder = program(tmp_path, FAKE), tmp_path / "photographs"
    folder.mkdir()
    for name, count in (("a.png", 1), ("a.JPG", 2), ("b.png", 1), ("A.bmp", 1), ("c.d.png", 1)):
        picture = Image.fromarray(np.full((30, 40, 3), count, np.uint8))
        picture.save(folder / name, format="png")
    np.save(folder / "a.npy", np.zeros((478, 2)))

    def made():
        return sorted(p.name for p in folder.iterdir() if p.suffix in (".npy", ".json"))

    assert command(monkeypatch, script, folder) == 0
    assert "6 faces in 5 photographs\n" in capsys.readouterr().out
    points = ["A.bmp.npy", "a.JPG.npy", "a.npy", "a.png.npy", "b.npy", "c.d.npy"]
    about = [name.removesuffix(".npy") + ".landmarks.json" for name in points if name != "a.npy"]
    assert made() == sorted(points + about)
    assert not np.load(folder / "a.npy").any()
    assert load_faces(folder / "a.JPG.npy").shape == (2, 478, 2)
    assert load_faces(folder / "a.png.npy").shape == (1, 478, 2)

    assert command(monkeypatch, script, folder) == 0
    assert "0 faces in 0 photographs, 5 landmark files kept" in capsys.readouterr().out
    (folder / "a.png").unlink()  # what was written for a.JPG stays its own
    (folder / "A.bmp").unlink()
    assert command(monkeypatch, script, folder / "a.JPG", overwrite=True) == 0
    assert load_faces(folder / "a.JPG.npy").shape == (2, 478, 2)
    assert not np.load(folder / "a.npy").any()


def test_faces_that_are_none_are_not_written(tmp_path, monkeypatch, capsys):
    """Of the detector's answers too: a ring of 12 pixels, and one a million pixels away."""
    Image.fromarray(np.full((30, 12, 3), 1, np.uint8)).save(tmp_path / "small.png")
    assert command(monkeypatch, program(tmp_path, FAKE), tmp_path / "small.png") == 2
    assert "small.png: face 0: its landmarks span [0.0, 0.0, 12.0, 12.0]" in capsys.readouterr().out
    assert not (tmp_path / "small.npy").exists()
    Image.fromarray(np.full((60, 60, 3), 2, np.uint8)).save(tmp_path / "far.png")
    script = program(tmp_path, FAKE.replace("    np.save(", "    points[1] += 1e6\n    np.save("))
    assert command(monkeypatch, script, tmp_path / "far.png") == 0
    said = capsys.readouterr().out
    assert "far.png: face 1: its landmarks span [1000000.0" in said and "1 faces in 1" in said
    assert np.load(tmp_path / "far.npy").shape == (478, 3)


def test_folders_that_cannot_be_written_harm_only_themselves(tmp_path, monkeypatch, capsys):
    """Permissions do not bind root, so the refusals are made here: at once, and while writing."""
    for name in ("locked/a.png", "full/b.png", os.fsdecode(b"open/caf\xe9.png")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(np.full((30, 40, 3), 1, np.uint8)).save(tmp_path / name)
    script, write_whole = program(tmp_path, FAKE), landmarks.write_whole

    def refusing(path, content):
        if "full" in str(path):
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        write_whole(path, content)

    monkeypatch.setattr(landmarks, "write_whole", refusing)
    monkeypatch.setattr(landmarks.os, "access", lambda path, mode: "locked" not in str(path))
    assert command(monkeypatch, script, tmp_path) == 0
    said = capsys.readouterr().out
    assert "locked/a.png: its folder cannot be written to (Permission denied); copy the" in said
    assert "full/b.png: its folder cannot be written to (No space left on device)" in said
    assert "1 faces in 2 photographs" in said
    assert (tmp_path / os.fsdecode(b"open/caf\xe9.npy")).exists()
    (tmp_path / os.fsdecode(b"open/\xe8.png")).write_bytes(b"")
    command(monkeypatch, script, tmp_path / "open")
    assert (
        r"without landmarks: " in (said := capsys.readouterr().out) and r"\udce8.png: not" in said
    )


def test_command_ends_where_the_detector_does(tmp_path, monkeypatch):
    script = program(tmp_path, FAKE.replace("np.save(", "raise SystemExit('gone')\n    np.save("))
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    with pytest.raises(DetectorError, match=r"gone.*make landmarks"):
        command(monkeypatch, script, tmp_path / "a.png")


def test_mistakes_of_the_command(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="name photographs, folders or patterns"):
        command(monkeypatch, "")
    with pytest.raises(ValueError, match=r"--task=x\.task: no such file"):
        command(monkeypatch, "", "a.png", task="x.task")
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    monkeypatch.setattr(landmarks, "find_python", lambda: None)
    with pytest.raises(ValueError, match=r"no mediapipe here: run `make landmarks` .*--task"):
        command(monkeypatch, "", tmp_path / "a.png", python="")


def square(left, top, side):
    """A mesh whose box is that square."""
    corners = np.array([[0, 0, 0], [side, side, 0]], np.float32)
    points = np.concatenate([corners, np.full((476, 3), side / 2)])
    return points + np.array([left, top, 0])


def test_points_of_a_landmarker_are_pixels():
    """The tasks API, which gives shares of the image and no score; its objects are stood in for."""
    found = [SimpleNamespace(x=0.5, y=0.25, z=-0.1)] * 478
    landmarker = SimpleNamespace(detect=lambda picture: SimpleNamespace(face_landmarks=[found]))
    asked = {}

    def create_from_options(options):
        asked.update(options)
        return landmarker

    vision = SimpleNamespace(
        FaceLandmarker=SimpleNamespace(create_from_options=create_from_options),
        FaceLandmarkerOptions=dict,
    )
    mediapipe = SimpleNamespace(
        __version__="9",
        tasks=SimpleNamespace(vision=vision, BaseOptions=lambda model_asset_path: model_asset_path),
        Image=lambda image_format, data: data,
        ImageFormat=SimpleNamespace(SRGB=1),
    )
    options = SimpleNamespace(task="face.task", max_faces=2, min_score=0.4)
    detector = mediapipe_child.Landmarker(mediapipe, options)
    assert detector.name == "mediapipe 9 face landmarker"
    assert asked["base_options"] == "face.task" and asked["num_faces"] == 2
    ((points, score),) = detector.find(np.zeros((40, 60, 3), np.uint8))
    np.testing.assert_allclose(points, np.tile([30, 10, -6], (478, 1)), rtol=1e-6)
    assert score is None


class Windows:
    """Finds one face wherever a window holds the bright square of an image whole, if it is near."""

    def __init__(self, largest):
        self.largest = largest  # windows beyond this size show the face too small

    def find(self, image):
        rows, columns = np.nonzero(image[..., 0])
        if len(rows) != 100 or max(image.shape) > self.largest:
            return []
        return [(square(columns.min(), rows.min(), 9), 0.5 + image.shape[0] / 1000)]


@pytest.mark.parametrize("largest", [200, 100, 60])
def test_small_faces_are_found_in_windows(largest):
    image = np.zeros((160, 200, 3), np.uint8)
    image[75:85, 95:105] = 255  # across the middle of the image
    ((points, _),) = mediapipe_child.find_at_any_size(Windows(largest), image)
    np.testing.assert_allclose(points[:2], [[95, 75, 0], [104, 84, 0]])
    assert mediapipe_child.find_at_any_size(Windows(20), image) == []
    assert mediapipe_child.find_at_any_size(None, image[:10]) == []  # too small to look at


def test_each_face_once_and_the_largest_first():
    faces = [(square(0, 0, 10), 0.6), (square(1, 1, 10), 0.9), (square(50, 50, 30), 0.7)]
    kept = mediapipe_child._distinct(faces)
    assert [score for _, score in kept] == [0.7, 0.9]


def test_overlap_by_hand():
    a, b = np.array([0, 0, 4, 4.0]), np.array([2, 0, 6, 4.0])
    assert mediapipe_child._overlap(a, b) == pytest.approx(8 / 24)
    assert mediapipe_child._overlap(a, b + 10) == 0


@pytest.mark.skipif(find_python() is None, reason="make landmarks was not run")
def test_mediapipe_finds_the_embedded_head(tmp_path):
    """And sees its landmarks where the head has them, to 2 % of the width of the face."""
    picture, points = face_picture(256)
    group = tmp_path / "group.png"
    expected = write_photograph(group, places=((10, 30), (160, 40)), marked=False)
    with Detector(find_python()) as detector:
        (alone,) = detector.detect(picture)
        several = detector.detect(np.asarray(Image.open(group)))
        for shape in ((100, 100, 3), (1, 1, 3), (20, 900, 3)):
            assert detector.detect(np.zeros(shape, np.uint8)) == []
    off = select_105(alone.points) - select_105(points)
    assert np.abs(off).mean() < 3
    assert 0.5 < alone.score <= 1
    assert len(several) == 2
    found = sorted((face.points[:, :2] for face in several), key=lambda p: p[0, 0])
    for mesh, truth in zip(found, expected, strict=True):
        assert np.abs(select_105(mesh) - select_105(truth)).mean() < 3
