"""Counts of the photographs of a set that its manifest leaves out."""

from __future__ import annotations

from collections import Counter


class LeftOut:
    """Counts by reason, and the place of the first of each.

    Attributes:
      counts: number left out, by reason.
      first: the file, line or photograph, by reason.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.first: dict[str, str] = {}

    def add(self, reason: str, where: object) -> None:
        """Counts something that is left out."""
        self.counts[reason] += 1
        self.first.setdefault(reason, str(where))

    def lines(self) -> list[str]:
        """One line for each reason, the most frequent first."""
        return [
            f"{reason}: {count} (first: {self.first[reason]})"
            for reason, count in self.counts.most_common()
        ]
