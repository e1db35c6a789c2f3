"""The page of an ablation: differences with intervals, calibration, the same faces by all."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from fields_jax import __version__, pages
from fields_jax.evaluation import ablation_files
from fields_jax.evaluation.ablation import Measure
from fields_jax.report import figures
from fields_jax.report.examples import Example, enlarged, mesh_over, true_mesh
from fields_jax.report.runs import Run
from fields_jax.types import FlameModel

_BEST = {"low": "lower is better", "high": "higher is better", "one": "faithful: 1"}
_WIDTH, _HEIGHT = 3.4, 3.2  # inches of a plot of calibration
_ACROSS = 4  # of them side by side


def render(scores: Mapping[str, Any], runs: Sequence[Run], head: FlameModel) -> str:
    """The page as one HTML document without anything from elsewhere.

    Args:
      scores: as `ablation_files` has them.
      runs: one of each arm, by the arm's name, for the pictures.
      head: that all were trained with.
    """
    full, measures = scores["full"], ablation_files.shown_measures(scores)
    others = list(scores["differences"])
    columns, faces = faces_by_arm(runs, head)
    return pages.render(
        "fields_jax.report",
        "ablation.html",
        title=scores["title"],
        lead="One recipe, and the same with one of its ideas taken away. Differences are arm minus "
        f"{full}, means over the seeds; small: 95 % interval, resampling subjects and seeds "
        "together for both. Where it leaves zero out the number is green if the arm is worse, so "
        "that the idea helps, and orange if the arm is better.",
        facts=list(scores["facts"].items()),
        notes=scores["notes"],
        failed=list(scores["failed"].items()),
        says=list(scores["says"].items()),
        full=full,
        others=others,
        differences=[
            (
                *_titles(measure),
                ablation_files.told(_score(scores, full, measure), measure),
                [ablation_files.told_difference(scores, name, measure) for name in others],
            )
            for measure in measures
        ],
        arms=[(name, len(arm["seeds"])) for name, arm in scores["arms"].items()],
        values=[
            (
                *_titles(measure),
                [
                    ablation_files.told(_score(scores, name, measure), measure)
                    for name in scores["arms"]
                ],
            )
            for measure in measures
        ],
        plots=[calibration_plot(scores["curves"], full)] if scores["curves"].get(full) else [],
        columns=columns,
        faces=faces,
        version=__version__,
        date=datetime.datetime.now(tz=datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )


def calibration_plot(
    curves: Mapping[str, Sequence[Mapping[str, float]]], full: str
) -> figures.Plot:
    """Predicted against true intensity, a panel for each arm with the full recipe behind it.

    Args:
      curves: points of `ablation.calibration_curve` by arm.
      full: the arm that is drawn behind the others.
    """
    others = [name for name in curves if name != full] or [full]
    rows = -(-len(others) // _ACROSS)
    across = min(_ACROSS, len(others))
    every = [point for points in curves.values() for point in points]
    highest = 1.05 * max(max(point.values()) for point in every)

    def draw(figure: Figure, theme: figures.Theme) -> None:
        panels = figure.subplots(rows, across, sharex=True, sharey=True, squeeze=False)
        for axes in panels.flat[len(others) :]:
            axes.set_visible(False)
        for axes, name in zip(panels.flat, others, strict=False):
            axes.plot([0, highest], [0, highest], color=theme.muted, linewidth=1, linestyle="--")
            for arm, color in ((full, theme.stages[0]), (name, theme.stages[1])):
                true, predicted = (
                    [point[key] for point in curves[arm]] for key in ("true_mm", "predicted_mm")
                )
                axes.plot(true, predicted, "o-", color=color, markersize=3, label=arm)
            axes.set(xlim=(0, highest), ylim=(0, highest), aspect="equal", title=name)
            axes.legend(*_unique(axes), loc="upper left")
        for axes in panels.flat[len(others) - across : len(others)]:  # nothing stands below them
            axes.set_xlabel("true intensity, mm")
            axes.tick_params(labelbottom=True)
        for axes in panels[:, 0]:
            axes.set_ylabel("predicted intensity, mm")

    size = (_WIDTH * across + 0.3, _HEIGHT * rows + 0.2)
    return figures.plot(draw, size, "Predicted against true expression intensity, arm by arm")


def faces_by_arm(runs: Sequence[Run], head: FlameModel) -> tuple[list[str], list[Example]]:
    """Column titles and one row per example that the evaluations kept: the same faces by all arms.

    Columns: input; the mesh of each arm; the true expression on the first arm's identity, pose and
    camera.
    """
    if not runs:
        return [], []
    first = runs[0]
    image = enlarged(first.example("image"))
    columns = {"input": image}
    columns |= {run.name: mesh_over(image, head, run.predicted()) for run in runs}
    columns["true expression"] = true_mesh(first, image, head, first.predicted())
    sources = list(first.scores["sources"])
    rows = []
    for index, name in enumerate(first.example("id")):
        row = int(first.example("row")[index])
        notes = []
        if first.arrays["has_expression"][row]:
            notes.append(f"intensity {first.arrays['intensity'][row]:.2f} mm; error in mm:")
            notes += [f"{run.name} {run.arrays['error'][row]:.2f}" for run in runs]
        pictures = [figures.data_uri(made[index], colors=128) for made in columns.values()]
        source = sources[first.example("source")[index]]
        rows.append(Example(title=f"{source}: {name}", notes=notes, pictures=pictures))
    return list(columns), rows


def _unique(axes: mpl.axes.Axes) -> tuple[list, list]:
    """Handles and labels of a legend, each label once."""
    handles, labels = axes.get_legend_handles_labels()
    found = dict(zip(labels, handles, strict=True))
    return list(found.values()), list(found)


def _titles(measure: Measure) -> tuple[str, str, str]:
    unit = ", %" if measure.style == "share" else ""
    return measure.group, f"{measure.title}{unit}", _BEST[measure.best]


def _score(scores: Mapping[str, Any], name: str, measure: Measure) -> Mapping[str, Any] | None:
    return scores["arms"].get(name, {"scores": {}})["scores"].get(measure.key)
