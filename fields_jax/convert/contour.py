"""The contour of a head as it turns, from the outline of its own surface.

The table follows FLAME's (`FlameModel.contour`): as the head turns, points of the side that turns
away leave the edge of the jaw and move across the cheek with the visible outline, while those of
the other side go back to the jaw and stay. At no yaw the 17 points are the given frontal ones.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from fields_jax.geometry.closest_points import closest_points
from fields_jax.geometry.normals import summed_normals
from fields_jax.landmark_schemes import CONTOUR_MAX_YAW

# Steps of each path from the jaw to the frontal landmark, and from there across the cheek.
_BEFORE, _AFTER = 30, 80
_INWARD = 0.3  # share of the azimuth at which paths end
_RISE = 0.015  # metres that paths rise by half way between ear and chin
_FACING = 0.05, 0.4  # bounds of the cosine at which an outline is seen
_MARGIN = 0.0003  # metres by which an outline stands out beyond all that is farther along its path
_SIDE = 9  # points from before the ear to the chin


class Points(NamedTuple):
    """Points on the mesh: rows [..., N] of the faces, weights [..., N, 3] of their corners."""

    face: Int[np.ndarray, "*R N"]
    weight: Float[np.ndarray, "*R N 3"]


def at_vertices(faces: Int[np.ndarray, "F 3"], vertices: Int[np.ndarray, " N"]) -> Points:
    """Vertices as points: the first face around each."""
    flat = faces.ravel()
    order = np.argsort(flat, kind="stable")
    first = order[np.searchsorted(flat[order], vertices)]
    return Points(first // 3, np.eye(3)[first % 3])


class Face(NamedTuple):
    """What a contour is made from, metres.

    Attributes:
      vertices: [V, 3].
      faces: [F, 3].
      skin: rows of the faces that an outline may lie on.
      frontal: the 17 points as seen from the front, from before the right ear over the chin.
      jaw: [17, 3] where they lie on the edge of the jaw of a head seen from the side.
      axis: z of the vertical axis that azimuths are about.
    """

    vertices: Float[np.ndarray, "V 3"]
    faces: Int[np.ndarray, "F 3"]
    skin: Int[np.ndarray, " T"]
    frontal: Points
    jaw: Float[np.ndarray, "17 3"]
    axis: float


def places(
    vertices: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"], points: Points
) -> Float[np.ndarray, "*R N 3"]:
    """Where points lie."""
    return (vertices[faces[points.face]] * points.weight[..., None]).sum(-2)


def contour(face: Face) -> Points:
    """The [79, 17] contour by head yaw: rows 0..39, then -1..-39."""
    yaws = np.array([*range(CONTOUR_MAX_YAW + 1), *range(-1, -CONTOUR_MAX_YAW - 1, -1)])
    sides = (np.arange(_SIDE), 16 - np.arange(_SIDE))  # the right one, the left one
    right, left = (_paths(face, rows).outline(yaws) for rows in sides)
    joined = [
        np.concatenate([a, b[:, _SIDE - 2 :: -1]], axis=1) for a, b in zip(right, left, strict=True)
    ]
    joined[0][0], joined[1][0] = face.frontal
    return Points(*joined)


class _Paths(NamedTuple):
    """Paths of one side: places [9, step, 3], normals likewise, and the points on the mesh.

    The step that is the published frontal landmark is `_BEFORE`.
    """

    places: Float[np.ndarray, "N K 3"]
    normals: Float[np.ndarray, "N K 3"]
    points: Points

    def outline(self, yaws: Int[np.ndarray, " Y"]) -> Points:
        """Where each path meets the outline of the head turned by each of some yaws, degrees.

        That is its first place that faces the viewer and that nothing farther along hides.
        """
        turn = np.radians(yaws)[:, None, None]
        facing = self.normals[..., 2] * np.cos(turn) - self.normals[..., 0] * np.sin(turn)
        outwards = self.places[..., 0] * np.cos(turn) + self.places[..., 2] * np.sin(turn)
        outwards = outwards * np.sign(self.places[0, 0, 0])
        beyond = np.maximum.accumulate(outwards[..., ::-1], axis=-1)[..., ::-1]
        beyond = np.pad(beyond[..., 3:], ((0, 0), (0, 0), (0, 3)), constant_values=-np.inf)
        # As the published landmarks are seen from the front, so is the outline at any yaw.
        least = np.clip(self.normals[:, _BEFORE, 2] - 1e-6, *_FACING)[None, :, None]
        seen = (facing >= least) & (outwards > beyond + _MARGIN)
        best = np.where(seen.any(-1), seen.argmax(-1), facing.argmax(-1))
        row = np.arange(_SIDE)[None]
        return Points(self.points.face[row, best], self.points.weight[row, best])


def _paths(face: Face, rows: Int[np.ndarray, "9"]) -> _Paths:
    """Paths of one side from the jaw to the frontal points and across the cheek."""
    frontal = places(face.vertices, face.faces, face.frontal)
    start, through = (_cylindrical(points[rows], face.axis) for points in (face.jaw, frontal))
    goal = through * [_INWARD, 1, 1]
    goal[:, 1] += _RISE * np.sin(np.pi * np.clip((np.linspace(0, 1, _SIDE) - 0.2) / 0.8, 0, 1))
    before, after = (np.linspace(0, 1, n)[None, :, None] for n in (_BEFORE + 1, _AFTER + 1))
    flat = np.concatenate(
        [
            start[:, None] + before * (through - start)[:, None],
            (through[:, None] + after * (goal - through)[:, None])[:, 1:],
        ],
        axis=1,
    )
    x, z = flat[..., 2] * np.sin(flat[..., 0]), flat[..., 2] * np.cos(flat[..., 0]) + face.axis
    queries = np.stack([x, flat[..., 1], z], axis=-1)
    skin = face.faces[face.skin]
    near = closest_points(face.vertices, skin, queries.reshape(-1, 3))
    shape = queries.shape[:2]
    points = Points(near.face.reshape(shape), near.barycentric.reshape(*shape, 3))
    normals = places(summed_normals(face.vertices, skin), skin, points)
    # Where a surface folds onto itself its normals may cancel; such a place faces nobody.
    normals = normals / np.maximum(np.linalg.norm(normals, axis=-1, keepdims=True), 1e-30)
    found = places(face.vertices, skin, points)
    return _Paths(found, normals, Points(face.skin[points.face], points.weight))


def _cylindrical(points: Float[np.ndarray, "N 3"], axis: float) -> Float[np.ndarray, "N 3"]:
    """Azimuth from straight ahead, height, and distance from the axis."""
    x, y, z = points.T
    return np.stack([np.arctan2(x, z - axis), y, np.hypot(x, z - axis)], axis=1)
