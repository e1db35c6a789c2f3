"""Puts a report together: facts, numbers and pictures into the page."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import Any

from fields_jax import __version__, pages
from fields_jax.report import figures, numbers, remarks
from fields_jax.report.examples import draw_examples
from fields_jax.report.runs import Run
from fields_jax.report.turning import turning_head
from fields_jax.types import FlameModel

TITLE = "FIELDS: emotion-faithful 3D faces from one image"


def render(runs: Sequence[Run], head: FlameModel) -> str:
    """The report of one run, or of two side by side, as one HTML document.

    Args:
      runs: in order of training; the last one is the result that the report is about.
      head: the head they were trained with.
    """
    columns, examples = draw_examples(runs, head)
    last = runs[-1]
    titles, source_rows = numbers.source_rows(runs)
    return pages.render(
        "fields_jax.report",
        "report.html",
        title=TITLE,
        lead=remarks.lead(runs),
        facts=facts(runs),
        runs=runs,
        last=last,
        tiles=numbers.tiles(runs),
        findings=remarks.findings(runs),
        limits=remarks.limits(runs),
        columns=columns,
        examples=examples,
        turning=turning_head(last, head),
        plots=_plots(runs),
        split=last.scores["split"].capitalize(),
        numbers=numbers.number_rows(runs),
        source_titles=titles,
        source_rows=source_rows,
        recalls=numbers.recall_rows(last) if _has_classes(last) else [],
        version=__version__,
        date=datetime.datetime.now(tz=datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )


def facts(runs: Sequence[Run]) -> list[tuple[str, str]]:
    """Facts about the training, as names and values for the top of the page."""
    last = runs[-1]
    head, config = last.scores["head"], last.config
    known = [
        ("Head", f"{head['name']} {head['version']}, {head['sha256'][:12]}"),
        ("Trained on", config["data"]["mixture"].replace(",", ", ")),
        (
            "Tested on",
            ", ".join(f"{name} ({part['n']})" for name, part in last.scores["sources"].items()),
        ),
        (
            "Networks",
            f"{config['image_size']} px, width {config['model']['encoder_width']:g}, "
            f"depth {config['model']['encoder_depth']:g}, {config['model']['dtype']}",
        ),
    ]
    return known + [(run.name, _training(run)) for run in runs]


def _training(run: Run) -> str:
    parts = [f"{run.scores['step']:,} steps of {run.config['batch_size']} images"]
    phases = list(dict.fromkeys(row["phase"] for row in run.log))
    if len(phases) > 1:
        parts.append(f"phases {', '.join(phases)}")
    if run.seconds:
        parts.append(f"{remarks.duration(run.seconds)} in training steps")
    return "; ".join(parts)


def _plots(runs: Sequence[Run]) -> dict[str, Any]:
    last = runs[-1]
    expression = all(run.arrays["has_expression"].any() for run in runs)
    return {
        "intensity": figures.intensity_scatter(runs) if expression else None,
        "bins": figures.bin_errors(runs) if expression else None,
        "confusion": figures.confusion_matrix(last) if _has_classes(last) else None,
        "affect": (
            figures.valence_arousal(last) if last.reads_emotion and last.scores["valence"] else None
        ),
        "losses": [(run, figures.loss_curves(run)) for run in runs if run.log],
    }


def _has_classes(run: Run) -> bool:
    return run.reads_emotion and run.scores["classes"] is not None
