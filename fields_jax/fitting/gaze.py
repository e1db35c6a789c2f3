"""Where the eyes look: rotations of the eyeballs from mediapipe's iris points.

The landmark fit leaves the eyeballs at rest. The picture's iris, measured from the middle between
the corners of its eye, lies in front of the eyeball's centre, in the plane of its border: a
right-angled triangle with that distance as its longest side gives the direction, without a search.
Corners serve as the origin because they hardly move with the lids, and because what they are off by
in the fit the iris is off by too.

Both eyes turn together. On 20 photographs the two directions lay 17 degrees apart on average, as if
people squinted outward, with a deviation of 10: where corners and eyeballs lie in a face differs by
more than gaze converges.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from fields_jax.flame.eyes import eyeballs
from fields_jax.geometry.rotations import matrix_of, turned, yaw_of
from fields_jax.geometry.spheres import fit_sphere
from fields_jax.landmark_schemes import (
    EYE_ENDS_478,
    EYE_SLITS_478,
    IRIS_478,
    MEDIAPIPE_105,
    N_MEDIAPIPE,
)
from fields_jax.photos.crops import to_ndc, transform_points
from fields_jax.photos.faces import Face
from fields_jax.photos.points import seen
from fields_jax.types import FlameCoefficients, FlameModel

# From the eyeball's centre to the plane of the iris's border, in radii: a circle 11.7 mm across, as
# white-to-white distances are (Ruefer et al. 2005), on an eyeball of 24 mm.
IRIS = float(np.sqrt(1 - (11.7 / 24) ** 2))
WIDEST = 45.0  # degrees from straight ahead; no eye turns further (ours, from anatomy)
_SHUT = 0.08  # height of the slit over its width below which no iris can be told
_WINKS = 0.5  # of the other eye's opening: an eye that is less open is winking
_TURNED = 35.0  # degrees of yaw from which on the far eye is half hidden and follows the near one
_SIDES = ("left", "right")
_FEWEST = 4  # points that make a sphere


class Eye(NamedTuple):
    """What of a head the gaze of one eye is read from; the last rows are those of the corners.

    Attributes:
      ball: number of vertices of the eyeball; they come first.
      share: [2, 3] weights of the inner and the outer corner in their triangles.
      template: [N, 3] metres.
      shape, expression: [N, 3, S] and [N, 3, E] displacements.
      eyelid: [2, N, 3] displacement per closed lid.
      root: [3] the joint that the pose turns the head about, and root_shape: [3, S] how it moves.
    """

    ball: int
    share: Float[np.ndarray, "2 3"]
    template: Float[np.ndarray, "N 3"]
    shape: Float[np.ndarray, "N 3 S"]
    expression: Float[np.ndarray, "N 3 E"]
    eyelid: Float[np.ndarray, "2 N 3"]
    root: Float[np.ndarray, "3"]
    root_shape: Float[np.ndarray, "3 S"]


class GazeReader:
    """Reads the gaze of faces of one head, whose eyes look along +z at rest."""

    def __init__(self, head: FlameModel) -> None:
        """Takes from a head what gaze needs; a head without joints of its eyes has no gaze."""
        rows = eyeballs(head)
        pairs = zip(_SIDES, rows, strict=True)
        self._eyes = {side: _eye(head, side, ball) for side, ball in pairs if len(ball) >= _FEWEST}

    def looking(
        self, faces: Sequence[Face], coefficients: FlameCoefficients, size: int
    ) -> tuple[FlameCoefficients, list[bool]]:
        """Coefficients with the rotations of the eyes, where any can be read.

        Args:
          faces: in their photographs, a row each of the coefficients, which may have more.
          coefficients: [B, ...] of them; their cameras belong to the faces' crops.
          size: side of these crops in pixels.

        Returns:
          The coefficients, with `eyes` if any face has a gaze and 0 for those without; and whether
          each face has one.
        """
        found = [self.of_face(face, row, coefficients, size) for row, face in enumerate(faces)]
        known = [eyes is not None for eyes in found]
        if not any(known):
            return coefficients, known
        turns = np.zeros((len(coefficients.camera), 6), np.float32)
        for row, eyes in enumerate(found):
            if eyes is not None:
                turns[row] = eyes
        return coefficients.replace(eyes=turns), known

    def of_face(
        self, face: Face, row: int, coefficients: FlameCoefficients, size: int
    ) -> Float[np.ndarray, "6"] | None:
        """`read` by the landmarks of a face; None where they do not show the eyes."""
        if not self._eyes or not _shows_eyes(face.points):
            return None
        names = ("shape", "expression", "eyelid", "pose", "camera")
        known = [np.asarray(getattr(coefficients, name)[row], np.float64) for name in names]
        points = to_ndc(transform_points(face.matrix(size), face.points), size)
        return self.read(*known, np.asarray(points, np.float64))

    def read(
        self,
        shape: Float[np.ndarray, " S"],
        expression: Float[np.ndarray, " E"],
        eyelid: Float[np.ndarray, "2"],
        pose: Float[np.ndarray, "3"],
        camera: Float[np.ndarray, "3"],
        points: Float[np.ndarray, "478 2"],
    ) -> Float[np.ndarray, "6"] | None:
        """Rotations of the left and the right eyeball, without torsion.

        Args:
          shape, expression, eyelid, pose, camera: of a face, as in `FlameCoefficients`.
          points: mediapipe's in [-1, 1] of its crop, x right, y down.

        Returns:
          Axis-angle of the left, then the right eye, radians, the same for both, at most `WIDEST`:
          the mean over eyes that are open, do not wink and are not turned away. None where there is
          no such eye.
        """
        angle = np.rad2deg(yaw_of(pose))  # a nose that points aside hides the eye of that side
        hidden = "" if abs(angle) < _TURNED else ("left" if angle > 0 else "right")
        opened = {side: _opening(points, side) for side in self._eyes if side != hidden}
        least = max(_SHUT, _WINKS * max(opened.values(), default=0.0))
        turns = []
        for side, eye in self._eyes.items():
            if opened.get(side, 0.0) < least:
                continue
            offset = _offset(points, side) * [1, -1] / camera[0]
            turns.append(_turn(*_placed(eye, shape, expression, eyelid, pose), offset, pose))
        return np.tile(np.mean(turns, axis=0), 2).astype(np.float32) if turns else None


def _eye(head: FlameModel, side: str, ball: Int[np.ndarray, " K"]) -> Eye:
    rows = [int(np.flatnonzero(point == MEDIAPIPE_105)[0]) for point in EYE_ENDS_478[side]]
    corners = np.asarray(head.faces)[np.asarray(head.landmarks_105.face_index)[rows]]
    kept = np.concatenate([ball, corners.ravel()])
    root = np.asarray(head.joint_regressor)[0]
    return Eye(
        len(ball),
        np.asarray(head.landmarks_105.barycentric)[rows],
        np.asarray(head.template)[kept],
        np.asarray(head.shape_basis)[kept],
        np.asarray(head.expression_basis)[kept],
        np.asarray(head.eyelid_basis)[:, kept],
        root @ np.asarray(head.template),
        np.tensordot(root, np.asarray(head.shape_basis), axes=1),
    )


def _placed(
    eye: Eye, shape: np.ndarray, expression: np.ndarray, eyelid: np.ndarray, pose: np.ndarray
) -> tuple[Float[np.ndarray, "2"], float]:
    """From the middle of the corners to the centre of the eyeball, x and y; its radius. Metres."""
    rest = eye.template + eye.shape[..., : len(shape)] @ shape
    rest += eye.expression[..., : len(expression)] @ expression
    root = eye.root + eye.root_shape[:, : len(shape)] @ shape
    placed = (rest - root).astype(np.float64) @ matrix_of(pose).T
    placed += np.einsum("l,lnk->nk", eyelid, eye.eyelid)
    centre, radius = fit_sphere(placed[: eye.ball])
    corners = placed[eye.ball :].reshape(2, 3, 3)
    return (centre - np.einsum("ck,ckx->cx", eye.share, corners).mean(0))[:2], radius


def _turn(
    centre: np.ndarray, radius: float, offset: np.ndarray, pose: np.ndarray
) -> Float[np.ndarray, "3"]:
    flat = (offset - centre) / (IRIS * radius)
    length, most = np.linalg.norm(flat), np.sin(np.deg2rad(89.0))
    flat *= min(1.0, most / max(length, 1e-12))
    direction = turned(-pose, np.array([*flat, np.sqrt(1 - flat @ flat)]))
    angle = min(np.arccos(np.clip(direction[2], -1, 1)), np.deg2rad(WIDEST))
    axis = np.array([-direction[1], direction[0], 0.0])  # z x direction
    return angle * axis / max(np.linalg.norm(axis), 1e-12)


def _offset(points: np.ndarray, side: str) -> Float[np.ndarray, "2"]:
    """From the middle of the corners to the iris."""
    return points[IRIS_478[side]].mean(0) - points[list(EYE_ENDS_478[side])].mean(0)


def _shows_eyes(points: Float[np.ndarray, "N 2"] | None) -> bool:
    """Whether irises, corners and lids of both eyes are all seen."""
    if points is None or len(points) != N_MEDIAPIPE:
        return False
    tables = (IRIS_478, EYE_ENDS_478, EYE_SLITS_478)
    return bool(seen(points)[np.concatenate([t[side] for t in tables for side in _SIDES])].all())


def _opening(points: np.ndarray, side: str) -> float:
    """Height of the slit over its width; 0, as of a closed eye, where the corners coincide."""
    upper, lower = points[list(EYE_SLITS_478[side])]
    inner, outer = points[list(EYE_ENDS_478[side])]
    width = np.linalg.norm(inner - outer)
    return float(np.linalg.norm(upper - lower) / width) if width > 0 else 0.0
