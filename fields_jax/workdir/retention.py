"""Which checkpoints are kept: the last few, every K steps, and the best by a metric."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, SupportsFloat

import numpy as np
from absl import logging
from etils import epath
from ml_collections import ConfigDict
from orbax.checkpoint.checkpoint_managers import EveryNSteps, LatestN

from fields_jax.errors import UserError, first_line
from fields_jax.files import read_json, write_whole

BEST_FILE = "best.json"
MODES = ("min", "max")


class KeepBest:
    """Keeps the checkpoint with the best mean of a metric over the steps before; an Orbax policy.

    The record is WORKDIR/best.json: {"metric", "mode", "values": {step: mean}}. It lies outside
    the checkpoints, so that a damaged one cannot hide which was best. It holds the value of every
    checkpoint, and the best one that exists is looked up each time, since a save may fail.
    """

    def __init__(self, workdir: str, metric: str, mode: str) -> None:
        if mode not in MODES:
            raise UserError(f"unknown config.checkpoint.best_mode {mode!r}; known: min, max")
        self._file = epath.Path(workdir) / BEST_FILE
        self._metric, self._mode = metric, mode
        self._values: list[float] = []
        self._means = self._recall()

    def add(self, metrics: Mapping[str, SupportsFloat]) -> None:
        """Takes the metrics of one step; without this metric, or skipped, it is ignored."""
        value = float(metrics.get(self._metric, np.nan))
        if np.isfinite(value):
            self._values.append(value)

    def offer(self, step: int, *, write: bool) -> None:
        """Records the mean since the last offer; call it before the checkpoint is saved.

        Args:
          step: of the checkpoint.
          write: whether this process writes the record to disk.
        """
        values, self._values = self._values, []
        if not values or not np.isfinite(value := float(np.mean(values))):
            return
        self._means[step] = value
        if write:
            record = {"metric": self._metric, "mode": self._mode, "values": self._means}
            write_whole(self._file, json.dumps(record))

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        """One answer for each checkpoint, as Orbax asks."""
        steps = [checkpoint.step for checkpoint in checkpoints]
        sign = 1 if self._mode == "min" else -1
        known = [step for step in steps if step in self._means]
        best = min(known, key=lambda step: sign * self._means[step], default=None)
        return [step == best for step in steps]

    def _recall(self) -> dict[int, float]:
        try:
            record = read_json(self._file)
            if (record["metric"], record["mode"]) != (self._metric, self._mode):
                return {}
            means = {int(step): float(value) for step, value in record["values"].items()}
            return {step: value for step, value in means.items() if np.isfinite(value)}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
            logging.warning(
                "%s is damaged (%s): the best checkpoint is looked for anew",
                self._file,
                first_line(error),
            )
            return {}


def make_policies(config: ConfigDict, workdir: str) -> tuple[list[Any], KeepBest | None]:
    """The policies that `config.checkpoint` asks for, and the one that needs metrics, if any.

    Raises:
      UserError: keep below 1, or an unknown mode.
    """
    options = config.checkpoint
    if options.keep < 1:
        raise UserError(f"config.checkpoint.keep={options.keep} keeps nothing; set 1 or more")
    policies: list[Any] = [LatestN(options.keep)]
    if options.keep_every:
        policies.append(EveryNSteps(options.keep_every))
    best = None
    if options.best_metric:
        best = KeepBest(workdir, options.best_metric, options.best_mode)
        policies.append(best)
    return policies, best
