"""Where the eyes look: rotations of the eyeballs from mediapipe's iris points.

The landmark fit leaves the eyeballs at rest. The picture's iris, measured from the middle between
the corners of its eye, lies on the eyeball in front of its centre: a right-angled triangle with the
eyeball's radius as its longest side gives the direction, without a search. Corners serve as the
origin because they hardly move with the lids, and because what they are off by in the fit the iris
is off by too.

Both eyes turn together. On 21 photographs the two directions lay 14 degrees apart on average, as if
people squinted outward, with a deviation of 9: where corners and eyeballs lie in a face differs by
more than gaze converges.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from fields_jax.flame.eyes import eyeballs
from fields_jax.geometry.rotations import turned, yaw_of
from fields_jax.geometry.spheres import fit_sphere
from fields_jax.landmark_schemes import (
    EYE_SLITS_478,
    IRIS_478,
    LID_CORNERS_478,
    MEDIAPIPE_105,
    N_MEDIAPIPE,
)
from fields_jax.photos.points import seen
from fields_jax.types import FlameModel

WIDEST = 45.0  # degrees from straight ahead; no eye turns further (ours, from anatomy)
_SHUT = 0.08  # height of the slit over its width from which on no iris can be told
_TURNED = 35.0  # degrees of yaw from which on the far eye is half hidden and follows the near one
_SIDES = ("left", "right")


class Posed(NamedTuple):
    """A face as fitted, its eyeballs at rest.

    Attributes:
      vertices: [V, 3] metres, posed, before the camera.
      pose: [3] axis-angle, radians.
      camera: [3] (scale, tx, ty) of its crop.
      points: [478, 2] mediapipe's points in [-1, 1] of the crop, x right, y down; not finite for
        unseen ones.
    """

    vertices: Float[np.ndarray, "V 3"]
    pose: Float[np.ndarray, "3"]
    camera: Float[np.ndarray, "3"]
    points: Float[np.ndarray, "478 2"]


def has_irises(points: Float[np.ndarray, "N 2"] | None) -> bool:
    """Whether landmarks are mediapipe's, with both irises seen."""
    if points is None or len(points) != N_MEDIAPIPE:
        return False
    return bool(seen(points)[np.concatenate([IRIS_478[side] for side in _SIDES])].all())


def read_gaze(head: FlameModel, face: Posed) -> Float[np.ndarray, "6"] | None:
    """Rotations of the left and the right eyeball, without torsion.

    Args:
      head: whose eyes look along +z at rest.
      face: of it.

    Returns:
      Axis-angle of the left, then the right eye, radians, the same for both, at most `WIDEST`:
      the mean over eyes that are open and not turned away. None where there is no such eye, or
      where the head has no joints of its eyes.
    """
    rows = eyeballs(head)
    if not all(len(each) for each in rows):
        return None
    angle = np.rad2deg(yaw_of(face.pose))  # a nose that points aside hides the eye of that side
    hidden = "" if abs(angle) < _TURNED else ("left" if angle > 0 else "right")
    turns = [
        _turn(head, face, side, ball)
        for side, ball in zip(_SIDES, rows, strict=True)
        if side != hidden and not _is_shut(face.points, side)
    ]
    return np.tile(np.mean(turns, axis=0), 2).astype(np.float32) if turns else None


def _turn(head: FlameModel, face: Posed, side: str, ball: np.ndarray) -> Float[np.ndarray, "3"]:
    centre, radius = fit_sphere(face.vertices[ball].astype(np.float64))
    corners = LID_CORNERS_478[side]
    anchor = _on_head(head, face.vertices, corners).mean(0)[:2]
    iris, middle = face.points[IRIS_478[side]].mean(0), face.points[list(corners)].mean(0)
    offset = (iris - middle) * [1, -1] / face.camera[0] - (centre[:2] - anchor)
    flat = offset / radius
    length, most = np.linalg.norm(flat), np.sin(np.deg2rad(89.0))
    flat *= min(1.0, most / max(length, 1e-12))
    direction = turned(-face.pose, np.array([*flat, np.sqrt(1 - flat @ flat)]))
    angle = min(np.arccos(np.clip(direction[2], -1, 1)), np.deg2rad(WIDEST))
    axis = np.array([-direction[1], direction[0], 0.0])  # z x direction
    return angle * axis / max(np.linalg.norm(axis), 1e-12)


def _on_head(
    head: FlameModel, vertices: np.ndarray, points: Sequence[int]
) -> Float[np.ndarray, "N 3"]:
    """Where some of mediapipe's points lie on a posed head."""
    rows = [int(np.flatnonzero(point == MEDIAPIPE_105)[0]) for point in points]
    corners = np.asarray(head.faces)[np.asarray(head.landmarks_105.face_index)[rows]]
    share = np.asarray(head.landmarks_105.barycentric, np.float64)[rows]
    return np.einsum("nk,nkc->nc", share, vertices[corners])


def _is_shut(points: np.ndarray, side: str) -> bool:
    upper, lower = points[list(EYE_SLITS_478[side])]
    inner, outer = points[list(LID_CORNERS_478[side])]
    return bool(np.linalg.norm(upper - lower) < _SHUT * np.linalg.norm(inner - outer))
