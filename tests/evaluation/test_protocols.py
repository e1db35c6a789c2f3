"""Protocols by name: what is scored where, and that the shipped ones can be read."""

import json
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from configs import evaluate
from fields_jax.data_sets import SETS
from fields_jax.errors import UserError
from fields_jax.evaluation import protocols, scoring
from fields_jax.models.fields import NETWORKS
from fields_jax.report import protocols as page
from tests.support.cube import E, make_labels
from tests.support.perfect_model import PerfectModel

pytestmark = pytest.mark.usefixtures("unchecked")  # the model is a double
N = 40


@pytest.fixture
def score(head, monkeypatch):
    """score_protocols of a double that knows the answers; two of the sets are prepared."""
    rng = np.random.default_rng(0)
    labels = make_labels(
        N,
        eval_expression=rng.normal(size=(N, E)).astype(np.float32),
        has_eval=np.ones(N, bool),
        emotion=np.arange(N, dtype=np.int32) % 8,
        has_emotion=np.ones(N, bool),
        valence=rng.uniform(-0.9, 0.9, N).astype(np.float32),
        arousal=rng.uniform(-0.9, 0.9, N).astype(np.float32),
        has_va=np.ones(N, bool),
        subject=np.arange(N, dtype=np.int32) // 4,
    )
    labels["expression"] = labels["eval_expression"]  # which the double reads; has_flame is off
    labels["image"][:, 0, 0, 0] = np.arange(N)
    crops = []

    def evaluation_batches(data, name, split, *, image_size, batch_size):
        crops.append((name, data.eval_crop_scale))
        for start in range(0, N, batch_size):
            yield {key: value[start : start + batch_size] for key, value in labels.items()}

    pipeline = SimpleNamespace(
        is_prepared=lambda data, name: name in ("synthetic/wild2d", "faces/afew_va"),
        count_examples=lambda data, name, split: N,
        split_names=lambda data, name: ["train", "test"],
        evaluation_batches=evaluation_batches,
        compare_heads=lambda data, names, head: [],
    )
    config = ConfigDict(dict(image_size=8, head="", data=dict(root="x", eval_crop_scale=1.4)))
    config.evaluation = ConfigDict(dict(batch_size=16))
    inference = SimpleNamespace(
        config=config,
        model=PerfectModel(labels, scale=0.5),
        variables={"camera": jnp.array([5.0, 0, 0])},
        step=7,
        meta={"trained": list(NETWORKS)},
    )
    monkeypatch.setattr(scoring, "import_mixture", lambda: pipeline)
    monkeypatch.setattr(protocols, "load_inference", lambda *_, **__: inference)
    monkeypatch.setattr(protocols, "resolve_head", lambda _: head)

    def call(config, trained=NETWORKS):
        inference.meta["trained"] = list(trained)
        return protocols.score_protocols("run", config), crops

    return call


def values(scores, name):
    return {row["metric"]: row for row in scores["protocols"][name]["rows"]}


def test_every_prepared_set_is_scored_by_its_protocol(score, tmp_path):
    config = evaluate.get_config("wild2d,afew_va,raf_db")
    config.protocols.afew_va.crop = 1.6
    scores, crops = score(config)
    assert scores["not_prepared"] == ["raf_db"]
    assert sorted(crops) == [("faces/afew_va", 1.6), ("synthetic/wild2d", 1.4)]
    wild, films = (values(scores, name) for name in ("wild2d", "afew_va"))
    assert set(wild) == set(evaluate.PROTOCOLS["wild2d"]["metrics"])
    assert wild["eight.accuracy"]["value"] == wild["seven.macro_f1"]["value"] == 1
    assert wild["valence.ccc"]["interval"] == pytest.approx([1, 1])
    assert 0 < wild["expression_error_mm"]["value"] < wild["zero_expression_error_mm"]["value"]
    assert wild["valence.ccc"]["folds"] is None
    assert films["valence.ccc"]["folds"] == {
        "mean": pytest.approx(1),
        "deviation": pytest.approx(0, abs=1e-9),
    }
    html = page.render(scores)
    protocols.write(str(tmp_path), scores, html)
    told = f"crop 1.6, {N} examples of 10 groups, {scores['date']}"
    assert told in html and told in protocols.table(scores) and "://" not in html
    assert json.loads((tmp_path / "protocols.json").read_text()) == scores
    assert "afew_va,faces/afew_va,test,40,valence.ccc" in (tmp_path / "protocols.csv").read_text()


def test_a_head_that_was_not_trained_has_no_recognition(score):
    scores, _ = score(evaluate.get_config("wild2d"), trained=NETWORKS[:3])
    own = values(scores, "wild2d")
    assert own["valence.ccc"]["value"] is None and own["expression_error_mm"]["value"] > 0
    assert "n/a" in protocols.table(scores)


def test_the_shipped_protocols_name_sets_and_metrics_that_exist():
    found = protocols._read(evaluate.get_config())
    assert list(found) == sorted(evaluate.PROTOCOLS)
    for own in found.values():
        kind, _, config = own["set"].partition("/")
        assert kind in SETS and (not SETS[kind].configs or config in SETS[kind].configs)
    with pytest.raises(ValueError, match="unknown protocol 'x'; known: affectnet_8"):
        evaluate.get_config("wild2d,x")


def test_protocols_that_cannot_be_used_are_refused(score):
    with pytest.raises(UserError, match="none of the sets of raf_db is prepared below x"):
        score(evaluate.get_config("raf_db"))
    config = evaluate.get_config("wild2d")
    config.protocols.wild2d.metrics = ("valence.cc",)
    with pytest.raises(UserError, match=r"protocols\.wild2d: no metric 'valence\.cc'; known are"):
        score(config)
    config = evaluate.get_config("wild2d")
    config.protocols.wild2d.split = "none"
    with pytest.raises(UserError, match="synthetic/wild2d has no split 'none'"):
        score(config)
    del config.protocols.wild2d["crop"]
    with pytest.raises(UserError, match=r"protocols\.wild2d: 'crop' is missing or unknown"):
        score(config)
    with pytest.raises(UserError, match="the config holds no protocols"):
        score(ConfigDict({"stage": 1}))
