"""The film of a clip on its page, in a browser."""

from __future__ import annotations

import numpy as np
import pytest

from fields_jax.clips.making import Written
from fields_jax.report.gallery import Gallery
from tests.support.clips import write_video
from tests.support.pages import needs_browser
from tests.support.portraits import META, SIZE


@needs_browser
def test_it_is_loaded_and_can_be_played(tab, tmp_path, tiny_head):
    pytest.importorskip("av")
    frames = [np.full((48, 64, 3), 60 * shade, np.uint8) for shade in range(4)]
    write_video(tmp_path / "talk" / "person 0" / "clip.mp4", frames)
    gallery = Gallery(tmp_path, tiny_head, SIZE, META)
    person = Written("person 0", ["clip.npz", "clip.mp4"], ["4 frames"], {})
    gallery.add_clip("talk/person 0", "talk.mp4", person)
    gallery.close("Clips", "A lead.")
    tab.open(tmp_path / "index.html")
    tab.wait("document.querySelector('video').readyState >= 2")
    video = "document.querySelector('video')"
    assert tab.evaluate(f"[{video}.videoWidth, {video}.videoHeight]") == [64, 48]
    assert tab.errors == []
