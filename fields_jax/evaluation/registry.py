"""The scores that are shown: where each is stored, what it is called, which value is better.

`summary.summarize` computes the scores and resamples those with an interval; the table in the
terminal and the report show METRICS in this order. To add a score, compute it there and add an
entry here: it gets a row in the report's table of numbers, and with `shown_as`, `column` or
`headline` also a place in the terminal's table, the report's table of sets or its headline numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import numpy as np

from fields_jax.emotions import N_EMOTIONS
from fields_jax.evaluation import affect, geometry, swap

RECONSTRUCTED = "has_reconstruction"  # flag of the columns of `reconstructions`
PAINTER = "synthesizer"  # the network that its scores are of
MISSING = "n/a"  # no such labels, or too few for such a score


class Resampled(NamedTuple):
    """How the 95 % interval of a score is computed: by resampling subjects.

    Attributes:
      key: name of the interval in evaluation.json, under "intervals".
      statistic: function of the columns that gives the score.
      columns: names in `summary.columns`, in the order that `statistic` takes them.
      rows: the column of flags that says which examples count.
    """

    key: str
    statistic: Callable[..., float]
    columns: tuple[str, ...]
    rows: str


class Column(NamedTuple):
    """A column of the report's table of sets; they stand in the order of their places."""

    place: int
    title: str


class Headline(NamedTuple):
    """A headline number of the report; they stand in the order of their places.

    Attributes:
      place: in the order.
      title: above the number.
      unit: after the number; "%" for fractions.
      note: below the number; {} stands for the score of knowing nothing.
    """

    place: int
    title: str
    unit: str
    note: str


class Metric(NamedTuple):
    """One score of an evaluation.

    Attributes:
      path: keys in evaluation.json, joined by dots; the same for each set and for all together.
      group: heading in the report's table of numbers.
      name: of the row under that heading.
      style: "share" (a fraction, shown in percent) or "number".
      best: which value is better, "low", "high" or "one"; "" for none.
      chance: the score of knowing nothing, as text.
      zero: instead of `chance`, the path of the score of predicting no expression. A metric at
        that path gets no row of its own.
      network: the network, an entry of "trained", without whose training the score means nothing.
      interval: how its interval is computed, if it has one.
      shown_as: title in the terminal's table; "" for none.
      column: in the report's table of sets, if any.
      headline: among the report's headline numbers, if any.
    """

    path: str
    group: str
    name: str
    style: Literal["share", "number"] = "number"
    best: Literal["low", "high", "one", ""] = ""
    chance: str = ""
    zero: str = ""
    network: str = ""
    interval: Resampled | None = None
    shown_as: str = ""
    column: Column | None = None
    headline: Headline | None = None


def _expression_metrics() -> tuple[Metric, ...]:
    error, zero = "expression_error_mm", "zero_expression_error_mm"
    return (
        Metric(
            error,
            "Expression",
            "error, mm",
            best="low",
            zero=zero,
            interval=Resampled(error, np.mean, ("error",), "has_expression"),
            shown_as="error mm",
            column=Column(1, "error, mm"),
            headline=Headline(1, "Expression error", "mm", "no expression: {}"),
        ),
        Metric(
            zero,
            "Expression",
            "error of no expression, mm",
            shown_as="zero mm",
            column=Column(2, "no expr., mm"),
        ),
        *(
            Metric(
                f"expression.bins.{name}.{error}",
                "Expression",
                f"error of {name} examples, mm",
                best="low",
                zero=f"expression.bins.{name}.{zero}",
            )
            for name in geometry.BINS
        ),
        Metric(
            "expression.calibration.slope",
            "Expression",
            "intensity slope",
            best="one",
            chance="0",
            shown_as="slope",
            column=Column(3, "slope"),
            headline=Headline(2, "Intensity slope", "", "faithful: 1"),
        ),
        Metric(
            "expression.calibration.pearson",
            "Expression",
            "intensity correlation",
            best="high",
            chance="0",
        ),
        Metric(
            "expression.calibration.spearman",
            "Expression",
            "intensity rank correlation",
            best="high",
            chance="0",
            shown_as="rank",
            column=Column(4, "rank corr."),
        ),
        Metric(
            "levels.ordered_share",
            "Expression",
            "graded pairs in order",
            style="share",
            best="high",
            chance="50 %",
            shown_as="ordered",
            headline=Headline(3, "Levels in order", "%", "chance: {}"),
        ),
    )


def _affect_metrics(axis: str, place: int) -> tuple[Metric, ...]:
    """Scores of valence or arousal; `place` among the report's columns and tiles."""
    letter = axis[0].upper()
    columns = (axis, f"predicted_{axis}")
    entry = dict(group="Emotion", network="emotion_head")
    return (
        Metric(f"{axis}.rmse", name=f"{axis} RMSE", best="low", **entry),
        Metric(f"{axis}.pcc", name=f"{axis} PCC", best="high", chance="0", **entry),
        Metric(
            f"{axis}.ccc",
            name=f"{axis} CCC",
            best="high",
            chance="0",
            interval=Resampled(f"{axis}_ccc", affect.ccc, columns, "has_va"),
            shown_as=f"{letter} CCC",
            column=Column(place, f"{letter} CCC"),
            headline=Headline(place, f"{axis.capitalize()} CCC", "", "a constant: {}"),
            **entry,
        ),
        Metric(f"{axis}.sagr", name=f"{axis} SAGR", best="high", **entry),
    )


def _class_metrics() -> tuple[Metric, ...]:
    chance = f"{100 / N_EMOTIONS:g} %"
    columns = ("emotion", "predicted_emotion")
    entry = dict(group="Emotion", style="share", best="high", network="emotion_head")
    return (
        Metric(
            "classes.accuracy",
            name="accuracy",
            chance=chance,
            interval=Resampled("accuracy", affect.hit_rate, columns, "has_emotion"),
            shown_as="accuracy",
            column=Column(8, "accuracy"),
            headline=Headline(4, "Class accuracy", "%", "chance: {}"),
            **entry,
        ),
        Metric(
            "classes.unweighted_accuracy",
            name="mean recall of the classes",
            chance=chance,
            **entry,
        ),
        Metric("classes.macro_f1", name="macro F1", **entry),
    )


def _landmark_metric(points: str, **shown: Any) -> Metric:
    return Metric(
        f"landmarks.{points}.interocular",
        "Landmarks",
        f"{points.removeprefix('landmarks_')} points, share of inter-ocular distance",
        style="share",
        best="low",
        **shown,
    )


def _closure_metrics() -> tuple[Metric, ...]:
    return tuple(
        Metric(
            f"closure.{slit}_closure_error_mm",
            "Expression",
            f"closure of the {slit}, error in mm",
            best="low",
            zero=f"closure.zero_{slit}_closure_error_mm",
        )
        for slit in ("eye", "mouth")
    )


def _identity_metrics() -> tuple[Metric, ...]:
    """Whether shape and expression leak into each other, see `identity`."""
    return (
        Metric("identity.within_mm", "Identity", "shape within a person, mm", best="low"),
        Metric("identity.between_mm", "Identity", "shape between persons, mm"),
        Metric(
            "identity.named_share",
            "Identity",
            "persons named by expression",
            style="share",
            best="low",
            zero="identity.chance",
        ),
        Metric(
            "identity.named_share_of_truth",
            "Identity",
            "persons named by true expression",
            style="share",
        ),
    )


def _reconstruction_metrics() -> tuple[Metric, ...]:
    """Of the synthesiser's pictures; see `images` and `reconstructions`."""
    kinds = (
        ("l1", "L1", "low", "L1"),
        ("psnr", "PSNR in dB", "high", "PSNR"),
        ("ssim", "SSIM", "high", "SSIM"),
        ("perceptual", "perceptual distance", "low", "VGG"),
    )
    regions = (("picture", "whole picture", ""), ("face", "hidden face", " face"))
    found = []
    for region, where, short in regions:
        l1 = Resampled(f"{region}_l1", np.mean, (f"{region}.l1",), RECONSTRUCTED)
        found += [
            Metric(
                f"reconstruction.{region}.{key}",
                "Reconstruction",
                f"{where}, {title}",
                best=best,
                shown_as=f"{shown}{short}",
                network=PAINTER,
                **(dict(style="share", interval=l1) if key == "l1" else {}),
            )
            for key, title, best, shown in kinds
        ]
    return tuple(found)


def _swap_metrics() -> tuple[Metric, ...]:
    """Whether the synthesiser follows its geometry, see `swap`."""
    titles = {"paint": "paint that moves along", "reading": "change that is read back"}
    return tuple(
        Metric(
            f"swap.{name}",
            "Swapped geometry",
            title,
            style="share",
            best="one",
            chance="0 %",
            network=PAINTER,
            interval=Resampled(
                f"swap_{name}", swap.share, (f"swap.{name}", f"swap.{name}_given"), RECONSTRUCTED
            ),
            shown_as=f"{name} followed",
            headline=Headline(8, "Geometry followed", "%", "ignored: {}")
            if name == "paint"
            else None,
        )
        for name, title in titles.items()
    )


METRICS = (
    *_expression_metrics(),
    *_closure_metrics(),
    *_identity_metrics(),
    *_affect_metrics("valence", 6),
    *_affect_metrics("arousal", 7),
    *_class_metrics(),
    _landmark_metric("landmarks_68"),
    _landmark_metric("landmarks_105", shown_as="eye", column=Column(5, "105 points")),
    _landmark_metric("landmarks_203"),
    *_reconstruction_metrics(),
    *_swap_metrics(),
)


def value_at(scores: Mapping[str, Any], path: str) -> Any:
    """The value in evaluation.json, or a part of it, at a dotted path; None if a part is None.

    Raises:
      KeyError: there is no such place.
    """
    value: Any = scores
    for key in path.split("."):
        if value is None:  # no such labels
            return None
        value = value[key]
    return value
