"""A generated person of known movement through the packaged model: steadiness, lag, memory."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from etils import epath

import fields_jax
from fields_jax.clip_readers import NetworkReader
from fields_jax.clips.decode import Video
from fields_jax.clips.making import Maker, Settings
from fields_jax.clips.watching import Where
from fields_jax.finder import packaged
from fields_jax.landmark_schemes import EYE_CORNERS_68
from fields_jax.outputs.bundle import load_params
from tests.support.acted import RATE, acted
from tests.support.clips import write_video

pytestmark = pytest.mark.slow
pytest.importorskip("av", reason="the extra `video` is not installed")

FRAMES, BATCH = 300, 8


class Weighed(Video):
    """A video that notes how much memory the process has at every frame."""

    def __init__(self, path: Path):
        super().__init__(path, "acted")
        self.passes: list[list[int]] = []

    def frames(self):
        sizes: list[int] = []
        self.passes.append(sizes)
        for frame in super().frames():
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            sizes.append(pages * os.sysconf("SC_PAGE_SIZE"))
            yield frame


def test_a_known_movement_is_followed_steadily_and_in_constant_memory(tmp_path):
    made = list(acted(FRAMES))
    video = write_video(tmp_path / "acted.mp4", [image for image, _ in made], rate=round(RATE))
    truth = np.stack([marks for _, marks in made])
    del made
    model, finder = fields_jax.load(), packaged()
    reader = NetworkReader(model, BATCH, finder)
    maker = Maker(model.head, reader, Settings(), model.about)
    source = Weighed(video)
    where = Where(maker.scale, finder, near=True)
    written = list(maker.make(source, where, epath.Path(tmp_path / "out")))
    assert [person.name for person in written] == ["person_0"]

    arrays, told = load_params(tmp_path / "out/person_0/clip.npz")
    assert arrays["frame"].tolist() == list(range(FRAMES)) and arrays["seen"].mean() > 0.95
    assert (arrays["verdict"] == 0).mean() > 0.9
    assert told["jitter_after"] < 0.5 * told["jitter_before"]
    assert abs(told["lag_frames"]) < 1
    right, left = EYE_CORNERS_68
    unit = np.linalg.norm(truth[:, left] - truth[:, right], axis=-1).max()
    error = np.linalg.norm(arrays["landmarks_68_image"] - truth, axis=-1).mean(axis=1) / unit
    assert np.median(error) < 0.12
    # The head turns by 22 degrees to either side, in time.
    nose, found = truth[:, 30, 0], arrays["landmarks_68_image"][:, 30, 0]
    assert np.corrcoef(nose, found)[0, 1] > 0.98
    # Within a pass memory grows by less than a tenth from frame 50 on.
    assert [len(sizes) for sizes in source.passes].count(FRAMES) == 2  # another seeks one frame
    for sizes in source.passes:
        assert len(sizes) <= 50 or max(sizes[50:]) < 1.1 * sizes[50]
