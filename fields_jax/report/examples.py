"""Held-out examples as rows of pictures: the input, the predicted face, the reconstruction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float
from PIL import Image

from fields_jax.evaluation.swap import MOVEMENT
from fields_jax.render import project
from fields_jax.render.draw import draw_points, overlay, to_uint8
from fields_jax.report.figures import data_uri
from fields_jax.report.runs import Run
from fields_jax.synthesis import draw_head
from fields_jax.types import FlameCoefficients, FlameModel

_SIZE = 144  # pixels of a picture; renders are made at this size, photographs are resized
_OPACITY = 0.85
_LABELLED, _PREDICTED = (60, 220, 110), (255, 75, 60)


class Example(NamedTuple):
    """One row of the picture table.

    Attributes:
      title: its source and id.
      notes: lines of text about labels and predictions.
      pictures: one data URI per column.
    """

    title: str
    notes: list[str]
    pictures: list[str]


def draw_examples(runs: Sequence[Run], head: FlameModel) -> tuple[list[str], list[Example]]:
    """Column titles and one row per example that the evaluation kept.

    Columns: input; landmarks, labelled and as the last run predicts them; the mesh of each run; the
    true expression on the last run's identity, pose and camera; and, if its synthesiser was
    trained, the last run's reconstruction, the mesh with the expression of another face, and what
    the synthesiser makes of that.
    """
    last = runs[-1]
    image = enlarged(last.example("image"))
    predicted = last.predicted()
    columns = {"input": image, "landmarks": _landmarks(last, image, head, predicted)}
    for run in runs:
        columns[f"mesh, {run.name.lower()}"] = mesh_over(image, head, run.predicted())
    columns["mesh, true expression"] = true_mesh(last, image, head, predicted)
    if "example_reconstruction" in last.arrays:
        columns["reconstruction"] = enlarged(last.example("reconstruction"))
    if "example_swapped" in last.arrays:
        swapped = _with_movement(last, "swapped", predicted)
        columns["mesh, another's expression"] = mesh_over(image, head, swapped)
        columns["repainted"] = enlarged(last.example("swapped"))
    sources = list(last.scores["sources"])
    rows = [
        Example(
            title=f"{sources[last.example('source')[i]]}: {name}",
            notes=_notes(runs, int(last.example("row")[i])),
            pictures=[data_uri(pictures[i], colors=192) for pictures in columns.values()],
        )
        for i, name in enumerate(last.example("id"))
    ]
    return list(columns), rows


def _notes(runs: Sequence[Run], row: int) -> list[str]:
    arrays, notes = runs[-1].arrays, []
    names = runs[-1].scores["emotions"]
    if arrays["has_expression"][row]:
        strengths = ", ".join(f"{run.arrays['predicted_intensity'][row]:.2f}" for run in runs)
        errors = ", ".join(f"{run.arrays['error'][row]:.2f}" for run in runs)
        notes.append(f"intensity {arrays['intensity'][row]:.2f} mm, read as {strengths}")
        notes.append(f"expression error {errors} mm")
    if runs[-1].reads_emotion:
        emotion = int(arrays["emotion"][row])
        label = f"{names[emotion]}, " if emotion >= 0 else ""
        notes.append(f"{label}read as {names[arrays['predicted_emotion'][row]]}")
        for axis in ("valence", "arousal"):
            label = f"{arrays[axis][row]:+.2f}, " if arrays["has_va"][row] else ""
            guess = np.clip(arrays[f"predicted_{axis}"][row], -1, 1)
            notes.append(f"{axis} {label}read as {guess:+.2f}")
    return notes


def _landmarks(
    run: Run, image: np.ndarray, head: FlameModel, coefficients: FlameCoefficients
) -> np.ndarray:
    known = run.example("has_landmarks_105")[:, None, None]
    labelled = np.where(known, run.example("landmarks_105"), np.nan)
    predicted = np.asarray(_render(head, coefficients)[2])
    return draw_points(draw_points(image, labelled, _LABELLED), predicted, _PREDICTED)


def mesh_over(image: np.ndarray, head: FlameModel, coefficients: FlameCoefficients) -> np.ndarray:
    """Pictures with the predicted heads laid over them."""
    geometry, mask, _ = _render(head, coefficients)
    return overlay(image, np.asarray(geometry), np.asarray(mask), alpha=_OPACITY)


def true_mesh(
    run: Run, image: np.ndarray, head: FlameModel, predicted: FlameCoefficients
) -> np.ndarray:
    """The true expression on the predicted head; the bare image where the truth is unknown."""
    true = _with_movement(run, "true", predicted)
    known = run.example("has_truth")[:, None, None, None]
    return np.where(known, mesh_over(image, head, true), image)


def _with_movement(run: Run, kind: str, predicted: FlameCoefficients) -> FlameCoefficients:
    return predicted.replace(**{name: run.example(f"{kind}_{name}") for name in MOVEMENT})


@jax.jit
def _render(
    head: FlameModel, coefficients: FlameCoefficients
) -> tuple[Float[Array, "B H W 1"], Float[Array, "B H W"], Float[Array, "B 105 2"]]:
    """Geometry map, its mask and the projected 105 landmarks."""
    face, geometry, mask = draw_head(head, coefficients, _SIZE)
    return geometry, mask, project(face.landmarks_105, coefficients.camera)[..., :2]


def enlarged(images: np.ndarray) -> np.ndarray:
    """Pictures at the size that examples are drawn in."""
    size = (_SIZE, _SIZE)
    resized = [Image.fromarray(i).resize(size, Image.Resampling.BICUBIC) for i in to_uint8(images)]
    return np.stack([np.asarray(picture) for picture in resized])
