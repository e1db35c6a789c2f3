"""Jitter and lag in closed form."""

from __future__ import annotations

import numpy as np
import pytest

from fields_jax.clips.measures import jitter, lag


def test_jitter_is_the_second_difference_in_units():
    steps = np.arange(50.0)
    points = np.zeros((50, 3, 2))
    points[:, :, 0] = 7 * steps[:, None]  # steady movement does not count
    points[:, :, 1] = 0.5 * steps[:, None] ** 2  # second difference 1
    assert jitter(points, np.full(50, 4.0), np.ones(50, bool)) == pytest.approx(0.25)


def test_interpolated_frames_do_not_count():
    points = np.zeros((6, 1, 2))
    points[3] = 100
    seen = np.array([1, 1, 1, 0, 1, 1], bool)
    assert jitter(points, np.ones(6), seen) == 0
    assert jitter(points[:2], np.ones(2), seen[:2]) is None


@pytest.mark.parametrize("late", [-3, 0, 2])
def test_lag_of_a_shifted_movement(late):
    rng = np.random.default_rng(0)
    long = np.convolve(rng.normal(0, 1, 200), np.hanning(9), "same")
    before, after = long[20:120, None], long[20 - late : 120 - late, None]
    assert lag(before, after) == pytest.approx(late, abs=0.05)


def test_half_a_frame_and_no_movement():
    time = np.arange(100.0)
    wave = np.sin(time / 6)[:, None]
    assert lag(wave, np.sin((time - 0.5) / 6)[:, None]) == pytest.approx(0.5, abs=0.1)
    assert lag(np.ones((50, 2)), np.ones((50, 2))) is None
    assert lag(wave[:8], wave[:8]) is None
