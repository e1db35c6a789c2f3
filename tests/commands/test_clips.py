"""Clips through the commands a user types: folders of frames, videos, mistakes."""

from __future__ import annotations

import csv
import importlib
import json

import numpy as np
import pytest
from ml_collections import ConfigDict

from fields_jax import clip_commands, photo_commands, reconstruct
from fields_jax.outputs.bundle import load_params
from fields_jax.photos.detector import DetectorError
from tests.support.clips import CLIP_FLAGS, numbered, write_video
from tests.support.portraits import face_picture, write_photograph
from tests.support.workdirs import write_workdir

# The name in the package is the function, which this is the command of.
fit = importlib.import_module("fields_jax.fit")
FRAMES = 7


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    write_workdir(folder)
    for index in range(FRAMES):
        places = ((5 + 2 * index, 10), (150, 60))
        write_photograph(folder / f"frames/frame_{index}.png", places=places)
    return folder


@pytest.fixture
def here(place, monkeypatch):
    """A command inside this process, without the face detector."""
    for module in (photo_commands, clip_commands):
        monkeypatch.setattr(module, "find_python", lambda: None)

    def call(command, *paths, **values):
        chosen = dict(workdir=str(place / "run"), head="", box="", batch_size=4, refine=False)
        chosen["morphs"] = ""
        chosen |= CLIP_FLAGS | {
            key: v if not hasattr(v, "parts") else str(v) for key, v in values.items()
        }
        monkeypatch.setattr(command.flags, "FLAGS", ConfigDict(chosen))
        return command.main([command.__name__, *map(str, paths)])

    return call


def test_a_folder_of_frames_becomes_persons(place, here, capsys):
    out = place / "out"
    assert here(reconstruct, place / "frames", out=out, clip=True, rate=10.0) == 0
    said = capsys.readouterr()
    assert f"written: {out}/index.html, 2 persons of clips" in said.out
    assert f"frames: {FRAMES}/{FRAMES} frames" in said.err
    arrays, meta = load_params(out / "frames/person_0/clip.npz")
    assert meta["weights"]["workdir"] == str(place / "run") and meta["clip"] == str(
        place / "frames"
    )
    np.testing.assert_allclose(arrays["time"], np.arange(FRAMES) / 10)
    # The first face walks to the right by two pixels a frame, the box with it.
    assert (np.diff(arrays["box"][:, 0]) > 0.3).all() and arrays["box"][-1, 0] < 70
    other, _ = load_params(out / "frames/person_1/clip.npz")
    assert other["box"][:, 0].min() > 130
    page = (out / "index.html").read_text()
    with (out / "summary.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["face"] for row in rows} == {"frames/person_0", "frames/person_1"}
    assert 'href="frames/person_0/clip.npz"' in page and "overlay.png" not in page
    assert json.loads((out / "frames/person_0/clip.json").read_text())["persons"] == 2


def test_fit_takes_the_landmarks_beside_frames(place, here):
    out = place / "fitted"
    assert here(fit, place / "frames", out=out, clip=True) == 0
    arrays, meta = load_params(out / "frames/person_0/clip.npz")
    assert "weights" not in meta and "valence" not in arrays
    assert np.nanmax(arrays["residual"]) < 0.03
    truth = np.load(place / "frames/frame_3.npy")[0]
    low, high = arrays["landmarks_68_image"][3].min(axis=0), truth.min(axis=0)
    assert np.abs(low - high).max() < 25  # the face of that frame, in its pixels


def test_a_video_and_a_photograph_in_one_run(place, here, capsys):
    pytest.importorskip("av", reason="the extra `video` is not installed")
    picture, _ = face_picture()
    frames = []
    for index in range(5):
        canvas = np.full((160, 200, 3), 60, np.uint8)
        canvas[16:144, 20 + index : 148 + index] = picture
        frames.append(canvas)
    video = write_video(place / "a/film.mp4", frames)
    photograph = place / "frames/frame_0.png"
    (place / "a/broken.mov").write_bytes(b"no video")
    out = place / "mixed"
    box = "40,30,140,150"
    paths = (video, photograph, place / "a/broken.mov")
    assert here(reconstruct, *paths, out=out, box=box, film=True) == 0
    said = capsys.readouterr().out
    assert "1 faces, 1 persons of clips, 1 not used" in said
    assert f"not used: {place}/a/broken.mov: not a readable video" in said
    import av

    with av.open(str(out / "film/person_0/clip.mp4")) as container:
        shown = list(container.decode(video=0))
    assert len(shown) == 5
    np.testing.assert_allclose([frame.time for frame in shown], np.arange(5) / 30, atol=1e-3)
    left = shown[2].to_ndarray(format="rgb24")
    assert left.shape == (320, 2 * 400 + 320, 3)
    # The first panel is the frame: its mean colour is the picture's.
    assert np.abs(left[:, :400].mean() - frames[2].mean()) < 4
    assert (
        'video controls muted loop preload="metadata" src="film/person_0/clip.mp4"'
        in (out / "index.html").read_text()
    )
    assert (out / "frame_0/confidence.json").exists()


def test_clips_that_cannot_be_used_end_in_one_line_and_others_are_made(place, here, capsys):
    (place / "none").mkdir(exist_ok=True)
    out = place / "bad"
    assert here(fit, place / "none", place / "frames", out=out, clip=True) == 0
    said = capsys.readouterr().out
    assert f"not used: {place}/none: no pictures in this folder" in said
    assert (out / "frames/person_0/clip.csv").exists()


def test_a_clip_without_a_face_is_told(place, here, capsys):
    pytest.importorskip("av", reason="the extra `video` is not installed")
    video = write_video(place / "blank.mp4", numbered(4))
    assert here(reconstruct, video, out=place / "blank") == 2
    assert f"not used: {video}: no face found in 4 frames" in capsys.readouterr().out


def test_a_detector_that_does_not_start_costs_the_clip_alone(place, here, monkeypatch, capsys):
    def failing(python):
        raise DetectorError("the face detector ended with status 1")

    monkeypatch.setattr(clip_commands, "find_python", lambda: "python")
    monkeypatch.setattr(clip_commands, "lasting", failing)
    write_photograph(place / "alone/one.png")
    out = place / "no detector"
    assert here(fit, place / "alone/one.png", place / "frames", out=out, clip=True) == 0
    assert "frames: the face detector ended with status 1" in capsys.readouterr().out
    assert "one/overlay.png" in (out / "index.html").read_text()
