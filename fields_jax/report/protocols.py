"""The page of a model's scores by protocol: one table for each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fields_jax import __version__, pages
from fields_jax.errors import printable
from fields_jax.evaluation import protocols


def render(scores: Mapping[str, Any]) -> str:
    """The page as one HTML document; `scores` are those of `protocols.score_protocols`."""
    return pages.render(
        "fields_jax.report",
        "protocols.html",
        title="Evaluation by protocol",
        lead="Every table by itself: other sets, splits, labels or crops do not compare. Small: "
        "95 % interval, resampling subjects or clips.",
        facts=[
            ("Networks", f"{printable(scores['workdir'])}, step {scores['step']}"),
            ("Head", printable(scores["head"])),
            ("Not prepared", ", ".join(scores["not_prepared"]) or "none"),
        ],
        tables=[
            (
                protocols.title(own, scores["date"]),
                [protocols.cells(row) for row in own["rows"]],
                any(row["folds"] for row in own["rows"]),
            )
            for own in scores["protocols"].values()
        ],
        version=__version__,
        date=scores["date"],
    )
