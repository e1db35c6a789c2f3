"""The landmark fit of photographs started at what networks read, which it also takes as its prior.

How far a coefficient may leave the network's reading depends on how sure the network is of it: on
how much its readings of the same face differ when the crop is shifted, scaled and turned a little,
and on a floor below which no reading is believed. The floor is the network's error on faces with
known coefficients where its checkpoint holds one (`meta["spread"]`), else a share of the head's
own priors.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Bool, Float, UInt8

from fields_jax.errors import UserError
from fields_jax.fitting.landmarks import Guess, Refinement, refine_landmarks
from fields_jax.fitting.photographs import known_landmarks, observed
from fields_jax.fitting.problem import FitSettings
from fields_jax.geometry.rotations import matrix_of
from fields_jax.photos.faces import Face, varied_crop
from fields_jax.photos.points import LEAST_SEEN
from fields_jax.types import FieldsOutput, FlameCoefficients, FlameModel

SPREAD = "spread"  # the key of a checkpoint's meta item
# All ours. Landmarks are believed as the fit believes them.
SETTINGS = FitSettings(min_points=3)
# The crops that are read besides the plain one: shift (x, y) as a share of the side, zoom, turn in
# degrees.
VARIATIONS = (
    (0.03, 0.02, 1.0, 0.0),
    (-0.03, -0.02, 1.0, 0.0),
    (0.0, 0.0, 1.05, 6.0),
    (0.0, 0.0, 0.95, -6.0),
)
# The floor of a checkpoint without one, in deviations of the head's prior.
_SHARE = 0.5
_POSE_FLOOR = 0.1  # radians
# Log of the scale, shift in half crops. Any landmarks tell the camera better than a network does.
_CAMERA = (0.2, 0.2, 0.2)
_LEAST_SPREAD = 1e-3  # coefficients that never vary, as of a jaw that a head lacks
_GROUPS = ("shape", "expression", "jaw", "eyelid", "pose")


class Refined(NamedTuple):
    """Faces after the fit.

    Attributes:
      coefficients: [F, ...], cameras of the crops that were read; the reading of faces that could
        not be fitted, or whose fit missed the landmarks by more than the reading.
      done: [F] which were fitted.
      before, after: [F] mean distance of the landmarks as a share of the inter-ocular distance;
        `after` is NaN where not done, `before` where there are no landmarks.
    """

    coefficients: FlameCoefficients
    done: Bool[np.ndarray, " F"]
    before: Float[np.ndarray, " F"]
    after: Float[np.ndarray, " F"]

    def notes(self) -> list[tuple[bool, float | None, float | None]]:
        """(done, before, after) of each face, None where not known."""
        columns = zip(self.done, self.before, self.after, strict=True)
        return [
            (bool(done), *(float(each) if np.isfinite(each) else None for each in shares))
            for done, *shares in columns
        ]


@dataclasses.dataclass(frozen=True)
class Refiner:
    """Refines the readings of one model.

    Attributes:
      networks: images [batch_size, S, S, 3] uint8 to their FieldsOutput.
      head: that they were trained with.
      size: S.
      batch_size: of the images.
      stored: their error on faces with known coefficients, `meta["spread"]` of the checkpoint: a
        list for each group of coefficients; or None.
      settings: of the search.
    """

    networks: Callable[[UInt8[np.ndarray, "B S S 3"]], FieldsOutput]
    head: FlameModel
    size: int
    batch_size: int
    stored: Mapping[str, Any] | None = None
    settings: FitSettings = SETTINGS

    def refine(self, faces: Sequence[Face], readings: FlameCoefficients) -> Refined:
        """Fits the faces that have landmarks.

        Args:
          faces: in their photographs, with the scale of the crops that were read.
          readings: [F, ...] of the networks.
        """
        readings = jax.tree.map(np.asarray, readings)
        done = np.array([has_landmarks(face) for face in faces], bool)
        before, after = np.full((2, len(faces)), np.nan)
        if not done.any():
            return Refined(readings, done, before, after)
        chosen = [face for face, usable in zip(faces, done, strict=True) if usable]
        own = jax.tree.map(lambda column: column[done], readings)
        deviation = self.deviations(chosen, own)
        marks = observed(chosen, self.size)
        refinement = self.solve(marks, Guess(own, deviation))
        before[done], after[done] = refinement.before, refinement.fit.residual
        found = jax.tree.map(np.asarray, refinement.fit.coefficients)
        # Points that are no face's pull a head away without coming closer to them.
        better = (after <= before)[done]
        done[done] = better
        after[~done] = np.nan

        def put(column: np.ndarray, fitted: np.ndarray) -> np.ndarray:
            column = np.array(column)
            column[done] = fitted[better]
            return column

        return Refined(jax.tree.map(put, readings, found), done, before, after)

    def solve(self, marks: Any, guess: Guess) -> Refinement:
        """The fit of landmarks [F, ...] that all faces have, with a guess of each."""
        return refine_landmarks(self.head, marks, guess, settings=self.settings)

    def deviations(self, faces: Sequence[Face], readings: FlameCoefficients) -> FlameCoefficients:
        """How sure the networks are of each coefficient of each face, as standard deviations."""
        floor = floors(self.head, readings, self.stored)
        squared = {name: np.float64(0) for name in _GROUPS}
        for variation in VARIATIONS:
            crops = [varied_crop(face, self.size, variation) for face in faces]
            other = self._read(crops)
            for name, difference in _differences(readings, other, variation[3]).items():
                squared[name] = squared[name] + difference**2 / len(VARIATIONS)
        spread = {
            name: np.sqrt(values + floor[name][None] ** 2).astype(np.float32)
            for name, values in squared.items()
        }
        camera = np.tile(np.float32(_CAMERA), (len(faces), 1))
        return FlameCoefficients(**spread, camera=camera)

    def _read(self, crops: Sequence[UInt8[np.ndarray, "S S 3"]]) -> FlameCoefficients:
        parts = []
        for first in range(0, len(crops), self.batch_size):
            part = crops[first : first + self.batch_size]
            images = np.stack([*part, *[part[-1]] * (self.batch_size - len(part))])
            parts.append(self.networks(images).coefficients)
        return jax.tree.map(lambda *leaves: np.concatenate(leaves)[: len(crops)], *parts)


def floors(
    head: FlameModel, readings: FlameCoefficients, stored: Mapping[str, Any] | None
) -> dict[str, Float[np.ndarray, " _"]]:
    """The least deviations of a model's coefficients.

    Args:
      head: that the model was trained with.
      readings: any of the model's, for their sizes.
      stored: see `Refiner`.

    Raises:
      UserError: what the checkpoint holds is no such table.
    """
    found = {}
    for name in _GROUPS:
        count = getattr(readings, name).shape[-1]
        if name == "pose":
            found[name] = np.full(count, _POSE_FLOOR, np.float32)
        elif stored is not None:
            found[name] = _stored(stored, name, count)
        else:
            prior = head.priors[name]
            found[name] = np.float32(_SHARE * np.asarray(prior.deviation)[:count])
    return found


def has_landmarks(face: Face) -> bool:
    """Whether enough of a face's landmarks are known and seen for a refinement."""
    return face.points is not None and bool(known_landmarks(face)[1].mean() >= LEAST_SEEN)


def _differences(
    plain: FlameCoefficients, other: FlameCoefficients, degrees: float
) -> dict[str, Float[np.ndarray, "F _"]]:
    """What the reading of a crop, turned clockwise by so much, says otherwise."""
    pairs = {name: (getattr(plain, name), getattr(other, name)) for name in _GROUPS}
    found = {name: np.asarray(b, np.float64) - np.asarray(a) for name, (a, b) in pairs.items()}
    # The turn is undone: it is about the axis of view, which points at the camera.
    back = matrix_of(np.array([0, 0, np.deg2rad(degrees)]))
    before, after = (matrix_of(np.asarray(pose)) for pose in pairs["pose"])
    apart = back[None] @ after @ np.swapaxes(before, 1, 2)
    # The vector of a small rotation.
    axes = [apart[:, k - 1, k - 2] - apart[:, k - 2, k - 1] for k in range(3)]
    found["pose"] = np.stack(axes, axis=-1).astype(np.float64) / 2
    return found


def _stored(stored: Any, name: str, count: int) -> Float[np.ndarray, " K"]:
    try:
        values = np.asarray(stored[name], np.float32)
    except (KeyError, TypeError, ValueError):
        values = np.zeros(0, np.float32)
    values = values[:count]
    if values.shape != (count,) or not (np.isfinite(values) & (values > 0)).all():
        raise UserError(
            f"the checkpoint's meta item: {SPREAD} holds no {count} positive numbers for {name}; "
            "measure it again with `python -m benchmarks.refine`"
        )
    return values


def spread_of(readings: FlameCoefficients, truth: FlameCoefficients) -> dict[str, list[float]]:
    """The networks' error of each coefficient, for a checkpoint's meta item.

    Args:
      readings: [N, ...] of faces that the networks have not learnt from.
      truth: [N, ...] with at least as many components; pose and camera are not used.

    Returns:
      The root mean square error of each coefficient of each group but pose.
    """
    found = {}
    for name in _GROUPS[:-1]:
        read = np.asarray(getattr(readings, name), np.float64)
        apart = read - np.asarray(getattr(truth, name))[:, : read.shape[1]]
        found[name] = np.maximum(np.sqrt(np.mean(apart**2, axis=0)), _LEAST_SPREAD).tolist()
    return found
