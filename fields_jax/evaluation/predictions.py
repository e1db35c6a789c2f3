"""Anyone's predictions of emotion from a CSV: one row per example, joined by id.

docs/evaluation.md describes the columns.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fields_jax.emotions import EMOTIONS, N_EMOTIONS
from fields_jax.errors import UserError, quoted
from fields_jax.evaluation import tables
from fields_jax.evaluation.recognition import AXES, Answers
from fields_jax.evaluation.tables import NO_CLASS, Floats, Ints, Table

ID, SUBJECT, FOLD = "id", "subject", "fold"
TRUTH = tuple(f"true_{name}" for name in (*AXES, "emotion"))
KNOWN = (ID, *AXES, "emotion", *TRUTH, SUBJECT, FOLD)
PROBABILITY = "p_"  # before the name of a class
_SUM = 0.01  # by which probabilities may miss 1
# Ids that other data sets give the classes, as AffectNet's.
_ORDERS = {
    "RAF-DB": {1: 3, 2: 4, 3: 5, 4: 1, 5: 2, 6: 6, 7: 0},
    "Aff-Wild2": {0: 0, 1: 6, 2: 5, 3: 4, 4: 1, 5: 2, 6: 3},
    "FER2013": {0: 6, 1: 5, 2: 4, 3: 1, 4: 2, 5: 3, 6: 0},
    "FER+": {0: 0, 1: 1, 2: 3, 3: 2, 4: 6, 5: 5, 6: 4, 7: 7},
}
_BETTER = 0.2  # by which another order must raise the accuracy to be taken for the file's
_ENOUGH = 20  # labels from which on that is no accident


@dataclasses.dataclass(frozen=True)
class Predictions:
    """A file of predictions, and of labels if it has them.

    Attributes:
      table: the file's cells, for messages.
      ids: of the N examples.
      axes: predicted valence and arousal [N], as far as the file has them.
      emotion: predicted ids [N], or None.
      probabilities: [N, 8], or None.
      truth: labels [N] by `TRUTH`, as far as the file has them; NaN or -1 where not known.
      subjects, folds: [N] texts, or None.
      ids_of_classes: which columns write classes as ids instead of names.
    """

    table: Table
    ids: Sequence[str]
    axes: Mapping[str, Floats]
    emotion: Ints | None
    probabilities: Floats | None
    truth: Mapping[str, NDArray[Any]]
    subjects: Sequence[str] | None
    folds: Sequence[str] | None
    ids_of_classes: frozenset[str]


def read_predictions(path: str) -> Predictions:
    """Reads a CSV of predictions.

    Raises:
      UserError: it cannot be read, or a row is at fault.
    """
    table = tables.read_table(path, KNOWN, (PROBABILITY,))
    if ID not in table.columns:
        raise UserError(
            f"{path}, row 1: no column {ID}: name every example, so that files can join"
        )
    axes = {axis: tables.affect(table, axis, label=False) for axis in AXES if axis in table.columns}
    probabilities = _probabilities(table)
    emotion, ids_of_classes = None, set()
    if "emotion" in table.columns:
        emotion, as_ids = tables.classes(table, "emotion", label=False)
        ids_of_classes |= {"emotion"} if as_ids else set()
        if probabilities is not None:
            _check_agreement(table, emotion, probabilities)
    elif probabilities is not None:
        emotion = probabilities.argmax(axis=1)
    if not axes and emotion is None:
        raise UserError(
            f"{path}, row 1: nothing is predicted: add a column valence, arousal, emotion or "
            f"{PROBABILITY}{EMOTIONS[0]} ... {PROBABILITY}{EMOTIONS[-1]}"
        )
    truth: dict[str, NDArray[Any]] = {}
    for name in TRUTH:
        if name not in table.columns:
            continue
        if name != TRUTH[-1]:
            truth[name] = tables.affect(table, name, label=True)
            continue
        truth[name], as_ids = tables.classes(table, name, label=True)
        ids_of_classes |= {name} if as_ids else set()
    ids = tables.identifiers(table, ID)
    subjects, folds = (
        tables.texts(table, name) if name in table.columns else None for name in (SUBJECT, FOLD)
    )
    own = axes, emotion, probabilities, truth, subjects, folds
    return Predictions(table, ids, *own, frozenset(ids_of_classes))


def with_labels(one: Predictions, other: Predictions) -> Predictions:
    """The first file with what only the second tells: labels, subjects, folds.

    Raises:
      UserError: the files have other examples, or labels that differ.
    """
    order = _matching(other, one)
    truth = dict(one.truth)
    for name, values in other.truth.items():
        mine = values[order]
        if not np.isclose(truth.setdefault(name, mine), mine, 0, 1e-6, equal_nan=True).all():
            first = int(np.argmin(np.isclose(truth[name], mine, 0, 1e-6, equal_nan=True)))
            one.table.refuse(
                first,
                f"{name} of {quoted(one.ids[first])} is not that of {other.table.path}: the files "
                "must agree on labels",
            )
    return dataclasses.replace(
        one,
        truth=truth,
        subjects=one.subjects or _ordered(other.subjects, order),
        folds=one.folds or _ordered(other.folds, order),
        ids_of_classes=one.ids_of_classes | (other.ids_of_classes & set(TRUTH)),
    )


def answers(own: Predictions, given: Predictions) -> Answers:
    """Predictions beside labels.

    Args:
      own: the predictions.
      given: where labels, subjects and folds come from: the same, or `with_labels`. Its examples
        give the order of the rows.

    Raises:
      UserError: the files have other examples, nothing that is predicted has labels, or classes are
        those of another data set's order.
    """
    order = _matching(own, given)
    axes = {
        axis: (given.truth[f"true_{axis}"], values[order])
        for axis, values in own.axes.items()
        if f"true_{axis}" in given.truth
    }
    count = len(given.ids)
    emotion = given.truth.get("true_emotion", np.full(count, NO_CLASS))
    guess = None if own.emotion is None else own.emotion[order]
    some = any(np.isfinite(label).any() for label, _ in axes.values())
    if not some and (guess is None or not (emotion >= 0).any()):
        raise UserError(
            f"{own.table.path} has nothing to score: what it predicts has no label; add columns "
            f"{', '.join(TRUTH)}"
        )
    if guess is not None:
        _check_order(own, given, emotion, guess)
    return Answers(
        axes,
        emotion,
        guess,
        None if own.probabilities is None else own.probabilities[order],
        np.arange(count) if given.subjects is None else np.asarray(given.subjects),
        None if given.folds is None else np.asarray(given.folds),
    )


def clipped(own: Predictions) -> int:
    """How many predicted values of valence and arousal lie outside [-1, 1]."""
    return int(sum((np.abs(values) > 1).sum() for values in own.axes.values()))


def _probabilities(table: Table) -> Floats | None:
    names = [name for name in table.columns if name.startswith(PROBABILITY)]
    if not names:
        return None
    wanted = {f"{PROBABILITY}{emotion}": index for index, emotion in enumerate(EMOTIONS)}
    for name in names:
        if name not in wanted:
            raise UserError(
                f"{table.path}, row 1: {quoted(name)} names no class: write {', '.join(wanted)}"
            )
    # A classifier of seven classes gives contempt none.
    if missing := [name for name in list(wanted)[:-1] if name not in names]:
        raise UserError(
            f"{table.path}, row 1: no column {missing[0]}: write one for every class, {PROBABILITY}"
            f"{EMOTIONS[-1]} only for eight"
        )
    found = np.zeros((len(table), N_EMOTIONS))
    for name in names:
        found[:, wanted[name]] = tables.numbers(table, name)
    for index, row in enumerate(found):
        total = row.sum()
        if row.min() < 0:
            table.refuse(index, "a probability is below 0: these look like logits; use softmax")
        if abs(total - 1) > _SUM:
            percent = abs(total - 100) < 100 * _SUM
            cure = "divide by 100" if percent else "use softmax or divide by the sum"
            table.refuse(index, f"the probabilities sum to {total:.4g} instead of 1: {cure}")
    return found / found.sum(axis=1, keepdims=True)


def _check_agreement(table: Table, emotion: Ints, probabilities: Floats) -> None:
    highest = probabilities.argmax(axis=1)
    differ = np.flatnonzero(emotion != highest)
    if 2 * len(differ) > len(emotion):
        first = differ[0]
        table.refuse(
            int(first),
            f"emotion is {EMOTIONS[emotion[first]]} but the most probable class "
            f"{EMOTIONS[highest[first]]}, and so in {len(differ)} of {len(emotion)} rows: another "
            "order of the classes? Write their names",
        )


def _matching(own: Predictions, given: Predictions) -> Ints:
    """Row of each example of `given` in `own`."""
    if own is given:
        return np.arange(len(own.ids))
    place = {name: index for index, name in enumerate(own.ids)}
    known = set(given.ids)
    for one, other, rest in ((own, given, known), (given, own, set(place))):
        for index, name in enumerate(one.ids):
            if name not in rest:
                one.table.refuse(
                    index,
                    f"id {quoted(name)} is not in {other.table.path}: both files must hold the "
                    "same examples",
                )
    return np.array([place[name] for name in given.ids])


def _check_order(own: Predictions, given: Predictions, truth: Ints, guess: Ints) -> None:
    """Refuses ids that fit the labels far better in the order of another data set."""
    if "emotion" in own.ids_of_classes:
        table, column, ids, names = own.table, "emotion", guess, truth
    elif "true_emotion" in given.ids_of_classes:
        table, column, ids, names = given.table, "true_emotion", truth, guess
    else:
        return
    known = truth >= 0
    ids, names = ids[known], names[known]
    if len(ids) < _ENOUGH:
        return
    as_told = (ids == names).mean()
    for data_set, order in _ORDERS.items():
        renamed = np.array([order.get(int(value), NO_CLASS) for value in ids])
        if (hits := (renamed == names).mean()) > as_told + _BETTER:
            raise UserError(
                f"{table.path}, column {column}: the ids look like those of {data_set} (accuracy "
                f"{hits:.2f} in place of {as_told:.2f}); AffectNet's are meant: write names instead"
            )


def _ordered(values: Sequence[str] | None, order: Ints) -> list[str] | None:
    return None if values is None else [values[index] for index in order]
