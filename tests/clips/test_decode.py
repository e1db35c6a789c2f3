"""Clips are read frame by frame: times, rotation, damage, folders of frames."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from fields_jax.clips import decode
from fields_jax.clips.decode import FrameFolder, Video
from fields_jax.errors import UserError
from tests.support.clips import numbered, turn, write_video

pytest.importorskip("av", reason="the extra `video` is not installed")


def numbers(frames):
    """What `numbered` has drawn, from the right lower corner."""
    return [round((int(frame.image[-4:, -4:].mean()) - 40) / 5) for frame in frames]


def test_a_video_gives_every_frame_at_its_time(tmp_path):
    source = Video(write_video(tmp_path / "a.mp4", numbered(12), rate=25), "a")
    assert (source.length, source.rate) == (12, 25)
    for _ in range(2):  # it can be read again
        frames = list(source.frames())
        assert numbers(frames) == list(range(12)) == [frame.index for frame in frames]
        np.testing.assert_allclose([f.time for f in frames], np.arange(12) / 25, atol=1e-4)
        assert source.remark == ""
    assert frames[0].image.shape == (48, 64, 3) and frames[0].image.dtype == np.uint8


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
def test_frames_at_uneven_times_keep_them(tmp_path, suffix):
    times = np.array([0.2, 0.25, 0.4, 0.41, 0.9, 1.0])
    path = write_video(tmp_path / f"uneven{suffix}", numbered(6), times)
    frames = list(Video(path, "uneven").frames())
    assert numbers(frames) == list(range(6))
    np.testing.assert_allclose([f.time for f in frames], times - times[0], atol=1.1e-3)


def test_recordings_that_were_joined_follow_each_other(tmp_path):
    """Both begin at the same time of their clocks, and nothing says where the second one does."""
    parts = [write_video(tmp_path / f"{n}.ts", numbered(12)[6 * n :][:6], rate=25) for n in (0, 1)]
    joined = tmp_path / "joined.ts"
    joined.write_bytes(b"".join(part.read_bytes() for part in parts))
    frames = list(Video(joined, "joined").frames())
    assert numbers(frames) == list(range(12))
    np.testing.assert_allclose([f.time for f in frames], np.arange(12) / 25, atol=1e-3)


def test_frames_whose_times_are_equal_or_absent_come_one_after_the_other(tmp_path):
    source = Video(write_video(tmp_path / "a.mp4", numbered(2), rate=10), "a")
    last, start, found = 0.0, np.nan, []
    for clock in (np.nan, 5.0, 5.0, 4.99, 5.3):
        last, start = source._next(clock, start, last)
        found.append(last)
    np.testing.assert_allclose(found, [0.1, 0.2, 0.201, 0.202, 0.5])


def test_pixels_that_are_no_squares_are_shown_as_they_are_meant(tmp_path):
    path = write_video(tmp_path / "wide.mp4", numbered(3), shape=Fraction(4, 3))
    assert next(Video(path, "wide").frames()).image.shape == (48, 85, 3)
    turn(path, 90)
    assert next(Video(path, "wide").frames()).image.shape == (85, 48, 3)


@pytest.mark.parametrize(
    ("degrees", "corner"), [(0, (0, 0)), (90, (0, 1)), (180, (1, 1)), (270, (1, 0))]
)
def test_a_turned_video_is_upright(tmp_path, degrees, corner):
    """The red quarter, left above as stored, goes where a player shows it."""
    path = write_video(tmp_path / "turned.mp4", numbered(3))
    turn(path, degrees)
    image = next(Video(path, "turned").frames()).image
    assert image.shape[:2] == ((48, 64) if degrees % 180 == 0 else (64, 48))
    half = np.array(image.shape[:2]) // 2
    red = np.array(
        [
            [_red(image[y * half[0] :, x * half[1] :][: half[0], : half[1]]) for x in (0, 1)]
            for y in (0, 1)
        ]
    )
    assert np.argwhere(red).tolist() == [list(corner)]


def _red(part):
    mean = part.reshape(-1, 3).mean(axis=0)
    return bool(mean[0] > 2 * mean[1])


def test_a_video_that_is_cut_short_gives_what_is_there(tmp_path):
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, 256, (96, 128, 3), np.uint8) for _ in range(60)]
    path = write_video(tmp_path / "whole.mp4", noise, options={"movflags": "+faststart"})
    content = path.read_bytes()
    short = tmp_path / "short.mp4"
    short.write_bytes(content[: len(content) * 2 // 3])
    source = Video(short, "short")
    frames = list(source.frames())
    assert 25 < len(frames) < 50
    assert "ends early" in source.remark or "damaged after" in source.remark
    assert str(len(frames)) in source.remark


def test_what_is_no_video_is_refused_in_one_line(tmp_path, monkeypatch):
    cases = {
        "text.mp4": (b"no video at all" * 100, "not a readable video"),
        "empty.mov": (b"", "not a readable video"),
    }
    for name, (content, why) in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=why) as told:
            Video(tmp_path / name, "x")
        assert str(told.value).startswith(f"{tmp_path / name}: ") and "\n" not in str(told.value)
    with pytest.raises(UserError, match="no such file"):
        Video(tmp_path / "absent.mp4", "x")
    content = write_video(tmp_path / "known.mp4", numbered(2)).read_bytes()
    (tmp_path / "unknown.mp4").write_bytes(content.replace(b"avc1", b"zzzz"))
    with pytest.raises(UserError, match="its codec is not known here; convert it to H"):
        Video(tmp_path / "unknown.mp4", "x")
    _write_sound(tmp_path / "sound.mp4")
    with pytest.raises(UserError, match="no picture in it, only other tracks"):
        Video(tmp_path / "sound.mp4", "x")
    monkeypatch.setattr(decode.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"videos need PyAV; pip install -e '\.\[video\]'"):
        Video(tmp_path / "text.mp4", "x")


def _write_sound(path):
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 4096), np.float32), "fltp", "mono")
        frame.sample_rate, frame.pts = 44100, 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode())


def test_a_folder_of_frames_is_read_in_the_order_of_its_numbers(tmp_path):
    for index, picture in enumerate(numbered(12)):
        Image.fromarray(picture).save(tmp_path / f"frame_{index}.png")
    (tmp_path / "notes.txt").write_text("no frame")
    # Signs that are digits to Python and no numbers.
    Image.fromarray(numbered(13)[12]).save(tmp_path / "\u2460\u00b2.png")
    (tmp_path / ".hidden.png").write_bytes(b"")
    source = FrameFolder(tmp_path, "frames", 24.0)
    frames = list(source.frames())
    assert numbers(frames) == list(range(13)) and source.length == 13
    np.testing.assert_allclose([frame.time for frame in frames], np.arange(13) / 24)
    assert frames[10].path == tmp_path / "frame_10.png"


def test_a_damaged_frame_is_left_out_and_remarked_on(tmp_path):
    for index, picture in enumerate(numbered(4)):
        Image.fromarray(picture).save(tmp_path / f"{index}.png")
    (tmp_path / "2.png").write_bytes(b"broken")
    source = FrameFolder(tmp_path, "frames", 30.0)
    assert [frame.index for frame in source.frames()] == [0, 1, 3]
    assert source.remark.startswith("1 frames left out") and "2.png" in source.remark


def test_folders_without_frames_are_refused(tmp_path):
    with pytest.raises(UserError, match="no pictures in this folder"):
        FrameFolder(tmp_path, "x", 30.0)
    with pytest.raises(UserError, match="this is no folder"):
        FrameFolder(tmp_path / "absent", "x", 30.0)
    (tmp_path / "0.png").write_bytes(b"broken")
    with pytest.raises(UserError, match="not one frame can be read"):
        list(FrameFolder(tmp_path, "x", 30.0).frames())
