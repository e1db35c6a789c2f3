"""Probes of one or several kinds of codes, beside what needs no codes: one table of scores."""

from __future__ import annotations

import dataclasses
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath

from fields_jax.disk import writing
from fields_jax.emotions import EMOTIONS, N_EMOTIONS
from fields_jax.errors import UserError
from fields_jax.evaluation import recognition
from fields_jax.evaluation.codes import SPLITS, Codes, answers_of
from fields_jax.evaluation.predictions import SUBJECT
from fields_jax.evaluation.probe import Labels, Recipe, predict_probe, train_probe
from fields_jax.evaluation.recognition import Answers
from fields_jax.evaluation.recognition_files import FORMAT
from fields_jax.evaluation.tables import csv_text
from fields_jax.files import write_npz, write_whole

CONSTANT, CLASS_MEAN, OWN_HEAD = "constant", "class mean (oracle)", "own emotion head"


@dataclasses.dataclass(frozen=True)
class Plan:
    """What to probe.

    Attributes:
      codes: by name; the first one's labels give the references.
      head: what a model's own emotion head reads from the test split of the first, or None.
      inputs: names of `codes.INPUTS` to probe; empty: all that a kind of codes has.
      recipe: of every probe.
      seeds: how many times each is trained, from seeds 0, 1, ...
      facts: for the top of the page.
      samples: draws of the bootstrap.
    """

    codes: Mapping[str, Codes]
    head: Answers | None
    inputs: Sequence[str]
    recipe: Recipe
    seeds: int
    facts: Mapping[str, str]
    samples: int = recognition.SAMPLES


def probe(plan: Plan) -> tuple[dict[str, Any], dict[str, Answers]]:
    """Trains and scores every probe of a plan on its test split.

    Returns:
      The scores as `recognition_files` has them, with "training" (steps, best step and seconds of
      each probe), and the answers behind them: those of the first seed.

    Raises:
      UserError: nothing to probe.
    """
    first = next(iter(plan.codes.values()))
    answers = {CONSTANT: constant(first), CLASS_MEAN: class_mean(first)}
    if plan.head is not None:
        answers[OWN_HEAD] = plan.head
    seeds: dict[str, dict[str, Any]] = {}
    training: dict[str, list[dict[str, float]]] = {}
    for name, codes, inputs in _kinds(plan):
        print(f"{name}: {inputs.shape[1]} numbers of {len(inputs)} examples", flush=True)
        repeats = [_one(codes, inputs, plan.recipe, seed) for seed in range(plan.seeds)]
        answers[name] = repeats[0][0]
        values = [recognition.measures(own)(np.arange(len(own.emotion))) for own, _ in repeats]
        seeds[name] = recognition.over_repeats(values)
        training[name] = [told for _, told in repeats]
    methods = {name: recognition.score(own, plan.samples) for name, own in answers.items()}
    for name, repeated in seeds.items():
        methods[name]["seeds"] = repeated
    scores = {
        "format": FORMAT,
        "title": "Emotion that frozen codes hold",
        "facts": dict(plan.facts) | _facts(first, plan),
        "notes": list(_notes(plan, first)),
        "resampled": first.by,
        "methods": methods,
        "differences": {},
        "training": training,
    }
    return scores, answers


def drawn(answers: Mapping[str, Answers]) -> dict[str, Answers]:
    """Those whose plots say something: all but the references."""
    return {name: own for name, own in answers.items() if name not in (CONSTANT, CLASS_MEAN)}


def constant(codes: Codes) -> Answers:
    """Knowing nothing: the means and the class frequencies of the training labels."""
    learnt = codes.rows("train")
    known = codes.emotion[learnt & (codes.emotion >= 0)]
    counts = np.bincount(known, minlength=N_EMOTIONS).astype(np.float64)
    shares = counts / counts.sum() if len(known) else np.full(N_EMOTIONS, 1 / N_EMOTIONS)
    affect = _mean(codes.affect[learnt])
    return answers_of(
        codes, np.tile(shares, (len(codes.ids), 1)), np.tile(affect, (len(codes.ids), 1))
    )


def class_mean(codes: Codes) -> Answers:
    """Knowing the class alone: the mean valence and arousal of an example's true class.

    Means are those of the test labels, so that this is the most that a class can tell of them.
    Classes are left out: they would all be right.
    """
    rows = codes.rows(SPLITS[-1])
    affect = np.tile(_mean(codes.affect[rows]), (len(codes.ids), 1))
    for index in range(N_EMOTIONS):
        own = codes.emotion == index
        if (own & rows).any():
            affect[own] = _mean(codes.affect[own & rows])
    whole = answers_of(codes, np.eye(N_EMOTIONS)[np.maximum(codes.emotion, 0)], affect)
    return dataclasses.replace(whole, predicted_emotion=None, probabilities=None)


def write_details(out: str, plan: Plan, answers: Mapping[str, Answers]) -> None:
    """Writes predictions/METHOD.csv for `evaluate --predictions`, and codes/NAME.npz.

    Raises:
      DiskError: one of them cannot be written.
    """
    target = epath.Path(out)
    first = next(iter(plan.codes.values()))
    with writing(target, instead="another --out"):
        for name, own in answers.items():
            codes = plan.codes.get(name.partition(": ")[0], first)
            file = re.sub(r"[^\w+-]+", "-", name).strip("-")
            rows = list(_rows(codes, own))
            write_whole(target / "predictions" / f"{file}.csv", csv_text(rows))
        for name, codes in plan.codes.items():
            write_npz(target / "codes" / f"{name}.npz", codes.to_arrays())


def _kinds(plan: Plan) -> Iterator[tuple[str, Codes, np.ndarray]]:
    """Name, codes and numbers of every probe."""
    found = [
        (f"{kind}: {name}", codes, inputs)
        for kind, codes in plan.codes.items()
        for name, inputs in codes.inputs().items()
        if not plan.inputs or name in plan.inputs
    ]
    if not found:
        raise UserError(
            f"no codes have all parts of {' or '.join(plan.inputs)}; name other --inputs"
        )
    yield from found


def _one(
    codes: Codes, inputs: np.ndarray, recipe: Recipe, seed: int
) -> tuple[Answers, dict[str, float]]:
    """Answers of a probe of one seed, and how its training went."""
    labels = Labels(codes.emotion, codes.affect)
    start = time.monotonic()
    trained = train_probe(
        inputs, labels, codes.rows("train"), codes.rows("validation"), recipe, seed
    )
    probabilities, affect = predict_probe(trained, recipe, inputs)
    told = {
        "seed": seed,
        "steps": trained.steps,
        "best_step": trained.best_step,
        "validation_loss": min(trained.losses),
        "seconds": round(time.monotonic() - start, 1),
    }
    return answers_of(codes, probabilities, affect), told


def _mean(affect: np.ndarray) -> np.ndarray:
    """Means [2] of the known labels [n, 2]; 0 where there is none."""
    known = np.isfinite(affect)
    total = np.where(known, affect, 0).sum(axis=0, dtype=np.float64)
    return total / np.maximum(known.sum(axis=0), 1)


def _facts(first: Codes, plan: Plan) -> dict[str, str]:
    counts = " / ".join(str(int(first.rows(name).sum())) for name in SPLITS)
    recipe = plan.recipe
    length = f"{recipe.steps} steps" if recipe.steps else f"{recipe.epochs} epochs"
    labelled = int((first.emotion >= 0).sum()), int(np.isfinite(first.affect).all(axis=1).sum())
    return {
        f"Examples, {' / '.join(SPLITS)}": f"{counts}, split by {first.by}",
        "Labels": f"class of {labelled[0]}, valence and arousal of {labelled[1]}",
        "Probe": f"{recipe.depth} x {recipe.width}, Adam at {recipe.rate:g}, batches of "
        f"{recipe.batch}, at most {length}, ends after {recipe.patience} checks without a better",
        "Seeds": ", ".join(map(str, range(plan.seeds))),
        "Sampling": "every class equally often" if recipe.balanced else "every row equally often",
    }


def _notes(plan: Plan, first: Codes) -> Iterator[str]:
    for name, codes in plan.codes.items():
        test, own = (each.ids[each.rows(SPLITS[-1])] for each in (first, codes))
        if not np.array_equal(test, own):
            yield f"{name} was tested on other examples ({len(own)}): its scores do not compare."
        if codes.by == "row":
            yield f"{name} tells no subjects: people may be in training and test."
    if any("shape" in codes.parts for codes in plan.codes.values()):
        yield (
            "Identity can tell emotion by accident (who poses what): compare inputs with shape to "
            "expression+jaw."
        )
    yield (
        "The class mean knows the true class and the test labels' means; it bounds what a class "
        "tells of valence and arousal."
    )
    if plan.recipe != Recipe():
        yield "The recipe is not EMOCA's: these numbers do not compare with published ones."


def _rows(codes: Codes, own: Answers) -> Iterator[dict[str, Any]]:
    for index, name in enumerate(codes.ids[codes.rows(SPLITS[-1])]):
        row: dict[str, Any] = {"id": name}
        for axis, (label, guess) in own.axes.items():
            row |= {axis: float(guess[index]), f"true_{axis}": float(label[index])}
        if own.probabilities is not None:
            row |= {
                f"p_{emotion}": float(share)
                for emotion, share in zip(EMOTIONS, own.probabilities[index], strict=True)
            }
        label = own.emotion[index]
        row["true_emotion"] = EMOTIONS[label] if label >= 0 else ""
        if codes.by == SUBJECT:  # rows are nobody's subjects
            row["subject"] = own.groups[index]
        yield row
