"""Scores of one file of predictions, or of two and their difference."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Any

from fields_jax.emotions import EMOTIONS
from fields_jax.errors import UserError, printable
from fields_jax.evaluation import predictions, recognition
from fields_jax.evaluation.predictions import Predictions
from fields_jax.evaluation.recognition import Answers
from fields_jax.evaluation.recognition_files import FORMAT


def score_files(
    path: str, against: str = "", *, samples: int = recognition.SAMPLES
) -> tuple[dict[str, Any], dict[str, Answers]]:
    """Scores predictions against labels; with another file, both and what lies between them.

    Args:
      path: CSV of predictions, see docs/evaluation.md.
      against: another of the same examples; labels, subjects and folds may be in either.
      samples: draws of the bootstrap.

    Returns:
      The scores as `recognition_files` has them, and the answers behind them by method.

    Raises:
      UserError: a file cannot be used, or the two predict nothing in common.
    """
    paths = [path, against] if against else [path]
    files = [predictions.read_predictions(each) for each in paths]
    given = predictions.with_labels(*files) if against else files[0]
    found = {
        name: predictions.answers(own, given)
        for name, own in zip(_names(paths), files, strict=True)
    }
    names, both, differences = list(found), list(found.values()), {}
    if against:
        difference = recognition.compare(*both, samples)
        if not difference["values"]:
            raise UserError(f"{path} and {against} predict nothing in common: no score to compare")
        differences[f"{names[0]} - {names[1]}"] = difference
    unit = "row" if given.subjects is None else "subject"
    scores = {
        "format": FORMAT,
        "title": "Recognition of emotion: " + " against ".join(names),
        "facts": {
            **{name: printable(each) for name, each in zip(names, paths, strict=True)},
            "Examples": str(len(given.ids)),
            "Resampled": f"{samples} draws of whole {unit}s",
        },
        "notes": list(_notes(dict(zip(names, files, strict=True)), both[0], unit)),
        "resampled": unit,
        "methods": {name: recognition.score(own, samples) for name, own in found.items()},
        "differences": differences,
    }
    return scores, found


def _names(paths: list[str]) -> list[str]:
    """What the methods are called: the names of their files, or their paths if these are alike."""
    short = [printable(PurePath(path).stem) for path in paths]
    if len(set(short)) == len(short):
        return short
    if len(set(paths)) < len(paths):
        raise UserError(f"--against={paths[1]} is the file of --predictions: name another")
    return [printable(path) for path in paths]


def _notes(files: Mapping[str, Predictions], answers: Answers, unit: str) -> Iterator[str]:
    """What a reader must know of how the scores came about."""
    if unit == "row":
        yield (
            "No column subject: intervals resample single rows and are too narrow if subjects "
            "or clips come back."
        )
    groups = len(set(answers.groups.tolist()))
    if unit == "subject" and groups < 10:
        yield f"Only {groups} subjects: their intervals say little."
    for name, own in files.items():
        outside = predictions.clipped(own)
        if outside:
            yield f"{name}: {outside} predictions of valence and arousal clipped to [-1, 1]."
        if own.emotion is not None and own.probabilities is None:
            yield f"{name} has no probabilities: with seven classes, contempt counts as wrong."
    labelled = set(answers.emotion[answers.emotion >= 0].tolist())
    absent = [emotion for index, emotion in enumerate(EMOTIONS) if index not in labelled]
    if labelled and absent:
        yield f"No example is labelled {', '.join(absent)}: means over classes leave it out."
