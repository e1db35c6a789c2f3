"""A perspective camera that sees a head as its weak-perspective camera does.

A weakly perspective camera stands infinitely far away. A perspective one of a given focal length
does not see quite the same: the nose is nearer than the ears. Turn and place of the head are those
that bring its vertices nearest to where they are seen, in the sense of least squares.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from fields_jax.geometry.rotations import matrix_of

_STEPS = 30
_STILL = 1e-10  # radians and metres by which the last step may still move


class Lens(NamedTuple):
    """A perspective camera at the origin that looks along -z, x right and y up.

    Attributes:
      focal: length in pixels.
      center: [2] principal point in pixels, x right, y down.
    """

    focal: float
    center: Float[np.ndarray, "2"]

    def project(self, points: Float[np.ndarray, "V 3"]) -> Float[np.ndarray, "V 2"]:
        """Pixels of points before the camera, in metres."""
        across = points[:, :2] / -points[:, 2:]
        return self.center + self.focal * across * (1, -1)


class Seen(NamedTuple):
    """Where a head is before a lens: at `rotation @ x + place`.

    Attributes:
      rotation: [3, 3].
      place: [3] metres.
      off: [V] pixels from where each vertex should be seen.
    """

    rotation: Float[np.ndarray, "3 3"]
    place: Float[np.ndarray, "3"]
    off: Float[np.ndarray, " V"]


def lens_of(focal: float, height: int, width: int) -> Lens:
    """The lens of a picture, with its principal point in the middle.

    Args:
      focal: length in larger sides of the picture.
      height, width: of the picture in pixels.
    """
    return Lens(focal * max(height, width), np.array([width / 2, height / 2]))


def place_before(
    lens: Lens,
    points: Float[np.ndarray, "V 3"],
    pixels: Float[np.ndarray, "V 2"],
    start: Float[np.ndarray, "3 3"],
) -> Seen:
    """Turn and place of a rigid head, by Gauss-Newton.

    Args:
      lens: that sees it.
      points: [V, 3] vertices, metres.
      pixels: [V, 2] where they are to be seen.
      start: rotation of the head as a camera far away sees it.
    """
    points, pixels = np.asarray(points, np.float64), np.asarray(pixels, np.float64)
    rotation = np.asarray(start, np.float64)
    turned = points @ rotation.T
    middle, seen = turned.mean(axis=0), pixels.mean(axis=0)
    spread = np.linalg.norm(turned[:, :2] - middle[:2]) / np.linalg.norm(pixels - seen)
    distance = lens.focal * spread
    aside = (seen - lens.center) * (1, -1) * distance / lens.focal
    place = np.array([*aside, -distance]) - middle
    for _ in range(_STEPS):
        step = _step(lens, turned, place, pixels)
        rotation = matrix_of(step[:3]) @ rotation
        turned, place = points @ rotation.T, place + step[3:]
        if np.abs(step).max() < _STILL:
            break
    off = np.linalg.norm(lens.project(turned + place) - pixels, axis=1)
    return Seen(rotation, place, off)


def _step(
    lens: Lens,
    turned: Float[np.ndarray, "V 3"],
    place: Float[np.ndarray, "3"],
    pixels: Float[np.ndarray, "V 2"],
) -> Float[np.ndarray, "6"]:
    """A further turn (axis-angle, radians) and a shift (metres)."""
    x, y, z = (turned + place).T
    near = lens.focal / -z
    # Of (u, v) by the point, v down; then of the point by the turn: a turn moves it across itself.
    by_point = np.zeros((len(x), 2, 3))
    by_point[:, 0, 0], by_point[:, 0, 2] = near, near * x / -z
    by_point[:, 1, 1], by_point[:, 1, 2] = -near, -near * y / -z
    across = np.cross(np.eye(3)[None], turned[:, None]).transpose(0, 2, 1)
    jacobian = np.concatenate([by_point @ across, by_point], axis=2).reshape(-1, 6)
    missed = (pixels - lens.project(turned + place)).reshape(-1)
    return np.linalg.lstsq(jacobian, missed, rcond=None)[0]
