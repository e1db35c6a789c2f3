"""Distances from the points of a scan to the surface of a mesh, after a named alignment.

Alignments differ in what they forgive. "none" keeps the given frame. "rigid" turns and shifts the
mesh, so that its size counts (NoW calls that metrical); "similarity" also scales it, so that only
its form counts. Both start at corresponding landmarks (Procrustes) and then minimise the sum of
squared distances from the points to the surface (Sanyal et al. 2019, "Learning to regress 3D face
shape and expression from an image without 3D supervision").

The mesh moves onto the scan in theory; in practice the points move into the mesh's frame, which
needs no new search tree in each step. Everything is numpy in float64.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

import numpy as np
from jaxtyping import Bool, Float
from scipy.spatial.transform import Rotation

from fields_jax.geometry.closest_points import Closest, closest_points
from fields_jax.geometry.mesh_files import Surface
from fields_jax.geometry.similarity import rigid_motion

Floats = Float[np.ndarray, " N"]
AlignmentName = Literal["none", "rigid", "similarity"]
ALIGNMENTS: tuple[str, ...] = get_args(AlignmentName)

_COARSE = 4000  # points that most steps are made with; the last ones use all
_STEPS = 60  # at most, of each
_SETTLED = 1e-8  # relative decrease of the squared distances below which a search ends
_EXACT = 1e-12  # mean squared distance, relative to the scan's size, that counts as 0
_FLAT = 1e-4  # least spread of landmarks across their main axis, relative to that along it


class Alignment(NamedTuple):
    """A motion x -> scale * rotation @ x + shift from the mesh's frame to the scan's."""

    scale: float
    rotation: Float[np.ndarray, "3 3"]
    shift: Float[np.ndarray, "3"]

    def apply(self, points: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, "N 3"]:
        """Points of the mesh's frame in the scan's."""
        return self.scale * points @ self.rotation.T + self.shift

    def undo(self, points: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, "N 3"]:
        """Points of the scan's frame in the mesh's."""
        return (points - self.shift) @ self.rotation / self.scale


def given_frame() -> Alignment:
    """The motion that moves nothing."""
    return Alignment(1.0, np.eye(3), np.zeros(3))


def landmark_alignment(
    mesh_points: Float[np.ndarray, "L 3"],
    scan_points: Float[np.ndarray, "L 3"],
    *,
    scaled: bool,
) -> Alignment:
    """The motion that carries landmarks onto others, in least squares; never a reflection.

    Args:
      mesh_points: [L, 3], L at least 3, in the mesh's frame.
      scan_points: [L, 3] the same points of the face in the scan's frame.
      scaled: whether the size may change.

    Raises:
      ValueError: the points lie on one line, which leaves the rotation open.
    """
    for points in (mesh_points, scan_points):
        spread = np.linalg.svd(points - points.mean(axis=0), compute_uv=False)
        if not spread[1] > _FLAT * spread[0]:
            raise ValueError("landmarks lie on one line, or in one point")
    rotation, shift, scale = rigid_motion(mesh_points, scan_points)
    if not scaled:
        return Alignment(1.0, rotation, shift)
    centre, goal = mesh_points.mean(axis=0), scan_points.mean(axis=0)
    return Alignment(scale, rotation, goal - scale * rotation @ centre)


def refined_alignment(
    points: Float[np.ndarray, "Q 3"],
    mesh: Surface,
    start: Alignment,
    *,
    scaled: bool,
) -> Alignment:
    """The motion near `start` with the least sum of squared distances from points to the mesh.

    By Levenberg and Marquardt's method, first with some thousands of the points, evenly chosen,
    then with all. A step is only taken if it brings the points closer.

    Args:
      points: [Q, 3] of the scan.
      mesh: in its own frame.
      start: from its frame to the scan's, such as `landmark_alignment` gives.
      scaled: whether the size may change.
    """
    few = points[:: -(-len(points) // _COARSE)]
    for chosen in (few, points) if len(few) < len(points) else (points,):
        start = _minimize(chosen, mesh, start, scaled)
    return start


def surface_distances(
    points: Float[np.ndarray, "Q 3"], mesh: Surface, alignment: Alignment
) -> Float[np.ndarray, " Q"]:
    """Distance of each point of a scan to the aligned mesh, in the scan's unit."""
    found = closest_points(mesh.vertices, mesh.faces, alignment.undo(points))
    return alignment.scale * found.distance


def align(
    points: Float[np.ndarray, "Q 3"],
    mesh: Surface,
    name: AlignmentName,
    landmarks: tuple[Float[np.ndarray, "L 3"], Float[np.ndarray, "L 3"]] | None = None,
) -> Alignment:
    """One of `ALIGNMENTS`, from landmarks to the refined motion.

    Args:
      points: [Q, 3] of the scan.
      mesh: in its own frame.
      name: of the alignment.
      landmarks: those of the mesh and of the scan; needed unless the frame is kept.

    Raises:
      ValueError: no landmarks, or ones on a line.
    """
    if name == "none":
        return given_frame()
    if landmarks is None:
        raise ValueError(f"alignment {name!r} starts at landmarks, and there are none")
    scaled = name == "similarity"
    start = landmark_alignment(*landmarks, scaled=scaled)
    return refined_alignment(points, mesh, start, scaled=scaled)


def distance_scores(distance: Float[np.ndarray, " Q"]) -> dict[str, float | int]:
    """Count, median, mean, standard deviation and 95th percentile, in the unit of the distances.

    The standard deviation is that of the distances themselves (divided by Q), as NoW reports it.
    """
    values = np.asarray(distance, np.float64)
    return {
        "points": len(values),
        "median": float(np.median(values)),
        "mean": float(values.mean()),
        "std": float(values.std()),
        "p95": float(np.percentile(values, 95)),
    }


def cumulative_share(distance: Float[np.ndarray, " Q"], limits: Floats) -> Floats:
    """Share of the distances that are at most each limit."""
    return np.searchsorted(np.sort(distance), limits, side="right") / len(distance)


def face_region(
    points: Float[np.ndarray, "Q 3"], landmarks: Float[np.ndarray, "7 3"]
) -> Bool[np.ndarray, " Q"]:
    """Which points of a scan NoW scores: those in a ball around the middle of the face.

    The centre lies at 0.3 of the way from the bottom of the nose to the middle between the inner
    eye corners; the radius is 0.7 times the sum of that way's length and the distance of the outer
    eye corners.

    Args:
      points: [Q, 3].
      landmarks: [7, 3] in NoW's order (`landmark_schemes.NOW_68`), same frame.
    """
    outer, inner, other_inner, other_outer, nose = landmarks[:5]
    nasion = (inner + other_inner) / 2
    centre = nose + 0.3 * (nasion - nose)
    radius = 1.4 * (np.linalg.norm(outer - other_outer) + np.linalg.norm(nasion - nose)) / 2
    return np.linalg.norm(points - centre, axis=1) <= radius


def _minimize(
    points: Float[np.ndarray, "Q 3"], mesh: Surface, start: Alignment, scaled: bool
) -> Alignment:
    found, placed = _closest(points, mesh, start)
    squared = float(np.mean((placed - points) ** 2))
    exact = _EXACT**2 * float(np.mean((points - points.mean(axis=0)) ** 2))
    now, damping = start, 1e-6
    for _ in range(_STEPS):
        if squared <= exact:
            break
        step = _step(points, placed, _directions(points, placed, mesh, found, now), damping, scaled)
        tried = _moved(now, step, points.mean(axis=0))
        again, landed = _closest(points, mesh, tried)
        better = float(np.mean((landed - points) ** 2))
        if better < squared:
            settled = squared - better < _SETTLED * squared
            now, found, placed, squared = tried, again, landed, better
            damping = max(damping / 10, 1e-9)
            if settled:
                break
        elif damping > 1e3:
            break
        else:
            damping *= 30
    return now


def _closest(
    points: Float[np.ndarray, "Q 3"], mesh: Surface, motion: Alignment
) -> tuple[Closest, Float[np.ndarray, "Q 3"]]:
    """The closest points of the mesh, and where they lie in the scan's frame."""
    found = closest_points(mesh.vertices, mesh.faces, motion.undo(points))
    corners = mesh.vertices[mesh.faces[found.face]]
    return found, motion.apply(np.einsum("qk,qkd->qd", found.barycentric, corners))


def _directions(
    points: Float[np.ndarray, "Q 3"],
    placed: Float[np.ndarray, "Q 3"],
    mesh: Surface,
    found: Closest,
    motion: Alignment,
) -> Float[np.ndarray, "Q 3"]:
    """Unit vectors in which the distances grow: away from the surface.

    The normal of the triangle, which is defined for a distance of 0 too, unless the closest point
    lies on its rim and the way there is not along the normal.
    """
    corners = mesh.vertices[mesh.faces[found.face]]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normal = _unit(normal) @ motion.rotation.T
    way = points - placed
    slanted = found.barycentric.min(axis=1) <= 0
    return np.where(slanted[:, None] & (_length(way) > 1e-12 * motion.scale), _unit(way), normal)


def _step(
    points: Float[np.ndarray, "Q 3"],
    placed: Float[np.ndarray, "Q 3"],
    direction: Float[np.ndarray, "Q 3"],
    damping: float,
    scaled: bool,
) -> Float[np.ndarray, "7"]:
    """Rotation vector about the points' mean, shift, and log of the scale, of a damped step."""
    centre = points.mean(axis=0)
    arm = placed - centre
    columns = [np.cross(arm, direction), direction]
    if scaled:
        columns.append(np.sum(arm * direction, axis=1, keepdims=True))
    jacobian = np.concatenate(columns, axis=1)
    residual = np.sum((points - placed) * direction, axis=1)
    normal = jacobian.T @ jacobian
    # Marquardt's scaling; a direction that the points leave open gets no step.
    diagonal = np.diag(normal)
    normal = normal + np.diag(damping * diagonal + 1e-12 * diagonal.max() + 1e-300)
    step = np.linalg.solve(normal, jacobian.T @ residual)
    return step if scaled else np.append(step, 0.0)


def _moved(motion: Alignment, step: Float[np.ndarray, "7"], centre: Floats) -> Alignment:
    """A motion followed by a small one about a centre."""
    turn = Rotation.from_rotvec(step[:3]).as_matrix()
    scale = float(np.exp(np.clip(step[6], -0.5, 0.5)))
    shift = scale * turn @ (motion.shift - centre) + centre + step[3:6]
    return Alignment(scale * motion.scale, turn @ motion.rotation, shift)


def _unit(vectors: Float[np.ndarray, "Q 3"]) -> Float[np.ndarray, "Q 3"]:
    length = _length(vectors)
    return vectors / np.where(length > 0, length, 1)


def _length(vectors: Float[np.ndarray, "Q 3"]) -> Float[np.ndarray, "Q 1"]:
    return np.linalg.norm(vectors, axis=1, keepdims=True)
