"""Codes of encoders over sets that a stand-in pipeline serves to a model that knows the answers."""

from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from fields_jax.errors import UserError
from fields_jax.evaluation import encoder_codes, scoring
from fields_jax.models.fields import NETWORKS
from tests.support.cube import E, make_labels
from tests.support.perfect_model import PerfectModel

pytestmark = pytest.mark.usefixtures("unchecked")  # the model is a double
N, LEARNT = 60, 48


@pytest.fixture
def labels():
    rng = np.random.default_rng(0)
    made = make_labels(
        N,
        eval_expression=rng.normal(size=(N, E)).astype(np.float32),
        has_eval=np.ones(N, bool),
        emotion=np.arange(N, dtype=np.int32) % 8,
        has_emotion=np.arange(N) % 3 > 0,
        valence=rng.uniform(-0.9, 0.9, N).astype(np.float32),
        arousal=rng.uniform(-0.9, 0.9, N).astype(np.float32),
        has_va=np.arange(N) % 2 > 0,
        subject=np.arange(N, dtype=np.int32) // 4,
    )
    made["expression"] = made[
        "eval_expression"
    ]  # which the double reads; no label: has_flame is off
    made["image"][:, 0, 0, 0] = np.arange(N)
    return made


@pytest.fixture
def encode(labels, head, monkeypatch):
    """encode_sets of a double with the given trained networks."""
    rows = {"train": slice(0, LEARNT), "test": slice(LEARNT, N)}

    def evaluation_batches(config, name, split, *, image_size, batch_size):
        part = {key: value[rows[split]] for key, value in labels.items()}
        for start in range(0, len(part["id"]), batch_size):
            yield {key: value[start : start + batch_size] for key, value in part.items()}

    pipeline = SimpleNamespace(
        parse_mixture=lambda text: {text: 1.0},
        count_examples=lambda config, name, split: rows[split].stop - rows[split].start,
        split_names=lambda config, name: ["test"] if name == "half" else ["train", "test"],
        evaluation_batches=evaluation_batches,
        compare_heads=lambda config, names, head: [],
    )
    config = ConfigDict(dict(stage=2, image_size=8, head="", data=dict(mixture="made")))
    config.data.eval_crop_scale = 1.4
    config.evaluation = ConfigDict(dict(sources="", batch_size=16))

    def call(trained=NETWORKS, **choices):
        inference = SimpleNamespace(
            config=config,
            model=PerfectModel(labels),
            variables={"camera": jnp.array([5.0, 0, 0])},
            step=7,
            meta={"trained": list(trained)},
        )
        monkeypatch.setattr(encoder_codes, "load_inference", lambda *_, **__: inference)
        return encoder_codes.encode_sets("run", **choices)

    monkeypatch.setattr(scoring, "import_mixture", lambda: pipeline)
    monkeypatch.setattr(encoder_codes, "resolve_head", lambda _: head)
    return call


def test_a_model_that_knows_reads_the_true_codes(encode, labels):
    found = encode()
    for own in (found.network, found.true):
        np.testing.assert_allclose(own.parts["expression"], labels["eval_expression"], atol=1e-6)
        np.testing.assert_array_equal(own.emotion >= 0, labels["has_emotion"])
        np.testing.assert_array_equal(np.isfinite(own.affect[:, 0]), labels["has_va"])
        np.testing.assert_array_equal(own.rows("test"), np.arange(N) >= LEARNT)
    assert list(found.network.inputs()) == ["expression+jaw", "shape", "shape+expression+jaw"]
    assert list(found.true.inputs()) == ["expression+jaw"]  # the set knows no identity
    assert found.network.by == "subject" and len(set(found.network.groups)) == N // 4
    assert not set(found.network.groups[found.network.rows("validation")]) & set(
        found.network.groups[found.network.rows("train")]
    )


def test_the_models_own_head_is_scored_on_the_test_split(encode, labels):
    answers = encode().head
    assert len(answers.emotion) == N - LEARNT
    np.testing.assert_array_equal(answers.predicted_emotion, labels["emotion"][LEARNT:])
    np.testing.assert_allclose(answers.axes["arousal"][1], labels["arousal"][LEARNT:], atol=1e-6)
    assert encode(trained=NETWORKS[:3]).head is None


def test_unknown_truth_and_sets_that_cannot_be_probed(encode, labels):
    labels["has_eval"][3] = False
    assert encode().true is None
    with pytest.raises(UserError, match="half has no split 'train', which a probe needs"):
        encode(sources="half")
    labels["subject"][LEARNT:] = 0
    with pytest.raises(UserError, match="subject 'made/0' is in more than one split"):
        encode(sources="made")
    labels["subject"][:] = -1
    assert encode(sources="made").network.by == "row"
    labels["has_emotion"][:] = labels["has_va"][:] = False
    with pytest.raises(UserError, match="no example has a label of emotion"):
        encode()
