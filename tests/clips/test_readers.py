"""What reads the faces of clips by networks: what it remembers of a clip, and gaze."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from fields_jax.clip_readers import NetworkReader
from fields_jax.clips.decode import Frame
from fields_jax.clips.watching import Sighting
from fields_jax.networks import Examined, Said
from fields_jax.outputs.wavering import Wavering
from fields_jax.photos.faces import Face, Finder
from fields_jax.types import FlameCoefficients

SPREAD = 0.02


class Networks:
    """Says the same of every face; how it wavers upside down is the green of its first pixel."""

    def __init__(self):
        self.asked = []

    def examine(self, faces, batch_size, *, upside):
        self.asked.append(upside)
        count = len(faces)
        rows = {name: np.zeros((count, n), np.float32) for name, n in (("shape", 3), ("jaw", 3))}
        rows |= {"expression": np.zeros((count, 4), np.float32), "pose": rows["jaw"]}
        rows |= {"eyelid": np.zeros((count, 2), np.float32)}
        rows |= {"camera": np.tile(np.float32([8, 0, 0]), (count, 1))}
        none = np.zeros(count, np.float32)
        said = Said(FlameCoefficients(**rows), np.zeros((count, 8), np.float32), none, none)
        waver = np.full(count, SPREAD)
        turned = np.array([SPREAD * face.image[0, 0, 1] for face in faces]) if upside else None
        return Examined(said, np.zeros((count, 68, 3), np.float32), Wavering(waver, waver, turned))


def reader(head):
    model = SimpleNamespace(
        head=head, size=32, crop_scale=1.4, networks=Networks(), reads_emotion=False
    )
    return NetworkReader(model, 1, Finder("none", lambda image: []))


def sighting(times):
    """A face that wavers so many times as much upside down."""
    image = np.full((60, 60, 3), times, np.uint8)
    face = Face("", "x", image, None, np.float32([10, 10, 50, 50]), 1.4, "")
    return Sighting(0, Frame(0, 0.0, image, None), face, {"again": 0.9, "match": 1.0})


def test_a_clip_knows_nothing_of_the_one_before(tiny_head):
    """The first shows somebody upside down, the second the first track of its own."""
    read = reader(tiny_head)
    found = []
    for times in (0, 3):
        read.begin()
        found += [read([sighting(times)])[0]["upside"] for _ in range(3)]
    np.testing.assert_allclose(found, [0, 0, 0, *[3 * SPREAD] * 3], rtol=1e-6)
    assert read._model.networks.asked == [True, False, False] * 2  # once in each clip


def test_the_gaze_is_that_of_the_landmarks_and_unknown_without(tiny_head, monkeypatch):
    read = reader(tiny_head)
    turned = np.float32([0, 0.3, 0, 0, 0.3, 0])
    seen = iter([turned, None])
    monkeypatch.setattr(read._gaze, "of_face", lambda *_: next(seen))
    first, second = (read([sighting(2)])[0] for _ in range(2))
    np.testing.assert_array_equal(first["eyes"], turned)
    assert np.isnan(second["eyes"]).all() and np.isfinite(second["pose"]).all()
