"""The One-Euro filter: against its formula, on rotations, without lag, at any rate of frames."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.spatial.transform import Rotation, Slerp

from fields_jax.clips.smoothing import (
    ROTATIONS,
    VECTORS,
    OneEuro,
    Strength,
    between,
    compose,
    smoothed,
)

STRENGTH = Strength(cutoff=1.2, slope=0.7)


def test_one_pass_is_the_published_filter():
    """Against the paper's pseudo-code for one number, at uneven times."""
    rng = np.random.default_rng(0)
    times = np.cumsum(rng.uniform(0.01, 0.1, 50))
    values = np.cumsum(rng.normal(0, 1, 50))

    def share(cutoff, passed):
        return 1 / (1 + 1 / (2 * math.pi * cutoff * passed))

    found, speed = [values[0]], 0.0
    for i in range(1, 50):
        passed = times[i] - times[i - 1]
        a = share(1.0, passed)
        speed = a * (values[i] - values[i - 1]) / passed + (1 - a) * speed
        a = share(STRENGTH.cutoff + STRENGTH.slope * abs(speed), passed)
        found.append(a * values[i] + (1 - a) * found[-1])

    one = OneEuro(STRENGTH, VECTORS)
    ours = [one.step(time, np.array([value]))[0] for time, value in zip(times, values, strict=True)]
    np.testing.assert_allclose(ours, found, rtol=1e-12)


def test_rotations_compose_and_interpolate_as_scipys():
    rng = np.random.default_rng(1)
    a, b = rng.normal(0, 1.2, (2, 40, 3))
    product = Rotation.from_rotvec(a) * Rotation.from_rotvec(b)
    np.testing.assert_allclose(compose(a, b), product.as_rotvec(), atol=1e-9)
    ends = Rotation.from_rotvec([a[0], b[0]])
    way = Slerp([0, 1], ends)([0.0, 0.25, 1.0]).as_matrix()
    ours = Rotation.from_rotvec(between(a[0], b[0], [0.0, 0.25, 1.0], ROTATIONS)).as_matrix()
    np.testing.assert_allclose(ours, way, atol=1e-9)


def test_rotations_are_smoothed_the_short_way_round():
    """Axis-angles of neighbours half a turn away differ by a whole turn; their mean is no rest."""
    turns = np.deg2rad(180 + np.array([-2.0, 2.0] * 15))
    vectors = Rotation.from_rotvec(turns[:, None] * [0, 1, 0]).as_rotvec()
    assert np.abs(np.diff(vectors[:, 1])).max() > 6  # the trap is there
    found = smoothed(np.arange(30) / 30, vectors, STRENGTH, ROTATIONS)
    away = (Rotation.from_rotvec(found) * Rotation.from_rotvec([0, np.pi, 0]).inv()).magnitude()
    assert np.rad2deg(away).max() < 2.01 and np.rad2deg(away[5:-5]).max() < 0.7


def test_tremble_goes_and_movement_stays_in_time():
    rng = np.random.default_rng(2)
    times = np.arange(120) / 30
    smile = 3 / (1 + np.exp(-(times - 2) / 0.08))  # three deviations within about a third second
    found = smoothed(times, (smile + rng.normal(0, 0.1, 120))[:, None], STRENGTH, VECTORS)[:, 0]
    still = (times < 1.2) | (times > 2.8)
    assert (found - smile)[still].std() < 0.04
    assert (
        np.abs(np.diff(found, 2)).mean() < 0.25 * np.abs(np.diff(rng.normal(0, 0.1, 120), 2)).mean()
    )
    middle = np.interp(1.5, found[50:70], times[50:70])
    assert abs(middle - 2) < 1 / 60  # half a frame


def test_a_mirrored_clip_is_smoothed_to_the_mirror():
    values = np.random.default_rng(3).normal(0, 1, (40, 2))
    times = np.arange(40) / 25
    ahead = smoothed(times, values, STRENGTH, VECTORS)
    back = smoothed(times, values[::-1], STRENGTH, VECTORS)
    np.testing.assert_allclose(ahead, back[::-1], atol=1e-9)


def test_frames_at_other_times_are_smoothed_alike():
    """The same movement in twice the frames, or in uneven ones, comes out about the same."""

    def wave(times):
        return np.sin(2 * np.pi * 0.7 * times)[:, None]

    even, dense = np.arange(60) / 30, np.arange(120) / 60
    uneven = np.sort(np.random.default_rng(4).uniform(0, 2, 70))
    known = smoothed(dense, wave(dense), STRENGTH, VECTORS)[:, 0]
    for times in (even, uneven):
        found = smoothed(times, wave(times), STRENGTH, VECTORS)[:, 0]
        inside = (times > 0.3) & (times < 1.7)
        np.testing.assert_allclose(found[inside], np.interp(times, dense, known)[inside], atol=0.06)


@pytest.mark.parametrize("space", [VECTORS, ROTATIONS])
def test_what_stands_still_stays(space):
    value = np.tile([0.3, -0.2, 0.1], (10, 1))
    found = smoothed(np.arange(10) / 30, value, STRENGTH, space)
    np.testing.assert_allclose(found, value, atol=1e-12)
