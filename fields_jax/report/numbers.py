"""The numbers of a report: headline tiles and tables."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

from fields_jax.report.runs import Run

MISSING = "n/a"  # no such labels, or too few for such a score
_OF_EMOTION = ("valence", "arousal", "classes")  # parts of the scores
_BETTER = {"low": "lower is better", "high": "higher is better", "one": "1 is right"}


class Metric(NamedTuple):
    """A row of the table of numbers.

    Attributes:
      group: heading it stands under.
      name: what it is.
      path: where it is in the scores, with dots.
      style: "share" (shown in percent) or "number".
      best: "low", "high" or "one": which value is the better one.
      chance: what knowing nothing gives, as text.
      zero: path of what predicting no expression gives, instead.
    """

    group: str
    name: str
    path: str
    style: str
    best: str
    chance: str = ""
    zero: str = ""


METRICS = (
    Metric("Expression", "error, mm", "expression_error_mm", "number", "low",
           zero="zero_expression_error_mm"),
    *(
        Metric("Expression", f"error of {name} examples, mm",
               f"expression.bins.{name}.expression_error_mm", "number", "low",
               zero=f"expression.bins.{name}.zero_expression_error_mm")
        for name in ("subtle", "middle", "strong")
    ),
    Metric("Expression", "intensity slope", "expression.calibration.slope", "number", "one", "0"),
    Metric("Expression", "intensity correlation", "expression.calibration.pearson", "number",
           "high", "0"),
    Metric("Expression", "intensity rank correlation", "expression.calibration.spearman",
           "number", "high", "0"),
    Metric("Expression", "graded pairs in order", "levels.ordered_share", "share", "high", "50 %"),
    *(
        Metric("Emotion", f"{axis} {score.upper()}", f"{axis}.{score}", "number", best, chance)
        for axis in ("valence", "arousal")
        for score, best, chance in (
            ("rmse", "low", ""),
            ("pcc", "high", "0"),
            ("ccc", "high", "0"),
            ("sagr", "high", ""),
        )
    ),
    Metric("Emotion", "accuracy", "classes.accuracy", "share", "high", "12.5 %"),
    Metric("Emotion", "mean recall of the classes", "classes.unweighted_accuracy", "share", "high",
           "12.5 %"),
    Metric("Emotion", "macro F1", "classes.macro_f1", "share", "high"),
    *(
        Metric("Landmarks", f"{count} points, share of inter-ocular distance",
               f"landmarks.landmarks_{count}.interocular", "share", "low")
        for count in (68, 105, 203)
    ),
)  # fmt: skip
# Keys of `intervals` by path.
_INTERVALS = {
    "expression_error_mm": "expression_error_mm",
    "valence.ccc": "valence_ccc",
    "arousal.ccc": "arousal_ccc",
    "classes.accuracy": "accuracy",
}
_SOURCE_COLUMNS = (
    ("error, mm", "expression_error_mm", "number"),
    ("no expr., mm", "zero_expression_error_mm", "number"),
    ("slope", "expression.calibration.slope", "number"),
    ("rank corr.", "expression.calibration.spearman", "number"),
    ("105 points", "landmarks.landmarks_105.interocular", "share"),
    ("V CCC", "valence.ccc", "number"),
    ("A CCC", "arousal.ccc", "number"),
    ("accuracy", "classes.accuracy", "share"),
)
_TILES = (  # name, path, unit, note about the reference
    ("Expression error", "expression_error_mm", "mm", "no expression: {}"),
    ("Intensity slope", "expression.calibration.slope", "", "faithful: 1"),
    ("Levels in order", "levels.ordered_share", "%", "chance: {}"),
    ("Class accuracy", "classes.accuracy", "%", "chance: {}"),
    ("Valence CCC", "valence.ccc", "", "a constant: {}"),
    ("Arousal CCC", "arousal.ccc", "", "a constant: {}"),
)


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
    for metric in METRICS:
        values = [read(run, metric.path) for run in runs]
        if any(value is not None for value in values):
            best = _best(metric.best, values)
            cells = [
                Cell(show(value, metric.style), _interval(run, metric), index == best)
                for index, (value, run) in enumerate(zip(values, runs, strict=True))
            ]
            better = _BETTER[metric.best]
            rows.append(Row(metric.group, metric.name, better, cells, _reference(runs[-1], metric)))
    return rows


def tiles(runs: Sequence[Run]) -> list[Tile]:
    """The headline numbers of the last run, with those of the first and of knowing nothing."""
    metrics = {metric.path: metric for metric in METRICS}
    made = []
    for title, path, unit, note in _TILES:
        metric = metrics[path]
        *before, value = (read(run, path) for run in runs)
        if value is None:
            continue
        notes = [
            f"{run.name.lower()}: {show(old, metric.style)}"
            for run, old in zip(runs, before, strict=False)
            if old is not None
        ]
        notes.append(note.format(_reference(runs[-1], metric)))
        if interval := _interval(runs[-1], metric):
            notes.append(f"95 %: {interval}")
        made.append(Tile(title, show(value, metric.style).removesuffix(" %"), unit, notes))
    return made


def source_rows(runs: Sequence[Run]) -> tuple[list[str], list[list[str]]]:
    """Column titles and rows of text: every set as every run reads it."""
    titles = ["set", "run", "n", *(title for title, _, _ in _SOURCE_COLUMNS)]
    rows = []
    for name, scores in runs[-1].scores["sources"].items():
        for run in runs:
            part = dataclasses.replace(run, scores=run.scores | run.scores["sources"][name])
            cells = (show(read(part, path), style) for _, path, style in _SOURCE_COLUMNS)
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


def read(run: Run, path: str) -> float | None:
    """The score at a dotted path; None where there is none or its network was not trained."""
    if path.split(".")[0] in _OF_EMOTION and not run.reads_emotion:
        return None
    value: Any = run.scores
    for key in path.split("."):
        if value is None:  # no such labels
            return None
        value = value[key]
    return value


def _best(rule: str, values: list[float | None]) -> int | None:
    known = {index: value for index, value in enumerate(values) if value is not None}
    if len(known) < 2:
        return None
    cost = {"low": lambda v: v, "high": lambda v: -v, "one": lambda v: abs(v - 1)}[rule]
    return min(known, key=lambda index: cost(known[index]))


def _interval(run: Run, metric: Metric) -> str:
    ends = run.scores["intervals"].get(_INTERVALS.get(metric.path))
    if ends is None or read(run, metric.path) is None:
        return ""
    low, high = (show(end, metric.style).removesuffix(" %") for end in ends)
    return f"{low} to {high}"


def _reference(run: Run, metric: Metric) -> str:
    """What predicting no expression, or nothing in particular, would score."""
    return show(read(run, metric.zero), metric.style) if metric.zero else metric.chance
