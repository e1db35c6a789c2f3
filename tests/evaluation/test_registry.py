"""The table of metrics: every fact in it once, and one entry is all that a new metric takes."""

import numpy as np
import pytest

from fields_jax.errors import UserError
from fields_jax.evaluation import registry, scoring, summary
from fields_jax.evaluation.registry import METRICS, Column, Headline, Metric, Resampled
from fields_jax.report import numbers
from fields_jax.report import runs as report_runs
from tests.support.heads import random_head
from tests.support.scored_runs import make_columns, write_run

ADDED = Metric(
    "landmarks.landmarks_68.ndc",
    "Landmarks",
    "68 points, half image widths",
    best="low",
    chance="7",
    interval=Resampled("ndc_68", np.mean, ("landmarks_68.ndc",), "has_expression"),
    shown_as="ndc 68",
    column=Column(99, "68, ndc"),
    headline=Headline(0, "Landmark error", "halves", "anything: {}"),
)


@pytest.fixture(scope="module")
def columns():
    return make_columns(np.random.default_rng(0), 96, skill=0.6, graded=False)


@pytest.fixture
def added(monkeypatch):
    monkeypatch.setattr(registry, "METRICS", (*METRICS, ADDED))
    return ADDED


def test_names_and_places_are_given_once():
    for facts in (
        [metric.path for metric in METRICS],
        [metric.name for metric in METRICS],
        [metric.interval.key for metric in METRICS if metric.interval],
        [metric.shown_as for metric in METRICS if metric.shown_as],
        [metric.column.place for metric in METRICS if metric.column],
        [metric.headline.place for metric in METRICS if metric.headline],
    ):
        assert facts and len(set(facts)) == len(facts)


def test_every_metric_is_computed_and_lies_in_its_interval(columns):
    scores = summary.summarize(columns, summary.intensity_edges([columns]), samples=200)
    graded = {"levels.ordered_share"}  # of which these columns have none
    for metric in METRICS:
        found = registry.value_at(scores, metric.path)
        assert (found is None) == (metric.path in graded), metric.path
        if metric.zero:
            assert registry.value_at(scores, metric.zero) > 0
        if metric.interval:
            low, high = scores["intervals"][metric.interval.key]
            assert low < found < high
    assert set(scores["intervals"]) == {m.interval.key for m in METRICS if m.interval}


def test_values_are_found_by_path():
    scores = {"a": {"b": {"c": 1}}, "none": None}
    assert registry.value_at(scores, "a.b.c") == 1
    assert registry.value_at(scores, "none.b.c") is None
    with pytest.raises(KeyError, match="x"):
        registry.value_at(scores, "a.x")


def test_a_metric_is_added_by_one_entry(added, tmp_path):
    head = random_head()
    workdirs = [write_run(tmp_path / str(i), i, head, skill=0.3 * i) for i in (1, 2)]
    runs = [report_runs.load_run(f"Stage {i}", path) for i, path in enumerate(workdirs, 1)]
    scores = runs[1].scores
    value = scores["landmarks"]["landmarks_68"]["ndc"]
    low, high = scores["intervals"]["ndc_68"]
    assert low < value < high

    lines = [line.split("  ") for line in scoring.table(scores).splitlines()]
    assert lines[1][-1] == "ndc 68" and lines[4][-1].strip() == f"{value:.3f}"

    *_, row = numbers.number_rows(runs)
    assert (row.group, row.name, row.reference) == (added.group, added.name, "7")
    assert row.cells[1] == numbers.Cell(f"{value:.2f}", f"{low:.2f} to {high:.2f}", best=True)
    tile = numbers.tiles(runs)[0]
    assert (tile.name, tile.value, tile.unit) == ("Landmark error", f"{value:.2f}", "halves")
    assert "anything: 7" in tile.notes
    titles, rows = numbers.source_rows(runs)
    of_a_set = scores["sources"]["synthetic/wild2d"]["landmarks"]["landmarks_68"]["ndc"]
    assert titles[-1] == "68, ndc" and rows[1][-1] == f"{of_a_set:.2f}"


def test_scores_from_before_a_metric_was_added_are_refused(tmp_path, monkeypatch):
    workdir = write_run(tmp_path / "old", 1, random_head(), skill=0.5)
    newer = ADDED._replace(path="landmarks.landmarks_68.median")
    monkeypatch.setattr(registry, "METRICS", (*METRICS, newer))
    with pytest.raises(UserError, match=r"intervals\.ndc_68 is missing; run `python -m"):
        report_runs.load_run("Stage 1", workdir)
