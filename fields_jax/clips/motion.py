"""One identity for a whole clip, and its movement without the networks' tremble."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float

from fields_jax.clips.person import Person, spaces
from fields_jax.clips.smoothing import VECTORS, Strength, smoothed
from fields_jax.flame import flame
from fields_jax.geometry.rotations import all_turned
from fields_jax.kept import kept_program
from fields_jax.landmark_schemes import EYE_CORNERS_68
from fields_jax.render import project
from fields_jax.types import FlameCoefficients, FlameModel

# How each quantity is smoothed at strength 1, all ours. A tremble from frame to frame has little
# speed once it is averaged over a sixth of a second; a blink or a word has ten times as much.
STRENGTHS = {
    "expression": Strength(cutoff=1.2, slope=0.7),  # speeds in standard deviations per second
    "jaw": Strength(cutoff=1.2, slope=4.0),  # in radians per second, as pose, neck and eyes
    "eyelid": Strength(cutoff=1.5, slope=3.0),  # in closures per second
    "pose": Strength(cutoff=1.2, slope=5.0),
    "neck": Strength(cutoff=1.2, slope=5.0),
    "eyes": Strength(cutoff=1.5, slope=4.0),
    "size": Strength(cutoff=0.8, slope=6.0),  # in factors of e per second
    "place": Strength(cutoff=1.2, slope=5.0),  # in face sizes per second
}
_READINGS = Strength(cutoff=1.2, slope=1.0)  # of probabilities, valence and arousal, likewise
SMOOTHED_READINGS = ("probabilities", "valence", "arousal")
_EACH_BY_ITSELF = ("expression", "eyelid")  # quantities whose entries have speeds of their own
_BATCH = 64  # frames that are posed at once
_ROUNDS, _LEAST = 30, 1e-6  # of the search for the middle identity


class Anchor(NamedTuple):
    """The middle of a face at rest, about which its place and size are smoothed.

    A head turns about its root, far below the face: an error of the turn moves the face in the
    picture unless the place of the root makes up for it, as networks learn that it must. So it is
    the face's place that is smoothed.

    Attributes:
      root: [S, 3] of the head's root joint by each shape coefficient, and `root_mean` [3].
      middle: [S, 3] of the 68 landmarks' mean, and `middle_mean` [3].
      spread: [68, 3, S] of the landmarks about it, and `spread_mean` [68, 3].
    """

    root: Float[np.ndarray, "S 3"]
    root_mean: Float[np.ndarray, "3"]
    middle: Float[np.ndarray, "S 3"]
    middle_mean: Float[np.ndarray, "3"]
    spread: Float[np.ndarray, "68 3 S"]
    spread_mean: Float[np.ndarray, "68 3"]

    def arm(self, shape: Float[np.ndarray, "T S"]) -> Float[np.ndarray, "T 3"]:
        """From the root to the middle of the face, metres."""
        return self.middle_mean - self.root_mean + shape @ (self.middle - self.root)

    def joint(self, shape: Float[np.ndarray, "T S"]) -> Float[np.ndarray, "T 3"]:
        """The root joint, metres."""
        return self.root_mean + shape @ self.root

    def size(self, shape: Float[np.ndarray, "T S"]) -> Float[np.ndarray, " T"]:
        """Root mean square distance of the landmarks from their middle, metres."""
        points = self.spread_mean + np.moveaxis(self.spread @ shape.T, -1, 0)
        return np.sqrt((points**2).sum(axis=-1).mean(axis=-1))


def anchor(head: FlameModel, n_shape: int) -> Anchor:
    """The anchor of a head, for faces with so many shape coefficients."""
    table = head.static_68
    corners = np.asarray(head.faces)[np.asarray(table.face_index)]
    share = np.asarray(table.barycentric)
    template, basis = np.asarray(head.template), np.asarray(head.shape_basis)[..., :n_shape]
    points = np.einsum("ni,nik->nk", share, template[corners])
    moves = np.einsum("ni,niks->nks", share, basis[corners])
    root = np.asarray(head.joint_regressor)[0]
    return Anchor(
        root=np.einsum("v,vks->sk", root, basis),
        root_mean=root @ template,
        middle=moves.mean(axis=0).T,
        middle_mean=points.mean(axis=0),
        spread=moves - moves.mean(axis=0),
        spread_mean=points - points.mean(axis=0),
    )


def identity(
    shapes: Float[np.ndarray, "T S"], weights: Float[np.ndarray, " T"]
) -> Float[np.ndarray, " S"]:
    """The shape of a person: the weighted geometric median over frames, by Weiszfeld's steps.

    Frames that are far from the others, such as of a face half hidden, hardly move it.
    """
    shapes = np.asarray(shapes, np.float64)
    weights = np.asarray(weights, np.float64)
    middle = np.average(shapes, axis=0, weights=weights)
    for _ in range(_ROUNDS):
        near = weights / np.maximum(np.linalg.norm(shapes - middle, axis=1), _LEAST)
        moved = near @ shapes / near.sum()
        done = np.linalg.norm(moved - middle) < _LEAST
        middle = moved
        if done:
            break
    return middle.astype(np.float32)


def steadied(
    person: Person, head: FlameModel, strength: float, weights: Float[np.ndarray, " T"]
) -> Person:
    """The person with one identity and, for a strength above 0, smoothed movement.

    Each face stays where it was in its frame and as large: the middle of its landmarks at rest
    does, whatever the new shape and turn are.

    Args:
      person: as it was read.
      head: of the coefficients.
      strength: 1 as by `STRENGTHS`; 0 smooths nothing.
      weights: how far each frame's shape counts.
    """
    before = person.coefficients
    known = anchor(head, before["shape"].shape[1])
    shapes = np.float64(before["shape"])
    shape = np.tile(identity(shapes, weights), (len(person.times), 1))
    middle = _middle(known, shapes, before["pose"], person.place)
    size = person.place[:, 0] + np.log(known.size(shapes))  # logarithm of pixels

    after = {**before, "shape": shape}
    readings = dict(person.readings)
    if strength > 0 and len(person.times) > 1:
        for name in set(before) - {"shape"}:
            after[name] = _smooth(person.times, before[name], name, strength)
        middle, size = _smooth_place(person, middle, size, strength)
        readings |= _smooth_readings(person, strength)
    scale = size - np.log(known.size(np.float64(shape)))
    place = np.column_stack([scale, np.zeros((len(scale), 2))])
    place[:, 1:] = middle - _middle(known, np.float64(shape), after["pose"], place)
    return dataclasses.replace(person, coefficients=after, place=place, readings=readings)


def landmarks(person: Person, head: FlameModel) -> Float[np.ndarray, "T 68 3"]:
    """The 68 landmarks in pixels of each frame, and their height above it in pixels.

    Args:
      person: over T frames.
      head: of the coefficients, cut down by `flame.landmark_head`.
    """
    matrices = person.matrices
    parts = []
    for first in range(0, len(person.times), _BATCH):
        rows = np.minimum(np.arange(first, first + _BATCH), len(person.times) - 1)
        known = jax.tree.map(lambda column, rows=rows: np.asarray(column)[rows], person.flame())
        parts.append(np.asarray(kept_program(_pose, head, known)))
    points = np.concatenate(parts)[: len(person.times)].astype(np.float64)
    half = person.size / 2
    zoom, shift = matrices[:, 0, 0], matrices[:, :2, 2]
    flat = ((points[..., :2] + 1) * half - shift[:, None]) / zoom[:, None, None]
    height = -points[..., 2:] * half / zoom[:, None, None]
    return np.concatenate([flat, height], axis=-1)


def eye_distances(points: Float[np.ndarray, "T 68 3"]) -> Float[np.ndarray, " T"]:
    """Distance of the outer corners of the eyes in pixels, as if seen from the front."""
    right, left = EYE_CORNERS_68
    return np.linalg.norm(points[:, left] - points[:, right], axis=-1)


def _pose(head: FlameModel, known: FlameCoefficients) -> Float[Array, "B 68 3"]:
    return project(flame(head, known).landmarks_68, known.camera)


def _middle(
    known: Anchor, shapes: np.ndarray, pose: np.ndarray, place: np.ndarray
) -> Float[np.ndarray, "T 2"]:
    """Where the middle of each face is, pixels of its frame."""
    arm = all_turned(pose, known.arm(shapes)) + known.joint(shapes)
    return place[:, 1:] + np.exp(place[:, :1]) * arm[:, :2] * (1, -1)


def _smooth(times: np.ndarray, values: np.ndarray, name: str, strength: float) -> np.ndarray:
    parts = [
        smoothed(
            times,
            values[:, part],
            STRENGTHS[name].times(strength),
            space,
            together=name not in _EACH_BY_ITSELF,
        )
        for part, space in spaces(name, values.shape[1])
    ]
    return np.concatenate(parts, axis=1).astype(np.float32)


def _smooth_place(
    person: Person, middle: np.ndarray, size: np.ndarray, strength: float
) -> tuple[np.ndarray, np.ndarray]:
    """Places in sizes of the face, which do not depend on the picture's, and sizes in logarithm."""
    unit = 4 * np.exp(np.median(size))  # about the height of a face
    moved = smoothed(person.times, middle / unit, STRENGTHS["place"].times(strength), VECTORS)
    grown = smoothed(person.times, size[:, None], STRENGTHS["size"].times(strength), VECTORS)
    return moved * unit, grown[:, 0]


def _smooth_readings(person: Person, strength: float) -> dict[str, np.ndarray]:
    """Readings of emotion, smoothed over the frames that were read."""
    found = {}
    for name in set(SMOOTHED_READINGS) & set(person.readings):
        values = person.readings[name].copy()
        rows = values[person.seen].reshape(person.seen.sum(), -1)
        rows = smoothed(person.times[person.seen], rows, _READINGS.times(strength), VECTORS)
        values[person.seen] = rows.reshape(values[person.seen].shape)
        found[name] = values
    return found
