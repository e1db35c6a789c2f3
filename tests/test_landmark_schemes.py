"""The tables of landmarks agree with each other."""

from __future__ import annotations

import numpy as np
import pytest

from fields_jax import landmark_schemes as schemes


@pytest.mark.parametrize("name", schemes.MIRRORED)
def test_mirrors_are_involutions(name):
    order = schemes.MIRRORED[name]
    rows = np.arange(int(name.removeprefix("landmarks_")))
    np.testing.assert_array_equal(np.sort(order), rows)
    np.testing.assert_array_equal(order[order], rows)


def test_both_mirrors_leave_the_midline():
    still = np.flatnonzero(schemes.MIRRORED["landmarks_68"] == np.arange(68))
    assert still.tolist() == [8, 27, 28, 29, 30, 33, 51, 57, 62, 66]
    still = schemes.MEDIAPIPE_105[schemes.MIRRORED["landmarks_105"] == np.arange(105)]
    assert set(still) == {*schemes.NOSE_MIDLINE_478, 0, 13, 14, 17}


@pytest.mark.parametrize(
    ("table", "count", "below"),
    [
        ("WFLW_68", 68, schemes.N_WFLW),
        ("MEDIAPIPE_105", 105, schemes.N_MEDIAPIPE),
        ("MEDIAPIPE_68", 68, schemes.N_MEDIAPIPE),
        ("INNER_49_OF_51", 49, 51),
        ("FRONT_203", 91, schemes.N_203),
        ("LEFT_203", 96, schemes.N_203),
        ("RIGHT_203", 97, schemes.N_203),
    ],
)
def test_rows_are_distinct_and_in_range(table, count, below):
    rows = getattr(schemes, table)
    assert len(rows) == len(set(rows.tolist())) == count
    assert rows.min() >= 0 and rows.max() < below


def test_named_points_are_the_105():
    pairs = [
        pair
        for name, table in vars(schemes).items()
        if name.startswith(("BROW_", "LID_", "NOSE_SIDE_", "LIP_")) and name.endswith("_478")
        for pair in table
    ]
    named = {point for pair in pairs for point in pair} | set(schemes.NOSE_MIDLINE_478)
    assert named == set(schemes.MEDIAPIPE_105.tolist())


def test_pairs_across_the_slits():
    """Symmetric in both schemes: the lids' four and 14, the lips' three and nine."""
    known = set(schemes.MEDIAPIPE_105.tolist())
    assert all({upper, lower} <= known for upper, lower in schemes.ACROSS_SLITS_478)
    assert (len(schemes.ACROSS_SLITS_68), len(schemes.ACROSS_SLITS_478)) == (7, 23)
    ends = [schemes.ACROSS_SLITS_478[k] for k in (0, 7, 14, 22)]
    assert ends == [(246, 7), (466, 249), (191, 95), (415, 324)]
    for pairs, order, row in (
        (schemes.ACROSS_SLITS_68, schemes.MIRRORED["landmarks_68"], lambda k: k),
        (
            schemes.ACROSS_SLITS_478,
            schemes.MIRRORED["landmarks_105"],
            schemes.MEDIAPIPE_105.tolist().index,
        ),
    ):
        rows = {(row(upper), row(lower)) for upper, lower in pairs}
        assert {(order[upper], order[lower]) for upper, lower in rows} == rows


def test_groups_of_the_68_follow_each_other():
    groups = (
        schemes.CONTOUR_68,
        *schemes.BROW_PAIR_68,
        slice(27, 36),  # the nose
        *schemes.EYE_PAIR_68,
        schemes.OUTER_LIPS_68,
        schemes.INNER_LIPS_68,
    )
    assert np.concatenate([np.arange(68)[rows] for rows in groups]).tolist() == [*range(68)]
    assert schemes.BROW_PAIR_68[0].start == schemes.BROWS_68.start
    assert schemes.BROW_PAIR_68[1].stop == schemes.BROWS_68.stop
    assert schemes.among_51(schemes.INNER_68) == slice(0, 51)
    assert schemes.among_51(schemes.EYE_PAIR_68[0]) == slice(19, 25)


def test_eye_corners_are_the_same_points_in_both_schemes():
    right, left = schemes.EYE_CORNERS_68
    assert tuple(schemes.MEDIAPIPE_68[[right, left]]) == schemes.EYE_CORNERS_478
