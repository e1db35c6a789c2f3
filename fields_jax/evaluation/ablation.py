"""Scores of the arms of an ablation, and of their differences from one of them, with intervals.

Every arm is trained from several seeds, and all runs are scored on the same examples. Each draw of
the bootstrap takes whole subjects with replacement and seeds with replacement, the same for both
arms of a difference; the score of an arm is the mean over its seeds. With few seeds their share of
the spread is told too small: of three, by a third in variance.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fields_jax.errors import UserError
from fields_jax.evaluation import affect, geometry, registry, swap
from fields_jax.evaluation.expression_measures import MEASURES
from fields_jax.evaluation.geometry import BINS
from fields_jax.evaluation.recognition import AXES, Answers

Floats = NDArray[np.float64]
# One row per example of one run; "group" says what is resampled whole.
Table = Mapping[str, np.ndarray]
# The tables of one run by name: "faces", "probe", "photographs", as far as it has them.
Tables = Mapping[str, Table]

SAMPLES = 1000  # draws of the bootstrap
CURVE_BINS = 8  # points of a calibration curve
_DEFINED = 0.95  # share of the draws that must have a score for it to have an interval
_LABELS = {  # columns that all runs must have alike, by table
    "faces": ("group", "source", "emotion", "valence", "arousal", "intensity", "has_expression"),
    "probe": ("emotion", "valence", "arousal"),
    "photographs": ("name",),
}


class Measure(NamedTuple):
    """One score of an ablation.

    Attributes:
      key: its name in files.
      group: heading above it.
      title: what it is called.
      style: "share" (a fraction, shown in percent) or "number".
      best: which value is better, "low", "high" or "one".
      table: of the run that it is computed from.
      statistic: function of the columns that gives the score.
      columns: in the order that `statistic` takes them.
      rows: the column of flags that says which examples count.
    """

    key: str
    group: str
    title: str
    style: Literal["share", "number"]
    best: Literal["low", "high", "one"]
    table: str
    statistic: Callable[..., float]
    columns: tuple[str, ...]
    rows: str


def slope(intensity: Floats, predicted: Floats) -> float:
    """Slope of predicted against true intensity; NaN where the true one does not vary."""
    apart = intensity - intensity.mean()
    spread = np.mean(apart**2)
    return float(np.mean(apart * predicted) / spread) if spread > 0 else math.nan


def rank(a: Floats, b: Floats) -> float:
    """Rank correlation; NaN for single numbers."""
    return affect.pearson(geometry.ranks(a), geometry.ranks(b))


def _measures() -> tuple[Measure, ...]:
    faces, mean = "faces", np.mean
    expression, strength = "Expression", ("intensity", "predicted_intensity")
    known = "has_expression"
    found = [
        Measure("error", expression, "error, mm", "number", "low", faces, mean, ("error",), known),
        *(
            Measure(
                *(f"error.{name}", expression, f"error, {name}, mm", "number", "low"),
                *(faces, mean, ("error",), f"is_{name}"),
            )
            for name in BINS
        ),
        Measure(
            "slope", expression, "intensity slope", "number", "one", faces, slope, strength, known
        ),
        Measure(
            "rank",
            expression,
            "intensity rank corr.",
            "number",
            "high",
            faces,
            rank,
            strength,
            known,
        ),
        Measure(
            *("landmarks", "Landmarks", "105 points, of inter-ocular", "share", "low"),
            *(faces, mean, ("landmarks_105.interocular",), "has_points"),
        ),
    ]
    painted = registry.RECONSTRUCTED
    found.append(
        Measure(
            *("face.l1", "Reconstruction", "hidden face, L1", "share", "low"),
            *(faces, mean, ("face.l1",), painted),
        )
    )
    found += [
        Measure(
            *(f"swap.{name}", "Swapped geometry", f"{name} that follows", "share", "one"),
            *(faces, swap.share, (f"swap.{name}", f"swap.{name}_given"), painted),
        )
        for name in swap.SHARES
    ]
    for table, title in (("faces", "Own head"), ("probe", "Probe of frozen codes")):
        found += [
            Measure(
                *(f"{table}.{axis}.ccc", title, f"{axis} CCC", "number", "high", table, affect.ccc),
                *((axis, f"predicted_{axis}"), "has_va"),
            )
            for axis in AXES
        ]
        found.append(
            Measure(
                *(f"{table}.accuracy", title, "accuracy", "share", "high", table, affect.hit_rate),
                *(("emotion", "predicted_emotion"), "has_emotion"),
            )
        )
    found += [
        Measure(
            *(
                f"photographs.{name}",
                "Photographs, rank correlation",
                name.replace("_", " "),
                "number",
                "high",
            ),
            *("photographs", rank, (f"{name}_picture", f"{name}_head"), "marked"),
        )
        for name in MEASURES
    ]
    return tuple(found)


MEASURED = _measures()


def faces_table(
    arrays: Mapping[str, np.ndarray], edges: Sequence[float] | None, reads: bool
) -> Table:
    """The columns of predictions.npz, and those that this module adds.

    Args:
      arrays: predictions.npz.
      edges: in mm, between subtle, middle and strong; None where no truth is known.
      reads: whether the emotion head was trained; otherwise what it says is left out.
    """
    table = {name: column for name, column in arrays.items() if not name.startswith("example_")}
    place = np.digitize(table["intensity"], edges or ())
    for index, name in enumerate(BINS):
        table[f"is_{name}"] = table["has_expression"] & (place == index) & bool(edges)
    table["has_points"] = np.isfinite(table["landmarks_105.interocular"])
    for name in () if reads else (*AXES, "emotion"):
        del table[f"predicted_{name}"]
    return table


def probe_table(answers: Answers) -> Table:
    """The answers of a probe as columns."""
    table: dict[str, np.ndarray] = {
        "group": answers.groups,
        "emotion": answers.emotion,
        "has_emotion": answers.emotion >= 0,
        "predicted_emotion": answers.predicted_emotion,
    }
    for axis, (label, guess) in answers.axes.items():
        table |= {axis: np.nan_to_num(label), f"predicted_{axis}": guess}
        table["has_va"] = np.isfinite(label) & table.get("has_va", True)
    return table


def photographs_table(rows: Sequence[Mapping[str, str]]) -> Table:
    """The network's rows of photographs.csv as columns; faces of one photograph are one group."""
    own = [row for row in rows if row["method"] == "network"]
    names = [f"{name}_{where}" for name in MEASURES for where in ("picture", "head")]
    table = {name: np.array([float(row[name] or "nan") for row in own]) for name in names}
    marked = np.all([np.isfinite(column) for column in table.values()], axis=0)
    # Tables written before they told the photograph are of one face each.
    _, group = np.unique([row.get("image") or row["name"] for row in own], return_inverse=True)
    return table | {
        "name": np.array([row["name"] for row in own]),
        "group": group,
        "marked": marked,
    }


def check_alike(runs: Mapping[str, Tables]) -> None:
    """Refuses runs that were scored on different examples.

    Raises:
      UserError: naming two of them.
    """
    firsts: dict[str, tuple[str, Table]] = {}
    for name, tables in runs.items():
        for kind, table in tables.items():
            other, first = firsts.setdefault(kind, (name, table))
            for column in _LABELS[kind]:
                if not np.array_equal(first[column], table[column]):
                    raise UserError(
                        f"runs {other} and {name} were scored on other examples ({kind}, "
                        f"{column}): remove the folder of one of them and run again"
                    )


def score_arms(
    arms: Mapping[str, Mapping[int, Tables]], full: str, *, samples: int = SAMPLES
) -> dict[str, Any]:
    """Scores of all arms, and their differences from one.

    Args:
      arms: tables by arm and seed, all of the same examples.
      full: the arm that others are compared with.
      samples: draws of the bootstrap.

    Returns:
      Ready for JSON, None for what is undefined. arms: by name, seeds, and scores by measure:
      value (mean over the seeds), by_seed, deviation over them (n - 1) and interval. differences:
      by name of the others and measure: value, by_seed and interval, over the seeds that both have.
    """
    found = {name: {"seeds": sorted(runs), "scores": {}} for name, runs in arms.items()}
    differences: dict[str, dict[str, Any]] = {name: {} for name in arms if name != full}
    for measure in MEASURED:
        drawn = {name: _drawn(measure, runs, samples) for name, runs in arms.items()}
        for name, own in drawn.items():
            found[name]["scores"][measure.key] = _summary(own, samples) if own else None
        for name in differences:
            differences[name][measure.key] = _difference(drawn[name], drawn.get(full), samples)
    return {"arms": found, "differences": differences}


def calibration_curve(tables: Sequence[Table], bins: int = CURVE_BINS) -> list[dict[str, float]]:
    """Mean true and predicted intensity in mm of equally many examples, weakest first.

    Without a true expression in any example there is nothing to draw: no points.

    Args:
      tables: "faces" of each seed of an arm.
      bins: how many points.
    """
    first = tables[0]
    known = first["has_expression"]
    if not known.any():
        return []
    order = np.argsort(first["intensity"][known], kind="stable")
    predicted = np.mean([table["predicted_intensity"][known] for table in tables], axis=0)
    return [
        {
            "true_mm": float(first["intensity"][known][part].mean()),
            "predicted_mm": float(predicted[part].mean()),
        }
        for part in np.array_split(order, min(bins, len(order)))
        if len(part)
    ]


class _Drawn(NamedTuple):
    """A measure of one run: on all rows, and on each draw [samples]."""

    value: float
    values: Floats


def _drawn(measure: Measure, runs: Mapping[int, Tables], samples: int) -> dict[int, _Drawn]:
    """By seed; the same rows are drawn whatever the run. {} where the arm lacks the columns."""
    found: dict[int, _Drawn] = {}
    sets: list[NDArray[np.int64]] | None = None
    for seed, tables in sorted(runs.items()):
        table = tables.get(measure.table, {})
        if not {*measure.columns, measure.rows} <= set(table):
            continue
        rows = table[measure.rows]
        if not rows.any():
            continue
        columns = [np.asarray(table[name], np.float64)[rows] for name in measure.columns]
        if sets is None:
            sets = list(affect.resampled(table["group"][rows], samples=samples))
        values = [measure.statistic(*(column[own] for column in columns)) for own in sets]
        found[seed] = _Drawn(float(measure.statistic(*columns)), np.array(values, np.float64))
    return found


def _summary(drawn: Mapping[int, _Drawn], samples: int) -> dict[str, Any]:
    values = [own.value for own in drawn.values()]
    several = len(values) > 1
    return {
        "value": affect.defined(float(np.mean(values))),
        "by_seed": {str(seed): affect.defined(own.value) for seed, own in drawn.items()},
        "deviation": affect.defined(float(np.std(values, ddof=1))) if several else None,
        "interval": _interval(_over_seeds([own.values for own in drawn.values()], samples)),
    }


def _difference(
    own: Mapping[int, _Drawn], full: Mapping[int, _Drawn] | None, samples: int
) -> dict[str, Any] | None:
    seeds = sorted(own.keys() & (full or {}).keys())
    if not seeds:
        return None
    values = {seed: own[seed].value - full[seed].value for seed in seeds}
    drawn = [own[seed].values - full[seed].values for seed in seeds]
    return {
        "value": affect.defined(float(np.mean(list(values.values())))),
        "by_seed": {str(seed): affect.defined(value) for seed, value in values.items()},
        "interval": _interval(_over_seeds(drawn, samples)),
    }


def _over_seeds(values: Sequence[Floats], samples: int) -> Floats:
    """Mean over seeds drawn with replacement, for each draw of subjects."""
    count = len(values)
    chosen = np.random.default_rng(1).integers(count, size=(samples, count))
    return np.take_along_axis(np.stack(values, axis=1), chosen, axis=1).mean(axis=1)


def _interval(values: Floats) -> list[float] | None:
    known = values[np.isfinite(values)]
    if len(known) < _DEFINED * len(values):
        return None
    return [float(end) for end in np.quantile(known, (0.025, 0.975))]
