"""A model scored by named protocols, see configs/evaluate.py: one table for each."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from fields_jax.errors import UserError
from fields_jax.evaluation import recognition, registry, scoring, summary
from fields_jax.evaluation.predict import predict_set
from fields_jax.evaluation.recognition import Answers
from fields_jax.evaluation.tables import NO_CLASS, csv_text, write_files
from fields_jax.flame.io import resolve_head
from fields_jax.models.fields import predict
from fields_jax.progress import progress
from fields_jax.types import FlameModel
from fields_jax.workdir.inference import Inference, check_encoders, check_head, load_inference

FORMAT = 1
SCORES, TABLE, PAGE = (f"protocols.{end}" for end in ("json", "csv", "html"))
_SEED = 0  # of the folds


class Shown(NamedTuple):
    """A metric of a protocol as a table shows it."""

    title: str
    style: str
    interval: str  # key of its interval in a summary; "" for scores of recognition


_SHOWN = {metric.key: Shown(metric.title, metric.style, "") for metric in recognition.METRICS}
_SHOWN |= {
    metric.path: Shown(
        metric.name, metric.style, metric.interval.key if metric.interval else metric.path
    )
    for metric in registry.METRICS
    if metric.path not in _SHOWN and metric.network != registry.PAINTER  # pictures stay unread
}


def score_protocols(
    workdir: str, config: ConfigDict, *, data_root: str = "", head: str = "", ema: bool = False
) -> dict[str, Any]:
    """Scores a model by every protocol whose set is prepared.

    Args:
      workdir: of a training run or a converted checkpoint, or "embedded".
      config: of configs/evaluate.py.
      data_root: folder of the sets; empty: that of the run's config.
      head: path of a head; empty: that of the run's config.
      ema: score the mean of the parameters (config.ema).

    Returns:
      Ready for JSON: workdir, step, head, date, not_prepared (names), and protocols by name: title,
      set, split, labels, crop, n, groups, and rows (metric, title, style, value, interval, folds).

    Raises:
      UserError: no such model, another head, no prepared set, or a protocol that cannot be read.
    """
    protocols = _read(config)
    inference = load_inference(workdir, ema=ema)
    check_encoders(inference, workdir)
    if data_root:
        inference.config.data.root = data_root
    chosen = resolve_head(head or inference.config.head)
    check_head(inference.meta, chosen)
    mixture = scoring.import_mixture()
    data = inference.config.data
    ready = {name: own for name, own in protocols.items() if mixture.is_prepared(data, own["set"])}
    if not ready:
        raise UserError(
            f"none of the sets of {', '.join(protocols)} is prepared below {data.root}; name "
            "another --data_root, or make one with `python -m data_pipelines.prepare`"
        )
    for name, own in ready.items():
        if own["split"] not in mixture.split_names(data, own["set"]):
            raise UserError(
                f"{own['set']} has no split {own['split']!r}; name another by "
                f"--config.protocols.{name}.split"
            )
    return {
        "format": FORMAT,
        "workdir": str(workdir),
        "step": inference.step,
        "head": f"{chosen.name} {chosen.version}, {chosen.sha256[:12]}",
        "date": datetime.datetime.now(tz=datetime.UTC).strftime("%Y-%m-%d"),
        "not_prepared": [name for name in protocols if name not in ready],
        "protocols": {name: _score(inference, chosen, mixture, own) for name, own in ready.items()},
    }


def title(protocol: Mapping[str, Any], date: str) -> str:
    """What a reader must know of a table: set, split, labels, crop, count and date."""
    resampled = f"{protocol['n']} examples of {protocol['groups']} groups"
    return (
        f"{protocol['title']}: {protocol['set']}, {protocol['split']} split, {protocol['labels']}, "
        f"crop {protocol['crop']:g}, {resampled}, {date}"
    )


def cells(row: Mapping[str, Any]) -> tuple[str, str, str, str]:
    """Title, value, 95 % interval, and mean and deviation over folds, as text."""
    share = row["style"] == "share"

    def show(value: float | None) -> str:
        if value is None:
            return registry.MISSING
        digits, value = (1, 100 * value) if share else (3, value)
        return f"{round(value, digits) + 0.0:.{digits}f}"

    interval = " to ".join(map(show, row["interval"])) if row["interval"] else ""
    folds = row["folds"]
    over = f"{show(folds['mean'])} ± {show(folds['deviation'])}" if folds else ""
    return row["title"] + (", %" if share else ""), show(row["value"]), interval, over


def table(scores: Mapping[str, Any]) -> str:
    """All tables for a terminal."""
    lines = []
    for own in scores["protocols"].values():
        lines.append(title(own, scores["date"]))
        for row in own["rows"]:
            name, value, interval, over = cells(row)
            told = f"  {name:<44}{value:>8}  {interval}"
            lines.append((f"{told}  folds: {over}" if over else told).rstrip())
        lines.append("")
    if scores["not_prepared"]:
        lines.append(f"not prepared: {', '.join(scores['not_prepared'])}")
    return "\n".join(lines)


def write(out: str, scores: Mapping[str, Any], page: str) -> None:
    """Writes protocols.json, .csv and .html into the folder `out`, which is made.

    Raises:
      DiskError: one of them cannot be written.
    """
    rows = []
    for name, own in scores["protocols"].items():
        for row in own["rows"]:
            low, high = row["interval"] or (None, None)
            told = {key: own[key] for key in ("set", "split", "n")}
            told |= {"metric": row["metric"], "value": row["value"], "low": low, "high": high}
            folds = {
                f"fold_{part}": (row["folds"] or {}).get(part) for part in ("mean", "deviation")
            }
            rows.append({"protocol": name} | told | folds)
    files = {TABLE: csv_text(rows), PAGE: page}
    write_files(out, files | {SCORES: json.dumps(scores, indent=1, allow_nan=False)})


def _read(config: ConfigDict) -> dict[str, dict[str, Any]]:
    found = config.get("protocols")
    if not isinstance(found, ConfigDict) or not len(found):
        raise UserError("the config holds no protocols: name configs/evaluate.py by --config")
    protocols = found.to_dict()
    wanted = {"title", "set", "split", "labels", "crop", "folds", "metrics"}
    for name, own in protocols.items():
        if set(own) != wanted:
            wrong = sorted(set(own) ^ wanted)[0]
            raise UserError(f"protocols.{name}: {wrong!r} is missing or unknown")
        for metric in own["metrics"]:
            if metric not in _SHOWN:
                raise UserError(
                    f"protocols.{name}: no metric {metric!r}; known are {', '.join(_SHOWN)}"
                )
    return protocols


def _score(
    inference: Inference, head: FlameModel, mixture: Any, protocol: Mapping[str, Any]
) -> dict[str, Any]:
    """The scores of one protocol."""
    config = inference.config
    data, size, name, split = (
        config.data.copy_and_resolve_references(),
        config.evaluation.batch_size,
        protocol["set"],
        protocol["split"],
    )
    crop = data.eval_crop_scale = protocol["crop"] or data.eval_crop_scale
    for warning in mixture.compare_heads(data, [name], head):
        print(f"warning: {warning}")
    batches = mixture.evaluation_batches(
        data, name, split, image_size=config.image_size, batch_size=size
    )
    total = -(-mixture.count_examples(data, name, split) // size)
    networks = partial(predict, inference.model, inference.variables)
    output, labels = predict_set(
        networks, progress(batches, total, "batches", of=f"{name}, {split}"), size
    )
    columns = summary.columns(head, output, labels, batch_size=size)
    means = summary.summarize(columns, summary.intensity_edges([columns]))
    reads = "emotion_head" in inference.meta["trained"]
    method = recognition.score(_answers(columns, output.logits, protocol["folds"])) if reads else {}
    rows = [_row(metric, method, means) for metric in protocol["metrics"]]
    kept = {key: protocol[key] for key in ("title", "set", "split", "labels")}
    return kept | {"crop": crop, "n": means["n"], "groups": means["groups"], "rows": rows}


def _answers(columns: summary.Columns, logits: np.ndarray, folds: int) -> Answers:
    """What the model's own head says, beside the labels."""
    scaled = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    groups = columns["group"]
    order = np.random.default_rng(_SEED).permutation(groups.max() + 1)
    return Answers(
        {
            axis: (
                np.where(columns["has_va"], columns[axis], np.nan).astype(np.float64),
                columns[f"predicted_{axis}"].astype(np.float64),
            )
            for axis in recognition.AXES
        },
        np.where(columns["has_emotion"], columns["emotion"], NO_CLASS).astype(np.int64),
        columns["predicted_emotion"],
        scaled / scaled.sum(axis=1, keepdims=True),
        groups,
        order[groups] % folds if folds else None,
    )


def _row(metric: str, method: Mapping[str, Any], means: Mapping[str, Any]) -> dict[str, Any]:
    shown = _SHOWN[metric]
    row = {"metric": metric, "title": shown.title, "style": shown.style}
    if shown.interval:
        value, interval = registry.value_at(means, metric), means["intervals"].get(shown.interval)
        return row | {"value": value, "interval": interval, "folds": None}
    if not method:
        return row | {"value": None, "interval": None, "folds": None}
    folds = method["folds"] and {
        part: method["folds"][part].get(metric) for part in ("mean", "deviation")
    }
    value, interval = (method[part].get(metric) for part in ("values", "intervals"))
    return row | {"value": value, "interval": interval, "folds": folds}
