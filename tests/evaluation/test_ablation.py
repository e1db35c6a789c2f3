"""Scores of an ablation: closed forms of its bootstrap over subjects and seeds, and files."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest

from fields_jax.errors import UserError
from fields_jax.evaluation import ablation, ablation_files, affect, geometry
from tests.support.ablation_runs import SKILLS, write_ablation_run

N, EDGES = 90, (0.5, 1.5)
GROUPS = np.arange(N) // 6


def faces(error, predicted=None, *, reads=True, seed=0):
    """The table of a run with these errors; everything else is the same for all."""
    rng = np.random.default_rng(seed)
    intensity = rng.gamma(2, 0.6, N)
    emotion, axes = rng.integers(0, 8, N), rng.uniform(-1, 1, (4, N))
    arrays = {
        "group": GROUPS,
        "source": np.zeros(N, int),
        "emotion": emotion,
        "predicted_emotion": np.where(rng.random(N) < 0.5, emotion, 0),
        "has_emotion": np.arange(N) % 2 == 0,
        **dict(
            zip(("valence", "arousal", "predicted_valence", "predicted_arousal"), axes, strict=True)
        ),
        "has_va": np.arange(N) % 3 == 0,
        "intensity": intensity,
        "predicted_intensity": intensity if predicted is None else predicted,
        "error": np.asarray(error, float),
        "has_expression": np.arange(N) % 5 > 0,
        "landmarks_105.interocular": np.where(np.arange(N) % 7 > 0, 0.05, np.nan),
        "example_id": np.arange(3),
    }
    return {"faces": ablation.faces_table(arrays, EDGES, reads)}


def test_a_difference_of_means_is_the_bootstrap_of_paired_differences():
    one, other = np.random.default_rng(1).gamma(2, 1, (2, N))
    arms = {"full": {0: faces(one)}, "less": {0: faces(other)}}
    scores = ablation.score_arms(arms, "full", samples=200)
    known = np.arange(N) % 5 > 0
    found = scores["differences"]["less"]["error"]
    expected = affect.bootstrap(np.mean, (other - one)[known], groups=GROUPS[known], samples=200)
    np.testing.assert_allclose(found["interval"], expected[:2], rtol=1e-9)
    assert found["value"] == pytest.approx((other - one)[known].mean())
    own = scores["arms"]["less"]["scores"]["error"]
    assert own["value"] == pytest.approx(other[known].mean()) and own["deviation"] is None


def test_the_same_arm_differs_by_exactly_nothing():
    one = np.random.default_rng(1).gamma(2, 1, N)
    arms = {"full": {0: faces(one), 1: faces(2 * one)}, "same": {0: faces(one), 1: faces(2 * one)}}
    scores = ablation.score_arms(arms, "full", samples=50)
    for score in filter(None, scores["differences"]["same"].values()):
        assert score["value"] == 0 and score["interval"] == [0, 0]
    assert scores["arms"]["same"]["scores"]["error"]["interval"][0] > 0


def test_seeds_are_resampled_by_their_own():
    """Where subjects tell nothing, the spread is that of a mean of three offsets, drawn anew."""
    offsets = (0.1, 0.4, 1.0)
    base = np.ones(N)
    arms = {
        "full": {seed: {"faces": _only_error(base)} for seed in range(3)},
        "less": {
            seed: {"faces": _only_error(base + offset)} for seed, offset in enumerate(offsets)
        },
    }
    scores = ablation.score_arms(arms, "full", samples=4000)
    found = scores["differences"]["less"]["error"]
    assert found["value"] == pytest.approx(0.5)
    assert found["by_seed"] == pytest.approx({"0": 0.1, "1": 0.4, "2": 1.0})
    # All 27 sets are equally likely; 1/27 of them is below the low end and as many above the high.
    draws = [np.mean(three) for three in np.stack(np.meshgrid(*[offsets] * 3), -1).reshape(27, 3)]
    assert found["interval"] == pytest.approx(
        np.quantile(draws, (0.025, 0.975), method="inverted_cdf")
    )
    assert scores["arms"]["less"]["scores"]["error"]["deviation"] == pytest.approx(
        np.std(offsets, ddof=1)
    )


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    """Subjects and seeds both vary. With six seeds the interval is a little too narrow."""
    rng, covered, trials = np.random.default_rng(0), 0, 60
    for _ in range(trials):
        arms = {"full": {}, "less": {}}
        shared = rng.normal(size=N // 6)[GROUPS]
        harder = 0.3 * rng.normal(size=N // 6)[GROUPS]
        for seed in range(6):
            arms["full"][seed] = {"faces": _only_error(shared + 0.1 * rng.normal())}
            arms["less"][seed] = {"faces": _only_error(shared + harder + 1 + 0.1 * rng.normal())}
        found = ablation.score_arms(arms, "full", samples=200)["differences"]["less"]["error"]
        low, high = found["interval"]
        covered += low < 1 < high
    assert 0.82 * trials <= covered <= trials


def _only_error(error):
    return {"group": GROUPS, "error": error, "has_expression": np.ones(N, bool)}


def test_only_seeds_that_both_have_are_compared():
    one = np.ones(N)
    arms = {"full": {0: faces(one), 1: faces(one)}, "less": {1: faces(3 * one), 2: faces(9 * one)}}
    scores = ablation.score_arms(arms, "full", samples=20)
    assert scores["differences"]["less"]["error"]["by_seed"] == {"1": 2.0}
    apart = ablation.score_arms(
        {"full": {0: faces(one)}, "less": {1: faces(one)}}, "full", samples=9
    )
    assert apart["differences"]["less"]["error"] is None
    alone = ablation.score_arms({"less": {1: faces(one)}}, "full", samples=9)
    assert alone["differences"]["less"]["error"] is None


def test_each_score_is_that_of_evaluation():
    rng = np.random.default_rng(4)
    error, predicted = rng.gamma(2, 1, N), rng.gamma(2, 1, N)
    run = faces(error, predicted)
    table = run["faces"]
    own = ablation.score_arms({"full": {0: run}}, "full", samples=9)["arms"]["full"]["scores"]
    known = table["has_expression"]
    truth = geometry.calibration(table["intensity"][known], predicted[known])
    assert own["slope"]["value"] == pytest.approx(truth["slope"])
    assert own["rank"]["value"] == pytest.approx(truth["spearman"])
    bins = geometry.bin_scores(
        geometry.Expression(error[known], table["intensity"][known], predicted[known]), EDGES
    )
    for name in geometry.BINS:
        assert own[f"error.{name}"]["value"] == pytest.approx(bins[name]["expression_error_mm"])
    rows = table["has_va"]
    ccc = affect.ccc(table["arousal"][rows], table["predicted_arousal"][rows])
    assert own["faces.arousal.ccc"]["value"] == pytest.approx(ccc)
    assert own["landmarks"]["value"] == pytest.approx(0.05)
    assert own["probe.accuracy"] is None and own["photographs.mouth_width"] is None


def test_a_head_that_nothing_taught_has_no_scores():
    arms = {"full": {0: faces(np.ones(N))}, "less": {0: faces(np.ones(N), reads=False)}}
    scores = ablation.score_arms(arms, "full", samples=9)
    assert scores["arms"]["full"]["scores"]["faces.accuracy"] is not None
    assert scores["arms"]["less"]["scores"]["faces.accuracy"] is None
    assert scores["differences"]["less"]["faces.accuracy"] is None
    assert scores["differences"]["less"]["error"] is not None


def test_runs_of_other_examples_are_refused():
    runs = {"full-0": faces(np.ones(N)), "less-0": faces(np.ones(N), seed=1)}
    with pytest.raises(UserError, match="full-0 and less-0 were scored on other examples"):
        ablation.check_alike(runs)
    ablation.check_alike({"full-0": runs["full-0"], "full-1": faces(2 * np.ones(N))})


def test_a_curve_of_half_the_truth_has_half_its_height():
    half = faces(np.ones(N))["faces"]
    half["predicted_intensity"] = half["intensity"] / 2
    curve = ablation.calibration_curve([half, half])
    assert len(curve) == ablation.CURVE_BINS
    true = [point["true_mm"] for point in curve]
    assert true == sorted(true) and true[0] < true[-1]
    assert [point["predicted_mm"] for point in curve] == pytest.approx(np.array(true) / 2)
    half["has_expression"] = np.zeros(N, bool)
    assert ablation.calibration_curve([half, half]) == []


@pytest.fixture(scope="module")
def stored(tmp_path_factory, tiny_head):
    folder = tmp_path_factory.mktemp("ablation")
    found = {}
    for arm in SKILLS:
        for seed in (0, 1):
            here = write_ablation_run(
                folder / f"{arm}-{seed}", arm, seed, tiny_head, photographs=True
            )
            parts = (str(here / part) for part in ("train", "probe", "photographs"))
            found.setdefault(arm, {})[seed] = ablation_files.read_run(*parts)
    return found


def with_words(computed):
    words = dict(format=1, title="T & T", says={}, facts={}, notes=["be careful"], failed={})
    return words | {"edges_mm": [0.5, 1.5]} | computed


def test_stored_runs_are_scored_the_same_each_time_and_written(stored, tmp_path):
    scores, again = (
        with_words(ablation_files.score_runs(stored, "full", samples=60)) for _ in range(2)
    )
    assert json.dumps(scores) == json.dumps(again)
    assert "faces.accuracy" not in {  # made of stage 1, whose head was not trained
        key for key, score in scores["differences"]["no_emo"].items() if score
    }
    for measure in ("error", "probe.accuracy", "photographs.brow_height"):
        low, high = scores["differences"]["no_gt"][measure]["interval"]
        assert low > 0 if measure == "error" else high < 0.2
    ablation_files.write(str(tmp_path), scores, "<html></html>")
    written = (tmp_path / "ablation.json", tmp_path / "ablation.csv", tmp_path / "ablation.tex")
    assert json.loads(written[0].read_text()) == scores
    with written[1].open() as file:
        rows = {(row["arm"], row["score"]): row for row in csv.DictReader(file)}
    row, difference = rows["no_gt", "error"], scores["differences"]["no_gt"]["error"]
    assert float(row["difference"]) == difference["value"]
    assert [float(row[f"difference_{end}"]) for end in ("low", "high")] == difference["interval"]
    assert rows["full", "error"]["difference"] == "" and row["seeds"] == "2"
    lines = written[2].read_text().splitlines()
    assert len({line.count("&") for line in lines if not line.startswith("% full")}) == 1
    assert lines[3].startswith(r"no\_gt & $\mathbf{+")
    told = ablation_files.table(scores)
    assert "no_gt" in told.splitlines()[1] and "*" in told and "be careful" in told


def test_what_a_difference_says_of_an_arm():
    """Worse or better by the sign that is good; not where the interval rounds to zero."""

    def verdict(key, value, interval, full=0.8):
        score = {"value": value, "interval": interval}
        measure = next(each for each in ablation.MEASURED if each.key == key)
        arms = {"full": {"scores": {key: {"value": full}}}}
        scores = {"full": "full", "arms": arms, "differences": {"less": {key: score}}}
        return ablation_files.told_difference(scores, "less", measure)[2]

    assert verdict("error", 0.2, [0.1, 0.3]) == "worse"
    assert verdict("error", -0.2, [-0.3, -0.1]) == "better"
    assert verdict("rank", 0.2, [0.1, 0.3]) == "better"
    assert verdict("error", 0.2, [-0.1, 0.3]) == verdict("error", 0.2, None) == ""
    assert verdict("error", 0.1, [0.0001, 0.3]) == ""
    assert verdict("slope", 0.1, [0.05, 0.15]) == "better"  # 0.9 is nearer to 1
    assert verdict("slope", 0.5, [0.4, 0.6]) == "worse"  # 1.3 is further away
    assert verdict("landmarks", 0.0004, [0.0001, 0.0004]) == ""  # 0.0 %


def test_without_a_finished_run_there_is_nothing_to_score():
    with pytest.raises(UserError, match="no run of the ablation is finished"):
        ablation_files.score_runs({}, "full")
