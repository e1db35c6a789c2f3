"""The numbers of a report: headline tiles and tables."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import NamedTuple

from fields_jax.evaluation import registry
from fields_jax.evaluation.registry import MISSING, Metric
from fields_jax.report.runs import Run


class Rule(NamedTuple):
    """Which of several values is best: in words, and as a function that is smallest for it."""

    text: str
    cost: Callable[[float], float]


_RULES = {  # by Metric.best
    "low": Rule("lower is better", lambda value: value),
    "high": Rule("higher is better", lambda value: -value),
    "one": Rule("1 is right", lambda value: abs(value - 1)),
}


class Cell(NamedTuple):
    """A number in a table, its 95 % interval as text, and whether it is the best of its row."""

    text: str
    interval: str = ""
    best: bool = False


class Row(NamedTuple):
    """A row of the table of numbers."""

    group: str
    name: str
    best: str
    cells: list[Cell]
    reference: str


class Tile(NamedTuple):
    """One headline number."""

    name: str
    value: str
    unit: str
    notes: list[str]


def number_rows(runs: Sequence[Run]) -> list[Row]:
    """All metrics that any run has, one cell per run."""
    rows = []
    references = {metric.zero for metric in registry.METRICS}
    for metric in registry.METRICS:
        values = [read(run, metric) for run in runs]
        if metric.path in references or all(value is None for value in values):
            continue
        rule = _RULES.get(metric.best)
        best = _best(rule, values)
        cells = [
            Cell(show(value, metric.style), _interval(run, metric), index == best)
            for index, (value, run) in enumerate(zip(values, runs, strict=True))
        ]
        text = rule.text if rule else ""
        rows.append(Row(metric.group, metric.name, text, cells, _reference(runs[-1], metric)))
    return rows


def tiles(runs: Sequence[Run]) -> list[Tile]:
    """The headline numbers of the last run, beside the first run's and those of knowing nothing."""
    metrics = sorted((m for m in registry.METRICS if m.headline), key=lambda m: m.headline.place)
    made = []
    for metric in metrics:
        *before, value = (read(run, metric) for run in runs)
        if value is None:
            continue
        notes = [
            f"{run.name.lower()}: {show(old, metric.style)}"
            for run, old in zip(runs, before, strict=False)
            if old is not None
        ]
        _, title, unit, note = metric.headline
        notes.append(note.format(_reference(runs[-1], metric)))
        if interval := _interval(runs[-1], metric):
            notes.append(f"95 %: {interval}")
        made.append(Tile(title, show(value, metric.style).removesuffix(" %"), unit, notes))
    return made


def source_rows(runs: Sequence[Run]) -> tuple[list[str], list[list[str]]]:
    """Column titles and rows of text: one row for each set and run."""
    metrics = sorted((m for m in registry.METRICS if m.column), key=lambda m: m.column.place)
    titles = ["set", "run", "n", *(metric.column.title for metric in metrics)]
    rows = []
    for name, scores in runs[-1].scores["sources"].items():
        for run in runs:
            part = dataclasses.replace(run, scores=run.scores | run.scores["sources"][name])
            cells = (show(read(part, metric), metric.style) for metric in metrics)
            rows.append([name, run.name, str(scores["n"]), *cells])
    return titles, rows


def recall_rows(run: Run) -> list[tuple[str, int, str]]:
    """Per class: name, examples, recall."""
    classes = run.scores["classes"]
    counts = [sum(row) for row in classes["confusion"]]
    return [
        (name, count, show(value, "share"))
        for name, count, value in zip(
            run.scores["emotions"], counts, classes["recall"], strict=True
        )
    ]


def show(value: float | None, style: str) -> str:
    """A number as text, MISSING for None."""
    if value is None:
        return MISSING
    if style == "share":
        return f"{100 * value:.1f} %"
    return f"{round(value, 2) + 0.0:.2f}"  # + 0.0: never "-0.00"


def read(run: Run, metric: Metric) -> float | None:
    """A score of a run; None where there is none or its network was not trained."""
    if metric.network and metric.network not in run.scores["trained"]:
        return None
    return registry.value_at(run.scores, metric.path)


def _best(rule: Rule | None, values: list[float | None]) -> int | None:
    known = {index: value for index, value in enumerate(values) if value is not None}
    if rule is None or len(known) < 2:
        return None
    return min(known, key=lambda index: rule.cost(known[index]))


def _interval(run: Run, metric: Metric) -> str:
    ends = run.scores["intervals"].get(metric.interval.key) if metric.interval else None
    if ends is None or read(run, metric) is None:
        return ""
    low, high = (show(end, metric.style).removesuffix(" %") for end in ends)
    return f"{low} to {high}"


def _reference(run: Run, metric: Metric) -> str:
    """The score of predicting no expression, or of guessing."""
    if not metric.zero:
        return metric.chance
    return show(registry.value_at(run.scores, metric.zero), metric.style)
