"""Scores that are undefined for some examples."""

import json

import numpy as np

from fields_jax.evaluation import scoring, summary
from fields_jax.types import FieldsOutput
from tests.support.cube import make_coefficients, make_labels


def test_unlabelled_examples_give_none(head):
    labels = make_labels(3)
    output = FieldsOutput(
        make_coefficients(3), np.zeros((3, 4, 2)), np.zeros((3, 8)), np.zeros(3), np.zeros(3)
    )
    columns = summary.columns(head, output, labels, batch_size=8)
    scores = summary.summarize(columns, summary.intensity_edges([columns]))
    for key in ("expression_error_mm", "zero_expression_error_mm", "valence_ccc", "accuracy"):
        assert scores[key] is None
    assert scores["groups"] == 3  # unknown subjects stand alone
    json.dumps(scores, allow_nan=False)


def test_scores_that_one_example_does_not_give_are_none_and_not_zero(head):
    labels = make_labels(1, has_va=np.ones(1, bool), has_emotion=np.ones(1, bool))
    labels["emotion"][:] = 0
    output = FieldsOutput(
        make_coefficients(1), np.zeros((1, 4, 2)), np.zeros((1, 8)), np.zeros(1), np.zeros(1)
    )
    columns = summary.columns(head, output, labels, batch_size=8)
    scores = summary.summarize(columns, None)
    assert scores["valence"] == {"n": 1, "rmse": 0.0, "pcc": None, "ccc": None, "sagr": 1.0}
    assert scores["valence_ccc"] is None and scores["intervals"]["valence_ccc"] is None
    assert scores["accuracy"] == 1 and scores["intervals"]["accuracy"] == [1, 1]
    json.dumps(scores, allow_nan=False)
    shown = dict(scores, stage=2, step=7, split="test", sources={"wild": scores})
    assert scoring.table(shown).splitlines()[2].split()[7:10] == ["n/a", "n/a", "1.000"]


def test_a_graded_set_is_left_out_of_recognition_with_its_neutral_faces(head):
    """Which have no level."""
    known = {"has_emotion": np.ones(3, bool), "has_va": np.ones(3, bool)}
    output = FieldsOutput(
        make_coefficients(3), np.zeros((3, 4, 2)), np.zeros((3, 8)), np.zeros(3), np.zeros(3)
    )
    parts = []
    for level in ([-1, 0, 2], [-1, -1, -1]):
        labels = make_labels(3, **known)
        labels["level"] = np.array(level)
        parts.append(summary.columns(head, output, labels, batch_size=8))
    assert summary.pool(parts)["has_emotion"].tolist() == [False] * 3 + [True] * 3
