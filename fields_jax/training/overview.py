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
from fields_jax.training.setup import Plan
from fields_jax.training.step import Phase

_ABSTRACT = "named in FIELDS' abstract; the form is ours"
_REGULAR = "SMIRK and TEASER"
# Where each term comes from. Its weight is the config's; configs/ say which of those are published.
SOURCES = {
    "landmark_contour": "SMIRK and TEASER",
    "landmark_68": "ours: SMIRK's contour term for all 68 points",
    "landmark_105": "SMIRK and TEASER",
    "landmark_203": "TEASER",
    "l1": "SMIRK and TEASER",
    "region_l1": "TEASER",
    "perceptual": "SMIRK and TEASER",
    "emotion_feature": "SMIRK, after EMOCA",
    "token": "TEASER",
    "gt_expression": _ABSTRACT,
    "gt_jaw": _ABSTRACT,
    "gt_eyelid": _ABSTRACT,
    "emotion": _ABSTRACT,
    "va_mse": _ABSTRACT + " (EmoNet's terms)",
    "va_pcc": _ABSTRACT + " (EmoNet's terms)",
    "va_ccc": _ABSTRACT + " (EmoNet's terms)",
    "base_expression": _ABSTRACT,
    "base_jaw": _ABSTRACT,
    "base_shape": _ABSTRACT,
    "reg_expression": _REGULAR,
    "reg_jaw": _REGULAR,
    "reg_shape": "ours, in the place of MICA's term",
    "cycle_expression": "SMIRK and TEASER",
    "cycle_jaw": "SMIRK and TEASER",
    "cycle_eyelid": "SMIRK and TEASER",
    "cycle_shape": "SMIRK and TEASER",
    "cycle_token": "TEASER",
}

# The parity of the step decides whose turn it is in the cycle; see `training.loop`.
_CYCLE_TURNS = {
    "synthesizer": ", cycle at even steps",
    "expression_encoder": ", cycle at odd steps",
    "token_encoder": ", cycle at odd steps",
}


def describe_run(config: ConfigDict, plan: Plan) -> str:
    """Tables of the parameters and of the loss terms, one column per phase."""
    phases = plan.phases
    head = ", ".join(
        f"{p.name}: steps {p.start}..{p.start + p.steps}{', cycle in turns' if p.cycle else ''}"
        for p in phases
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
        cycle = _CYCLE_TURNS.get(network, "") if phase.cycle else ""
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
        for name in registry.LOSSES
        if any(config.phases[p.name].losses.get(name, 0) for p in phases)
    ]
    return [(name, *(weight(name, p) for p in phases), SOURCES[name]) for name in asked]


def _columns(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) for row in rows]
    rule = "  ".join("-" * width for width in widths)
    return [line.rstrip() for line in (lines[0], rule, *lines[1:])]
