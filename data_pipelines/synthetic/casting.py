"""What the procedural head performs, performed by another head.

Faces are drawn in the movements of the procedural head, so that a class, a valence or a level means
the same on every head. They go from head to head as ARKit's 52 weights.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float, Int

from data_pipelines.synthetic.pictures import BATCH
from data_pipelines.synthetic.population import Performance
from data_pipelines.synthetic.samples import Sample
from fields_jax.batch import N_EXPRESSION, N_SHAPE
from fields_jax.flame.landmark_head import with_components
from fields_jax.flame.procedural import procedural_head
from fields_jax.registration import arkit
from fields_jax.registration.heads import Pair
from fields_jax.registration.transfer import Settings, transfer
from fields_jax.types import CoefficientPrior, FlameCoefficients, FlameModel

_SPREAD = 95.0  # percentile of errors that is told beside their mean


class Told(NamedTuple):
    """Labels of B faces, as long as a record has them.

    Attributes:
      expression: [B, 50].
      jaw: [B, 3] radians.
      eyelid: [B, 2].
      shape: [B, 300].
    """

    expression: Float[np.ndarray, "B 50"]
    jaw: Float[np.ndarray, "B 3"]
    eyelid: Float[np.ndarray, "B 2"]
    shape: Float[np.ndarray, "B 300"]


class Casting:
    """Gives the faces of the procedural head to another head.

    Attributes:
      errors: by name, one number of millimetres for each face that was cast: "movement" is the root
        mean square distance that ARKit's shapes leave, "labels" [2] the mean and the 95th
        percentile of the distances that the transfer of labels leaves.
    """

    def __init__(self, head: FlameModel, pair: Pair, *, procedural_labels: bool = False):
        """Makes the tables of both heads.

        Args:
          head: the other head, with ARKit's shapes.
          pair: where it and the procedural head lie on each other.
          procedural_labels: labels are coefficients of the procedural head.

        Raises:
          UserError: the head has no ARKit shapes.
        """
        self._pair, self._procedural_labels = pair, procedural_labels
        self._actor = _recorded(head)
        self._tables = [
            arkit.arkit_tables(each, count)
            for each, count in (
                (procedural_head(), N_EXPRESSION),
                (self._actor, self._actor.expression_basis.shape[-1]),
            )
        ]
        self.errors: dict[str, list[Any]] = {"movement": []}
        if procedural_labels:
            self.errors["labels"] = []

    def __call__(self, samples: Iterable[Sample]) -> Iterator[Sample]:
        """Samples of the procedural head as samples of this one."""
        stream = iter(samples)
        while batch := list(itertools.islice(stream, BATCH)):
            yield from self._cast(batch)

    def summary(self) -> dict[str, dict[str, float]]:
        """Mean and 95 % of each kind of error of the faces cast so far, millimetres."""
        found = {}
        for name, values in self.errors.items():
            array = np.asarray(values, np.float64)
            spread = np.percentile(array, _SPREAD) if array.ndim == 1 else array[:, 1].mean()
            mean = array.mean() if array.ndim == 1 else array[:, 0].mean()
            found[name] = {"mean": round(float(mean), 4), "p95": round(float(spread), 4)}
        return found

    def _cast(self, batch: list[Sample]) -> Iterator[Sample]:
        # Filled up, so that one program is compiled.
        filled = batch + batch[-1:] * (BATCH - len(batch))
        faces = jax.tree.map(lambda leaf: leaf[: len(batch)], self._performed(filled, len(batch)))
        told = self._told(faces, [sample.labels["subject"] for sample in batch])
        for row, sample in enumerate(batch):
            labels = {
                key: getattr(told, key.removeprefix("eval_"))[row]
                for key in sample.labels
                if key.removeprefix("eval_") in Told._fields
            }
            shown = (getattr(faces, name)[row] for name in Performance._fields)
            yield sample._replace(
                shape=faces.shape[row],
                performance=Performance(*shown),
                labels=sample.labels | labels,
            )

    def _performed(self, batch: list[Sample], count: int) -> FlameCoefficients:
        """Faces of the other head; jaw and lids are those of the samples, and what ARKit adds."""
        drawn = [
            np.stack([getattr(sample.performance, name) for sample in batch]).astype(np.float32)
            for name in Performance._fields
        ]
        expression, jaw, eyelid = drawn
        rest = np.zeros((len(batch), 3), np.float32)
        camera = rest + np.array([1, 0, 0], np.float32)
        still = FlameCoefficients(rest[:, :0], expression, rest, 0 * eyelid, rest, camera)
        weights, lost = arkit.arkit_weights(procedural_head(), still, self._tables[0])
        moved, left = arkit.from_arkit(self._actor, weights, self._tables[1])
        self.errors["movement"] += np.hypot(lost, left)[:count].tolist()
        priors = self._actor.priors
        identity = np.stack([sample.shape for sample in batch])[:, : len(priors["shape"].mean)]
        shape = np.asarray(priors["shape"].mean) + np.asarray(priors["shape"].deviation) * identity
        return still.replace(
            shape=_within(priors["shape"], shape),
            expression=_within(priors["expression"], np.asarray(moved.expression)),
            jaw=_within(priors["jaw"], jaw + np.asarray(moved.jaw)),
            eyelid=_within(priors["eyelid"], eyelid + np.asarray(moved.eyelid)),
        )

    def _told(self, faces: FlameCoefficients, subjects: list[int]) -> Told:
        """Labels of faces of the other head."""
        if self._procedural_labels:
            faces, errors = self._transferred(faces, np.asarray(subjects))
            self.errors["labels"] += errors.tolist()
        return Told(
            expression=_sized(faces.expression, N_EXPRESSION),
            jaw=np.asarray(faces.jaw),
            eyelid=np.asarray(faces.eyelid),
            shape=_sized(faces.shape, N_SHAPE),
        )

    def _transferred(
        self, faces: FlameCoefficients, subjects: Int[np.ndarray, " B"]
    ) -> tuple[FlameCoefficients, Float[np.ndarray, "B 2"]]:
        """Coefficients of the procedural head for the same faces, and their errors.

        Those of a subject go together: its identity takes as long as many movements.
        """
        starts = np.flatnonzero(np.diff(subjects, prepend=-1))
        settings, parts = Settings(clip=True, n_shape=N_SHAPE, n_expression=N_EXPRESSION), []
        for start, end in itertools.pairwise([*starts.tolist(), len(subjects)]):
            # Filled up to few sizes: a program is compiled for each.
            size = 1 << (end - start - 1).bit_length()
            rows = np.minimum(np.arange(start, start + size), end - 1)
            chosen = jax.tree.map(lambda leaf, rows=rows: leaf[rows], faces)
            found = transfer(chosen, self._actor, procedural_head(), self._pair, settings)
            parts.append(jax.tree.map(lambda leaf, n=end - start: leaf[:n], tuple(found)))
        return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)


def _recorded(head: FlameModel) -> FlameModel:
    """The head with the components that records hold; others may follow if they are held still.

    Raises:
      UserError: the head has no ARKit shapes.
    """
    prior = head.priors["expression"]
    free = np.asarray(prior.lower) < np.asarray(prior.upper)
    count = N_EXPRESSION if free[N_EXPRESSION:].any() else len(free)
    cut = with_components(head, min(N_SHAPE, head.shape_basis.shape[-1]), count)
    names = head.expression_names[:count]
    return cut.replace(arkit_basis=head.arkit_basis, expression_names=names)


def _within(prior: CoefficientPrior, values: Float[np.ndarray, "B K"]) -> Float[np.ndarray, "B K"]:
    """Values no further than the head lets them go."""
    lower, upper = np.asarray(prior.lower), np.asarray(prior.upper)
    return np.clip(values, lower, upper).astype(np.float32)


def _sized(values: Float[np.ndarray, "B K"], size: int) -> Float[np.ndarray, "B N"]:
    """The leading values, or all of them and zeros."""
    values = np.asarray(values)[:, :size]
    return np.pad(values, ((0, 0), (0, size - values.shape[1])))
