"""The reports of `prepare` on a set: lines, a page, JSON, a table of rejects."""

from __future__ import annotations

import base64
import io
import json
import re
import sys
from collections import Counter
from collections.abc import Mapping
from typing import Any

import matplotlib.figure
import numpy as np
import tensorflow_datasets as tfds
from absl import logging
from markupsafe import Markup
from PIL import Image

from data_pipelines.building.sharded_builder import ShardedBuilder
from data_pipelines.building.summary import INTENSITY_BINS, Summary
from data_pipelines.heads import METADATA
from fields_jax import batch, pages
from fields_jax.emotions import EMOTIONS
from fields_jax.errors import UserError, printable, quoted
from fields_jax.files import read_json, write_whole
from fields_jax.render.draw import GREEN, draw_points

JSON, HTML, REJECTS = "prepare_report.json", "prepare_report.html", "prepare_rejects.tsv"
_SAMPLES = 32
_COLORS = {"landmarks_68": (255, 255, 0), "landmarks_105": GREEN, "landmarks_203": (0, 200, 255)}
_TILE = 128  # pixels of a sample crop on the page


def say(summaries: dict[str, Summary], named: int) -> None:
    """Counts on stderr, the first few rejects of each reason in the log."""
    for split, summary in summaries.items():
        counts: dict[str, int] = {}
        for reason, detail in summary.rejects:
            counts[reason] = counts.get(reason, 0) + 1
            if counts[reason] <= named:
                logging.warning("Kept out: %s (%s)", printable(detail), reason)
        left = sum(counts.values())
        text = "; ".join(f"{reason}: {count}" for reason, count in summary.reasons().items())
        line = f"{split}: {summary.examples} kept, {left} left out" + (f" ({text})" if text else "")
        if summary.residuals or summary.unlabelled:
            line += f"; {len(summary.residuals)} labelled by the landmark fit"
            line += f" (median residual {summary.median_residual})" if summary.residuals else ""
            line += f", {len(summary.unlabelled)} kept without its labels"
        for name, error in summary.errors_mm().items():
            line += f"; {name} off by {error['mean']:.2f} mm ({error['p95']:.2f} at 95 %)"
        print(line, file=sys.stderr, flush=True)


def check_options(builder: ShardedBuilder) -> None:
    """Refuses a set that was made with other options.

    Raises:
      UserError: naming the first option that differs, or a damaged report.
    """
    file = builder.data_path / JSON
    if not file.exists() and (builder.info.metadata or {}).get("options"):
        file = builder.data_path / METADATA  # of generated sets without a report
    if not file.exists():
        return
    made = read_json(file).get("options")
    if not isinstance(made, dict):
        raise UserError(
            f"{file}: `options` must be an object, is {quoted(made)}; remove "
            f"{builder.data_path} to make the set anew"
        )
    for key, value in builder.options.items():
        if made.get(key, value) != value:
            raise UserError(
                f"{builder.data_path} was made with --{key}={made[key]}, not {value}; "
                "remove it to make it anew, or name another --out"
            )


def write(builder: ShardedBuilder, options: Mapping[str, Any], source: str) -> None:
    """Writes the report of a set beside its shards.

    Args:
      builder: of the set, with its summaries.
      options: that it was made with.
      source: folder of the raw data, left out of the names of rejects, as sets are passed on.
    """
    # Where a name begins; that of a folder may end like this one.
    below = re.compile(rf"(?<![^\s'(]){re.escape(source.rstrip('/'))}/+")
    folder, splits = builder.data_path, builder.summaries
    described = {
        "set": builder.info.full_name,
        "options": options,
        "splits": {
            split: dict(
                examples=summary.examples,
                emotions={name: summary.emotions.get(name, 0) for name in EMOTIONS},
                labels=dict(summary.flags),
                intensity=summary.intensity,
                rejects=summary.reasons(),
                **_fitted(summary),
                **({"error_mm": summary.errors_mm()} if summary.errors else {}),
            )
            for split, summary in splits.items()
        },
    }
    write_whole(folder / JSON, json.dumps(described, indent=1) + "\n")
    rejects = [
        f"{split}\t{reason}\t{printable(below.sub('', detail))}\n"
        for split, summary in splits.items()
        for reason, detail in (
            *summary.rejects,
            *((f"kept without labels: {why}", key) for why, key in summary.unlabelled),
        )
    ]
    write_whole(folder / REJECTS, "split\treason\tphotograph\n" + "".join(rejects))
    write_whole(folder / HTML, _page(builder, options))


def _fitted(summary: Summary) -> dict[str, Any]:
    """What a set with labels of the landmark fit says of them."""
    if not (summary.residuals or summary.unlabelled):
        return {}
    known = {
        "labelled": len(summary.residuals),
        "median_residual": summary.median_residual,
        "unlabelled": dict(Counter(reason for reason, _ in summary.unlabelled).most_common()),
    }
    return {"landmark_fit": known}


def _page(builder: ShardedBuilder, options: Mapping[str, Any]) -> str:
    splits = builder.summaries
    kept = [("kept", [summary.examples for summary in splits.values()])]
    kinds = [(n, [s.emotions.get(n, 0) for s in splits.values()]) for n in EMOTIONS]
    flags = [
        (flag.replace("has_", "with ").replace("_", " "), [s.flags[flag] for s in splits.values()])
        for flag in batch.FLAGS
    ]
    reasons = dict.fromkeys(reason for s in splits.values() for reason in s.reasons())
    out = [(f"left out: {r}", [s.reasons().get(r, 0) for s in splits.values()]) for r in reasons]
    unlabelled = dict.fromkeys(reason for s in splits.values() for reason, _ in s.unlabelled)
    fits = [
        (f"kept without labels: {reason}", [_count(s, reason) for s in splits.values()])
        for reason in unlabelled
    ]
    medians = [s.median_residual or 0 for s in splits.values()]
    fits.append(("median residual of the landmark fit", medians))
    plots = [_valence_arousal(splits), _intensities(splits)]
    return pages.render(
        "data_pipelines.building",
        "prepare.html",
        title=builder.info.full_name,
        source=builder.info.description.strip(),
        licence=(builder.info.redistribution_info.license or "").strip(),
        options=printable(", ".join(f"{k} {v}" for k, v in options.items() if v)),
        splits=list(splits),
        rows=[row for row in kept + kinds + flags + out + fits if any(row[1])],
        plots=[plot for plot in plots if plot],
        samples=list(_samples(builder)),
        tile=_TILE,
    )


def _count(summary: Summary, reason: str) -> int:
    return sum(each == reason for each, _ in summary.unlabelled)


def _samples(builder: ShardedBuilder) -> Any:
    """Pictures of the first examples, landmarks drawn in, and their labels."""
    uncached = tfds.ReadConfig(try_autocache=False)  # a cache that is not read whole is warned of
    for split in builder.summaries:
        if not builder.info.splits[split].num_examples:
            continue
        examples = builder.as_dataset(split=split, read_config=uncached).take(_SAMPLES // 2)
        for example in tfds.as_numpy(examples):
            picture = example["image"][None]
            size = np.array(picture.shape[2:0:-1])
            for name, color in _COLORS.items():
                if example[f"has_{name}"]:
                    picture = draw_points(picture, 2 * example[name][None] / size - 1, color)
            words = [split, example["id"].decode()]
            if example["has_emotion"]:
                words.append(EMOTIONS[example["emotion"]])
            if example["has_va"]:
                words.append(f"{example['valence']:.2f} {example['arousal']:.2f}")
            tile = Image.fromarray(picture[0]).resize((_TILE, _TILE))
            yield _embedded(tile, "jpeg"), " ".join(words)


def _valence_arousal(splits: dict[str, Summary]) -> Markup | None:
    points = np.array([p for s in splits.values() for p in s.points]).reshape(-1, 3)
    if not len(points):
        return None
    figure = matplotlib.figure.Figure((5, 4), layout="constrained")
    axes = figure.add_subplot(xlabel="valence", ylabel="arousal", xlim=(-1, 1), ylim=(-1, 1))
    for emotion, name in enumerate(EMOTIONS):
        chosen = points[points[:, 2] == emotion]
        if len(chosen):
            axes.plot(chosen[:, 0], chosen[:, 1], ".", ms=3, label=name)
    unknown = points[points[:, 2] < 0]
    axes.plot(unknown[:, 0], unknown[:, 1], ".", ms=3, color="gray")
    if (points[:, 2] >= 0).any():
        axes.legend(fontsize=7, markerscale=2)
    return _plot(figure)


def _intensities(splits: dict[str, Summary]) -> Markup | None:
    counts: dict[str, np.ndarray] = {}
    for summary in splits.values():
        for name, bins in summary.intensity.items():
            counts[name] = counts.get(name, 0) + np.array(bins)
    if not counts:
        return None
    figure = matplotlib.figure.Figure((5, 4), layout="constrained")
    axes = figure.add_subplot(xlabel="intensity, length of (valence, arousal)", ylabel="examples")
    left, base = np.arange(INTENSITY_BINS) / INTENSITY_BINS, np.zeros(INTENSITY_BINS)
    for name, bins in sorted(counts.items()):
        axes.bar(left, bins, 1 / INTENSITY_BINS, base, align="edge", label=name)
        base = base + bins
    axes.legend(fontsize=7)
    return _plot(figure)


def _plot(figure: matplotlib.figure.Figure) -> Markup:
    stored = io.BytesIO()
    figure.savefig(stored, format="png", dpi=100)
    return _as_url(stored.getvalue(), "png")


def _embedded(picture: Image.Image, kind: str) -> Markup:
    stored = io.BytesIO()
    picture.save(stored, format=kind)
    return _as_url(stored.getvalue(), kind)


def _as_url(content: bytes, kind: str) -> Markup:
    return Markup(f"data:image/{kind};base64,{base64.b64encode(content).decode()}")
