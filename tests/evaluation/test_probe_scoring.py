"""Probes beside their references: closed forms, and that all files tell the same."""

import dataclasses
import json

import numpy as np
import pytest

from fields_jax.errors import UserError
from fields_jax.evaluation import codes, prediction_scoring, probe_scoring, recognition_files
from fields_jax.evaluation.codes import Codes
from fields_jax.evaluation.probe import Recipe
from fields_jax.report import recognition as page

RECIPE = Recipe(width=32, depth=2, rate=3e-3, batch=32, epochs=8)


def make_codes(n=640):
    rng = np.random.default_rng(0)
    emotion = (np.arange(n) % 8).astype(np.int32)
    means = np.linspace(-0.6, 0.6, 8)
    affect = np.stack([means[emotion], means[::-1][emotion]], 1) + rng.normal(0, 0.1, (n, 2))
    affect[::9, 1] = np.nan
    parts = {
        "shape": rng.normal(size=(n, 4)),
        "expression": 3 * np.eye(8)[emotion] + rng.normal(size=(n, 8)),
        "jaw": rng.normal(size=(n, 3)),
    }
    groups = np.array([f"s{index // 8}" for index in range(n)])
    return Codes(
        {name: values.astype(np.float32) for name, values in parts.items()},
        np.array([f"face {index}" for index in range(n)]),
        emotion,
        np.clip(affect, -1, 1).astype(np.float32),
        groups,
        "subject",
        codes.assign_splits("made", groups, None),
    )


@pytest.fixture(scope="module")
def probed():
    own = make_codes()
    head = codes.answers_of(own, np.full((640, 8), 0.125), np.zeros((640, 2)))
    inputs = ["expression+jaw", "shape"]
    plan = probe_scoring.Plan({"net": own}, head, inputs, RECIPE, 2, {"Set": "made"}, samples=50)
    return plan, *probe_scoring.probe(plan)


def test_the_references_follow_their_closed_forms(probed):
    plan, scores, _ = probed
    own = plan.codes["net"]
    constant = scores["methods"]["constant"]["values"]
    assert constant["valence.ccc"] == pytest.approx(0, abs=1e-12)
    label = own.affect[own.rows("test"), 0].astype(np.float64)
    mean = own.affect[own.rows("train"), 0].mean(dtype=np.float64)
    assert constant["valence.rmse"] == pytest.approx(np.sqrt(np.mean((label - mean) ** 2)))
    assert constant["eight.balanced_accuracy"] == 1 / 8
    oracle = scores["methods"]["class mean (oracle)"]
    emotion = own.emotion[own.rows("test")]
    within = np.mean([label[emotion == each].var() for each in range(8)])
    share = 1 - within / label.var()  # between classes, which are equally large
    assert oracle["values"]["valence.pcc"] == pytest.approx(np.sqrt(share), abs=1e-6)
    assert oracle["values"]["valence.ccc"] == pytest.approx(2 * share / (1 + share), abs=1e-6)
    assert "eight.accuracy" not in oracle["values"] and not oracle["confusion"]
    assert scores["methods"]["own emotion head"]["values"]["valence.rmse"] == pytest.approx(
        np.sqrt(np.mean(label**2))
    )


def test_probes_find_what_their_input_holds(probed):
    _, scores, _ = probed
    seeds = {
        name: scores["methods"][f"net: {name}"]["seeds"] for name in ("expression+jaw", "shape")
    }
    assert seeds["expression+jaw"]["mean"]["eight.accuracy"] > 0.8
    assert seeds["shape"]["mean"]["eight.accuracy"] < 0.3
    assert {each["count"] for each in seeds.values()} == {2}
    assert seeds["expression+jaw"]["deviation"]["valence.ccc"] > 0
    told = scores["training"]["net: shape"]
    assert [each["seed"] for each in told] == [0, 1] and told[0]["best_step"] <= told[0]["steps"]
    json.dumps(scores, allow_nan=False)
    assert any("not EMOCA's" in note for note in scores["notes"])


def test_written_predictions_score_as_the_probe_did(probed, tmp_path):
    plan, scores, answers = probed
    html = page.render(scores, {"net: shape": answers["net: shape"]}, "a command")
    recognition_files.write(str(tmp_path), scores, html)
    probe_scoring.write_details(str(tmp_path), plan, answers)
    names = {file.stem for file in (tmp_path / "predictions").iterdir()}
    assert names == {
        *("constant", "class-mean-oracle", "own-emotion-head"),
        *("net-expression+jaw", "net-shape"),
    }
    found, _ = prediction_scoring.score_files(
        str(tmp_path / "predictions/net-expression+jaw.csv"), samples=50
    )
    method = found["methods"]["net-expression+jaw"]
    wanted = scores["methods"]["net: expression+jaw"]
    assert method["values"] == pytest.approx(wanted["values"], abs=1e-9)
    assert method["confusion"] == wanted["confusion"]
    again = codes.read_codes(str(tmp_path / "codes" / "net.npz"))
    np.testing.assert_array_equal(again.split, plan.codes["net"].split)
    value = wanted["seeds"]["mean"]["valence.ccc"]
    deviation = wanted["seeds"]["deviation"]["valence.ccc"]
    assert rf"${value:.3f} \pm {deviation:.3f}$" in (tmp_path / "recognition.tex").read_text()
    assert f"± {deviation:.3f}" in html and "over 2 seeds" in html and "://" not in html
    assert "own emotion head" in recognition_files.table(scores)


def test_rows_without_subjects_are_not_written_as_subjects(probed, tmp_path):
    plan, _, answers = probed
    nameless = dataclasses.replace(plan.codes["net"], groups=np.arange(640), by="row")
    plan = dataclasses.replace(plan, codes={"net": nameless})
    probe_scoring.write_details(str(tmp_path), plan, answers)
    assert codes.read_codes(str(tmp_path / "codes" / "net.npz")).by == "row"
    found, _ = prediction_scoring.score_files(
        str(tmp_path / "predictions" / "constant.csv"), samples=5
    )
    assert any("No column subject" in note for note in found["notes"])


def test_only_what_was_predicted_is_drawn(probed):
    _, _, answers = probed
    left = {"own emotion head", "net: expression+jaw", "net: shape"}
    assert set(probe_scoring.drawn(answers)) == left


def test_an_input_that_no_codes_have_is_a_mistake(probed):
    plan, _, _ = probed
    bare = probe_scoring.Plan(plan.codes, None, ["codes"], RECIPE, 1, {})
    with pytest.raises(UserError, match="no codes have all parts of codes"):
        probe_scoring.probe(bare)
