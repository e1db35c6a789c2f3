"""Scores of emotion: identities, numbers by hand, scikit-learn as the oracle."""

import numpy as np
import pytest
from sklearn import metrics

from fields_jax.evaluation import affect


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def pair(rng):
    label = rng.uniform(-0.9, 0.9, 500)
    return label, np.clip(0.6 * label + rng.normal(0.1, 0.2, 500), -1, 1)


def test_scores_by_hand():
    label, prediction = [0.0, 0.5, -0.5, 1.0], [0.0, 0.1, 0.3, 2.0]  # 2 counts as 1
    # y: mean 1/4, variance 5/16; x: mean .35, variance .1525; cov = mean(xy) - .0875 = .1375
    assert affect.rmse(label, prediction) == pytest.approx(np.sqrt((0.16 + 0.64) / 4))
    assert affect.pcc(label, prediction) == pytest.approx(0.1375 / np.sqrt(0.3125 * 0.1525))
    assert affect.ccc(label, prediction) == pytest.approx(0.275 / (0.3125 + 0.1525 + 0.01))
    assert affect.sagr(label, prediction) == 0.75


def test_zero_sign_matches_only_zero():
    assert affect.sagr([0.0, 0.0, 0.2], [0.0, 1e-9, 0.0]) == pytest.approx(1 / 3)


def test_ccc_is_one_minus_normalised_mse(pair):
    y, x = pair
    spread = x.var() + y.var() + (x.mean() - y.mean()) ** 2
    assert affect.ccc(y, x) == pytest.approx(1 - affect.rmse(y, x) ** 2 / spread, abs=1e-12)


def test_ccc_is_pcc_times_the_bias_factor(pair):
    y, x = pair
    shift = (x.mean() - y.mean()) / np.sqrt(x.std() * y.std())
    factor = 2 / (x.std() / y.std() + y.std() / x.std() + shift**2)
    assert affect.ccc(y, x) == pytest.approx(affect.pcc(y, x) * factor, abs=1e-12)


@pytest.mark.parametrize("offset", [-0.3, -0.01, 0.01, 0.3])
def test_a_shift_lowers_ccc_and_leaves_pcc(rng, offset):
    y = rng.uniform(-0.5, 0.5, 300)
    assert affect.ccc(y, y) == pytest.approx(1)
    assert affect.ccc(y, y + offset) < 1 - 1e-5
    assert affect.pcc(y, y + offset) == pytest.approx(1)


def test_ccc_never_exceeds_pcc(rng):
    for _ in range(50):
        y = rng.uniform(-1, 1, 20)
        x = np.clip(rng.normal(rng.uniform(-1, 1), 0.5) * y + rng.normal(0, 0.5, 20), -1, 1)
        assert abs(affect.ccc(y, x)) <= abs(affect.pcc(y, x)) + 1e-12


def test_a_constant_has_no_concordance(rng):
    y = rng.uniform(-1, 1, 100)
    assert affect.ccc(y, np.full(100, y.mean())) == pytest.approx(0, abs=1e-12)
    assert affect.ccc(y, np.full(100, 0.4)) == pytest.approx(0, abs=1e-12)
    assert affect.pcc(y, np.zeros(100)) == 0
    assert affect.ccc(np.zeros(5), np.zeros(5)) == 0


def test_one_example_has_no_concordance_and_no_correlation():
    assert np.isnan(affect.ccc([0.5], [0.5])) and np.isnan(affect.pcc([0.5], [0.4]))
    scores = affect.affect_scores([0.5], [0.25])
    assert scores == {"rmse": 0.25, "pcc": None, "ccc": None, "sagr": 1.0}
    assert np.isnan(affect.bootstrap(affect.ccc, [0.5], [0.5], groups=[3], samples=9).low)


def _class_gaussians(rng, n, within):
    """Balanced classes whose means hold 1 - within of the variance."""
    means = rng.permutation(np.linspace(-1, 1, 8))
    label = rng.permutation(np.repeat(np.arange(8), n // 8))
    scale = np.sqrt(means.var() * within / (1 - within))
    value = means[label] + rng.normal(0, scale, n)
    return label, means, 0.3 * value, 0.3 * means  # scaled so that nothing is clipped


@pytest.mark.parametrize("within", [0.13, 0.15])  # AffectNet: class explains 87 and 85 %
def test_class_mean_oracle_closed_form(rng, within):
    label, _, value, means = _class_gaussians(rng, 80_000, within)
    explained = 1 - within
    assert affect.pcc(value, means[label]) == pytest.approx(np.sqrt(explained), abs=0.005)
    expected = 2 * explained / (1 + explained)
    assert affect.ccc(value, means[label]) == pytest.approx(expected, abs=0.005)
    assert expected == pytest.approx(0.929 if within == 0.13 else 0.920, abs=0.002)  # published


@pytest.mark.parametrize("accuracy", [0.8, 0.65, 0.5])
def test_class_mean_with_uniform_errors_closed_form(rng, accuracy):
    label, _, value, means = _class_gaussians(rng, 160_000, 0.13)
    wrong = rng.uniform(size=label.size) > accuracy
    guess = np.where(wrong, (label + rng.integers(1, 8, label.size)) % 8, label)
    kept = accuracy - (1 - accuracy) / 7
    expected = 2 * kept * 0.87 / (1 + 0.87)
    assert affect.ccc(value, means[guess]) == pytest.approx(expected, abs=0.01)
    assert affect.weighted_accuracy(affect.confusion(label, guess)) == pytest.approx(
        accuracy, abs=0.005
    )


def test_class_scores_agree_with_scikit_learn(rng):
    label = rng.choice(8, 400, p=np.arange(1, 9) / 36)
    guess = np.where(rng.uniform(size=400) < 0.4, rng.integers(0, 8, 400), label)
    counts = affect.confusion(label, guess)
    np.testing.assert_array_equal(counts, metrics.confusion_matrix(label, guess))
    np.testing.assert_allclose(
        affect.recall(counts), metrics.recall_score(label, guess, average=None)
    )
    assert affect.unweighted_accuracy(counts) == pytest.approx(
        metrics.balanced_accuracy_score(label, guess)
    )
    assert affect.weighted_accuracy(counts) == pytest.approx(metrics.accuracy_score(label, guess))
    assert affect.macro_f1(counts) == pytest.approx(metrics.f1_score(label, guess, average="macro"))


def test_absent_classes_are_left_out_as_in_scikit_learn():
    label, guess = np.array([0, 0, 1, 1, 3]), np.array([0, 2, 1, 1, 0])
    scores = affect.class_scores(label, guess)
    assert scores["recall"] == [0.5, 1.0, None, 0.0, None, None, None, None]
    assert scores["unweighted_accuracy"] == pytest.approx(0.5)
    assert scores["macro_f1"] == pytest.approx(metrics.f1_score(label, guess, average="macro"))
    assert np.shape(scores["confusion"]) == (8, 8)


def test_bootstrap_draws_whole_groups(rng):
    """With one value per group the spread is that of a mean of G values, not of N."""
    means = rng.normal(size=40)
    groups = np.repeat(np.arange(40), 25)
    interval = affect.bootstrap(np.mean, means[groups], groups=groups, samples=2000)
    assert interval.deviation == pytest.approx(means.std() / np.sqrt(40), rel=0.08)
    alone = affect.bootstrap(np.mean, means[groups], groups=np.arange(1000), samples=500)
    assert alone.deviation < 0.3 * interval.deviation
    assert interval.low < means.mean() < interval.high
    assert interval.high - interval.low == pytest.approx(3.92 * interval.deviation, rel=0.1)


def test_bootstrap_keeps_rows_together_and_repeats(rng):
    label = rng.uniform(-1, 1, 60)
    groups = rng.permutation(np.repeat(np.arange(6), 10))
    same = affect.bootstrap(affect.ccc, label, label, groups=groups, samples=50, seed=3)
    np.testing.assert_allclose(same, (1, 1, 0), atol=1e-12)
    guess = np.clip(label + rng.normal(0, 0.3, 60), -1, 1)
    first, second, other = (
        affect.bootstrap(affect.ccc, label, guess, groups=groups, samples=50, seed=seed)
        for seed in (3, 3, 4)
    )
    assert first == second != other


def test_mistakes_are_named():
    with pytest.raises(ValueError, match=r"1 of 2 predictions"):
        affect.ccc([0.1, 0.2], [0.1, np.nan])
    with pytest.raises(ValueError, match=r"\(2,\) and predictions \(3,\)"):
        affect.rmse([0.1, 0.2], [0.1, 0.2, 0.3])
    with pytest.raises(ValueError, match=r"label -1\.\.3 outside 0\.\.7"):
        affect.confusion([-1, 3], [0, 3])
    with pytest.raises(ValueError, match="as long as groups"):
        affect.bootstrap(np.mean, np.ones(3), groups=np.ones(2))
