"""How a head is seen and lit: pose, gaze, framing and lights, in the laboratory and in the wild."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from fields_jax.geometry.rotations import rotation_vector

FACE_SHARE = 0.5  # of the face box in the stored crop: crops of up to twice the box fit in it


class View(NamedTuple):
    """How the head is seen and lit; what varies from image to image.

    Attributes:
      pose: [3] axis-angle of the head, radians.
      eyes: [6] axis-angle of the left, then the right eye.
      framing: [3] size of the face box as a fraction of the crop, place of its centre in [-1, 1].
      light_direction: [3, 3] unit vectors towards the lights.
      light_colour: [3, 3] linear.
      sky: [2, 3] ambient light from above, from below.
      gloss: strength of the skin's highlights.
      nearness: 1 / metres from the camera to the face; 0 is far away.
    """

    pose: Float[np.ndarray, "3"]
    eyes: Float[np.ndarray, "6"]
    framing: Float[np.ndarray, "3"]
    light_direction: Float[np.ndarray, "3 3"]
    light_colour: Float[np.ndarray, "3 3"]
    sky: Float[np.ndarray, "2 3"]
    gloss: float
    nearness: float = 0.0


def laboratory_view(rng: np.random.Generator, yaw: float) -> View:
    """Soft frontal light; the head turned by `yaw` degrees, give or take a little."""
    turned = (yaw + rng.normal(0, 1.5), rng.normal(0, 3), rng.normal(0, 1.5))
    grey = np.ones(3)
    return View(
        pose=rotation_vector(*turned),
        eyes=_gaze(rng, 4, turned),
        framing=_framing(rng),
        light_direction=_directions([(-40, 30), (40, 30), (0, -5)]),
        light_colour=np.array([0.42, 0.42, 0.2])[:, None] * grey,
        sky=np.array([0.34, 0.24])[:, None] * grey,
        gloss=0.06,
    )


def wild_view(rng: np.random.Generator) -> View:
    """Lights from anywhere in front, coloured; heads turned up to 45, 20 and 15 degrees."""
    turned = tuple(
        limit * rng.choice([-1, 1]) * rng.beta(1, 2.2) for limit in (45, 20, 15)
    )  # mostly near frontal
    key = (rng.uniform(-70, 70), rng.uniform(-10, 60))
    angles = [
        key,
        (-key[0] + rng.uniform(-30, 30), rng.uniform(-20, 40)),
        (rng.choice([-1, 1]) * 130, 30),
    ]
    strength = np.array([rng.uniform(0.5, 1.1), rng.uniform(0.0, 0.45), rng.choice([0, 0.6])])
    tints = np.array([tint(rng, 0.25), tint(rng, 0.35), tint(rng, 0.35)])
    ambient = rng.uniform(0.22, 0.45)
    return View(
        pose=rotation_vector(*turned),
        eyes=_gaze(rng, 9, turned),
        framing=_framing(rng),
        light_direction=_directions(angles),
        light_colour=strength[:, None] * tints,
        sky=ambient * np.array([tint(rng, 0.2), rng.uniform(0.4, 1) * tint(rng, 0.2)]),
        gloss=float(rng.uniform(0, 0.16)),
    )


def wide_view(rng: np.random.Generator) -> View:
    """Any head before any camera: turned up to 80, 35 and 25 degrees, lit from anywhere."""
    turned = [
        limit * rng.choice([-1, 1]) * rng.beta(1, sharpness)
        for limit, sharpness in ((80, 2.0), (35, 2.3), (25, 3.0))
    ]
    key = (rng.uniform(-110, 110), rng.uniform(-30, 75))
    angles = [
        key,
        (rng.uniform(-180, 180), rng.uniform(-30, 60)),
        (rng.choice([-1, 1]) * rng.uniform(100, 160), rng.uniform(0, 50)),
    ]
    # From one hard lamp in the dark to light from everywhere.
    hard = rng.uniform(0, 1)
    strength = np.array([0.2 + 1.2 * hard, rng.uniform(0, 0.6), rng.choice([0, 0.8])])
    ambient = (0.06 + 0.5 * (1 - hard)) * rng.uniform(0.6, 1.2)
    sky = ambient * np.array([tint(rng, 0.3), rng.uniform(0.3, 1.2) * tint(rng, 0.3)])
    share = FACE_SHARE * rng.uniform(0.94, 1.06)
    gaze = np.clip(rng.normal(0, 14, 2) * (1, 0.6) - 0.4 * np.array(turned[:2]), -32, 32)
    return View(
        pose=rotation_vector(*turned),
        eyes=np.tile(rotation_vector(gaze[0], np.clip(gaze[1], -20, 20), 0), 2),
        framing=np.array([share, *rng.normal(0, 0.02, 2)]),
        light_direction=_directions(angles),
        light_colour=strength[:, None] * np.array([tint(rng, 0.3), tint(rng, 0.5), tint(rng, 0.4)]),
        sky=sky,
        gloss=float(rng.uniform(0, 0.3) ** 1.3),
        nearness=float(rng.choice([0, rng.uniform(0.5, 2.2)], p=[0.2, 0.8])),
    )


def _framing(rng: np.random.Generator) -> np.ndarray:
    share = FACE_SHARE * rng.uniform(0.97, 1.03)
    return np.array([share, *rng.normal(0, 0.015, 2)])


def _gaze(rng: np.random.Generator, spread: float, turned: tuple[float, ...]) -> np.ndarray:
    """Both eyes turned alike: half-way back to the camera, and `spread` degrees about that."""
    yaw, pitch = rng.normal(0, spread, 2) * (1, 0.5) - 0.5 * np.array(turned[:2])
    return np.tile(rotation_vector(np.clip(yaw, -20, 20), np.clip(pitch, -10, 10), 0), 2)


def _directions(angles: list[tuple[float, float]]) -> np.ndarray:
    """Unit vectors of (azimuth, elevation) in degrees; azimuth 0 is where the camera stands."""
    azimuth, elevation = np.deg2rad(np.array(angles)).T
    flat = np.cos(elevation)
    return np.stack([flat * np.sin(azimuth), np.sin(elevation), flat * np.cos(azimuth)], axis=-1)


def tint(rng: np.random.Generator, amount: float) -> np.ndarray:
    """A colour near white: warm or cool, a little green or magenta."""
    warmth, green = rng.uniform(-1, 1), rng.uniform(-0.3, 0.3)
    return np.exp(amount * np.array([warmth, green, -warmth]))
