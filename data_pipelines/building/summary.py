"""Counts, distributions and rejects of the examples of a set, as plain JSON."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np

from fields_jax import batch
from fields_jax.emotions import EMOTIONS

INTENSITY_BINS = 20  # of [0, 1]
_POINTS = 40  # (valence, arousal, emotion) kept of each shard, for the scatter plot


@dataclasses.dataclass
class Summary:
    """Sums over some of the photographs or generated faces of a set.

    Attributes:
      examples: records made.
      emotions: how many of each class, by name.
      flags: how many carry each kind of label, by `has_*`.
      intensity: per class (or "unknown") counts of min(1, |(valence, arousal)|) in equal bins.
      points: some (valence, arousal, class or -1).
      rejects: (reason, detail) of each photograph left out.
      residuals: of the landmark fits that labels are taken from, inter-ocular distances.
      unlabelled: (reason, key) of each photograph that is kept without labels of a landmark fit.
      errors: by name, millimetres of each generated face of another head than the procedural one:
        a number, or a pair of its mean and 95th percentile.
    """

    examples: int = 0
    emotions: Counter = dataclasses.field(default_factory=Counter)
    flags: Counter = dataclasses.field(default_factory=Counter)
    intensity: dict[str, list[int]] = dataclasses.field(default_factory=dict)
    points: list[tuple[float, float, int]] = dataclasses.field(default_factory=list)
    rejects: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    residuals: list[float] = dataclasses.field(default_factory=list)
    unlabelled: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    errors: dict[str, list[Any]] = dataclasses.field(default_factory=dict)

    def add(self, record: dict[str, Any]) -> None:
        """Counts one record, as `records.record` makes it."""
        self.examples += 1
        self.flags.update(flag for flag in batch.FLAGS if record[flag])
        emotion = int(record["emotion"]) if record["has_emotion"] else -1
        name = EMOTIONS[emotion] if emotion >= 0 else "unknown"
        if emotion >= 0:
            self.emotions[name] += 1
        if record["has_va"]:
            valence, arousal = float(record["valence"]), float(record["arousal"])
            bins = self.intensity.setdefault(name, [0] * INTENSITY_BINS)
            place = int(math.hypot(valence, arousal) * INTENSITY_BINS)
            bins[min(place, INTENSITY_BINS - 1)] += 1
            if len(self.points) < _POINTS:
                self.points.append((round(valence, 4), round(arousal, 4), emotion))

    def reject(self, reason: str, detail: str) -> None:
        """Counts one photograph that is left out."""
        self.rejects.append((reason, detail))

    def reasons(self) -> dict[str, int]:
        """How many were left out for each reason, the most frequent first."""
        return dict(Counter(reason for reason, _ in self.rejects).most_common())

    @property
    def median_residual(self) -> float | None:
        """Of the landmark fits that labels are taken from; None without any."""
        return round(statistics.median(self.residuals), 4) if self.residuals else None

    def errors_mm(self) -> dict[str, dict[str, float]]:
        """Mean and 95 % of each kind of error; of pairs, the means of what they tell of a face."""
        found = {}
        for name, values in self.errors.items():
            array = np.asarray(values, np.float64)
            mean, spread = (
                (array.mean(), np.percentile(array, 95)) if array.ndim == 1 else array.mean(axis=0)
            )
            found[name] = {"mean": round(float(mean), 4), "p95": round(float(spread), 4)}
        return found

    def to_json(self) -> dict[str, Any]:
        """Plain lists and dictionaries; `Summary(**...)` takes them back."""
        return dict(vars(self))


def total(summaries: Iterable[Summary]) -> Summary:
    """The sum of several summaries."""
    result = Summary()
    for each in summaries:
        result.examples += each.examples
        result.emotions.update(each.emotions)
        result.flags.update(each.flags)
        for name, bins in each.intensity.items():
            known = result.intensity.get(name, [0] * INTENSITY_BINS)
            result.intensity[name] = [a + b for a, b in zip(known, bins, strict=True)]
        result.points += [tuple(point) for point in each.points]
        result.rejects += [tuple(reject) for reject in each.rejects]
        result.residuals += each.residuals
        result.unlabelled += [tuple(left) for left in each.unlabelled]
        for name, values in each.errors.items():
            result.errors.setdefault(name, []).extend(values)
    return result
