"""The table of Live Link Face: its columns, time codes and numbers."""

from __future__ import annotations

import csv
import io

import numpy as np
import pytest

from fields_jax.clips.livelink import COLUMNS, live_link, timecode


def test_the_columns_are_those_of_a_recording():
    assert COLUMNS[:3] == ("Timecode", "BlendshapeCount", "EyeBlinkLeft")
    assert COLUMNS[53:] == (
        *("TongueOut", "HeadYaw", "HeadPitch", "HeadRoll", "LeftEyeYaw", "LeftEyePitch"),
        *("LeftEyeRoll", "RightEyeYaw", "RightEyePitch", "RightEyeRoll"),
    )
    assert len(COLUMNS) == 63 == len(set(COLUMNS))
    # The order of the jaw and mouth pairs is easily mistaken: right comes first in these.
    assert COLUMNS[16:20] == ("JawForward", "JawRight", "JawLeft", "JawOpen")


def test_rows_hold_what_was_given():
    weights, turns = np.zeros((2, 52)), np.zeros((2, 3, 3))
    weights[1, 0], turns[1, 0, 0], turns[1, 2, 2] = 0.5, -0.25, 0.125
    rows = list(csv.reader(io.StringIO(live_link(np.array([0, 0.5]), weights, turns, 30.0))))
    assert tuple(rows[0]) == COLUMNS and [len(row) for row in rows] == [63] * 3
    named = dict(zip(*(rows[0], rows[2]), strict=True))
    assert named["Timecode"] == "00:00:00:15.000" and named["BlendshapeCount"] == "61"
    assert float(named["EyeBlinkLeft"]) == 0.5 and float(named["HeadYaw"]) == -0.25
    assert float(named["RightEyeRoll"]) == 0.125 and float(named["JawOpen"]) == 0


@pytest.mark.parametrize(
    ("time", "rate", "code"),
    [
        (0.0, 30.0, "00:00:00:00.000"),
        (59.99999, 30.0, "00:01:00:00.000"),
        (3723.5, 24.0, "01:02:03:12.000"),
        (1 / 60 + 1e-4, 29.97, "00:00:00:00.503"),
    ],
)
def test_time_codes(time, rate, code):
    assert timecode(time, rate) == code
