"""A whole clip through the package with a reader of known errors: persons, gaps, files."""

from __future__ import annotations

import csv
import io
import json

import numpy as np
import pytest
from etils import epath
from PIL import Image

from fields_jax import arkit
from fields_jax.clips import making
from fields_jax.clips.decode import Frame, FrameFolder
from fields_jax.clips.making import Maker, Settings
from fields_jax.clips.reading import rate_of
from fields_jax.clips.watching import Where
from fields_jax.errors import UserError
from fields_jax.outputs.bundle import load_params
from fields_jax.outputs.confidence import Verdict
from fields_jax.photos.faces import Detection, Finder
from tests.support.portraits import META

FRAMES = 40
SIZE, SCALE = 48, 1.4


class Clip:
    """Frames of noise; what is where is known to the finder."""

    path, name, rate, length, remark = epath.Path("clip.mp4"), "clip", 25.0, FRAMES, ""

    def __init__(self, count=FRAMES):
        self.length = count

    def frames(self):
        rng = np.random.default_rng(0)
        for index in range(self.length):
            image = rng.integers(0, 256, (120, 200, 3), np.uint8)
            image[0, 0, 0] = index  # what the finder reads
            yield Frame(index, index / 25, image, self.path)


def boxes_of(index):
    """Two faces that pass each other; the second is hidden in frames 20 to 23."""
    found = [np.float32([20 + index, 30, 60 + index, 70])]
    if index not in range(20, 24):
        found.append(np.float32([140 - index, 60, 180 - index, 100]))
    return found


def look(image):
    found = [Detection(None, 0.9, box) for box in boxes_of(int(image[0, 0, 0]))]
    return found[::-1] if int(image[0, 0, 0]) % 2 else found


class Reader:
    """Says of the face that its smile is its height in the picture, with an error per frame."""

    batch_size, size, scale, marked = 4, SIZE, SCALE, 0.0

    def __init__(self, head, noise=0.05):
        self._head, self._noise = head, noise
        self._rng = np.random.default_rng(1)
        self.batches = []

    def begin(self):
        """Every clip is alike to it."""

    def __call__(self, sightings):
        self.batches.append(len(sightings))
        return [self._columns(sighting) for sighting in sightings]

    def _columns(self, sighting):
        shapes, expressions = (
            basis.shape[-1] for basis in (self._head.shape_basis, self._head.expression_basis)
        )
        tremble = self._noise * self._rng.standard_normal(shapes + expressions + 8)
        low = sighting.face.box[1] > 45
        return {
            "shape": np.float32(low + tremble[:shapes]),
            "expression": np.float32(2.0 * low + tremble[shapes : shapes + expressions]),
            "jaw": np.float32([0.1, 0, 0]),
            "eyelid": np.float32([0.2, 0.3]),
            "pose": np.float32(0.2 * tremble[-3:]),
            "camera": np.float32([8, 0.1 * tremble[-4], 0.1 * tremble[-5]]),
            "probabilities": np.float32([0.1, 0.7, *[0.2 / 6] * 6]),
            "valence": np.float32(0.5),
            "arousal": np.float32(-0.25),
            "spread": np.float32(0.01),
            "marked": self.marked,
        }


@pytest.fixture
def make(tiny_head, tmp_path, monkeypatch):
    monkeypatch.setattr(making, "judge", lambda evidence: Verdict("ok", (), 0.05))

    def call(count=FRAMES, *, finder=look, **settings):
        reader = Reader(tiny_head)
        maker = Maker(tiny_head, reader, Settings(film=False, **settings), META)
        where = Where(SCALE, Finder("known", finder))
        return list(maker.make(Clip(count), where, epath.Path(tmp_path))), reader

    return call


def test_each_person_gets_its_own_files(make, tmp_path, tiny_head):
    written, reader = make()
    assert [each.name for each in written] == ["person_0", "person_1"]
    assert max(reader.batches) == 4 and sum(reader.batches) == 2 * FRAMES - 4
    kept = [load_params(tmp_path / f"person_{row}/clip.npz") for row in (0, 1)]
    for row, (arrays, meta) in enumerate(kept):
        assert meta["frames"] == FRAMES and meta["head"] == META["head"]
        assert arrays["frame"].tolist() == list(range(FRAMES))
        np.testing.assert_allclose(arrays["time"], np.arange(FRAMES) / 25, atol=1e-6)
        smile = arrays["expression"].mean()
        assert smile == pytest.approx(2.0 * row, abs=0.1)  # nobody's frames are mixed up
        assert np.ptp(arrays["shape"], axis=0).max() == 0
        assert arrays["camera"].shape == (FRAMES, 3) and arrays["crop_size"] == SIZE
        conventions = np.load(tmp_path / f"person_{row}/clip.npz")["conventions"]
        assert set(json.loads(str(conventions))) == {*arrays, "meta"}
    assert kept[0][0]["seen"].all()
    assert np.flatnonzero(~kept[1][0]["seen"]).tolist() == [20, 21, 22, 23]
    assert kept[1][0]["verdict"][20] == 1 and kept[1][1]["interpolated"] == 4


def test_what_was_measured_is_told(make, tmp_path):
    written, _ = make()
    told = json.loads((tmp_path / "person_1/clip.json").read_text())
    assert told["jitter_after"] < 0.5 * told["jitter_before"]
    assert abs(told["lag_frames"]) < 1
    assert told["lost"] == 1 and told["verdicts"] == {"ok": 36, "suspect": 4, "fail": 0}
    assert told["rate"] == pytest.approx(25)
    assert set(told["frames_per_second"]) >= {"decode", "find", "read", "smooth", "all"}
    assert "40 of 40 frames, 4 of them interpolated" in written[1].notes


def test_the_table_has_a_row_for_each_frame(make, tmp_path):
    make()
    rows = list(csv.DictReader(io.StringIO((tmp_path / "person_1/clip.csv").read_text())))
    assert len(rows) == FRAMES
    assert rows[3]["emotion"] == "happy" and float(rows[3]["confidence"]) == pytest.approx(0.7)
    assert float(rows[3]["valence"]) == 0.5 and rows[3]["verdict"] == "ok"
    assert rows[21]["seen"] == "0" and rows[21]["emotion"] == ""
    assert rows[21]["reason"] == "interpolated: no face was found"


def test_without_pyav_the_film_is_left_out_and_the_page_says_so(tiny_head, tmp_path, monkeypatch):
    monkeypatch.setattr(making, "judge", lambda evidence: Verdict("ok", (), 0.05))
    monkeypatch.setattr(making.importlib.util, "find_spec", lambda name: None)
    maker = Maker(tiny_head, Reader(tiny_head), Settings(film=True), META)
    where = Where(SCALE, Finder("known", look))
    written = list(maker.make(Clip(8), where, epath.Path(tmp_path)))
    assert "clip.mp4" not in written[0].files
    assert written[0].notes[-1].startswith("no clip.mp4, which needs PyAV")


@pytest.mark.parametrize("kind", ["pyav", "disk"])
def test_a_film_that_fails_costs_no_person(tiny_head, tmp_path, monkeypatch, kind):
    av = pytest.importorskip("av", reason="the extra `video` is not installed")
    error = {"pyav": av.FFmpegError(1, "broken"), "disk": OSError(28, "No space left on device")}

    def failing(*_):
        raise error[kind]

    monkeypatch.setattr(making, "judge", lambda evidence: Verdict("ok", (), 0.05))
    monkeypatch.setattr(making.film.Film, "add", failing)
    (tmp_path / "person_0").mkdir()
    (tmp_path / "person_0/clip.mp4").write_bytes(b"of an earlier run")
    maker = Maker(tiny_head, Reader(tiny_head), Settings(film=True), META)
    where = Where(SCALE, Finder("known", look))
    written = list(maker.make(Clip(8), where, epath.Path(tmp_path)))
    assert len(written) == 2 and "clip.mp4" not in written[0].files
    assert written[0].notes[-1].startswith("no clip.mp4, which failed: [Errno ")
    names = {path.name for path in (tmp_path / "person_0").iterdir()}
    assert names == set(written[0].files)


def test_strength_0_leaves_the_coefficients(make, tmp_path):
    make(smooth=0.0)
    told = json.loads((tmp_path / "person_0/clip.json").read_text())
    assert told["jitter_after"] > 0.8 * told["jitter_before"]


def test_a_longer_gap_than_the_bridge_makes_another_person(make):
    written, _ = make(bridge=0.1)
    assert [each.name for each in written] == ["person_0", "person_1", "person_2"]


def test_frames_that_cannot_be_read_leave_the_rate(tiny_head, tmp_path, monkeypatch):
    """Two thirds of a folder's, of which the time code is counted on."""
    monkeypatch.setattr(making, "judge", lambda evidence: Verdict("ok", (), 0.05))
    (tmp_path / "frames").mkdir()
    for frame in Clip(18).frames():
        picture = tmp_path / f"frames/{frame.index}.png"
        picture.write_bytes(b"")
        if frame.index % 3 == 0:
            Image.fromarray(frame.image).save(picture)
    source = FrameFolder(tmp_path / "frames", "frames", 25.0)
    maker = Maker(tiny_head, Reader(tiny_head), Settings(film=False), META)
    out = epath.Path(tmp_path / "out")
    (_, _) = maker.make(source, Where(SCALE, Finder("known", look)), out)
    assert json.loads((out / "person_0/clip.json").read_text())["rate"] == 25


def test_gaps_of_a_video_leave_its_rate():
    times = np.round(np.arange(120) / 59.94, 3)  # whole milliseconds
    assert rate_of(times) == pytest.approx(59.94, rel=1e-3)
    assert rate_of(np.delete(times, [3, 4, 5, 40, 60, 61])) == pytest.approx(59.94, rel=5e-3)
    assert rate_of([0.0]) is None


def test_one_frame_is_enough_and_no_face_is_none(make, tmp_path):
    written, _ = make(1)
    assert len(written) == 2
    told = json.loads((tmp_path / "person_0/clip.json").read_text())
    assert told["jitter_before"] is None and told["lag_frames"] is None
    with pytest.raises(UserError, match=r"clip.mp4: no face found in 40 frames"):
        make(finder=lambda image: [])


def test_of_an_earlier_run_nothing_is_left(make, tmp_path):
    make(20)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["person_0", "person_1"]
    (tmp_path / "person_0/clip.mp4").write_bytes(b"its film")
    (tmp_path / "person_1/notes.txt").write_text("of the user")
    written, _ = make(
        20, finder=lambda image: [Detection(None, 0.9, boxes_of(int(image[0, 0, 0]))[0])]
    )
    assert len(written) == 1 and "clip.mp4" not in written[0].files
    assert not (tmp_path / "person_0/clip.mp4").exists()
    assert [path.name for path in (tmp_path / "person_1").iterdir()] == ["notes.txt"]


def test_a_flash_of_a_face_is_no_person(make, tmp_path):
    def flash(image):
        index = int(image[0, 0, 0])
        extra = [Detection(None, 0.9, np.float32([150, 5, 180, 35]))] if index in (7, 8) else []
        return [Detection(None, 0.9, boxes_of(index)[0]), *extra]

    written, _ = make(finder=flash)
    assert [each.name for each in written] == ["person_0"]
    assert json.loads((tmp_path / "person_0/clip.json").read_text())["passers"] == 1


def test_what_fails_in_most_frames_is_no_face(make, monkeypatch):
    monkeypatch.setattr(making, "judge", lambda evidence: Verdict("fail", ("nothing",), 1.0))
    with pytest.raises(UserError, match="no face found in 40 frames"):
        make()
    monkeypatch.setattr(Reader, "marked", 1.0)  # landmarks are believed to be a face's
    written, _ = make()
    assert written[0].summary == {"verdict": "fail"}


def test_arkit_weights_go_into_both_tables(tiny_head, tmp_path, monkeypatch):
    monkeypatch.setattr(making, "judge", lambda evidence: Verdict("ok", (), 0.05))
    monkeypatch.setattr(making, "arkit_tables", lambda head, count: None)
    weights = np.linspace(0, 1, 12 * 52).reshape(12, 52)
    monkeypatch.setattr(making, "arkit_weights", lambda *_: (weights, np.full(12, 0.5)))
    head = tiny_head.replace(arkit_basis=np.zeros((len(tiny_head.template), 3, 52), np.float32))
    maker = Maker(head, Reader(head), Settings(film=False), META)
    list(maker.make(Clip(12), Where(SCALE, Finder("known", look)), epath.Path(tmp_path)))
    with (tmp_path / "person_0/clip.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert float(rows[5]["jawOpen"]) == pytest.approx(
        weights[5, arkit.NAMES.index("jawOpen")], abs=1e-4
    )
    arrays, meta = load_params(tmp_path / "person_0/clip.npz")
    np.testing.assert_allclose(arrays["arkit"], weights, atol=1e-6)
    assert meta["arkit"] == list(arkit.NAMES)
    with (tmp_path / "person_0/clip_livelink.csv").open() as file:
        live = list(csv.DictReader(file))
    assert len(live) == 12 and float(live[5]["JawOpen"]) == pytest.approx(
        float(rows[5]["jawOpen"]), abs=1e-4
    )
    yaw = np.deg2rad(float(rows[5]["yaw"]))
    assert float(live[5]["HeadYaw"]) == pytest.approx(yaw, abs=2e-4)
