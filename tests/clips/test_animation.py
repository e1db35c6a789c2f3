"""A person's clip as an animated GLB: which frame it shows, and that it moves as the clip does."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest

from fields_jax.clips import animation
from fields_jax.clips.decode import Frame
from fields_jax.clips.files import Clip
from fields_jax.flame.procedural import procedural_head
from fields_jax.render import project
from tests.clips.test_motion import FRAMES, person
from tests.support.portraits import META


def read(content):
    """The JSON of a GLB and its binary chunk."""
    assert content[:4] == b"glTF" and len(content) == struct.unpack("<I", content[8:12])[0]
    (length,) = struct.unpack("<I", content[12:16])
    return json.loads(content[20 : 20 + length]), content[28 + length :]


def numbers(document, binary, index):
    accessor = document["accessors"][index]
    view = document["bufferViews"][accessor["bufferView"]]
    start = view.get("byteOffset", 0) + accessor.get("byteOffset", 0)
    width = {"SCALAR": 1, "VEC3": 3, "VEC4": 4}[accessor["type"]]
    values = np.frombuffer(binary, "<f4", accessor["count"] * width, start)
    return values.reshape(-1, width)


@pytest.fixture(scope="module")
def known():
    one = person(noise=0.0)
    errors = np.full(FRAMES, 0.2, np.float32)
    errors[11], errors[0] = 0.05, np.nan
    seen = one.seen.copy()
    seen[0] = False
    return one.__class__(**{**vars(one), "readings": {"expected_error": errors}, "seen": seen})


def test_cameras_of_one_crop_see_every_frame_where_it_was(known):
    row = animation.best_row(known)
    assert row == 11
    moved = animation.in_one_crop(known, row)
    points = np.random.default_rng(0).normal(0, 0.1, (FRAMES, 4, 3)).astype(np.float32)

    def pixels(camera, matrices):
        inside = (np.asarray(project(points, camera))[..., :2] + 1) * known.size / 2
        return (inside - matrices[:, None, :2, 2]) / matrices[:, :1, :1]

    own = pixels(known.camera, known.matrices)
    other = pixels(moved.camera, np.broadcast_to(known.matrices[row], (FRAMES, 3, 3)))
    np.testing.assert_allclose(own, other, atol=2e-3)


def test_the_animation_has_the_frames_times_and_turns(known):
    head = procedural_head()
    taken = []

    def frames():
        for index in range(FRAMES):
            taken.append(index)
            yield Frame(index, index / 30, np.full((300, 400, 3), 90, np.uint8), "clip.mp4")

    (frame,) = animation.best_frames([known], frames())
    assert frame.index == 11 == taken[-1]  # no frame after it is decoded
    clip = Clip(
        known, np.zeros((FRAMES, 68, 2)), np.zeros(FRAMES, int), [""] * FRAMES, None, 30.0, META
    )
    document, binary = read(animation.animated(clip, head, frame, "expression"))
    (moves,) = document["animations"]
    times = numbers(document, binary, moves["samplers"][0]["input"])[:, 0]
    np.testing.assert_allclose(times, known.times, atol=1e-6)
    nodes = [node["name"] for node in document["nodes"]]
    turned = next(
        channel
        for channel in moves["channels"]
        if nodes[channel["target"]["node"]] == "head_pose"
        and channel["target"]["path"] == "rotation"
    )
    turns = numbers(document, binary, moves["samplers"][turned["sampler"]]["output"])
    angle = 2 * np.arccos(np.clip(np.abs(turns[:, 3]), 0, 1))
    np.testing.assert_allclose(angle, np.linalg.norm(known.coefficients["pose"], axis=1), atol=2e-3)
