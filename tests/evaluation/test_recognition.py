"""Scores of recognition: scikit-learn, scipy and closed forms as oracles."""

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics

from fields_jax.emotions import EMOTIONS
from fields_jax.evaluation import affect, recognition
from fields_jax.evaluation.recognition import Answers


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def answers_of(rng, n=600, *, groups=None, folds=None):
    """Eight classes of unequal size, probabilities that are often wrong, some labels missing."""
    emotion = rng.choice(8, n, p=np.arange(8, 0, -1) / 36)
    logits = 1.5 * np.eye(8)[emotion] + rng.normal(0, 1, (n, 8))
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    label = np.where(rng.uniform(size=n) < 0.1, np.nan, rng.uniform(-1, 1, n))
    guess = np.nan_to_num(0.7 * label) + rng.normal(0.1, 0.3, n)
    return Answers(
        {"valence": (label, guess)},
        np.where(rng.uniform(size=n) < 0.1, -1, emotion),
        probabilities.argmax(1),
        probabilities,
        np.arange(n) // 10 if groups is None else groups,
        folds,
    )


def test_scores_are_those_of_scikit_learn_and_scipy(rng):
    own = answers_of(rng)
    values = recognition.score(own, samples=20)["values"]
    y, x = own.axes["valence"]
    y, x = y[np.isfinite(y)], np.clip(x[np.isfinite(y)], -1, 1)
    near = dict(abs=1e-6)
    assert values["valence.rmse"] == pytest.approx(metrics.root_mean_squared_error(y, x), **near)
    assert values["valence.mae"] == pytest.approx(metrics.mean_absolute_error(y, x), **near)
    assert values["valence.pcc"] == pytest.approx(stats.pearsonr(y, x).statistic, **near)
    spread = y.var() + x.var() + (y.mean() - x.mean()) ** 2
    assert values["valence.ccc"] == pytest.approx(
        1 - metrics.mean_squared_error(y, x) / spread, **near
    )
    assert values["valence.sagr"] == pytest.approx(np.mean(np.sign(y) == np.sign(x)), **near)
    for protocol, classes in recognition.PROTOCOLS.items():
        rows = (own.emotion >= 0) & (own.emotion < classes)
        label, guess = own.emotion[rows], own.probabilities[rows, :classes].argmax(1)
        oracle = {
            "accuracy": metrics.accuracy_score(label, guess),
            "balanced_accuracy": metrics.balanced_accuracy_score(label, guess),
            "macro_f1": metrics.f1_score(label, guess, average="macro"),
        }
        recalls = metrics.recall_score(label, guess, average=None)
        oracle |= {f"recall.{EMOTIONS[i]}": value for i, value in enumerate(recalls)}
        for name, value in oracle.items():
            assert values[f"{protocol}.{name}"] == pytest.approx(value, **near), (protocol, name)


def test_seven_classes_without_probabilities_count_contempt_as_wrong(rng):
    own = answers_of(rng)
    plain = recognition.score(
        Answers(own.axes, own.emotion, own.predicted_emotion, None, own.groups), samples=5
    )
    rows = (own.emotion >= 0) & (own.emotion < 7)
    label, guess = own.emotion[rows], own.predicted_emotion[rows]
    assert (guess == 7).any()
    f1 = metrics.f1_score(label, guess, average="macro", labels=range(7))
    assert plain["values"]["seven.macro_f1"] == pytest.approx(f1, abs=1e-9)
    assert plain["values"]["seven.accuracy"] == pytest.approx(np.mean(label == guess), abs=1e-9)
    assert plain["calibration"] == {} and "seven.ece" not in plain["values"]


def test_calibration_error_by_hand():
    confidence = np.repeat([0.95, 0.55], [40, 60])
    hit = np.r_[np.arange(40) < 30, np.arange(60) < 33]  # 75 % of the sure, 55 % of the others
    assert recognition.calibration_error(confidence, hit) == pytest.approx(0.4 * 0.2, abs=1e-12)
    assert recognition.calibration_error(np.array([0.0, 1.0]), np.array([False, True])) == 0
    bins = recognition.calibration_bins(confidence, hit)
    assert [each["n"] for each in bins] == [60, 40]
    np.testing.assert_allclose([each["accuracy"] for each in bins], [0.55, 0.75])


def test_calibration_error_with_two_classes_per_bin_loop(rng):
    confidence, hit = rng.uniform(0.125, 1, 500), rng.uniform(size=500) < 0.6
    expected = 0.0
    for low in np.arange(15) / 15:
        inside = (confidence > low) & (confidence <= low + 1 / 15)
        if inside.any():
            expected += inside.mean() * abs(hit[inside].mean() - confidence[inside].mean())
    assert recognition.calibration_error(confidence, hit) == pytest.approx(expected, abs=1e-12)


def test_intervals_are_those_of_the_bootstrap_of_affect(rng):
    own = answers_of(rng, 300)
    found = recognition.score(own, samples=60)
    known = own.emotion >= 0
    alone = affect.bootstrap(
        lambda emotion, guess: affect.hit_rate(emotion[emotion >= 0], guess[emotion >= 0]),
        own.emotion,
        own.predicted_emotion,
        groups=own.groups,
        samples=60,
    )
    np.testing.assert_allclose(found["intervals"]["eight.accuracy"], alone[:2])
    assert found["deviations"]["eight.accuracy"] == pytest.approx(alone.deviation)
    assert found["groups"] == 30 and found["labelled"]["emotion"] == known.sum()


def test_the_deviation_of_a_mean_is_its_closed_form(rng):
    """Accuracy with independent rows is binomial; with copies of rows as groups, of the groups."""
    n = 1600
    emotion = rng.integers(0, 8, n // 4).repeat(4)
    wrong = (rng.uniform(size=n // 4) < 0.3).repeat(4)
    guess = np.where(wrong, (emotion + 1) % 8, emotion)
    rate = (guess == emotion).mean()
    for groups, independent in ((np.arange(n) // 4, n // 4), (np.arange(n), n)):
        found = recognition.score(Answers({}, emotion, guess, None, groups), samples=1000)
        expected = np.sqrt(rate * (1 - rate) / independent)
        assert found["deviations"]["eight.accuracy"] == pytest.approx(expected, rel=0.1)


def test_class_means_with_uniform_errors_follow_the_closed_form(rng):
    """Balanced classes that explain 87 %: CCC = 2 q e / (1 + e), q = p - (1 - p) / 7."""
    emotion = rng.permutation(np.arange(160_000) % 8)
    means = np.linspace(-0.3, 0.3, 8)[rng.permutation(8)]
    label = means[emotion] + rng.normal(0, np.sqrt(means.var() * 0.13 / 0.87), len(emotion))
    for accuracy in (1.0, 0.8, 0.5):
        wrong = rng.uniform(size=len(emotion)) > accuracy
        guess = np.where(wrong, (emotion + rng.integers(1, 8, len(emotion))) % 8, emotion)
        own = Answers({"valence": (label, means[guess])}, emotion, guess, None, emotion)
        values = recognition.score(own, samples=1)["values"]
        kept = accuracy - (1 - accuracy) / 7
        assert values["valence.ccc"] == pytest.approx(2 * kept * 0.87 / 1.87, abs=0.01)
        assert values["eight.balanced_accuracy"] == pytest.approx(accuracy, abs=0.005)


def test_paired_differences_are_narrower_than_unpaired_ones(rng):
    own = answers_of(rng)
    worse = own.axes["valence"][1] + rng.normal(0, 0.05, len(own.emotion))
    other = Answers(
        {"valence": (own.axes["valence"][0], worse)}, own.emotion, None, None, own.groups
    )
    found = recognition.compare(own, other, samples=200)
    assert set(found["values"]) == {
        f"valence.{name}" for name in ("ccc", "pcc", "rmse", "mae", "sagr")
    }
    first, second = (recognition.score(each, samples=200) for each in (own, other))
    key = "valence.ccc"
    assert found["values"][key] == pytest.approx(first["values"][key] - second["values"][key])
    assert found["deviations"][key] < 0.5 * np.hypot(
        first["deviations"][key], second["deviations"][key]
    )
    same = recognition.compare(own, own, samples=20)
    assert set(same["values"].values()) == {0.0} and same["intervals"]["eight.ece"] == [0, 0]


def test_folds_have_means_and_sample_deviations(rng):
    folds = np.repeat(["a", "b", "c"], 200)
    own = answers_of(rng, folds=folds)
    found = recognition.score(own, samples=2)["folds"]
    rates = [
        affect.hit_rate(own.emotion[rows], own.predicted_emotion[rows])
        for rows in ((folds == name) & (own.emotion >= 0) for name in "abc")
    ]
    assert found["names"] == ["a", "b", "c"] and found["count"] == 3
    assert found["mean"]["eight.accuracy"] == pytest.approx(np.mean(rates))
    assert found["deviation"]["eight.accuracy"] == pytest.approx(np.std(rates, ddof=1))


def test_what_is_undefined_is_none_and_says_so(rng):
    label = np.array([0.1, 0.2, np.nan, np.nan])
    own = Answers(
        {"valence": (label, label + 0.1), "arousal": (label * np.nan, np.zeros(4))},
        np.array([0, 0, 1, -1]),
        np.array([0, 1, 1, 1]),
        None,
        np.arange(4),
    )
    found = recognition.score(own, samples=30)
    assert found["values"]["arousal.ccc"] is None and found["intervals"]["arousal.ccc"] is None
    assert found["values"]["eight.recall.sad"] is None
    assert found["values"]["eight.balanced_accuracy"] == 0.75
    assert found["labelled"] == {"valence": 2, "arousal": 0, "emotion": 3}
    repeats = recognition.over_repeats([{"a": 1.0, "b": None}, {"a": 3.0, "b": 1.0}])
    assert repeats["mean"] == {"a": 2.0, "b": None}
    assert repeats["deviation"] == {"a": pytest.approx(np.sqrt(2)), "b": None}
