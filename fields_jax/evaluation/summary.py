"""From predictions and labels to the numbers of an evaluation: first columns, then means.

`columns` gives one flat [N] array per quantity, so that sets can be concatenated, pooled, stored
and drawn; `summarize` turns columns into a dict for JSON, None standing for "no such labels", or
too few of them for such a score.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from fields_jax.errors import UserError
from fields_jax.evaluation import affect, closure, geometry, identity, registry, swap
from fields_jax.evaluation.images import REGIONS, Likeness
from fields_jax.types import FieldsOutput, FlameCoefficients, FlameModel

Columns = dict[str, np.ndarray]
_IDENTITY = {  # scores and the columns they are means of
    "within_mm": "shape_within",
    "between_mm": "shape_between",
    "named_share": "named",
    "named_share_of_truth": "named_by_truth",
    "chance": "named_by_chance",
}
_LABELS = ("emotion", "valence", "arousal", "has_emotion", "has_va", "subject", "level")


def columns(
    head: FlameModel,
    prediction: FieldsOutput,
    labels: Mapping[str, np.ndarray],
    *,
    batch_size: int = 64,
) -> Columns:
    """Every scored quantity of N examples as an [N] array.

    Raises:
      UserError: a prediction is not finite.
    """
    for name in ("valence", "arousal", "logits"):
        _check_finite(name, getattr(prediction, name))
    truth, known = geometry.true_coefficients(labels)
    guess = prediction.coefficients
    for name in ("shape", "expression", "jaw", "eyelid", "pose", "camera"):
        _check_finite(name, getattr(guess, name))
    expression = geometry.measure_expression(head, truth, guess, batch_size=batch_size)
    landmarks = geometry.landmark_errors(head, guess, labels, batch_size=batch_size)
    slits = closure.measure_closure(head, truth, guess, batch_size=batch_size)
    return {
        **{name: labels[name] for name in _LABELS},
        "predicted_emotion": prediction.logits.argmax(axis=-1),
        "predicted_valence": prediction.valence,
        "predicted_arousal": prediction.arousal,
        "has_expression": known,
        **expression._asdict(),
        **{
            f"{name}.{unit}": value
            for name, errors in landmarks.items()
            for unit, value in errors.items()
        },
        **{name: np.where(known, values, np.nan) for name, values in slits._asdict().items()},
        **_identity_columns(head, guess, truth, known, labels["subject"]),
        "group": _groups(labels["subject"]),
    }


def _identity_columns(
    head: FlameModel,
    guess: FlameCoefficients,
    truth: FlameCoefficients,
    known: np.ndarray,
    subject: np.ndarray,
) -> Columns:
    """What `identity` measures; persons of different sets are never compared."""
    spread = identity.shape_spread(head, np.asarray(guess.shape), subject)
    return {
        "shape_within": spread.within,
        "shape_between": spread.between,
        "named": identity.named_by(guess.expression, subject),
        "named_by_truth": identity.named_by(truth.expression, np.where(known, subject, -1)),
        "named_by_chance": identity.chance_of(subject),
    }


def pool(parts: Sequence[Columns]) -> Columns:
    """Several sets as one.

    Sets graded in intensity (any `level` given) measure the order of intensities; their class
    labels are left out of the pooled recognition scores, which would otherwise depend on how many
    weak examples happen to be in them.
    """
    pooled = {
        name: np.concatenate([part[name] for part in parts]) for name in parts[0] if name != "group"
    }
    # Their neutral faces, which have no level, are left out with the rest of their set.
    graded = np.concatenate(
        [np.full(len(part["level"]), (part["level"] >= 0).any()) for part in parts]
    )
    for flag in ("has_emotion", "has_va"):
        pooled[flag] = pooled[flag] & ~graded
    offsets = np.cumsum([0, *(part["group"].max() + 1 for part in parts)])
    pooled["group"] = np.concatenate(
        [part["group"] + offset for part, offset in zip(parts, offsets, strict=False)]
    )
    return pooled


def summarize(data: Columns, edges: tuple[float, float] | None, *, samples: int = 1000) -> dict:
    """The scores of one set or of a pool.

    Args:
      data: columns.
      edges: of the intensity bins in mm, `tertiles` of all sets; None where no truth is known.
      samples: bootstrap samples of the 95 % intervals, drawn by subject.
    """
    known = data["has_expression"]
    expression = geometry.Expression(
        *(data[name][known] for name in ("error", "intensity", "predicted_intensity"))
    )
    means = geometry.expression_scores(expression, np.ones(known.sum(), bool))
    valence, arousal = (_axis(data, name) for name in ("valence", "arousal"))
    classes = _classes(data)
    return {
        "n": len(known),
        "groups": len(np.unique(data["group"])),
        "expression_error_mm": means["expression_error_mm"],
        "zero_expression_error_mm": means["zero_expression_error_mm"],
        "valence_ccc": valence and valence["ccc"],
        "arousal_ccc": arousal and arousal["ccc"],
        "accuracy": classes and classes["accuracy"],
        "intervals": _intervals(data, samples),
        "expression": {
            "n": means["n"],
            "predicted_intensity_mm": means["predicted_intensity_mm"],
            "calibration": geometry.calibration(
                expression.intensity, expression.predicted_intensity
            ),
            "edges_mm": edges,
            "bins": geometry.bin_scores(expression, edges) if edges else None,
        },
        "levels": geometry.ordered_pairs(
            *(data[name] for name in ("predicted_intensity", "group", "emotion", "level"))
        ),
        "valence": valence,
        "arousal": arousal,
        "classes": classes,
        "landmarks": {name: _landmarks(data, name) for name in geometry.LANDMARK_SETS},
        "closure": {f"{name}_mm": _mean(data[name]) for name in closure.Closure._fields},
        "identity": {name: _mean(data[column]) for name, column in _IDENTITY.items()},
        **_reconstruction(data),
    }


def _reconstruction(data: Columns) -> dict[str, dict | None]:
    """What `reconstructions` measures; None without a synthesiser."""
    if registry.RECONSTRUCTED not in data:
        return {"reconstruction": None, "swap": None}
    scores = (*Likeness._fields, "perceptual")
    return {
        "reconstruction": {
            region: {name: _mean(data[f"{region}.{name}"]) for name in scores} for region in REGIONS
        },
        "swap": {
            name: affect.defined(swap.share(data[f"swap.{name}"], data[f"swap.{name}_given"]))
            for name in swap.SHARES
        },
    }


def intensity_edges(parts: Sequence[Columns]) -> tuple[float, float] | None:
    """Bin edges from the true intensities of every set; they depend on the data alone."""
    known = np.concatenate([part["intensity"][part["has_expression"]] for part in parts])
    return geometry.tertiles(known) if len(known) else None


def _groups(subject: np.ndarray) -> np.ndarray:
    """Consecutive ids of the groups to resample: a subject, or one example without a subject."""
    alone = -1 - np.arange(len(subject))
    return np.unique(np.where(subject >= 0, subject, alone), return_inverse=True)[1]


def _axis(data: Columns, name: str) -> dict[str, float | None] | None:
    rows = data["has_va"]
    if not rows.any():
        return None
    scores = affect.affect_scores(data[name][rows], data[f"predicted_{name}"][rows])
    return {"n": int(rows.sum())} | scores


def _classes(data: Columns) -> dict | None:
    rows = data["has_emotion"]
    if not rows.any():
        return None
    scores = affect.class_scores(data["emotion"][rows], data["predicted_emotion"][rows])
    return {"n": int(rows.sum())} | scores


def _landmarks(data: Columns, name: str) -> dict:
    ndc = data[f"{name}.ndc"]
    return {
        "n": int(np.isfinite(ndc).sum()),
        "ndc": _mean(ndc),
        "interocular": _mean(data[f"{name}.interocular"]),
    }


def _mean(values: np.ndarray) -> float | None:
    """Over the values that are known; None where there are none."""
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else None


def _intervals(data: Columns, samples: int) -> dict[str, list[float] | None]:
    """95 % bootstrap intervals of the metrics that have one, by their keys."""
    chosen = (metric.interval for metric in registry.METRICS if metric.interval)
    return {each.key: _interval(data, each, samples) for each in chosen}


def _interval(data: Columns, chosen: registry.Resampled, samples: int) -> list[float] | None:
    rows = data.get(chosen.rows)
    if rows is None or not rows.any():
        return None
    values = (data[column][rows] for column in chosen.columns)
    groups = data["group"][rows]
    found = affect.bootstrap(chosen.statistic, *values, groups=groups, samples=samples)
    ends = [affect.defined(found.low), affect.defined(found.high)]
    return None if None in ends else ends


def _check_finite(name: str, values: np.ndarray) -> None:
    bad = int((~np.isfinite(values)).reshape(len(values), -1).any(axis=1).sum())
    if bad:
        raise UserError(
            f"the model predicts {name} that is not finite for {bad} of {len(values)} images: "
            "the training diverged; evaluate an earlier checkpoint or train again"
        )
