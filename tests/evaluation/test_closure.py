"""Closure of eyes and mouth on a head whose movements are known by hand.

Landmark i lies at a corner of the cube's triangle i modulo 4: vertices 0, 2, 4, 6. Expression 0
moves all of them alike, expression 1 moves vertex 2 by 8 mm along y.
"""

import numpy as np

from fields_jax.evaluation.closure import measure_closure
from tests.support.cube import make_coefficients


def test_the_face_s_place_does_not_count(head):
    truth = make_coefficients(2, expression=[[2, 0, 0], [0, 0, 0]])
    found = measure_closure(head, truth, make_coefficients(2), batch_size=4)
    np.testing.assert_allclose(found, 0, atol=1e-4)


def test_pairs_by_hand(head):
    """A pair changes if one of it is vertex 2: two of the lips' three, none of the eyes' four."""
    truth = make_coefficients(1, expression=[[0, 1, 0]])
    prediction = make_coefficients(1, expression=[[0, 0.25, 0]])
    found = measure_closure(head, truth, prediction, batch_size=4)
    corner = lambda point: [0, 2, 4, 6][point % 4]  # noqa: E731
    for pairs, error, zero in (
        (((37, 41), (38, 40), (43, 47), (44, 46)), *found[:2]),
        (((61, 67), (62, 66), (63, 65)), *found[2:]),
    ):
        touched = [(corner(a) == 2) != (corner(b) == 2) for a, b in pairs]
        np.testing.assert_allclose(zero, 8 * np.mean(touched), atol=1e-4)
        np.testing.assert_allclose(error, 6 * np.mean(touched), atol=1e-4)
    assert found.zero_mouth_closure_error[0] > 1
