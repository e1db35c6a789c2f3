"""Checks that the files of a run hold what a report needs, and names what is missing."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from etils import epath

from fields_jax.errors import UserError, printable, quoted
from fields_jax.evaluation import registry, swap
from fields_jax.files import parse_json, read_lines

_CLASSES = 8
_MOST_STEPS = 2**53


class Kind(NamedTuple):
    """What a value may be, and its name in messages."""

    what: str
    holds: Callable[[Any], bool]


def _is_number(value: Any) -> bool:
    plain = isinstance(value, (int, float)) and not isinstance(value, bool)
    return plain and abs(value) < 1e300


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MOST_STEPS


def _list_of(kind: Kind, count: int | None = None) -> Kind:
    def holds(value: Any) -> bool:
        fits = isinstance(value, list) and (count is None or len(value) == count)
        return fits and all(map(kind.holds, value))

    return Kind(f"a list of {'' if count is None else f'{count} '}values", holds)


def _or_null(kind: Kind) -> Kind:
    return Kind(f"{kind.what}, or null", lambda v: v is None or kind.holds(v))


_TEXT = Kind("a text", lambda v: isinstance(v, str))
_COUNT = Kind("a whole number", _is_count)
_NUMBER = Kind("a number", _is_number)
_SCORE = _or_null(_NUMBER)
_ENDS = _or_null(_list_of(_NUMBER, 2))

_OF_A_SYNTHESIZER = ("reconstruction", "swap")  # older evaluations lack both

# What evaluation.json must hold for each set and for all together, by path: besides the registry's
# metrics and their intervals, the inputs of sentences and plots.
_BESIDES_METRICS = {
    "n": _COUNT,
    **dict.fromkeys(("valence_ccc", "arousal_ccc", "accuracy"), _SCORE),
    "expression.calibration.intercept_mm": _SCORE,
    "expression.edges_mm": _ENDS,
    "classes.recall": _list_of(_SCORE, _CLASSES),
    "classes.confusion": _list_of(_list_of(_COUNT, _CLASSES), _CLASSES),
}
# Null for lack of labels, or of a trained synthesiser.
_NULLABLE = ("expression.bins", "valence", "arousal", "classes", *_OF_A_SYNTHESIZER)
# The same for all sets together only.
_WHOLE = {
    "stage": _COUNT,
    "step": _COUNT,
    "split": _TEXT,
    "trained": _list_of(_TEXT),
    "emotions": _list_of(_TEXT, _CLASSES),
    "head": dict.fromkeys(("name", "version", "sha256"), _TEXT),
}

# Columns of predictions.npz: their type, and below and at which number their values end.
_COLUMNS: dict[str, tuple[str, float, float]] = {
    "source": ("i", 0, 1000),
    "emotion": ("i", -1, _CLASSES),
    "predicted_emotion": ("i", 0, _CLASSES),
    **dict.fromkeys(("has_expression", "has_va"), ("b", 0, 2)),
    **dict.fromkeys(("valence", "arousal"), ("f", -math.inf, math.inf)),
    **dict.fromkeys(("predicted_valence", "predicted_arousal"), ("f", -math.inf, math.inf)),
    **dict.fromkeys(("error", "intensity", "predicted_intensity"), ("f", 0, math.inf)),
}
# Arrays of the examples that were kept whole: type, and shape behind the first axis; 0: any size.
_EXAMPLES: dict[str, tuple[str, tuple[int, ...]]] = {
    "row": ("i", ()),
    "source": ("i", ()),
    "id": ("U", ()),
    "image": ("u", (0, 0, 3)),
    "landmarks_105": ("f", (105, 2)),
    "has_landmarks_105": ("b", ()),
    "has_truth": ("b", ()),
    **dict.fromkeys(("predicted_shape", "predicted_expression", "true_expression"), ("f", (0,))),
    **dict.fromkeys(("predicted_jaw", "predicted_pose", "predicted_camera"), ("f", (3,))),
    **dict.fromkeys(("predicted_eyelid", "true_eyelid"), ("f", (2,))),
    "true_jaw": ("f", (3,)),
}
_WIDER = {"i": "iu", "u": "u", "f": "fiu", "b": "b", "U": "U"}  # accepted kinds of numpy's types


def completed(scores: Any) -> Any:
    """An evaluation.json with null for the scores of pictures where it is older than they are."""
    if not isinstance(scores, dict):
        return scores
    found = dict.fromkeys(_OF_A_SYNTHESIZER) | scores
    if isinstance(known := found.get("intervals"), dict):
        painted = (m for m in registry.METRICS if m.network == registry.PAINTER and m.interval)
        found["intervals"] = {m.interval.key: None for m in painted} | known
    if isinstance(sets := found.get("sources"), dict):
        found["sources"] = {name: completed(part) for name, part in sets.items()}
    return found


def check_scores(scores: Mapping[str, Any], source: epath.Path) -> None:
    """Checks the shape of an evaluation.json.

    Raises:
      UserError: naming the file and the first field that is missing or of another kind.
    """
    part_spec = _spec_of_a_part()
    _check(scores, part_spec | _WHOLE, source, "")
    if not isinstance(sets := scores.get("sources"), dict) or not sets:
        raise UserError(f"{source}: sources must hold the scores of each set")
    for name, part in sets.items():
        _check(part, part_spec, source, f"sources.{printable(name)}.")
    _check_nulls(scores, source, "")
    for name, part in sets.items():
        _check_nulls(part, source, f"sources.{printable(name)}.")


def _spec_of_a_part() -> dict[str, Any]:
    """What `_check` expects for a set, nested like evaluation.json."""
    kinds = dict(_BESIDES_METRICS)
    for metric in registry.METRICS:
        kinds |= {path: _SCORE for path in (metric.path, metric.zero) if path}
        if metric.interval:
            kinds[f"intervals.{metric.interval.key}"] = _ENDS
    spec: dict[str, Any] = {}
    for path, kind in kinds.items():
        group, name = _group_of(path, spec)
        group[name] = kind
    for path in _NULLABLE:
        group, name = _group_of(path, spec)
        group[name] = (group[name], None)
    return spec


def _group_of(path: str, spec: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """The dictionary that a dotted path ends in, made where it is absent, and the last key."""
    *groups, name = path.split(".")
    for group in groups:
        spec = spec.setdefault(group, {})
    return spec, name


def _check_nulls(part: Mapping[str, Any], source: epath.Path, path: str) -> None:
    """Scores that are computed together are null together."""
    expression = part["expression"]
    errors = [part[name] for name in ("expression_error_mm", "zero_expression_error_mm")]
    for name, values in (
        ("expression_error_mm", errors),
        ("expression.calibration", expression["calibration"].values()),
        ("expression.bins", [expression["bins"], expression["edges_mm"]]),
    ):
        if len({value is None for value in values}) > 1:
            raise UserError(f"{source}: {path}{name} is null, but not all that belongs to it")


def check_arrays(
    arrays: Mapping[str, np.ndarray], scores: Mapping[str, Any], source: epath.Path
) -> None:
    """Checks the shapes and ranges of a predictions.npz that belongs to `scores`.

    Raises:
      UserError: naming the file and the first array that is missing or of another kind.
    """
    count = scores["n"]
    for name, (kind, low, end) in _COLUMNS.items():
        column = _array(arrays, name, kind, (count,), source)
        if count and not (low <= column.min() and column.max() < end):
            raise UserError(f"{source}: {name} holds values that it cannot have")
    sizes = [part["n"] for part in scores["sources"].values()]
    if np.bincount(arrays["source"].astype(int), minlength=len(sizes)).tolist() != sizes:
        raise UserError(f"{source}: source counts other sets than evaluation.json")
    if arrays["has_expression"].any() != (scores["expression"]["bins"] is not None):
        raise UserError(f"{source}: has_expression is not what evaluation.json says")
    shown = len(arrays.get("example_row", ()))
    if not shown:
        raise UserError(f"{source}: example_row holds no examples")
    for name, (kind, shape) in _EXAMPLES.items():
        _array(arrays, f"example_{name}", kind, (shown, *shape), source)
    # Of a synthesiser; older evaluations lack the second.
    for name in ("example_reconstruction", "example_swapped"):
        if name in arrays:
            _array(arrays, name, "u", (shown, 0, 0, 3), source)
    if "example_swapped" in arrays:
        for name in swap.MOVEMENT:
            width = arrays[f"example_predicted_{name}"].shape[1]
            _array(arrays, f"example_swapped_{name}", "f", (shown, width), source)
    for name, end in (("row", count), ("source", len(scores["sources"]))):
        column = arrays[f"example_{name}"]
        if column.min() < 0 or column.max() >= end:
            raise UserError(f"{source}: example_{name} holds values that it cannot have")
    if arrays["example_true_expression"].shape != arrays["example_predicted_expression"].shape:
        raise UserError(f"{source}: example_true_expression has another width than is predicted")


def read_log(file: epath.Path) -> list[dict[str, Any]]:
    """Rows of a metrics.jsonl in the order of their steps; a resumed run replaces what it repeats.

    A last line that is cut off, as a killed run leaves it, is left out. Values that are not finite
    are None.

    Raises:
      UserError: another line is damaged; names the line and the field.
    """
    if not file.exists():
        return []
    rows, fault = {}, None
    for number, line in enumerate(read_lines(file), start=1):
        if not line.strip():
            continue
        if fault:
            raise UserError(f"{fault}; remove it")
        where = f"{file}, line {number}"
        try:
            row = parse_json(line, where)
        except UserError as error:
            fault = f"{where} is not JSON ({error})"
            continue
        _check(row, {"step": _COUNT, "phase": _TEXT}, where, "")
        values = {name: _value(name, value, where) for name, value in row.items()}
        rows[row["step"]] = values
    return [rows[step] for step in sorted(rows)]


def _value(name: str, value: Any, where: str) -> Any:
    if name in ("step", "phase"):
        return value
    if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float))):
        raise UserError(f"{where}: {printable(name)} must be a number, is {quoted(value)}")
    return value if _is_number(value) else None


def _check(value: Any, spec: Any, source: Any, path: str) -> None:
    """Compares a value of JSON with what it should be; `path` ends in a dot."""
    if isinstance(spec, tuple) and not isinstance(spec, Kind):
        if value is None:
            return
        spec = spec[0]
    if isinstance(spec, Kind):
        if not spec.holds(value):
            raise UserError(f"{source}: {path[:-1]} must be {spec.what}, is {quoted(value)}")
        return
    if not isinstance(value, Mapping):
        raise UserError(f"{source}: {path[:-1] or 'it'} must be an object, is {quoted(value)}")
    for name, each in spec.items():
        if name not in value:
            raise UserError(f"{source}: {path}{name} is missing")
        _check(value[name], each, source, f"{path}{name}.")


def _array(
    arrays: Mapping[str, np.ndarray], name: str, kind: str, shape: tuple[int, ...], source: Any
) -> np.ndarray:
    """An array of that kind and shape, 0 standing for any positive size; numbers are finite."""
    if name not in arrays:
        raise UserError(f"{source}: {name} is missing")
    found = arrays[name]
    fits = found.dtype.kind in _WIDER[kind] and found.ndim == len(shape)
    fits &= kind != "u" or found.dtype == np.uint8
    sizes = zip(found.shape, shape, strict=False)
    if not fits or any(have != want for have, want in sizes if want or not have):
        sides = " x ".join(str(side or "any") for side in shape)
        raise UserError(
            f"{source}: {name} must be {kind} [{sides}], is {found.dtype.kind} {found.shape}"
        )
    if found.dtype.kind == "f" and not np.isfinite(found).all():
        raise UserError(f"{source}: {name} is not finite")
    return found
