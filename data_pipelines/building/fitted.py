"""Labels from the landmark fit, so that photographs without any teach expression and identity.

The fit gives every face its coefficients and how far it leaves the landmarks, which the records
keep as `fit_residual`: training weighs the labels by it (config.losses.fitted_weight).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from data_pipelines import heads, records
from data_pipelines.building.summary import Summary
from fields_jax.fitting.landmarks import Observed
from fields_jax.fitting.photographs import CROP_SCALE, CROP_SIZE, fit_observed
from fields_jax.flame.io import resolve_head
from fields_jax.photos.crops import crop_matrix, to_ndc, transform_points

FAR = "landmark fit too far from the landmarks"
FAILED = "landmark fit failed"

_LARGEST = 0.1  # residual of a fit that is taken: what `evaluate --photographs` calls a failure
_SMALLEST = 1e-6  # residual that is stored at least: 0 says that labels are exact
_BATCH = 32  # faces fitted at once: the largest batch that the fit is compiled for

Keyed = tuple[str, dict[str, Any]]


class Teacher:
    """Adds the coefficients of the landmark fit to records.

    Attributes:
      head: what tells the head of the coefficients from others (`heads.identity`).
    """

    def __init__(self, file: str = ""):
        """Takes the .npz of the head; "" is the procedural one.

        Raises:
          UserError: no such head.
        """
        self._model = resolve_head(file)
        self.head = self._model.identity

    @property
    def words(self) -> str:
        """What the labels depend on besides the landmarks."""
        return f"fitted with {heads.in_words(self.head)}, residual up to {_LARGEST}"

    def taught(self, made: Iterable[Keyed], summary: Summary) -> Iterator[Keyed]:
        """The records with labels, in the same order; without, where the fit fails.

        Args:
          made: keys and records that have landmarks and no coefficients.
          summary: counts the faces that are left without labels.
        """
        made = iter(made)
        while batch := list(itertools.islice(made, _BATCH)):
            labels = self._labels([record for _, record in batch])
            for (key, record), given in zip(batch, labels, strict=True):
                if isinstance(given, str):
                    summary.unlabelled.append((given, key))
                    yield key, record
                else:
                    summary.residuals.append(round(float(given["fit_residual"]), 5))
                    yield key, records.with_labels(record, **given)

    def _labels(self, batch: Sequence[dict[str, Any]]) -> Iterator[dict[str, np.ndarray] | str]:
        """The labels of each record, or why it gets none."""
        fit = fit_observed(self._model, _observed(batch))
        found = {
            "expression": np.asarray(fit.coefficients.expression),
            "shape": np.asarray(fit.coefficients.shape),
            "jaw": np.asarray(fit.coefficients.jaw),
            "eyelid": np.asarray(fit.coefficients.eyelid),
        }
        finite = np.all([np.isfinite(values).all(axis=1) for values in found.values()], axis=0)
        residual = np.asarray(fit.residual)
        whole = np.asarray(fit.valid) & finite & np.isfinite(residual)
        for row in range(len(batch)):
            if not whole[row]:
                yield FAILED
            elif residual[row] > _LARGEST:
                yield FAR
            else:
                stored = {key: _widened(key, values[row]) for key, values in found.items()}
                yield stored | {"fit_residual": max(residual[row], _SMALLEST)}


def _observed(batch: Sequence[dict[str, Any]]) -> Observed:
    """What the fit sees of records: the 105 points, and the 68 where they are annotated."""
    marks = {count: np.zeros((len(batch), count, 2), np.float32) for count in (68, 105)}
    weights = {count: np.zeros(points.shape[:2], np.float32) for count, points in marks.items()}
    for row, record in enumerate(batch):
        # The crop of a known scale that `fit` takes, whatever the scale of the stored one.
        matrix = crop_matrix(record["face_box"], CROP_SCALE, CROP_SIZE)
        for count, flag in ((68, "has_annotated_68"), (105, "has_landmarks_105")):
            placed = transform_points(matrix, record[f"landmarks_{count}"])
            marks[count][row] = to_ndc(placed, CROP_SIZE)
            weights[count][row] = record[flag]
    return Observed(
        landmarks_68=marks[68],
        landmarks_105=marks[105],
        weights_68=weights[68],
        weights_105=weights[105],
    )


def _widened(key: str, values: np.ndarray) -> np.ndarray:
    """Coefficients with zeros for the components of a record that were not fitted."""
    (width,), dtype = records.LABELS[key]
    return np.pad(values.astype(dtype), (0, width - len(values)))
