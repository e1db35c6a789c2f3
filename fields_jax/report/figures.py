"""The plots of a report, each drawn for light and for dark pages, as PNG inside data URIs."""

from __future__ import annotations

import base64
import io
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from PIL import Image

from fields_jax.evaluation.geometry import BINS
from fields_jax.evaluation.registry import MISSING
from fields_jax.report.runs import Run

_DPI = 150
_COLORS = 96  # of the palette a plot is stored in: a quarter of the bytes, no visible loss
_MOST_TERMS = 8  # curves that can still be told apart
_DOTS = dict(s=7, alpha=0.45, linewidths=0)


class Theme(NamedTuple):
    """Colours of a plot; those of the page, in templates/style.css, are the same."""

    paper: str
    ink: str
    muted: str
    line: str
    stages: tuple[str, str]
    sources: tuple[str, ...]
    curves: str  # a colormap of matplotlib


LIGHT = Theme(
    paper="#ffffff",
    ink="#1d2733",
    muted="#66727f",
    line="#e3e8ed",
    stages=("#9aa7b5", "#0b7a75"),
    sources=("#2f6db5", "#d2762a", "#8a55a8", "#4f8a3c"),
    curves="tab10",
)
DARK = Theme(
    paper="#171d25",
    ink="#e3e9ef",
    muted="#93a0ae",
    line="#2c3642",
    stages=("#7c8a99", "#36b5a8"),
    sources=("#6ea8e6", "#eca05c", "#c08fe0", "#8cc474"),
    curves="Set2",
)


class Plot(NamedTuple):
    """One plot in both themes.

    Attributes:
      light: data URI.
      dark: data URI.
      width: in CSS pixels.
      alt: what it shows, for readers who cannot see it.
    """

    light: str
    dark: str
    width: int
    alt: str


def plot(draw: Callable[[Figure, Theme], None], size: tuple[float, float], alt: str) -> Plot:
    """Draws a figure of `size` inches in both themes."""
    return Plot(_render(draw, size, LIGHT), _render(draw, size, DARK), round(96 * size[0]), alt)


def data_uri(pixels: np.ndarray, colors: int | None = None) -> str:
    """An [H, W, 3] uint8 picture as a PNG data URI, with a palette of `colors` if given."""
    image = Image.fromarray(pixels)
    if colors:
        image = image.quantize(colors, dither=Image.Dither.NONE)
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def loss_curves(run: Run) -> Plot:
    """Total loss and its largest weighted terms over the steps, on a log axis."""
    names = {name for row in run.log for name in row if name.startswith("weighted/")}
    last = {name: _series(run, name)[1][-5:].mean() for name in names}
    terms = sorted((n for n in last if last[n] > 0), key=last.get, reverse=True)[:_MOST_TERMS]

    def draw(figure: Figure, theme: Theme) -> None:
        axes = figure.add_subplot()
        axes.plot(*_series(run, "loss"), color=theme.ink, linewidth=2, label="total", zorder=3)
        for color, name in zip(mpl.colormaps[theme.curves].colors, terms, strict=False):
            label = name.removeprefix("weighted/")
            axes.plot(*_series(run, name), color=color, linewidth=1, label=label)
        axes.set_yscale("log")
        axes.set_xlabel("step")
        axes.set_ylabel("weighted loss")
        for step, phase in _phase_starts(run):
            axes.axvline(step, color=theme.muted, linewidth=0.8, linestyle=":")
            where = dict(xycoords=("data", "axes fraction"), va="bottom")
            axes.annotate(f" phase {phase}", (step, 1), color=theme.muted, fontsize=8, **where)
        axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))

    return plot(draw, (5.8, 3.1), f"Loss curves of {run.name}")


def intensity_scatter(runs: list[Run]) -> Plot:
    """Predicted against true expression intensity, one panel per run."""
    highest = 1.04 * max(
        max(_known(run, "intensity").max(), np.quantile(_known(run, "predicted_intensity"), 0.995))
        for run in runs
    )

    def draw(figure: Figure, theme: Theme) -> None:
        panels = figure.subplots(1, len(runs), sharey=True, squeeze=False)[0]
        for axes, run in zip(panels, runs, strict=True):
            source = _known(run, "source")
            for index, name in enumerate(run.scores["sources"]):
                true, predicted = (
                    _known(run, column)[source == index]
                    for column in ("intensity", "predicted_intensity")
                )
                color = theme.sources[index % len(theme.sources)]
                axes.scatter(true, predicted, label=name, color=color, **_DOTS)
            line = run.scores["expression"]["calibration"]
            ends = np.array([0, highest])
            axes.plot(ends, ends, color=theme.muted, linewidth=1, linestyle="--")
            if line["slope"] is not None:
                axes.plot(ends, line["intercept_mm"] + line["slope"] * ends, color=theme.ink)
                title = f"{run.name}: slope {line['slope']:.2f}, rank corr. {line['spearman']:.2f}"
                axes.set_title(title)
            axes.set(xlim=(0, highest), ylim=(0, highest), aspect="equal")
            axes.set_xlabel("true intensity, mm")
        panels[0].set_ylabel("predicted intensity, mm")
        panels[0].legend(loc="upper left", markerscale=2)

    width = 3.7 * len(runs) + 0.3
    return plot(draw, (width, 3.9), "Predicted against true expression intensity")


def bin_errors(runs: list[Run]) -> Plot:
    """Expression error of subtle, middle and strong examples, beside that of predicting nothing."""

    def draw(figure: Figure, theme: Theme) -> None:
        axes = figure.add_subplot()
        width = 0.8 / (len(runs) + 1)
        place = np.arange(len(BINS))
        bins = [[run.scores["expression"]["bins"][name] for name in BINS] for run in runs]
        series = [("no expression", "zero_expression_error_mm", bins[0], theme.line)]
        series += [
            (run.name, "expression_error_mm", values, color)
            for run, values, color in zip(runs, bins, theme.stages[-len(runs) :], strict=True)
        ]
        for offset, (label, key, values, color) in enumerate(series):
            heights = [value[key] or 0 for value in values]
            bars = axes.bar(place + offset * width, heights, 0.92 * width, color=color, label=label)
            axes.bar_label(bars, fmt="%.2f", padding=2, color=theme.muted, fontsize=8)
        low, high = runs[0].scores["expression"]["edges_mm"]
        titles = (f"subtle\nbelow {low:.2f} mm", "middle", f"strong\nabove {high:.2f} mm")
        axes.set_xticks(place + width * len(runs) / 2, titles)
        axes.tick_params(axis="x", length=0)
        axes.grid(visible=False, axis="x")
        axes.margins(y=0.14)
        axes.set_ylabel("expression error, mm")
        axes.legend(loc="upper left")

    return plot(draw, (5.0, 3.6), "Expression error by true intensity")


def confusion_matrix(run: Run) -> Plot:
    """Where the examples of each class go, in percent of the class."""
    return confusion_plot(run.scores["classes"]["confusion"], run.scores["emotions"], run.name)


def confusion_plot(counts: Sequence[Sequence[int]], names: Sequence[str], of: str) -> Plot:
    """Where the examples of each class go, in percent of the class.

    Args:
      counts: [classes, classes], a row for each label.
      names: of the classes.
      of: whose predictions they are.
    """
    counts = np.array(counts, float)
    total = counts.sum(axis=1, keepdims=True)
    share = 100 * np.divide(counts, total, out=np.zeros_like(counts), where=total > 0)

    def draw(figure: Figure, theme: Theme) -> None:
        axes = figure.add_subplot()
        shades = LinearSegmentedColormap.from_list("", [theme.paper, theme.stages[1]])
        axes.imshow(share, cmap=shades, vmin=0, vmax=100)
        for (row, column), value in np.ndenumerate(share):
            if value >= 0.5:
                color = theme.paper if value > 55 else theme.ink
                where = dict(ha="center", va="center", fontsize=8)
                axes.text(column, row, f"{value:.0f}", color=color, **where)
        axes.set_xticks(range(len(names)), names, rotation=40, ha="right")
        axes.set_yticks(range(len(names)), names)
        axes.set(xlabel="predicted", ylabel="label")
        axes.grid(visible=False)
        axes.tick_params(length=0)

    return plot(draw, (4.6, 4.1), f"Confusion matrix of {of}, percent of each class")


def valence_arousal(run: Run) -> Plot:
    """Predicted against labelled valence and arousal."""
    rows = run.arrays["has_va"]
    pairs = {
        name: (run.arrays[name][rows], run.arrays[f"predicted_{name}"][rows])
        for name in ("valence", "arousal")
    }
    return affect_plot(pairs, {name: run.scores[name]["ccc"] for name in pairs}, run.name)


def affect_plot(
    pairs: Mapping[str, tuple[np.ndarray, np.ndarray]],
    concordance: Mapping[str, float | None],
    of: str,
) -> Plot:
    """Predicted against labelled valence and arousal.

    Args:
      pairs: (labels, predictions) of each axis, [N] each.
      concordance: CCC of each axis, None where it has none.
      of: whose predictions they are.
    """

    def draw(figure: Figure, theme: Theme) -> None:
        panels = figure.subplots(1, len(pairs), sharey=True, squeeze=False)[0]
        for axes, (name, (label, guess)) in zip(panels, pairs.items(), strict=True):
            axes.scatter(label, np.clip(guess, -1, 1), color=theme.stages[1], **_DOTS)
            axes.plot([-1, 1], [-1, 1], color=theme.muted, linewidth=1, linestyle="--")
            axes.set(xlim=(-1.04, 1.04), ylim=(-1.04, 1.04), aspect="equal")
            told = MISSING if concordance[name] is None else f"{concordance[name]:.2f}"
            axes.set_title(f"{name}: CCC {told}")
            axes.set_xlabel("label")
        panels[0].set_ylabel("prediction")

    return plot(draw, (3.1 * len(pairs) + 0.4, 3.5), f"Valence and arousal of {of}")


def reliability(bins: Sequence[Mapping[str, float]], of: str) -> Plot:
    """Accuracy against confidence.

    Args:
      bins: of `recognition.calibration_bins`.
      of: whose predictions they are.
    """
    confidence, accuracy, count = (
        np.array([each[key] for each in bins], float) for key in ("confidence", "accuracy", "n")
    )

    def draw(figure: Figure, theme: Theme) -> None:
        axes = figure.add_subplot()
        axes.plot([0, 1], [0, 1], color=theme.muted, linewidth=1, linestyle="--")
        axes.plot(confidence, accuracy, color=theme.stages[1])
        sizes = 12 + 160 * count / count.sum()
        axes.scatter(confidence, accuracy, sizes, color=theme.stages[1], linewidths=0)
        axes.set(xlim=(0, 1.02), ylim=(0, 1.02), aspect="equal")
        axes.set(xlabel="probability of the predicted class", ylabel="share of them right")

    return plot(draw, (3.7, 3.5), f"Calibration of {of}")


def _series(run: Run, name: str) -> tuple[np.ndarray, np.ndarray]:
    rows = [(row["step"], row[name]) for row in run.log if row.get(name) is not None]
    steps, values = np.array(rows, float).reshape(-1, 2).T
    return steps, values


def _phase_starts(run: Run) -> list[tuple[int, str]]:
    """Last step before each phase and its name; empty where there is only one phase."""
    starts = [(0, run.log[0]["phase"])]
    for before, row in itertools.pairwise(run.log):
        if row["phase"] != before["phase"]:
            starts.append((before["step"], row["phase"]))
    return starts if len(starts) > 1 else []


def _known(run: Run, name: str) -> np.ndarray:
    return run.arrays[name][run.arrays["has_expression"]]


def _render(draw: Callable[[Figure, Theme], None], size: tuple[float, float], theme: Theme) -> str:
    with mpl.rc_context(_style(theme)):
        figure = Figure(figsize=size, dpi=_DPI, layout="constrained")
        canvas = FigureCanvasAgg(figure)
        draw(figure, theme)
        for axes in figure.axes:
            _tidy(axes)
        canvas.draw()
        return data_uri(np.asarray(canvas.buffer_rgba())[..., :3], _COLORS)


def _tidy(axes: Axes) -> None:
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _style(theme: Theme) -> dict:
    return {
        "font.family": "sans-serif",
        "font.size": 9,
        "figure.facecolor": theme.paper,
        "axes.facecolor": theme.paper,
        "axes.edgecolor": theme.line,
        "axes.labelcolor": theme.muted,
        "axes.titlecolor": theme.ink,
        "axes.titlesize": 10,
        "axes.grid": True,
        "grid.color": theme.line,
        "grid.linewidth": 0.7,
        "text.color": theme.ink,
        "xtick.color": theme.muted,
        "ytick.color": theme.muted,
        "legend.frameon": False,
        "legend.fontsize": 8,
        "legend.labelcolor": theme.muted,
        "lines.linewidth": 1.4,
        "lines.solid_capstyle": "round",
    }
