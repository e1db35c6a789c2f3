"""Scores on photographs with landmarks beside them: does the reconstruction follow the face?

No photograph comes with 3D truth. Two things can be known without: how far the head's landmarks,
as its camera sees them, lie from those of the picture; and whether the measures of
`expression_measures`, read off the head, go with the same measures read off the picture. Of a
landmark fit both are as good as its landmarks, since it has seen them; it is the mark to reach.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Bool, Float, Int, UInt8

from fields_jax.errors import printable
from fields_jax.evaluation.affect import bootstrap, pearson
from fields_jax.evaluation.expression_measures import EYE_CORNERS_105, MEASURES, measure
from fields_jax.evaluation.geometry import calibration, ranks
from fields_jax.evaluation.predict import map_batches
from fields_jax.fitting.photographs import CROP_SCALE, CROP_SIZE, fit_faces, known_landmarks
from fields_jax.fitting.refine import Refiner
from fields_jax.flame import flame
from fields_jax.landmark_schemes import EYE_CORNERS_68
from fields_jax.photos.crops import transform_points
from fields_jax.photos.faces import Face
from fields_jax.render import project
from fields_jax.types import FlameCoefficients, FlameModel

FAILED = 0.1  # of the inter-ocular distance: a landmark error beyond this is a failure
_TIMES = 1000  # draws of the bootstrap
BATCH = 8  # faces at once, so that few programs are compiled


class Reading(NamedTuple):
    """What one method made of every face.

    Attributes:
      coefficients: [F, ...], cameras of the crops below.
      landmarks_68, landmarks_105: [F, N, 2] pixels of each face's photograph.
      vertices: [F, V, 3] metres.
      scale: of the crops, see `Face`.
      size: side of the crops in pixels.
    """

    coefficients: FlameCoefficients
    landmarks_68: Float[np.ndarray, "F 68 2"]
    landmarks_105: Float[np.ndarray, "F 105 2"]
    vertices: Float[np.ndarray, "F V 3"]
    scale: float
    size: int


@dataclasses.dataclass(frozen=True)
class Marked:
    """The landmarks of every face in its photograph.

    Attributes:
      points_68, points_105: [F, N, 2] pixels; zeros for faces of the other scheme.
      seen_68, seen_105: [F, N].
      photograph: [F] which one a face is in; faces of one are not independent.
    """

    points_68: Float[np.ndarray, "F 68 2"]
    points_105: Float[np.ndarray, "F 105 2"]
    seen_68: Bool[np.ndarray, "F 68"]
    seen_105: Bool[np.ndarray, "F 105"]
    photograph: Int[np.ndarray, " F"]


def fitted(head: FlameModel, faces: Sequence[Face]) -> Reading:
    """The landmark fit of every face."""
    parts = [fit_faces(head, faces[i : i + BATCH]) for i in range(0, len(faces), BATCH)]
    coefficients = jax.tree.map(
        lambda *leaves: np.concatenate(leaves), *(part.coefficients for part in parts)
    )
    return seen_in_photographs(head, coefficients, faces, CROP_SCALE, CROP_SIZE)


def predicted(
    read: Callable[[Sequence[Face]], FlameCoefficients],
    head: FlameModel,
    faces: Sequence[Face],
    scale: float,
    size: int,
) -> Reading:
    """What networks read of every face.

    Args:
      read: at most BATCH faces with the crops to read, to coefficients in those crops.
      head: that the networks were trained with.
      faces: found with their landmarks.
      scale, size: of the crops that the networks take.
    """
    framed = list(_at_scale(faces, scale))
    parts = [read(framed[first : first + BATCH]) for first in range(0, len(framed), BATCH)]
    coefficients = jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)
    return seen_in_photographs(head, coefficients, faces, scale, size)


def refined(refiner: Refiner, faces: Sequence[Face], reading: Reading) -> Reading:
    """The landmark fit of every face, started at what networks read of it."""
    scale, size = reading.scale, reading.size
    parts = []
    for first in range(0, len(faces), BATCH):
        rows = slice(first, first + BATCH)
        own = jax.tree.map(lambda column, rows=rows: column[rows], reading.coefficients)
        parts.append(refiner.refine(list(_at_scale(faces[rows], scale)), own).coefficients)
    coefficients = jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)
    return seen_in_photographs(refiner.head, coefficients, faces, scale, size)


def seen_in_photographs(
    head: FlameModel,
    coefficients: FlameCoefficients,
    faces: Sequence[Face],
    scale: float,
    size: int,
) -> Reading:
    """Landmarks of posed heads in pixels of the photographs."""
    vertices, *sets = map_batches(partial(_projected, head), coefficients, BATCH)
    matrices = [face.matrix(size) for face in _at_scale(faces, scale)]
    placed = [
        np.stack(
            [
                transform_points(np.linalg.inv(matrix), (np.asarray(each) + 1) * (size / 2))
                for each, matrix in zip(points, matrices, strict=True)
            ]
        )
        for points in sets
    ]
    return Reading(coefficients, *placed, np.asarray(vertices), scale, size)


@jax.jit
def _projected(head: FlameModel, coefficients: FlameCoefficients) -> tuple[Array, Array, Array]:
    output = flame(head, coefficients)
    sets = (output.landmarks_68, output.landmarks_105)
    return output.vertices, *(project(each, coefficients.camera)[..., :2] for each in sets)


def _at_scale(faces: Sequence[Face], scale: float) -> Iterator[Face]:
    return (dataclasses.replace(face, scale=scale) for face in faces)


def marked(faces: Sequence[Face]) -> Marked:
    """The landmarks of faces that all have some."""
    points = {count: np.zeros((len(faces), count, 2), np.float32) for count in (68, 105)}
    seen = {count: np.zeros((len(faces), count), bool) for count in (68, 105)}
    for row, face in enumerate(faces):
        own, visible = known_landmarks(face)
        points[len(own)][row], seen[len(own)][row] = own, visible
    _, photograph = np.unique([face.path for face in faces], return_inverse=True)
    return Marked(points[68], points[105], seen[68], seen[105], photograph)


def landmark_errors(truth: Marked, reading: Reading) -> dict[str, Float[np.ndarray, " F"]]:
    """Mean distance of each set's landmarks, of the inter-ocular distance.

    NaN for faces without such landmarks, and where an outer eye corner is not seen.
    """
    ends = {68: EYE_CORNERS_68, 105: EYE_CORNERS_105}
    units = {}
    for count, (right, left) in ends.items():
        points = getattr(truth, f"points_{count}").astype(np.float64)
        unit = np.linalg.norm(points[:, left] - points[:, right], axis=-1)
        known = getattr(truth, f"seen_{count}")[:, [right, left]].all(axis=1)
        units[count] = np.where(known, unit, np.nan)
    found = {}
    for count, unit in units.items():
        seen = getattr(truth, f"seen_{count}")
        apart = getattr(reading, f"landmarks_{count}") - getattr(truth, f"points_{count}")
        distance = np.linalg.norm(apart.astype(np.float64), axis=-1)
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = (distance * seen).sum(1) / seen.sum(1) / unit
        found[f"landmarks_{count}"] = np.where(seen.any(1), mean, np.nan)
    return found


def score(truth: Marked, reading: Reading) -> dict[str, Any]:
    """Everything about one method, ready for JSON: None where nothing can be said.

    Landmark errors with their failures, and for each measure the rank correlation and the slope of
    what the head shows against what the picture shows, all with 95 % bootstrap intervals over
    photographs.
    """
    scores: dict[str, Any] = {"n": len(reading.vertices)}
    for name, errors in landmark_errors(truth, reading).items():
        known = np.isfinite(errors)
        scores[name] = _errors(errors[known], truth.photograph[known])
    whole = truth.seen_105.all(axis=1)
    shown, found = measure(truth.points_105[whole]), measure(reading.landmarks_105[whole])
    scores["measures"] = {
        name: _agreement(shown[name], found[name], truth.photograph[whole]) for name in MEASURES
    }
    return scores


def _errors(errors: Float[np.ndarray, " N"], groups: Int[np.ndarray, " N"]) -> dict[str, Any]:
    if not len(errors):
        return {"n": 0, "mean": None, "interval": None, "median": None, "failed": None}
    return {
        "n": len(errors),
        "mean": float(errors.mean()),
        "interval": list(bootstrap(np.mean, errors, groups=groups, samples=_TIMES)[:2]),
        "median": float(np.median(errors)),
        "failed": float((errors > FAILED).mean()),
    }


def _agreement(
    shown: np.ndarray, found: np.ndarray, groups: Int[np.ndarray, " N"]
) -> dict[str, Any]:
    """Rank correlation and slope of N faces; fewer than three say nothing."""
    if len(shown) < 3:
        return {"n": len(shown), "rank": None, "rank_interval": None, "slope": None}

    def rank(a: np.ndarray, b: np.ndarray) -> float:
        return pearson(ranks(a), ranks(b))

    drawn = bootstrap(rank, shown, found, groups=groups, samples=_TIMES)
    return {
        "n": len(shown),
        "rank": rank(shown, found),
        "rank_interval": list(drawn[:2]),
        "slope": calibration(shown, found)["slope"],
    }


def rows(
    faces: Sequence[Face], truth: Marked, readings: Mapping[str, Reading]
) -> Iterator[dict[str, Any]]:
    """One row per face and method, for a table: errors, and measures of picture and head."""
    shown = measure(truth.points_105)
    whole = truth.seen_105.all(axis=1)
    for method, reading in readings.items():
        errors, found = landmark_errors(truth, reading), measure(reading.landmarks_105)
        for index, face in enumerate(faces):
            row = {"name": face.name, "image": printable(face.path), "method": method}
            row |= {name: float(values[index]) for name, values in errors.items()}
            for name in MEASURES:
                row[f"{name}_picture"] = float(shown[name][index]) if whole[index] else np.nan
                row[f"{name}_head"] = float(found[name][index])
            yield row


def strip(
    head: FlameModel, face: Face, index: int, readings: Mapping[str, Reading], side: int = 256
) -> UInt8[np.ndarray, "S W 3"]:
    """The photograph's crop, and beside it what each method laid over it, from left to right."""
    from fields_jax.outputs.overlays import paste_face

    wide = dataclasses.replace(face, scale=1.6)
    panels = [wide.crop(side)]
    for reading in readings.values():
        own = dataclasses.replace(face, scale=reading.scale)
        camera = np.asarray(reading.coefficients.camera)[index]
        pasted = paste_face(
            face.image,
            head,
            reading.vertices[index],
            camera,
            own.matrix(reading.size),
            reading.size,
        )
        panels.append(dataclasses.replace(wide, image=pasted).crop(side))
    return np.concatenate(panels, axis=1)
