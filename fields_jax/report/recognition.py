"""The page of scores of recognition: a table of methods, differences, classes and plots."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

import numpy as np

from fields_jax import __version__, pages
from fields_jax.emotions import EMOTIONS
from fields_jax.evaluation import recognition_files
from fields_jax.evaluation.recognition import PROTOCOLS, Answers, Metric
from fields_jax.report import figures

_STYLES = {"low": "lower is better", "high": "higher is better"}


def render(scores: Mapping[str, Any], answers: Mapping[str, Answers], command: str) -> str:
    """The page as one HTML document without anything from elsewhere.

    Args:
      scores: as `recognition_files` has them.
      answers: those to draw, by method.
      command: that made them, such as "python -m fields_jax.evaluate".
    """
    metrics = recognition_files.shown_metrics(scores)
    methods = scores["methods"]
    repeated = any(own.get("seeds", {}).get("count", 1) > 1 for own in methods.values())
    return pages.render(
        "fields_jax.report",
        "recognition.html",
        title=scores["title"],
        lead=_lead(scores, repeated),
        facts=list(scores["facts"].items()),
        notes=scores["notes"],
        methods=[(name, own["n"]) for name, own in methods.items()],
        rows=[
            (
                f"{metric.title}, %" if metric.style == "share" else metric.title,
                [recognition_files.cell(own, metric) for own in methods.values()],
                [_difference(own, metric) for own in scores["differences"].values()],
                _STYLES[metric.best],
            )
            for metric in metrics
        ],
        differences=list(scores["differences"]),
        classes=EMOTIONS,
        recalls=[row for name, own in methods.items() for row in _recalls(name, own)],
        plots=[(name, _plots(name, own, methods[name])) for name, own in answers.items()],
        command=command,
        version=__version__,
        date=datetime.datetime.now(tz=datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )


def _lead(scores: Mapping[str, Any], repeated: bool) -> str:
    small = f"small: 95 % interval, resampling {scores['resampled']}s"
    if repeated:
        small = (
            "± is the sample deviation over the seeds of a training; where nothing was trained, "
            f"{small}"
        )
    return (
        "Valence and arousal on [-1, 1], scored on the whole set at once; classes with eight, and "
        f"with seven without contempt; {small}."
    )


def _difference(difference: Mapping[str, Any], metric: Metric) -> tuple[str, str, bool]:
    """As text: difference, its interval, and whether the interval leaves zero out."""
    value = difference["values"].get(metric.key)
    if value is None:
        return recognition_files.MISSING, "", False
    ends = difference["intervals"][metric.key] or ()
    shown = [recognition_files.show(each, metric) for each in (value, *ends)]
    clear = bool(ends) and (ends[0] > 0 or ends[1] < 0)
    return f"{'+' if value > 0 else ''}{shown[0]}", " to ".join(shown[1:]), clear


def _recalls(name: str, method: Mapping[str, Any]) -> list[tuple[str, str, list[tuple], str]]:
    """Per protocol: method, what deviates, recall and deviation of each class, their spread."""
    rows = []
    for protocol, count in PROTOCOLS.items():
        if protocol not in method["confusion"]:
            continue
        source, kind = _deviations(method)
        cells = []
        for emotion in EMOTIONS[:count]:
            key = f"{protocol}.recall.{emotion}"
            value = (method["seeds"]["mean"] if method.get("seeds") else method["values"])[key]
            cells.append((_percent(value), _percent(source.get(key))))
        across = method["recall_sd_across_classes"][protocol]
        rows.append((f"{name}, {count} classes", kind, cells, _percent(across)))
    return rows


def _deviations(method: Mapping[str, Any]) -> tuple[Mapping[str, float | None], str]:
    seeds, folds = method.get("seeds"), method["folds"]
    if seeds and seeds["count"] > 1:
        return seeds["deviation"], f"over {seeds['count']} seeds"
    if folds and folds["count"] > 1:
        return folds["deviation"], f"over {folds['count']} folds"
    return method["deviations"], "bootstrap"


def _percent(value: float | None) -> str:
    return recognition_files.MISSING if value is None else f"{100 * value:.1f}"


def _plots(
    name: str, answers: Answers, method: Mapping[str, Any]
) -> list[tuple[figures.Plot, str]]:
    made = []
    if "eight" in method["confusion"]:
        plot = figures.confusion_plot(method["confusion"]["eight"], EMOTIONS, name)
        made.append((plot, "Rows: label. Percent of each class; the diagonal is the recall."))
    pairs = {
        axis: (label[known], guess[known])
        for axis, (label, guess) in answers.axes.items()
        if (known := np.isfinite(label)).any()
    }
    if pairs:
        concordance = {axis: method["values"][f"{axis}.ccc"] for axis in pairs}
        plot = figures.affect_plot(pairs, concordance, name)
        made.append((plot, "Predictions clipped to [-1, 1], as they are scored."))
    if bins := method["calibration"].get("eight"):
        caption = "Dashed: perfectly calibrated. Larger dots: more examples."
        made.append((figures.reliability(bins, name), caption))
    return made
