"""What a report is made of: a workdir's config, training log and evaluation, read from disk."""

from __future__ import annotations

import dataclasses
import io
import json
from typing import Any

import numpy as np
from etils import epath
from numpy.typing import NDArray

from fields_jax.errors import UserError
from fields_jax.types import FlameCoefficients


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
    arrays: dict[str, NDArray]
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

    def example(self, name: str) -> NDArray:
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
    scores = json.loads(_read(folder / "evaluation.json", remedy))
    with np.load(io.BytesIO(_read(folder / "predictions.npz", remedy)), allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    if len(arrays["source"]) != scores["n"]:
        raise UserError(f"evaluation.json and predictions.npz of {workdir} do not match; {remedy}")
    config = json.loads(_read(folder / "config.json", "train the run again"))
    return Run(name, workdir, config, scores, arrays, _read_log(folder / "metrics.jsonl"))


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


def _read(file: epath.Path, remedy: str) -> bytes:
    if not file.exists():
        raise UserError(f"{file} is missing; {remedy}")
    return file.read_bytes()


def _read_log(file: epath.Path) -> list[dict[str, Any]]:
    """Rows in the order of their steps; a resumed run replaces the rows it repeats."""
    if not file.exists():
        return []
    rows = {}
    for number, line in enumerate(file.read_text().splitlines(), start=1):
        try:
            row = json.loads(line)
        except ValueError as error:
            raise UserError(f"{file}, line {number} is not JSON ({error}); remove it") from error
        rows[row["step"]] = row
    return [rows[step] for step in sorted(rows)]
