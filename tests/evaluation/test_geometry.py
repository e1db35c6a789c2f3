"""Errors of expression, intensity and landmarks on a head whose movements are known by hand."""

import jax
import numpy as np
import pytest
from scipy import stats

from fields_jax.evaluation import geometry
from fields_jax.flame.model import flame
from tests.support.cube import E, S, make_coefficients, make_labels


def test_expression_error_by_hand(head):
    psi = [[2, 0, 0], [0, 1, 0], [0, 0, 9], [0, 0, 0], [1, 0, 0]]
    truth = make_coefficients(5, expression=psi, eyelid=[[0, 0]] * 3 + [[1, 0], [0, 0]])
    # Neither the predicted pose nor the predicted identity counts.
    psi = [[1, 0, 0], [0, 0, 0], [0, 0, 0], [0, 0, 0], [-1, 0, 0]]
    pose, beta = np.full((5, 3), 0.7), np.full((5, S), 3.0)
    prediction = make_coefficients(5, expression=psi, pose=pose, shape=beta)
    found = geometry.measure_expression(head, truth, prediction, batch_size=8)
    np.testing.assert_allclose(found.error, [3, 2, 0, 4, 6], atol=1e-4)
    np.testing.assert_allclose(found.intensity, [6, 2, 0, 4, 3], atol=1e-4)
    np.testing.assert_allclose(found.predicted_intensity, [3, 0, 0, 0, 3], atol=1e-4)


def test_jaw_is_compared_on_the_true_identity(head):
    """The jaw turns vertex 0, at distance r from the joint, by an angle: a chord of 2 r sin(a/2).

    Its axis is y, so r is that of x and z; the true shape moves the vertex from x = -5 to -7 cm.
    """
    truth = make_coefficients(1, jaw=[[0, 0.4, 0]], shape=[[1, 0, 0, 0]])
    found = geometry.measure_expression(head, truth, make_coefficients(1), batch_size=8)
    chord = 2 * np.hypot(70, 50) * np.sin(0.2)
    np.testing.assert_allclose(found.intensity, [chord / 4], rtol=1e-5)
    np.testing.assert_allclose(found.error, found.intensity, rtol=1e-6)


def test_labels_may_be_longer_than_the_head_s(head):
    """Records hold 300 and 50 whatever the head: zeros follow."""
    rng = np.random.default_rng(1)
    psi, beta = rng.normal(size=(3, E)), rng.normal(size=(3, S))
    truth = make_coefficients(3, expression=psi, shape=beta)
    padded = make_coefficients(
        3, expression=np.pad(psi, ((0, 0), (0, 40))), shape=np.pad(beta, ((0, 0), (0, 90)))
    )
    prediction = make_coefficients(3, expression=psi + 1)
    for ours, theirs in zip(
        geometry.measure_expression(head, truth, prediction, batch_size=8),
        geometry.measure_expression(head, padded, prediction, batch_size=8),
        strict=True,
    ):
        np.testing.assert_array_equal(ours, theirs)


def test_zero_prediction_has_the_intensity_as_its_error(head):
    rng = np.random.default_rng(0)
    jaw, eyelid = rng.normal(0, 0.2, (7, 3)), rng.uniform(size=(7, 2))
    psi, beta = rng.normal(size=(7, E)), rng.normal(size=(7, S))
    truth = make_coefficients(7, expression=psi, jaw=jaw, eyelid=eyelid, shape=beta)
    found = geometry.measure_expression(head, truth, make_coefficients(7), batch_size=8)
    np.testing.assert_allclose(found.error, found.intensity, rtol=1e-6)
    assert (found.predicted_intensity < 1e-4).all()


def test_truth_comes_from_training_or_evaluation_labels():
    labels = make_labels(3, has_flame=np.array([True, False, False]))
    labels["has_eval"] = np.array([True, True, False])
    labels["has_shape"] = np.array([True, False, False])
    for key in ("expression", "jaw", "eyelid", "shape"):
        labels[key] = np.full_like(labels[key], 1)
    for key in ("eval_expression", "eval_jaw", "eval_eyelid"):
        labels[key] = np.full_like(labels[key], 2)
    truth, known = geometry.true_coefficients(labels)
    np.testing.assert_array_equal(known, [True, True, False])
    for name in ("expression", "jaw", "eyelid"):
        np.testing.assert_array_equal(getattr(truth, name)[:2, 0], [1, 2])
    np.testing.assert_array_equal(truth.shape[:, 0], [1, 0, 0])


def test_calibration_recovers_a_line_and_agrees_with_scipy():
    rng = np.random.default_rng(1)
    true = rng.uniform(0, 4, 200)
    exact = geometry.calibration(true, 0.5 * true + 0.25)
    assert exact == pytest.approx(dict(slope=0.5, intercept_mm=0.25, pearson=1, spearman=1))
    noisy = np.round(0.7 * true + rng.normal(0, 1, 200), 1)  # with ties
    found = geometry.calibration(true, noisy)
    line = stats.linregress(true, noisy)
    assert found["slope"] == pytest.approx(line.slope)
    assert found["intercept_mm"] == pytest.approx(line.intercept)
    assert found["pearson"] == pytest.approx(line.rvalue)
    assert found["spearman"] == pytest.approx(stats.spearmanr(true, noisy).statistic)
    assert set(geometry.calibration(np.ones(9), noisy[:9]).values()) == {None}


def test_bins_split_at_the_edges():
    intensity = np.array([0.5, 1.0, 1.5, 2.0, 7.0])
    expression = geometry.Expression(intensity / 10, intensity, intensity / 2)
    bins = geometry.bin_scores(expression, (1.0, 2.0))
    assert [bins[name]["n"] for name in geometry.BINS] == [1, 2, 2]
    assert bins["middle"]["expression_error_mm"] == pytest.approx(0.125)
    assert bins["strong"]["zero_expression_error_mm"] == pytest.approx(4.5)
    assert bins["strong"]["predicted_intensity_mm"] == pytest.approx(2.25)
    empty = geometry.bin_scores(expression, (8.0, 9.0))["strong"]
    assert empty["n"] == 0 and empty["expression_error_mm"] is None
    assert geometry.tertiles(np.arange(1.0, 8.0)) == pytest.approx((3, 5))


def test_ordered_pairs_by_hand():
    identity = np.array([0, 0, 0, 1, 1, 0, 1])
    emotion = np.array([2, 2, 2, 2, 2, 3, -1])
    level = np.array([0, 1, 2, 0, 2, 1, 1])
    predicted = np.array([1.0, 3.0, 2.0, 5.0, 5.0, 0.0, 9.0])
    # identity 0: 0<1 right, 0<2 right, 1<2 wrong; identity 1: a tie; the others have no partner
    found = geometry.ordered_pairs(predicted, identity, emotion, level)
    assert found == {"ordered_share": 2.5 / 4, "pairs": 4}
    alone = [column[:1] for column in (predicted, identity, emotion, level)]
    assert geometry.ordered_pairs(*alone) == {"ordered_share": None, "pairs": 0}


def test_landmark_error_in_image_units_and_eye_distances(head):
    prediction = make_coefficients(3)
    output = jax.jit(flame)(head, prediction)
    labels = make_labels(3)
    for name in geometry.LANDMARK_SETS:
        flip = np.array([5, -5])
        labels[name] = np.asarray(getattr(output, name))[..., :2] * flip + np.array([0.03, 0.04])
        labels[f"has_{name}"] = np.array([True, name == "landmarks_105", False])
    labels["has_annotated_68"] = np.array([True, False, False])
    labels["landmarks_203"][:, 80:] += 1  # outside the points shared by all views
    # Landmark i is corner i % 4 of (0, 2, 4, 6), at ndc (-.25, .25), (-.25, -.25), (.25, ...)
    labels["landmarks_68"][0, 45] = labels["landmarks_68"][0, 36] + [0.3, 0.4]
    errors = geometry.landmark_errors(head, prediction, labels, batch_size=8)
    assert np.isfinite(errors["landmarks_68"]["ndc"]).tolist() == [True, False, False]
    np.testing.assert_allclose(errors["landmarks_105"]["ndc"], [0.05, 0.05, np.nan], rtol=1e-4)
    np.testing.assert_allclose(errors["landmarks_203"]["ndc"], [0.05, np.nan, np.nan], rtol=1e-4)
    # Row 0: eye corners of the 68, moved to 0.5 apart. Row 1: of the 105, points 7 and 9.
    seven, nine = labels["landmarks_105"][1, [7, 9]]
    expected = [0.1, 0.05 / np.linalg.norm(nine - seven), np.nan]
    np.testing.assert_allclose(errors["landmarks_105"]["interocular"], expected, rtol=1e-4)
