"""Gaze from irises that were found in the pixels of rendered faces, not projected."""

from __future__ import annotations

import numpy as np
import pytest

from fields_jax.fitting import gaze
from fields_jax.flame.procedural import procedural_head
from fields_jax.geometry.rotations import turned
from tests.support.gazing import Gaze, pictured, with_irises

SIZE = 320
WITHIN = 3.0  # degrees
GAZES = {
    "ahead": Gaze(),
    "to the left": Gaze(eyes=(20, 0)),
    "to the right": Gaze(eyes=(-20, 0)),
    "up": Gaze(eyes=(0, -12)),
    "down": Gaze(eyes=(0, 12)),
    "aside and up": Gaze(eyes=(14, -8)),
    "the left eye winks": Gaze(eyes=(10, 0), lids=(1, 0)),
    "the right eye winks": Gaze(eyes=(-10, 4), lids=(0, 1)),
    "head to the left": Gaze(eyes=(-12, 0), head=(20, 5)),
    "head to the right": Gaze(eyes=(10, 6), head=(-20, -8)),
}


def degrees_apart(first, second) -> float:
    ahead = np.array([0, 0, 1.0])
    a, b = (turned(np.asarray(turn, np.float64), ahead) for turn in (first, second))
    return float(np.rad2deg(np.arccos(np.clip(a @ b, -1, 1))))


@pytest.mark.slow
def test_gaze_is_read_from_rendered_eyes_within_three_degrees():
    reader = gaze.GazeReader(procedural_head())
    errors = {}
    for name, shown in zip(GAZES, pictured(list(GAZES.values()), SIZE), strict=True):
        found = reader.read(**shown.known, points=with_irises(shown))
        errors[name] = degrees_apart(shown.turn, found[:3])
    assert max(errors.values()) < WITHIN, errors
