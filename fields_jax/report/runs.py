"""What a report is made of: a workdir's config, training log and evaluation, read from disk."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import numpy as np
from etils import epath

from fields_jax.errors import UserError
from fields_jax.evaluation import PREDICTIONS, SCORES
from fields_jax.files import read_json, read_npz
from fields_jax.report import stored
from fields_jax.types import FlameCoefficients
from fields_jax.workdir import schema

T = TypeVar("T")

# Keys of a run's config that the report shows.
_OF_CONFIG = (
    *("batch_size", "head", "image_size", "data.mixture"),
    *("model.encoder_width", "model.encoder_depth", "model.dtype"),
)


@dataclasses.dataclass(frozen=True)
class Run:
    """A training run and its evaluation.

    Attributes:
      name: such as "Stage 2".
      workdir: as given.
      config: of the run.
      scores: evaluation.json.
      arrays: predictions.npz, one row per example.
      log: metrics.jsonl, one dict per line; empty for converted checkpoints.
    """

    name: str
    workdir: str
    config: dict[str, Any]
    scores: dict[str, Any]
    arrays: dict[str, np.ndarray]
    log: list[dict[str, Any]]

    @property
    def reads_emotion(self) -> bool:
        """Whether its emotion head was trained; otherwise its emotion scores mean nothing."""
        return "emotion_head" in self.scores["trained"]

    @property
    def seconds(self) -> float:
        """Time spent in training steps, from the logged throughput; without compilation."""
        total, before = 0.0, 0
        for row in self.log:
            rate = row.get("images_per_second")
            if rate:
                total += (row["step"] - before) * self.config["batch_size"] / rate
            before = row["step"]
        return total

    def example(self, name: str) -> np.ndarray:
        """A field of the examples that were kept whole."""
        return self.arrays[f"example_{name}"]

    def predicted(self) -> FlameCoefficients:
        """Predicted coefficients of the examples that were kept whole."""
        names = ("shape", "expression", "jaw", "eyelid", "pose", "camera")
        return FlameCoefficients(**{name: self.example(f"predicted_{name}") for name in names})


def load_run(name: str, workdir: str) -> Run:
    """Reads a workdir that `fields_jax.evaluate` has scored; the report calls it `name`.

    Raises:
      UserError: a file is missing or damaged, naming it and the remedy.
    """
    folder = epath.Path(workdir)
    if not folder.exists():
        raise UserError(f"{workdir} does not exist; name the folder of a training run")
    remedy = f"run `python -m fields_jax.evaluate --workdir={workdir}` first"
    config = _read(read_json, folder / "config.json", "train the run again", _check_config)
    scores = _read(_read_scores, folder / SCORES, remedy, stored.check_scores)
    check = partial(_check_arrays, scores)
    arrays = _read(read_npz, folder / PREDICTIONS, remedy, check)
    return Run(name, workdir, config, scores, arrays, stored.read_log(folder / "metrics.jsonl"))


def check_comparable(runs: list[Run]) -> None:
    """Refuses to put runs side by side that were scored on different examples.

    Raises:
      UserError: naming what differs.
    """
    first = runs[0]
    for other in runs[1:]:
        for what, of in (
            ("sets", lambda run: {k: v["n"] for k, v in run.scores["sources"].items()}),
            ("split", lambda run: run.scores["split"]),
            ("head", lambda run: run.scores["head"]["sha256"][:12]),
        ):
            if of(first) != of(other):
                raise UserError(
                    f"{first.workdir} and {other.workdir} were scored on another {what} "
                    f"({of(first)} and {of(other)}): evaluate both alike"
                )


def _read(
    read: Callable[[epath.Path], T],
    file: epath.Path,
    remedy: str,
    check: Callable[[T, epath.Path], None],
) -> T:
    """The content of a file that must exist and be intact; `remedy` says how to make it again."""
    try:
        found = read(file)
        check(found, file)
    except FileNotFoundError:
        raise UserError(f"{file} is missing; {remedy}") from None
    except UserError as error:
        raise UserError(f"{error}; {remedy}") from error
    return found


def _read_scores(file: epath.Path) -> Any:
    return stored.completed(read_json(file))


def _check_config(config: dict[str, Any], file: epath.Path) -> None:
    schema.check_trained(config, str(file), needed=_OF_CONFIG)


def _check_arrays(scores: dict[str, Any], arrays: dict[str, np.ndarray], file: epath.Path) -> None:
    if len(arrays.get("source", ())) != scores["n"]:
        raise UserError(f"{SCORES} and {PREDICTIONS} of {file.parent} do not match")
    stored.check_arrays(arrays, scores, file)
