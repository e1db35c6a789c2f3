"""Every score of predicted valence, arousal and emotion class, with intervals and differences.

Examples of one subject are not independent, so whole subjects are resampled; where no subject is
told, single rows are, which makes intervals too narrow if subjects come back. Scores have names
with dots, such as "valence.ccc" and "eight.recall.happy"; `METRICS` lists those that tables show.

Two protocols of classes: "eight" takes every labelled example. "seven" leaves contempt out, as
RAF-DB, FER+ and AffectNet-7 do: examples labelled contempt are dropped, and the class is the most
probable of the other seven where probabilities are known; otherwise predicted contempt is wrong.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fields_jax.emotions import EMOTIONS, N_EMOTIONS
from fields_jax.evaluation import affect

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

AXES = ("valence", "arousal")
PROTOCOLS = {"eight": N_EMOTIONS, "seven": N_EMOTIONS - 1}  # classes of each, contempt last
BINS = 15  # of the calibration error, as in Guo et al. 2017
SAMPLES = 1000  # draws of the bootstrap
_DEFINED = 0.95  # share of the draws that must have a score for it to have an interval
_AXIS_SCORES = dict(
    ccc=affect.ccc, pcc=affect.pcc, rmse=affect.rmse, mae=affect.mae, sagr=affect.sagr
)


class Metric(NamedTuple):
    """A score as tables show it.

    Attributes:
      key: its name among the values.
      title: over its column.
      style: "share" (a fraction, shown in percent) or "number".
      best: which value is better, "low" or "high".
    """

    key: str
    title: str
    style: Literal["share", "number"]
    best: Literal["low", "high"]


def _metrics() -> tuple[Metric, ...]:
    axes = [
        Metric(f"{axis}.{name}", f"{axis[0].upper()} {name.upper()}", "number", best)
        for axis in AXES
        for name, best in dict(ccc="high", pcc="high", rmse="low", mae="low", sagr="high").items()
    ]
    titles = dict(accuracy="accuracy", balanced_accuracy="mean recall", macro_f1="macro F1")
    rates = [
        Metric(f"{protocol}.{name}", f"{title}, {count}", "share", "high")
        for protocol, count in PROTOCOLS.items()
        for name, title in titles.items()
    ]
    errors = [
        Metric(f"{protocol}.ece", f"ECE, {count}", "share", "low")
        for protocol, count in PROTOCOLS.items()
    ]
    return (*axes, *rates, *errors)


METRICS = _metrics()


@dataclasses.dataclass(frozen=True)
class Answers:
    """Predictions of N examples beside their labels.

    Attributes:
      axes: (label, prediction), [N] each, of valence and arousal, as far as predicted; a label that
        is not known is NaN.
      emotion: [N] labelled ids, -1 where not known.
      predicted_emotion: [N] ids, or None where no class is predicted.
      probabilities: [N, 8] that sum to 1, or None.
      groups: [N] what is resampled whole: subjects, clips or rows.
      folds: [N] names of folds, or None.
    """

    axes: Mapping[str, tuple[Floats, Floats]]
    emotion: Ints
    predicted_emotion: Ints | None
    probabilities: Floats | None
    groups: NDArray[Any]
    folds: NDArray[Any] | None = None

    def decided(self, protocol: str) -> Ints:
        """The class [N] that a protocol scores."""
        if self.probabilities is not None and protocol != "eight":
            return self.probabilities[:, : PROTOCOLS[protocol]].argmax(axis=1)
        return self.predicted_emotion

    def confidence(self, protocol: str) -> tuple[Floats, NDArray[np.bool_]]:
        """Probability [N] of the most probable class of a protocol, and whether it is the label."""
        kept = self.probabilities[:, : PROTOCOLS[protocol]]
        total = kept.sum(axis=1)
        highest = np.divide(kept.max(axis=1), total, out=np.zeros(len(kept)), where=total > 0)
        return highest, kept.argmax(axis=1) == self.emotion

    def rows(self, protocol: str) -> NDArray[np.bool_]:
        """Which examples [N] a protocol scores."""
        if self.predicted_emotion is None:
            return np.zeros(len(self.emotion), bool)
        return (self.emotion >= 0) & (self.emotion < PROTOCOLS[protocol])


def measures(answers: Answers) -> Callable[[Ints], dict[str, float]]:
    """A function of rows that gives every score of these, NaN where one is undefined."""
    known = {axis: np.isfinite(label) for axis, (label, _) in answers.axes.items()}
    scored = {name: answers.rows(name) for name in PROTOCOLS}
    scored = {name: rows for name, rows in scored.items() if rows.any()}
    decided = {name: answers.decided(name) for name in scored}
    sure = answers.probabilities is not None
    confidences = {name: answers.confidence(name) for name in scored} if sure else {}

    def of(rows: Ints) -> dict[str, float]:
        found: dict[str, float] = {}
        for axis, (label, guess) in answers.axes.items():
            own = rows[known[axis][rows]]
            for name, score in _AXIS_SCORES.items():
                found[f"{axis}.{name}"] = score(label[own], guess[own]) if len(own) else math.nan
        for name, kept in scored.items():
            own = rows[kept[rows]]
            of_classes = _class_measures(answers.emotion[own], decided[name][own], PROTOCOLS[name])
            if name in confidences:
                highest, hit = confidences[name]
                of_classes["ece"] = calibration_error(highest[own], hit[own])
            found |= {f"{name}.{key}": value for key, value in of_classes.items()}
        return found

    return of


def score(answers: Answers, samples: int = SAMPLES) -> dict[str, Any]:
    """Everything about one set of predictions, ready for JSON; None for what is undefined.

    Returns:
      n; labelled: examples with each label; groups: how many are resampled; values; intervals:
      95 %; deviations: bootstrap standard errors; recall_sd_across_classes and confusion of each
      protocol; calibration: (confidence, accuracy, examples) of each bin, where probabilities are;
      folds: count, mean and deviation (n - 1) of each score over the folds, where there are any.
    """
    of = measures(answers)
    every = np.arange(len(answers.emotion))
    values = of(every)
    drawn = _drawn(of, answers.groups, samples)
    protocols = [name for name in PROTOCOLS if answers.rows(name).any()]
    return {
        "n": len(every),
        "labelled": {
            **{axis: int(np.isfinite(label).sum()) for axis, (label, _) in answers.axes.items()},
            "emotion": int((answers.emotion >= 0).sum()),
        },
        "groups": len(np.unique(answers.groups)),
        "values": {key: affect.defined(value) for key, value in values.items()},
        **_spread(values, drawn),
        "recall_sd_across_classes": {
            name: affect.defined(
                float(np.nanstd([values[f"{name}.recall.{each}"] for each in _classes(name)]))
            )
            for name in protocols
        },
        "confusion": {name: _confusion(answers, name).tolist() for name in protocols},
        "calibration": {
            name: calibration_bins(*(part[answers.rows(name)] for part in answers.confidence(name)))
            for name in (protocols if answers.probabilities is not None else ())
        },
        "folds": _over_folds(of, answers.folds),
    }


def compare(first: Answers, second: Answers, samples: int = SAMPLES) -> dict[str, Any]:
    """Scores of the first minus those of the second, resampling both together.

    Args:
      first, second: of the same examples in the same order; the groups are those of the first.
      samples: draws of the bootstrap.

    Returns:
      values, intervals and deviations of the differences of the scores that both have.
    """
    one, other = measures(first), measures(second)

    def difference(rows: Ints) -> dict[str, float]:
        left, right = one(rows), other(rows)
        return {key: value - right[key] for key, value in left.items() if key in right}

    values = difference(np.arange(len(first.emotion)))
    drawn = _drawn(difference, first.groups, samples)
    return {
        "values": {key: affect.defined(value) for key, value in values.items()},
        **_spread(values, drawn),
    }


def calibration_error(confidence: Floats, hit: NDArray[np.bool_], bins: int = BINS) -> float:
    """Expected calibration error: mean distance of accuracy from confidence, bin by bin.

    Guo et al. 2017, "On Calibration of Modern Neural Networks": equal bins of (0, 1], each counting
    with its share of the examples. NaN without examples.

    Args:
      confidence: [N] probability of the predicted class.
      hit: [N] whether it is the label.
      bins: how many.
    """
    if not len(hit):
        return math.nan
    place = _bin_of(confidence, bins)
    gap = np.bincount(place, weights=hit - confidence, minlength=bins)
    return float(np.abs(gap).sum() / len(hit))


def calibration_bins(
    confidence: Floats, hit: NDArray[np.bool_], bins: int = BINS
) -> list[dict[str, float]]:
    """Mean confidence, accuracy and number of examples of each bin that holds any."""
    place = _bin_of(confidence, bins)
    return [
        {
            "confidence": float(confidence[place == index].mean()),
            "accuracy": float(hit[place == index].mean()),
            "n": int((place == index).sum()),
        }
        for index in np.unique(place)
    ]


def over_repeats(repeats: Sequence[Mapping[str, float | None]]) -> dict[str, Any]:
    """Mean and sample deviation (n - 1) of scores over repeats: folds, or seeds of a training.

    Returns:
      count, mean and deviation; a score that one repeat lacks is None, as is every deviation of a
      single repeat.
    """
    mean: dict[str, float | None] = {}
    deviation: dict[str, float | None] = {}
    for key in repeats[0]:
        values = [repeat.get(key) for repeat in repeats]
        whole = all(value is not None and math.isfinite(value) for value in values)
        mean[key] = float(np.mean(values)) if whole else None
        deviation[key] = float(np.std(values, ddof=1)) if whole and len(values) > 1 else None
    return {"count": len(repeats), "mean": mean, "deviation": deviation}


def _class_measures(label: Ints, guess: Ints, classes: int) -> dict[str, float]:
    """Scores of N labels below `classes`; NaN for a class without examples, or without any."""
    if not len(label):
        rates = dict.fromkeys(("accuracy", "balanced_accuracy", "macro_f1"), math.nan)
        return rates | {f"recall.{name}": math.nan for name in EMOTIONS[:classes]}
    counts = affect.confusion(label, guess)
    recalls = affect.recall(counts)[:classes]
    occurrences = (counts.sum(axis=0) + counts.sum(axis=1))[:classes]
    present = occurrences > 0
    return {
        "accuracy": affect.weighted_accuracy(counts),
        "balanced_accuracy": affect.unweighted_accuracy(counts),
        "macro_f1": float(np.mean(2 * np.diag(counts)[:classes][present] / occurrences[present])),
        **{f"recall.{name}": float(recalls[i]) for i, name in enumerate(EMOTIONS[:classes])},
    }


def _classes(protocol: str) -> tuple[str, ...]:
    return EMOTIONS[: PROTOCOLS[protocol]]


def _confusion(answers: Answers, protocol: str) -> NDArray[np.int64]:
    rows = answers.rows(protocol)
    return affect.confusion(answers.emotion[rows], answers.decided(protocol)[rows])


def _bin_of(confidence: Floats, bins: int) -> Ints:
    """Bin [N] of (0, 1] with its upper end; what is 0 belongs to the first."""
    return np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)


def _drawn(
    of: Callable[[Ints], dict[str, float]], groups: NDArray[Any], samples: int
) -> dict[str, Floats]:
    """[samples] values of every score on resampled rows."""
    found = [of(rows) for rows in affect.resampled(groups, samples=samples)]
    return {key: np.array([each[key] for each in found]) for key in found[0]}


def _spread(values: Mapping[str, float], drawn: Mapping[str, Floats]) -> dict[str, Any]:
    intervals: dict[str, list[float] | None] = {}
    deviations: dict[str, float | None] = {}
    for key in values:
        known = drawn[key][np.isfinite(drawn[key])]
        enough = len(known) >= _DEFINED * len(drawn[key]) and math.isfinite(values[key])
        intervals[key] = (
            [float(end) for end in np.quantile(known, (0.025, 0.975))] if enough else None
        )
        deviations[key] = float(known.std()) if enough else None
    return {"intervals": intervals, "deviations": deviations}


def _over_folds(
    of: Callable[[Ints], dict[str, float]], folds: NDArray[Any] | None
) -> dict[str, Any] | None:
    if folds is None:
        return None
    names = np.unique(folds)
    found = over_repeats([of(np.flatnonzero(folds == name)) for name in names])
    return {"names": [str(name) for name in names], **found}
