"""Scores of recognition as files: JSON, CSV, rows of LaTeX, and a table for a terminal.

Scores are a dict: format, title, facts (name: text), notes, resampled ("subject" or "row"),
methods (name: `recognition.score`, and "seeds" where a training was repeated) and differences
("A - B": `recognition.compare`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from fields_jax.evaluation.recognition import METRICS, Metric
from fields_jax.evaluation.tables import aligned, csv_text, write_files

FORMAT = 1
SCORES, TABLE, LATEX, PAGE = (f"recognition.{end}" for end in ("json", "csv", "tex", "html"))
MISSING = "-"
_MOST_COLUMNS = 3  # of methods with intervals that fit into a terminal
_BRIEF = (
    *("valence.ccc", "valence.rmse", "arousal.ccc", "arousal.rmse"),
    *("eight.accuracy", "eight.balanced_accuracy", "eight.macro_f1", "seven.balanced_accuracy"),
)
_LATEX_SIGNS = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
_LATEX_SIGNS |= {sign: f"\\{sign}" for sign in "&%$#_{}"}


def shown_metrics(scores: Mapping[str, Any]) -> list[Metric]:
    """The scores that any method has."""
    methods = scores["methods"].values()
    return [each for each in METRICS if any(_value(own, each.key) is not None for own in methods)]


def cell(method: Mapping[str, Any], metric: Metric) -> tuple[str, str]:
    """A score as text, and what is known of its spread.

    After a repeated training that is the mean and the deviation over the seeds, "± 0.012";
    otherwise the value and its 95 % interval, "0.52 to 0.61".
    """
    value = _value(method, metric.key)
    if value is None:
        return MISSING, ""
    deviation = _deviation(method, metric.key)
    if deviation is not None:
        return show(value, metric), f"± {show(deviation, metric)}"
    ends = method["intervals"].get(metric.key)
    return show(value, metric), " to ".join(show(end, metric) for end in ends) if ends else ""


def show(value: float, metric: Metric) -> str:
    """A score in percent or with three places."""
    if metric.style == "share":
        return f"{round(100 * value, 1) + 0.0:.1f}"  # + 0.0: never "-0.0"
    return f"{round(value, 3) + 0.0:.3f}"


def table(scores: Mapping[str, Any]) -> str:
    """The scores for a terminal: a row for each score; of many methods a row for each of them."""
    methods, metrics = scores["methods"], shown_metrics(scores)
    brief = len(methods) > _MOST_COLUMNS
    rows = [["", *methods], ["examples", *(str(own["n"]) for own in methods.values())]]
    for metric in metrics:
        if brief and metric.key not in _BRIEF:
            continue
        unit = ", %" if metric.style == "share" else ""
        cells = (cell(own, metric) for own in methods.values())
        told = (value if brief else f"{value} {spread}".strip() for value, spread in cells)
        rows.append([metric.title + unit, *told])
    if brief:
        rows = [list(row) for row in zip(*rows, strict=True)]
    lines = aligned(rows)
    for name, difference in scores["differences"].items():
        lines += ["", f"{name}: " + "; ".join(_told_differences(difference, metrics))]
    return "\n".join([scores["title"], *lines, *scores["notes"]])


def write(out: str, scores: Mapping[str, Any], page: str) -> None:
    """Writes recognition.json, .csv, .tex and .html into the folder `out`, which is made.

    Raises:
      DiskError: one of them cannot be written.
    """
    files = {TABLE: csv_text(list(_rows(scores))), LATEX: latex(scores), PAGE: page}
    write_files(out, files | {SCORES: json.dumps(scores, indent=1, allow_nan=False)})


def latex(scores: Mapping[str, Any]) -> str:
    """A row of a LaTeX table for each method, after a comment that names the columns."""
    metrics = shown_metrics(scores)
    titles = (f"{each.title}{' (%)' if each.style == 'share' else ''}" for each in metrics)
    lines = [f"% {' & '.join(['method', *titles])}"]
    for name, own in scores["methods"].items():
        cells = [escape_latex(name)]
        for metric in metrics:
            value, deviation = _value(own, metric.key), _deviation(own, metric.key)
            told = "--" if value is None else f"${show(value, metric)}"
            if value is not None:
                told += f" \\pm {show(deviation, metric)}$" if deviation is not None else "$"
            cells.append(told)
        lines.append(" & ".join(cells) + r" \\")
    return "\n".join(lines) + "\n"


def _value(method: Mapping[str, Any], key: str) -> float | None:
    seeds = method.get("seeds")
    return (seeds["mean"] if seeds else method["values"]).get(key)


def _deviation(method: Mapping[str, Any], key: str) -> float | None:
    """Over seeds; None where there is one or none."""
    seeds = method.get("seeds")
    return seeds["deviation"].get(key) if seeds else None


def _rows(scores: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """One row per method and score, differences below."""
    for name, own in scores["methods"].items():
        for key in own["values"]:
            low, high = own["intervals"][key] or (None, None)
            seeds, folds = own.get("seeds"), own["folds"]
            row = {"method": name, "n": own["n"], "score": key, "value": _value(own, key)}
            row |= {"seeds": seeds["count"] if seeds else None}
            row |= {"deviation_over_seeds": _deviation(own, key)}
            row |= {"low": low, "high": high, "bootstrap_deviation": own["deviations"][key]}
            for part in ("mean", "deviation"):
                row[f"fold_{part}"] = folds[part].get(key) if folds else None
            yield row
    for name, difference in scores["differences"].items():
        for key, value in difference["values"].items():
            low, high = difference["intervals"][key] or (None, None)
            yield {
                **{"method": name, "score": key, "value": value, "low": low, "high": high},
                "bootstrap_deviation": difference["deviations"][key],
            }


def _told_differences(difference: Mapping[str, Any], metrics: list[Metric]) -> Iterator[str]:
    for metric in metrics:
        value, ends = (difference[part].get(metric.key) for part in ("values", "intervals"))
        if value is not None:
            interval = f" ({' to '.join(show(end, metric) for end in ends)})" if ends else ""
            yield f"{metric.title} {'+' if value >= 0 else ''}{show(value, metric)}{interval}"


def escape_latex(text: str) -> str:
    """Text with the signs that LaTeX takes for its own written out."""
    return re.sub(r"[\\~^&%$#_{}]", lambda sign: _LATEX_SIGNS[sign[0]], text)
