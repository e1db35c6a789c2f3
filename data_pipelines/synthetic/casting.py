"""What the procedural head performs, performed by another head.

Faces are drawn in the movements of the procedural head, so that a class, a valence or a level means
the same on every head. They go from head to head as ARKit's 52 weights.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from data_pipelines.synthetic.pictures import BATCH
from data_pipelines.synthetic.population import Performance
from data_pipelines.synthetic.samples import Sample
from fields_jax.batch import N_EXPRESSION, N_SHAPE
from fields_jax.fitting.parameters import Layout
from fields_jax.flame.landmark_head import with_components
from fields_jax.flame.procedural import procedural_head
from fields_jax.registration import arkit
from fields_jax.registration.heads import Pair
from fields_jax.registration.transfer import Settings, Transfer
from fields_jax.types import CoefficientPrior, FlameCoefficients, FlameModel

_DIGITS = 5  # of millimetres that are kept of each error

# By name, one value of millimetres for each face that was cast: "movement" is the root mean square
# distance that ARKit's shapes leave, "labels" [2] the mean and the 95th percentile of the distances
# that the transfer of labels leaves.
Errors = dict[str, list[Any]]


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
    """Gives the faces of the procedural head to another head."""

    def __init__(self, head: FlameModel, pair: Pair, *, procedural_labels: bool = False):
        """Makes the tables of both heads.

        Args:
          head: the other head, with ARKit's shapes.
          pair: where it and the procedural head lie on each other.
          procedural_labels: labels are coefficients of the procedural head.

        Raises:
          UserError: the head has no ARKit shapes.
        """
        self._actor = _recorded(head)
        self._tables = [
            arkit.arkit_tables(each, count)
            for each, count in (
                (procedural_head(), N_EXPRESSION),
                (self._actor, self._actor.expression_basis.shape[-1]),
            )
        ]
        self._transfer = None
        if procedural_labels:
            bases = self._actor.expression_basis, self._actor.shape_basis
            counts = Layout(*(basis.shape[-1] for basis in bases))
            settings = Settings(n_shape=N_SHAPE, n_expression=N_EXPRESSION, batch_size=BATCH)
            self._transfer = Transfer(self._actor, procedural_head(), counts, pair, settings)

    def __call__(self, samples: Iterable[Sample], errors: Errors) -> Iterator[Sample]:
        """Samples of the procedural head as samples of this one.

        Args:
          samples: batches begin at every `BATCH`-th of them.
          errors: gets the errors of each face that is cast.
        """
        stream = iter(samples)
        while batch := list(itertools.islice(stream, BATCH)):
            yield from self._cast(batch, errors)

    def _cast(self, batch: list[Sample], errors: Errors) -> Iterator[Sample]:
        # Filled up, so that one program is compiled.
        filled = batch + batch[-1:] * (BATCH - len(batch))
        faces, found = self._performed(filled)
        told = faces
        if self._transfer:
            subjects = np.array([sample.labels["subject"] for sample in filled])
            told, found["labels"] = self._transfer(faces, subjects)
        for name, values in found.items():
            errors.setdefault(name, []).extend(values[: len(batch)].round(_DIGITS).tolist())
        told = Told(
            expression=_sized(told.expression, N_EXPRESSION),
            jaw=np.asarray(told.jaw),
            eyelid=np.asarray(told.eyelid),
            shape=_sized(told.shape, N_SHAPE),
        )
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

    def _performed(self, batch: list[Sample]) -> tuple[FlameCoefficients, dict[str, np.ndarray]]:
        """Faces of the other head; jaw and lids are those of the samples, and what ARKit adds.

        The second value is the errors of ARKit's shapes.
        """
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
        priors = self._actor.priors
        identity = np.stack([sample.shape for sample in batch])[:, : len(priors["shape"].mean)]
        shape = np.asarray(priors["shape"].mean) + np.asarray(priors["shape"].deviation) * identity
        faces = still.replace(
            shape=_within(priors["shape"], shape),
            expression=_within(priors["expression"], np.asarray(moved.expression)),
            jaw=_within(priors["jaw"], jaw + np.asarray(moved.jaw)),
            eyelid=_within(priors["eyelid"], eyelid + np.asarray(moved.eyelid)),
        )
        return faces, {"movement": np.hypot(lost, left)}


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
