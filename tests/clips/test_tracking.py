"""Faces followed from frame to frame: crossings, gaps, newcomers, jumps."""

from __future__ import annotations

import numpy as np

from fields_jax.clips.tracking import Tracker


def box(x, y, side=40.0):
    return np.array([x - side / 2, y - side / 2, x + side / 2, y + side / 2])


def test_two_people_who_cross_keep_their_numbers():
    tracker = Tracker(bridge=0.5)
    for step in range(60):
        time = step / 30
        one, other = box(50 + 4 * step, 100), box(286 - 4 * step, 112, 44)
        rows = [one, other] if step % 2 else [other, one]  # finders give no order
        numbers = tracker.assign(time, rows)
        expected = [1, 0] if step % 2 else [0, 1]
        assert numbers == expected, step


def test_a_face_out_of_sight_is_the_same_within_the_bridge_and_another_after():
    tracker = Tracker(bridge=0.5)
    assert tracker.assign(0.0, [box(50, 50)]) == [0]
    assert tracker.assign(0.1, []) == []
    assert tracker.assign(0.5, [box(52, 50)]) == [0]
    assert tracker.assign(0.6, []) == []
    assert tracker.assign(1.01, [box(52, 50)]) == [1]


def test_a_face_of_both_frames_is_the_same_however_far_apart_they_are():
    tracker = Tracker(bridge=0.5)
    times = [0.0, 0.033, 0.733, 3.0, 6.0]
    for time in times:
        assert tracker.assign(time, [box(50, 50), box(150, 50)]) == [0, 1], time
    assert tracker.assign(7.0, [box(150, 50)]) == [1]
    assert tracker.assign(8.0, [box(50, 50), box(150, 50)]) == [2, 1]


def test_a_moving_face_is_expected_where_it_goes():
    tracker = Tracker(bridge=1.0)
    for step in range(10):
        tracker.assign(step / 30, [box(50 + 10 * step, 50)])
    expected = tracker.tracks[0].expected(11 / 30)
    assert abs(expected[[0, 2]].mean() - 160) < 4  # 50 + 110
    # Out of sight for long it stops instead of leaving the picture.
    assert tracker.tracks[0].expected(5.0)[[0, 2]].mean() < 140 + 300 * 0.3


def test_faces_elsewhere_or_of_another_size_are_others():
    tracker = Tracker(bridge=0.5)
    tracker.assign(0.0, [box(50, 50)])
    assert tracker.assign(1 / 30, [box(150, 50)]) == [1]
    assert tracker.assign(2 / 30, [box(50, 50, 120)]) == [2]
    assert tracker.assign(3 / 30, [box(50, 50), box(150, 50)]) == [0, 1]


def test_the_sum_of_likeness_decides_not_the_first_come():
    tracker = Tracker(bridge=0.5)
    tracker.assign(0.0, [box(100, 50), box(125, 50)])
    # The left box is nearest to the right face's place, but the pairs fit best in order.
    assert tracker.assign(1 / 30, [box(113, 50), box(138, 50)]) == [0, 1]
