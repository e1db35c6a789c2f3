"""Scores of valence, arousal and emotion class, in float64 on the whole set at once.

Averages of per-batch correlations are biased, so nothing here is streamed. Valence and arousal
predictions are clipped to [-1, 1], the range of the labels, before they are scored.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fields_jax.emotions import N_EMOTIONS

Floats = NDArray[np.float64]


class Interval(NamedTuple):
    """A percentile bootstrap: the ends of the confidence interval and the standard error."""

    low: float
    high: float
    deviation: float


def rmse(label: ArrayLike, prediction: ArrayLike) -> float:
    """Root of the mean squared error."""
    y, x = _pair(label, prediction)
    return float(np.sqrt(np.mean((x - y) ** 2)))


def mae(label: ArrayLike, prediction: ArrayLike) -> float:
    """Mean absolute error."""
    y, x = _pair(label, prediction)
    return float(np.mean(np.abs(x - y)))


def pcc(label: ArrayLike, prediction: ArrayLike) -> float:
    """Pearson's correlation, cov / (sd sd); 0 if either side is constant, NaN for one example."""
    return pearson(*_pair(label, prediction))


def ccc(label: ArrayLike, prediction: ArrayLike) -> float:
    """Lin's concordance, 2 cov / (var + var + (mean - mean)^2), population moments.

    Equal to 1 - MSE / (var + var + (mean - mean)^2), and never above |PCC|: it also punishes a
    wrong mean or scale. 0 if either side is constant, NaN for one example.
    """
    y, x = _pair(label, prediction)
    if y.size < 2:
        return math.nan
    covariance = np.mean((x - x.mean()) * (y - y.mean()))
    spread = x.var() + y.var() + (x.mean() - y.mean()) ** 2
    return float(2 * covariance / spread) if spread > 0 else 0.0


def sagr(label: ArrayLike, prediction: ArrayLike) -> float:
    """Fraction of examples with the right sign; sign 0 matches only 0.

    Never report it alone: on AffectNet's validation labels the better constant sign gets about .70
    for valence and .77 for arousal.
    """
    y, x = _pair(label, prediction)
    return float(np.mean(np.sign(x) == np.sign(y)))


def affect_scores(label: ArrayLike, prediction: ArrayLike) -> dict[str, float | None]:
    """The four scores of one axis, by name and ready for JSON: None for one that is undefined."""
    scores = {"rmse": rmse, "pcc": pcc, "ccc": ccc, "sagr": sagr}
    return {name: defined(score(label, prediction)) for name, score in scores.items()}


def defined(score: float) -> float | None:
    """A score as JSON has it: None instead of NaN."""
    return None if math.isnan(score) else score


def confusion(label: ArrayLike, prediction: ArrayLike) -> np.ndarray:
    """Counts [8, 8] of emotion classes: row is the label, column the prediction.

    Raises:
      ValueError: nothing to count, lengths that differ, or an id outside 0..7.
    """
    y, x, classes = np.asarray(label), np.asarray(prediction), N_EMOTIONS
    if y.shape != x.shape or y.ndim != 1 or y.size == 0:
        raise ValueError(f"class labels {y.shape} and predictions {x.shape} must be equal and [N]")
    for name, ids in (("label", y), ("prediction", x)):
        if ids.min() < 0 or ids.max() >= classes:
            raise ValueError(f"class {name} {ids.min()}..{ids.max()} outside 0..{classes - 1}")
    return np.bincount(y * classes + x, minlength=classes * classes).reshape(classes, classes)


def recall(counts: np.ndarray) -> Floats:
    """Per-class accuracy [classes] of a confusion matrix; NaN for a class without examples."""
    total = counts.sum(axis=1)
    return np.where(total > 0, np.diag(counts) / np.maximum(total, 1), np.nan)


def unweighted_accuracy(counts: np.ndarray) -> float:
    """UA, the mean recall of the classes that have examples (balanced accuracy)."""
    return float(np.nanmean(recall(counts)))


def hit_rate(label: ArrayLike, prediction: ArrayLike) -> float:
    """Fraction of the class ids [N] that are right: the accuracy, without a confusion matrix."""
    return float(np.mean(np.asarray(label) == np.asarray(prediction)))


def weighted_accuracy(counts: np.ndarray) -> float:
    """WA, the fraction of examples put into their class."""
    return float(np.trace(counts) / counts.sum())


def macro_f1(counts: np.ndarray) -> float:
    """Mean of F1 = 2 TP / (labels + predictions) over the classes that occur in either."""
    occurrences = counts.sum(axis=0) + counts.sum(axis=1)
    present = occurrences > 0
    return float(np.mean(2 * np.diag(counts)[present] / occurrences[present]))


def class_scores(label: ArrayLike, prediction: ArrayLike) -> dict:
    """Everything about the eight classes, ready for JSON: a class without examples is None."""
    counts = confusion(label, prediction)
    recalls = recall(counts)
    return {
        "accuracy": weighted_accuracy(counts),
        "unweighted_accuracy": unweighted_accuracy(counts),
        "macro_f1": macro_f1(counts),
        "recall": [None if np.isnan(value) else float(value) for value in recalls],
        "recall_sd_across_classes": float(np.nanstd(recalls)),
        "confusion": counts.tolist(),
    }


def bootstrap(
    metric: Callable[..., float],
    *columns: ArrayLike,
    groups: ArrayLike,
    samples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Confidence of a metric when the examples of a subject or clip are not independent.

    Whole groups are drawn with replacement, as many as there are, and the metric is computed on
    all their examples. The same seed and groups draw the same sets, so that the difference of two
    models can be judged on pairs.

    Args:
      metric: takes the columns, returns a number.
      *columns: [N, ...] arrays that belong together row by row, such as label and prediction.
      groups: [N] subject (or clip) of each row.
      samples: number of resampled sets.
      seed: of the draws.
      level: fraction of the resampled values inside the interval.

    Returns:
      NaN where the metric is undefined for some drawn set.

    Raises:
      ValueError: columns and groups of different lengths, or none at all.
    """
    columns = [np.asarray(column) for column in columns]
    count = len(np.asarray(groups))
    if count == 0 or any(len(column) != count for column in columns):
        lengths = [len(column) for column in columns]
        raise ValueError(f"bootstrap needs columns as long as groups ({count}): {lengths}")
    values = np.array(
        [
            metric(*(column[rows] for column in columns))
            for rows in resampled(groups, samples=samples, seed=seed)
        ]
    )
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high), float(values.std()))


def resampled(
    groups: ArrayLike, *, samples: int = 1000, seed: int = 0
) -> Iterator[NDArray[np.int64]]:
    """The rows of each set that `bootstrap` draws: as many whole groups as there are.

    Args:
      groups: [N] subject (or clip) of each row, at least one.
      samples: number of sets.
      seed: of the draws; the same seed and groups draw the same sets.
    """
    group = np.unique(np.asarray(groups), return_inverse=True)[1]
    members = np.split(np.argsort(group, kind="stable"), np.cumsum(np.bincount(group))[:-1])
    rng = np.random.default_rng(seed)
    for _ in range(samples):
        drawn = rng.integers(len(members), size=len(members))
        yield np.concatenate([members[group] for group in drawn])


def pearson(a: Floats, b: Floats) -> float:
    """Correlation of two float64 vectors; 0 if either is constant, NaN for single numbers."""
    if len(a) < 2:
        return math.nan
    a, b = a - a.mean(), b - b.mean()
    spread = np.sqrt(np.mean(a**2) * np.mean(b**2))
    return float(np.mean(a * b) / spread) if spread > 0 else 0.0


def _pair(label: ArrayLike, prediction: ArrayLike) -> tuple[Floats, Floats]:
    y, x = np.asarray(label, np.float64), np.asarray(prediction, np.float64)
    if y.shape != x.shape or y.ndim != 1 or y.size == 0:
        raise ValueError(f"labels {y.shape} and predictions {x.shape} must be equal and [N]")
    if not (np.isfinite(y).all() and np.isfinite(x).all()):
        bad = int((~np.isfinite(x)).sum())
        raise ValueError(f"labels or predictions are not finite ({bad} of {x.size} predictions)")
    return y, np.clip(x, -1, 1)
