"""What a config would train: its parameters, who learns when, every loss term and its source."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import jax
from flax import traverse_util
from ml_collections import ConfigDict

from fields_jax.losses import registry
from fields_jax.models.fields import variable_shapes
from fields_jax.training.recipe import TURNS, Phase
from fields_jax.training.setup import Plan


def describe_run(config: ConfigDict, plan: Plan) -> str:
    """Tables of the parameters and of the loss terms, one column per phase."""
    phases = plan.phases
    head = ", ".join(
        f"{p.name}: steps {p.start}..{p.end}{', cycle in turns' if p.cycle else ''}" for p in phases
    )
    parameters = [("network", "rule", "parameters", *(f"rate in {p.name}" for p in phases))]
    parameters += _parameter_rows(config, plan)
    terms = [("term", *(f"weight in {p.name}" for p in phases), "source")]
    terms += _term_rows(config, phases)
    size = config.image_size
    return "\n\n".join(
        [
            f"phases  {head}",
            "\n".join(_columns(parameters)),
            "\n".join(_columns(terms)),
            f"batches of {config.batch_size} images of {size} x {size} pixels on "
            f"{jax.device_count()} devices by {config.parallel}; networks in {config.model.dtype}",
            *(f"note: {note}" for note in plan.notes),
        ]
    )


def _parameter_rows(config: ConfigDict, plan: Plan) -> list[tuple[str, ...]]:
    """One row for each network and learning-rate rule, and the totals."""
    params = traverse_util.flatten_dict(variable_shapes(plan.recipe.model)["params"], sep="/")
    counts: dict[tuple[str, str], int] = {}
    for path, leaf in params.items():
        (rule,) = (n for n, r in config.optim.rules.items() if re.fullmatch(r.match, path))
        key = (path.split("/")[0], rule)
        counts[key] = counts.get(key, 0) + math.prod(leaf.shape)

    def learns(network: str, rule: str, phase: Phase) -> str:
        if network not in phase.train:
            return "frozen"
        cycle = ""
        for turn, parity in zip(TURNS, ("even", "odd"), strict=True):
            if phase.cycle and network in phase.learners(turn):
                cycle = f", cycle at {parity} steps"
        return f"{config.optim.rules[rule].lr * phase.rates.get(network, 1.0):g}{cycle}"

    rows = [
        (network, rule, f"{count:,}", *(learns(network, rule, phase) for phase in plan.phases))
        for (network, rule), count in counts.items()
    ]
    trained = [
        sum(n for (network, _), n in counts.items() if network in phase.train)
        for phase in plan.phases
    ]
    return [*rows, ("all", "", f"{sum(counts.values()):,}", *(f"{n:,}" for n in trained))]


def _term_rows(config: ConfigDict, phases: Sequence[Phase]) -> list[tuple[str, ...]]:
    """One row for each term that any phase of the config weighs."""

    def weight(name: str, phase: Phase) -> str:
        if name in phase.weights:
            return f"{phase.weights[name]:g}"
        return "off" if config.phases[phase.name].losses.get(name, 0) else "-"

    asked = [
        name
        for name in registry.TERMS
        if any(config.phases[p.name].losses.get(name, 0) for p in phases)
    ]
    return [
        (name, *(weight(name, p) for p in phases), registry.TERMS[name].source) for name in asked
    ]


def _columns(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) for row in rows]
    rule = "  ".join("-" * width for width in widths)
    return [line.rstrip() for line in (lines[0], rule, *lines[1:])]
