"""Codes of faces with labels of emotion: what the recognition probe is trained on.

They come from a file, .npz or CSV (docs/evaluation.md describes both), or from encoders.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray

from fields_jax.emotions import EMOTIONS, N_EMOTIONS
from fields_jax.errors import UserError, quoted
from fields_jax.evaluation import tables
from fields_jax.evaluation.predictions import ID, SUBJECT, TRUTH
from fields_jax.evaluation.recognition import AXES, Answers
from fields_jax.evaluation.tables import NO_CLASS
from fields_jax.files import read_npz

PARTS = ("shape", "expression", "jaw", "codes")  # "codes": of no division that is known
SPLIT = "split"
SPLITS = ("train", "validation", "test")
# What a probe sees, in the order of EMOCA: identity, expression, jaw.
INPUTS = {
    "expression+jaw": ("expression", "jaw"),
    "shape": ("shape",),
    "shape+expression+jaw": ("shape", "expression", "jaw"),
    "codes": ("codes",),
}
_VALIDATION, _TEST = 0.15, 0.2  # of the subjects, where a file leaves the split to us
_SEED = 0  # of that split, whatever the seeds of the training


@dataclasses.dataclass(frozen=True)
class Codes:
    """Codes and labels of N examples.

    Attributes:
      parts: [N, ...] by names of `PARTS`.
      ids: [N] names.
      emotion: [N] ids, -1 where not known.
      affect: [N, 2] valence and arousal, NaN where not known.
      groups: [N] subject of each; one of its own for an example without.
      by: "subject", or "row" where no subject is known.
      split: [N] rows of `SPLITS`.
    """

    parts: Mapping[str, Float[np.ndarray, "N _"]]
    ids: NDArray[Any]
    emotion: Int[np.ndarray, " N"]
    affect: Float[np.ndarray, "N 2"]
    groups: NDArray[Any]
    by: str
    split: Int[np.ndarray, " N"]

    def inputs(self) -> dict[str, Float[np.ndarray, "N _"]]:
        """The codes of every one of `INPUTS` whose parts are there."""
        return {
            name: np.concatenate([self.parts[part] for part in parts], axis=1)
            for name, parts in INPUTS.items()
            if all(part in self.parts for part in parts)
        }

    def rows(self, split: str) -> NDArray[np.bool_]:
        """Which examples [N] belong to a split."""
        return self.split == SPLITS.index(split)

    def to_arrays(self) -> dict[str, np.ndarray]:
        """The content of an .npz that `read_codes` reads."""
        own = {ID: self.ids, SPLIT: np.array(SPLITS)[self.split]}
        if self.by == SUBJECT:  # rows are nobody's subjects
            own[SUBJECT] = self.groups
        own |= {f"true_{axis}": self.affect[:, index] for index, axis in enumerate(AXES)}
        return {**self.parts, "true_emotion": self.emotion, **own}


def read_codes(path: str) -> Codes:
    """Reads codes and labels from an .npz or a CSV.

    Raises:
      UserError: it cannot be read, lacks codes or labels, or a row is at fault.
    """
    if str(path).endswith(".npz"):
        found = _read_npz(path)
    elif str(path).endswith(".csv"):
        found = _read_csv(path)
    else:
        raise UserError(f"{path}: codes are read from .npz and .csv; write one of them")
    if not any(name in found for name in PARTS):
        raise UserError(f"{path} holds no codes: add {', '.join(PARTS[:3])} or {PARTS[3]}")
    count = len(found[ID])
    emotion = found.get("true_emotion", np.full(count, NO_CLASS)).astype(np.int32)
    affect = np.stack(
        [found.get(f"true_{axis}", np.full(count, np.nan)) for axis in AXES], axis=1
    ).astype(np.float32)
    if not (emotion >= 0).any() and not np.isfinite(affect).any():
        raise UserError(f"{path} holds no label: add {', '.join(TRUTH)}")
    subject = found.get(SUBJECT)
    groups = np.arange(count) if subject is None else subject
    return Codes(
        {name: found[name].astype(np.float32) for name in PARTS if name in found},
        found[ID],
        emotion,
        affect,
        groups,
        "row" if subject is None else "subject",
        assign_splits(str(path), groups, found.get(SPLIT)),
    )


def assign_splits(
    source: str, groups: NDArray[Any], told: Sequence[str] | NDArray[Any] | None
) -> Int[np.ndarray, " N"]:
    """The split of each example; no subject is in two.

    Args:
      source: of the examples, for messages.
      groups: [N] subjects.
      told: [N] names of `SPLITS`, or None to take a fifth of the subjects for the test. Where none
        is for validation, 15 % of the subjects of the rest are.

    Raises:
      UserError: another name, a subject in two splits, or too few subjects.
    """
    names, group = np.unique(np.asarray(groups), return_inverse=True)
    rng = np.random.default_rng(_SEED)
    if told is None:
        of_group = np.zeros(len(names), int)
        of_group[rng.permutation(len(names))[: round(_TEST * len(names))]] = SPLITS.index("test")
        split = of_group[group]
    else:
        split = np.array(
            [_split_index(source, index, str(each)) for index, each in enumerate(told)]
        )
        for name in names[_in_two(group, split)]:
            raise UserError(
                f"{source}: subject {quoted(name)} is in more than one split: a probe would know "
                "it; give every subject one"
            )
    if not (split == SPLITS.index("validation")).any():
        learnt = np.unique(group[split == SPLITS.index("train")])
        held_out = rng.permutation(learnt)[: max(1, round(_VALIDATION * len(learnt)))]
        split = np.where(np.isin(group, held_out), SPLITS.index("validation"), split)
    for index, name in enumerate(SPLITS):
        if (count := int((split == index).sum())) < 2:
            raise UserError(
                f"{source}: {count} examples of {len(names)} subjects are left for {name}; give "
                "more subjects, or a split with train, validation and test"
            )
    return split


def answers_of(codes: Codes, probabilities: np.ndarray, affect: np.ndarray) -> Answers:
    """Predictions of every example as the answers of the test split.

    Args:
      codes: whose labels count.
      probabilities: [N, 8].
      affect: [N, 2].
    """
    rows = codes.rows(SPLITS[-1])
    return Answers(
        {
            axis: (codes.affect[rows, index].astype(np.float64), affect[rows, index])
            for index, axis in enumerate(AXES)
        },
        codes.emotion[rows].astype(np.int64),
        probabilities[rows].argmax(axis=1),
        probabilities[rows],
        codes.groups[rows],
    )


def _split_index(source: str, index: int, name: str) -> int:
    if name not in SPLITS:
        raise UserError(
            f"{source}, example {index + 1}: split {quoted(name)}; known are {', '.join(SPLITS)}"
        )
    return SPLITS.index(name)


def _in_two(group: NDArray[np.int64], split: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which groups have examples in more than one split."""
    seen = np.zeros((group.max() + 1, len(SPLITS)), bool)
    seen[group, split] = True
    return seen.sum(axis=1) > 1


def _read_npz(path: str) -> dict[str, np.ndarray]:
    found = read_npz(path, what="an .npz of codes")
    known = (*PARTS, ID, *TRUTH, SUBJECT, SPLIT)
    if unknown := [name for name in found if name not in known]:
        raise UserError(
            f"{path}: unknown array {quoted(unknown[0])}: rename or remove it; known are "
            f"{', '.join(known)}"
        )
    count = max((len(array) for array in found.values() if array.ndim), default=0)
    for name, array in found.items():
        rank = 2 if name in PARTS else 1
        text = name in (ID, SUBJECT, SPLIT)
        if array.ndim != rank or len(array) != count:
            shape = "[N, components]" if rank == 2 else "[N]"
            raise UserError(
                f"{path}: {name} has the shape {list(array.shape)}; it must be {shape} with N = "
                f"{count}, as the longest has"
            )
        if not text and array.dtype.kind not in "iuf":
            raise UserError(f"{path}: {name} holds no numbers: write float32, or int32 for classes")
        if name in PARTS and not np.isfinite(array).all():
            row = int(np.argmin(np.isfinite(array).all(axis=1)))
            raise UserError(f"{path}: {name} of example {row + 1} is not finite: leave it out")
    _check_npz_labels(path, found)
    return {ID: np.arange(count)} | found


def _check_npz_labels(path: str, found: Mapping[str, np.ndarray]) -> None:
    for name in TRUTH:
        if name not in found:
            continue
        values = found[name]
        if name == TRUTH[-1]:
            wrong = ~np.isin(values, range(NO_CLASS, N_EMOTIONS))
            rule = f"AffectNet's ids 0..{N_EMOTIONS - 1} ({', '.join(EMOTIONS)}), -1 for none"
        else:
            wrong, rule = np.abs(values) > 1, "[-1, 1], NaN for none"
        if wrong.any():
            row = int(np.argmax(wrong))
            raise UserError(f"{path}: {name} of example {row + 1} is {values[row]:g}: use {rule}")


def _read_csv(path: str) -> dict[str, np.ndarray]:
    prefixes = tuple(f"{name}_" for name in PARTS)
    table = tables.read_table(path, (ID, *TRUTH, SUBJECT, SPLIT), prefixes)
    found: dict[str, np.ndarray] = {ID: np.arange(len(table))}
    for part in PARTS:
        names = [name for name in table.columns if re.fullmatch(rf"{part}_\d+", name)]
        names.sort(key=lambda name: int(name.rpartition("_")[2]))
        if names != [f"{part}_{index}" for index in range(len(names))]:
            raise UserError(f"{path}, row 1: the columns of {part} must be {part}_0, {part}_1, ...")
        if names:
            found[part] = np.stack([tables.numbers(table, name) for name in names], axis=1)
    known = {
        f"{part}_{index}" for part in PARTS for index in range(np.shape(found.get(part, [[]]))[1])
    }
    for name in table.columns:
        if name.startswith(prefixes) and name not in known:
            raise UserError(f"{path}, row 1: {quoted(name)} ends in no number; known is shape_0")
    for name in TRUTH[:-1]:
        if name in table.columns:
            found[name] = tables.affect(table, name, label=True)
    if TRUTH[-1] in table.columns:
        found[TRUTH[-1]], _ = tables.classes(table, TRUTH[-1], label=True)
    if ID in table.columns:
        found[ID] = np.array(tables.identifiers(table, ID))
    for name in (SUBJECT, SPLIT):
        if name in table.columns:
            found[name] = np.array(tables.texts(table, name))
    return found
