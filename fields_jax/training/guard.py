"""Watches a run: what to do about steps that are not finite, and losses that jump."""

from __future__ import annotations

import collections
import json
from collections.abc import Mapping
from typing import Any, SupportsFloat

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from etils import epath

from fields_jax.disk import writing
from fields_jax.errors import UserError
from fields_jax.files import write_whole
from fields_jax.losses.evidence import clear_absent
from fields_jax.models.fields import FieldsModel

Batch = Mapping[str, np.ndarray]
_HISTORY = 100  # losses a spike is compared with
_ENOUGH = 20  # losses needed before anything is called a spike


class DivergedError(UserError):
    """The loss or its gradients were not finite more often in a row than `config.guard` allows."""


class FiniteGuard:
    """Names the examples of skipped steps; too many in a row are written down and end the run."""

    def __init__(self, model: FieldsModel, workdir: str, *, limit: int) -> None:
        self._model, self._limit = model, limit
        many = f"-{jax.process_index()}" if jax.process_count() > 1 else ""
        self._file = epath.Path(workdir) / f"bad_examples{many}.jsonl"
        self._rows: list[dict[str, Any]] = []

    def check(
        self,
        step: int,
        values: Mapping[str, SupportsFloat],
        batch: Batch,
        ids: np.ndarray | None,
        variables: Mapping[str, Any],
    ) -> None:
        """Looks at one step's metrics.

        Args:
          step: the iteration.
          values: its metrics, on the host.
          batch: what this process fed it.
          ids: names of the examples [B], or None.
          variables: the networks', after this step, to find the examples whose outputs are not
            finite; used only where the run ends here.

        Raises:
          DivergedError: more than the allowed number of bad steps in a row.
        """
        bad = int(values["bad_steps"])
        if not bad:
            self._rows.clear()
            return
        names = sorted(n for n, v in values.items() if not np.isfinite(v))
        names_of = np.arange(len(batch["image"])) if ids is None else np.asarray(ids)
        labels = {
            _text(names_of[i]): fields for i, fields in enumerate(bad_labels(batch)) if fields
        }
        whose = f"; labels of {', '.join(sorted(labels)[:3])}" if labels else ""
        logging.warning("step %d skipped: not finite: %s%s", step, ", ".join(names), whose)
        row = {"step": step, "not_finite": names, "ids": [_text(i) for i in names_of]}
        self._rows.append(row | {"bad_labels": labels})
        if bad <= self._limit:
            return
        finite = finite_outputs(self._model, variables, batch["image"])
        outputs = [_text(i) for i in names_of[~finite]]
        self._rows[-1]["bad_outputs"] = outputs
        with writing(self._file, instead="another --workdir"):
            write_whole(self._file, "".join(json.dumps(row) + "\n" for row in self._rows))
        guilty = sorted({*labels, *outputs})
        which = f"examples {', '.join(guilty[:3])}" if guilty else "no single example stands out"
        raise DivergedError(
            f"step {step} and {bad - 1} before it are not finite ({', '.join(names)}; {which}): "
            f"see {self._file}; repair or remove the data, lower the learning rate or raise "
            "config.guard.max_bad_steps; checkpoints are untouched"
        )


class SpikeWatch:
    """Finds losses far above the median of those before them."""

    def __init__(self, factor: float) -> None:
        self._factor = factor
        self._losses: collections.deque[float] = collections.deque(maxlen=_HISTORY)

    def look(self, step: int, loss: float) -> str:
        """One line about a spike, or ""; a factor of 0 never sees one."""
        enough = self._factor and len(self._losses) >= _ENOUGH and np.isfinite(loss)
        median = float(np.median(self._losses)) if enough else 0.0
        if np.isfinite(loss):
            self._losses.append(loss)
        if enough and loss > self._factor * median > 0:
            return f"loss spike at step {step}: {loss:.4g}, {loss / median:.1f} times the median"
        return ""


def bad_labels(batch: Batch) -> list[list[str]]:
    """For each example the labels that count and are not finite."""
    with jax.transfer_guard("allow"):  # rare, and the host is where the examples are
        cleared = jax.device_get(clear_absent(batch))
    fields = {
        name: ~np.isfinite(value).reshape(len(value), -1).all(-1)
        for name, value in cleared.items()
        if np.issubdtype(value.dtype, np.floating)
    }
    return [[n for n, bad in fields.items() if bad[i]] for i in range(len(batch["image"]))]


def finite_outputs(model: FieldsModel, variables: Mapping[str, Any], image: np.ndarray):
    """[B] bool: whether all outputs of the networks in eval mode are finite, image by image."""

    @jax.jit
    def look(variables, image):
        output = model.apply(variables, image.astype(jnp.float32) / 255)
        leaves = [jnp.isfinite(x).reshape(len(x), -1).all(-1) for x in jax.tree.leaves(output)]
        return jnp.stack(leaves).all(0)

    with jax.transfer_guard("allow"):  # once, and not over the devices of the run
        return np.asarray(look(jax.device_get(variables), image))


def _text(name: Any) -> str:
    return name.decode(errors="replace") if isinstance(name, bytes) else str(name)
