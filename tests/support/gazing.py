"""Rendered faces whose eyes are turned by known angles, and their irises found in the pixels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8
from scipy.ndimage import map_coordinates

from data_pipelines.synthetic import canvas, pictures, population, samples, views
from data_pipelines.synthetic.appearance import appearance
from data_pipelines.synthetic.studio import open_studio
from fields_jax.flame import flame
from fields_jax.flame.procedural import procedural_head
from fields_jax.geometry.rotations import rotation_vector
from fields_jax.landmark_schemes import IRIS_478, MEDIAPIPE_105
from fields_jax.types import FlameCoefficients

SHARE = 0.9  # of the picture that the face fills
_SLITS = {"left": slice(42, 48), "right": slice(36, 42)}  # of the 68 points
_MARGIN = 1.0  # pixels from the lids within which an edge is the lid's
_RADII = np.linspace(0.24, 0.34, 6)  # of irises, in widths of the eye
_ANGLES, _LEAST = 48, 0.3  # of a circle, and the share of them that must be seen
_GRID, _REFINED = 21, (1.5, 0.4)  # centres along each axis, and how far about the last in pixels
_BESIDE = 1.0  # pixels from the border at which brightness is compared


class Gaze(NamedTuple):
    """What a face does; degrees to its left and down, lids in [0, 1] of the left and the right."""

    eyes: tuple[float, float] = (0.0, 0.0)
    lids: tuple[float, float] = (0.0, 0.0)
    head: tuple[float, float] = (0.0, 0.0)


class Shown(NamedTuple):
    """A picture of a face and what is known of it.

    Attributes:
      image: of the face.
      turn: [3] rotation of its eyes.
      known: the arguments of `GazeReader.read` but for the points; the camera by least squares.
      marks: [478, 2] of which the 105 are the true ones, in [-1, 1]; the others are nan.
      marks_68: [68, 2] in pixels.
    """

    image: UInt8[np.ndarray, "S S 3"]
    turn: Float[np.ndarray, "3"]
    known: dict[str, np.ndarray]
    marks: Float[np.ndarray, "478 2"]
    marks_68: Float[np.ndarray, "68 2"]


def pictured(gazes: Sequence[Gaze], size: int, seed: int = 3) -> list[Shown]:
    """One person in the laboratory, with a camera's noise and gamma."""
    studio = open_studio(size)
    rng = np.random.default_rng(seed)
    who, look = population.person(rng), appearance(rng, studio.surface)
    light = views.laboratory_view(rng, 0.0)

    def sample(gaze: Gaze) -> samples.Sample:
        still, lids = np.zeros(50, np.float32), np.asarray(gaze.lids, np.float32)
        view = light._replace(
            pose=rotation_vector(*gaze.head, 0),
            eyes=np.tile(rotation_vector(*gaze.eyes, 0), 2),
            framing=np.array([SHARE, 0.0, 0.0]),
        )
        shown = population.Performance(still, np.zeros(3, np.float32), lids)
        return samples.Sample("", who.shape, look, shown, view, "laboratory", 0.0, {}, rng)

    batch = [sample(gaze) for gaze in gazes]
    arrays = [np.asarray(part) for part in studio.render(*pictures.stack(batch))]
    found = []
    for index, made in enumerate(batch):
        picture = pictures.Picture(*(array[index] for array in arrays))
        wall = canvas.laboratory_wall(rng, size)
        image = canvas.develop(rng, pictures.over(picture, wall), 0.008, 0.2)
        marks = np.full((478, 2), np.nan)
        marks[MEDIAPIPE_105] = picture.landmarks_105
        known = dict(shape=made.shape, expression=made.performance.expression)
        known |= dict(eyelid=made.performance.eyelid, pose=made.view.pose)
        known = {name: np.asarray(value, np.float64) for name, value in known.items()}
        known["camera"] = _camera(known, picture.landmarks_105)
        marks_68 = (picture.landmarks_68 + 1) * size / 2
        found.append(Shown(image, made.view.eyes[:3], known, marks, marks_68))
    return found


def _camera(known: dict[str, np.ndarray], seen: Float[np.ndarray, "105 2"]) -> np.ndarray:
    """Scale and shift that bring the head's points to where they are seen."""
    rows = {name: jnp.asarray(value[None], jnp.float32) for name, value in known.items()}
    face = flame(
        procedural_head(),
        FlameCoefficients(jaw=jnp.zeros((1, 3)), camera=jnp.ones((1, 3)), **rows),
    )
    places = np.asarray(face.landmarks_105)[0, :, :2] * [1, -1]
    one, none = np.ones(len(places)), np.zeros(len(places))
    x = np.column_stack([places[:, 0], one, none])
    y = np.column_stack([places[:, 1], none, -one])
    scale, right, up = np.linalg.lstsq(np.concatenate([x, y]), seen.T.ravel(), rcond=None)[0]
    return np.array([scale, right / scale, up / scale])


def with_irises(shown: Shown) -> Float[np.ndarray, "478 2"]:
    """The marks with the ten iris points, found in the picture.

    Where too little is seen they are in the middle of the slit, as a detector gives points always.
    """
    marks, size = shown.marks.copy(), len(shown.image)
    for side, rows in _SLITS.items():
        centre, radius = iris_of(shown.image, shown.marks_68[rows])
        if np.isnan(radius):
            centre, radius = shown.marks_68[rows].mean(0), 1.0
        around = radius * np.array([[0, 0], [1, 0], [0, -1], [-1, 0], [0, 1]])
        marks[IRIS_478[side]] = 2 * (centre + around) / size - 1
    return marks


def iris_of(
    image: UInt8[np.ndarray, "S S 3"], slit: Float[np.ndarray, "6 2"]
) -> tuple[Float[np.ndarray, "2"], float]:
    """Centre and radius in pixels of the circle across which the picture brightens most.

    The integro-differential operator of Daugman (1993): the step of brightness outwards, summed
    over the arcs of the circle within the lids. nan where less than `_LEAST` of it is seen.
    """
    light = image.astype(np.float64).mean(-1)
    width = np.linalg.norm(slit[3] - slit[0])
    low, high = slit.min(0), slit.max(0)
    span = (high - low) / 2
    found = _brightens(light, slit, (low + high) / 2, span, _RADII * width)
    for reach in _REFINED:
        centre, radius = found
        found = _brightens(light, slit, centre, reach, radius + reach * np.linspace(-0.5, 0.5, 5))
    return found


def _brightens(
    light: np.ndarray, slit: np.ndarray, middle: np.ndarray, reach: float, radii: np.ndarray
) -> tuple[np.ndarray, float]:
    """The best circle with its centre in a grid about a place."""
    angle = np.linspace(0, 2 * np.pi, _ANGLES, endpoint=False)
    around = np.stack([np.cos(angle), np.sin(angle)], -1)
    line = np.linspace(-1, 1, _GRID)
    centres = middle + reach * np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 1, 2)
    best, found = 0.0, (np.full(2, np.nan), np.nan)
    for radius in radii:
        beside = [centres + (radius + way) * around for way in (-_BESIDE, _BESIDE)]
        seen = _within(slit, beside[0]) & _within(slit, beside[1])
        inner, outer = (_sampled(light, places) for places in beside)
        step = ((outer - inner) * seen).sum(1)
        step[seen.sum(1) < _LEAST * _ANGLES] = 0
        if step.max() > best:
            best, found = step.max(), (centres[step.argmax(), 0], float(radius))
    return found


def _sampled(light: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Values between pixels; the middle of the first pixel is at 0.5."""
    return map_coordinates(light, np.moveaxis(places[..., ::-1] - 0.5, -1, 0), order=1)


def _within(slit: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Whether places lie within the lids' polygon, a pixel from its sides."""
    ends = np.roll(slit, -1, axis=0)
    along = (ends - slit) / np.linalg.norm(ends - slit, axis=1, keepdims=True)
    inward = np.stack([-along[:, 1], along[:, 0]], axis=-1)  # the six go round clockwise, y down
    away = np.einsum("...k,ek->...e", places, inward) - (slit * inward).sum(1)
    return (away > _MARGIN).all(-1)
