"""Faces over time in the table that Epic's Live Link Face records and its tools read.

A CSV with a row for each frame: Timecode (hours:minutes:seconds:frames, and thousandths of a
frame), BlendshapeCount (61), then ARKit's 52 weights, their names with a capital, and yaw, pitch
and roll of the head, the left and the right eye. Recordings give these nine in radians.
"""

from __future__ import annotations

import csv
import io

import numpy as np
from jaxtyping import Float

from fields_jax import arkit

ROTATIONS = ("Yaw", "Pitch", "Roll")
TURNED = ("Head", "LeftEye", "RightEye")
COLUMNS = (
    *("Timecode", "BlendshapeCount"),
    *(name[0].upper() + name[1:] for name in arkit.NAMES),
    *(f"{part}{axis}" for part in TURNED for axis in ROTATIONS),
)


def live_link(
    times: Float[np.ndarray, " T"],
    weights: Float[np.ndarray, "T 52"],
    turns: Float[np.ndarray, "T 3 3"],
    rate: float,
) -> str:
    """The table.

    Args:
      times: seconds.
      weights: of `arkit.NAMES`, in [0, 1].
      turns: yaw, pitch and roll in radians of the head, the left and the right eye.
      rate: frames per second that the time code counts.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for time, weight, turn in zip(times, weights, turns, strict=True):
        values = [*weight, *np.ravel(turn)]
        row = [timecode(float(time), rate), str(len(values))]
        writer.writerow([*row, *(f"{value:.8f}" for value in values)])
    return text.getvalue()


def timecode(time: float, rate: float) -> str:
    """Seconds as HH:MM:SS:FF.FFF, frames counted at a whole rate."""
    whole = max(1, round(rate))
    frames = round(time * whole * 1000)
    seconds, parts = divmod(frames, whole * 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    count, thousandths = divmod(parts, 1000)
    return f"{hours:02d}:{minutes:02d}:{seconds:02d}:{count:02d}.{thousandths:03d}"
