"""Leaks between identity and expression, in cases whose answer is known."""

import numpy as np
import pytest

from fields_jax.evaluation import identity


def test_shapes_are_compared_within_and_between_persons_by_hand(head):
    """One unit of shape 0 moves every vertex of the cube's mask by 20 mm."""
    shape = np.zeros((7, 4))
    shape[:, 0] = [0.1, 0.3, 1.0, 1.0, 1.0, 9.0, 5.0]
    subject = np.array([4, 4, 8, 8, 8, 2, -1])  # 2 is alone, the last is not known
    found = identity.shape_spread(head, shape, subject)
    np.testing.assert_allclose(found.within[:5], [2, 2, 0, 0, 0], atol=1e-5)
    np.testing.assert_allclose(found.between[:5], 8, rtol=1e-5)  # 0.2 and 1 lie 0.4 from 0.6
    assert np.isnan([*found.within[5:], *found.between[5:]]).all()


def test_one_person_has_no_distance_to_others(head):
    found = identity.shape_spread(head, np.zeros((3, 4)), np.zeros(3, int))
    assert (found.within == 0).all() and np.isnan(found.between).all()


def test_codes_that_hold_the_person_name_it():
    rng = np.random.default_rng(0)
    subject = np.repeat(np.arange(5), 20)
    codes = 6 * rng.normal(size=(5, 4))[subject] + 0.01 * rng.normal(size=(100, 4))
    assert (identity.named_by(codes, subject) == 1).all()


def test_random_codes_name_persons_at_chance():
    rng = np.random.default_rng(1)
    subject = rng.permutation(np.repeat(np.arange(4), 500))
    hit = identity.named_by(rng.normal(size=(2000, 3)), subject).mean()
    deviation = np.sqrt(0.25 * 0.75 / 2000)
    assert abs(hit - 0.25) < 4 * deviation
    # An example's own code in its person's mean would look like a leak, and one example less in
    # that mean than in the others' would hide one.
    for counts in ([2] * 10, [5] * 10, [2, 3, 4, 30, 30]):
        few = np.repeat(np.arange(len(counts)), counts)
        hits = [identity.named_by(rng.normal(size=(len(few), 8)), few) for _ in range(300)]
        told, chance = np.mean(hits), 1 / len(counts)
        assert abs(told - chance) < 5 * np.sqrt(chance * (1 - chance) / np.size(hits)), counts


def test_codes_without_differences_are_a_guess():
    subject = np.array([0, 0, 1, 1, 7, -1])
    hit = identity.named_by(np.zeros((6, 3)), subject)
    np.testing.assert_allclose(hit[:4], identity.chance_of(subject)[:4])
    np.testing.assert_allclose(hit[:4], 0.5)
    assert np.isnan(hit[4:]).all()


@pytest.mark.parametrize("subject", [[0, 0, 0], [-1, -1, -1], [0, 1, 2]])
def test_nobody_can_be_mistaken_without_two_persons(subject):
    assert np.isnan(identity.named_by(np.eye(3), np.array(subject))).all()
    assert np.isnan(identity.chance_of(np.array(subject))).all()
