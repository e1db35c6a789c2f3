"""Landmark tables and regions of a head that has none: carried over from the procedural head.

The 105 points of mediapipe, the 203 of LivePortrait and the regions are published for FLAME's mesh
alone. Here the procedural head's are taken to where its surface lies on the other head.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.interpolate import RBFInterpolator

from fields_jax.geometry.closest_points import closest_points
from fields_jax.types import PARTS, FlameModel, LandmarkEmbedding

_TABLES = ("landmarks_105", "landmarks_203")
_COPIED = ("mediapipe_index", "front_203", "left_203", "right_203")
# Regions that a mesh tells by itself.
_OWN = ("left_eyeball", "right_eyeball", "mouth_interior", "boundary")


class Surface(NamedTuple):
    """A head at rest, as far as registration looks at it.

    Attributes:
      vertices: [V, 3] metres.
      faces: [F, 3].
      face_parts: [F] rows of `types.PARTS`.
      landmarks: 68 points, `static_68`.
    """

    vertices: Float[np.ndarray, "V 3"]
    faces: Int[np.ndarray, "F 3"]
    face_parts: Int[np.ndarray, " F"]
    landmarks: LandmarkEmbedding


def surface_of(head: FlameModel) -> Surface:
    """A head's template."""
    arrays = (np.asarray(a) for a in (head.template, head.faces, head.face_parts))
    points = LandmarkEmbedding(*(np.asarray(a) for a in vars(head.static_68).values()))
    return Surface(*arrays, points)


def tables_by_registration(head: FlameModel, target: Surface) -> dict[str, np.ndarray]:
    """A known head's landmark tables, regions and face mask on another mesh.

    Args:
      head: the known one.
      target: the mesh without tables.

    Returns:
      Arrays by their names in a head file: landmarks_105, landmarks_203 and what belongs to them,
      the regions, face_vertices, face_triangles.
    """
    source = surface_of(head)
    there, back = _both_ways(source, target)
    arrays = {name: np.asarray(getattr(head, name)) for name in _COPIED}
    carried = _at(target.vertices, target.faces, *there)
    for name in _TABLES:
        table = getattr(head, name)
        corners = source.faces[np.asarray(table.face_index)]
        weights = np.asarray(table.barycentric)
        points = (carried[corners] * weights[..., None]).sum(-2)
        face, weight = _nearest_about(target, points, there[0][corners])
        arrays[f"{name}.face_index"], arrays[f"{name}.barycentric"] = face, weight
    skin = np.unique(target.faces[target.face_parts == PARTS.index("skin")])
    for name, rows in head.regions.items():
        if name in _OWN:
            continue
        member = np.zeros(len(source.vertices))
        member[np.asarray(rows)] = 1
        inside = _at(member[:, None], source.faces, *back)[skin, 0] > 0.5
        arrays[f"regions.{name}"] = skin[inside]
    return arrays | face_mask(arrays["regions.face"], target.faces)


def face_mask(face: Int[np.ndarray, " K"], faces: Int[np.ndarray, "F 3"]) -> dict[str, np.ndarray]:
    """`face_vertices` and `face_triangles` of a head whose mask is known."""
    whole = np.isin(faces, face).all(axis=1)
    return {"face_vertices": face, "face_triangles": np.searchsorted(face, faces[whole])}


def _both_ways(source: Surface, target: Surface) -> tuple[tuple, tuple]:
    """Faces and weights: of the target for each vertex of the source, and the other way."""
    marks = [_at(s.vertices, s.faces, *vars(s.landmarks).values()) for s in (source, target)]
    warp = RBFInterpolator(marks[0], marks[1], kernel="thin_plate_spline", smoothing=1e-6)
    moved = source._replace(vertices=warp(source.vertices))
    return _nearest(moved, target), _nearest(target, moved)


def _nearest(source: Surface, target: Surface) -> tuple[np.ndarray, np.ndarray]:
    """Closest points of the same part, or of the skin where the target lacks the part."""
    face = np.zeros(len(source.vertices), np.int64)
    weight = np.zeros((len(source.vertices), 3))
    for part in np.unique(source.face_parts):
        rows = np.unique(source.faces[source.face_parts == part])
        there = part if (target.face_parts == part).any() else PARTS.index("skin")
        chosen = np.flatnonzero(target.face_parts == there)
        near = closest_points(target.vertices, target.faces[chosen], source.vertices[rows])
        face[rows], weight[rows] = chosen[near.face], near.barycentric
    return face, weight


def _nearest_about(
    target: Surface, points: Float[np.ndarray, "N 3"], about: Int[np.ndarray, "N 3"]
) -> tuple[np.ndarray, np.ndarray]:
    """Closest points within two rings of faces, so that no point changes to the other lip."""
    face, weight = np.zeros(len(points), np.int64), np.zeros((len(points), 3))
    for row, (point, start) in enumerate(zip(points, about, strict=True)):
        near = start
        for _ in range(2):
            near = np.flatnonzero(np.isin(target.faces, target.faces[near]).any(axis=1))
        found = closest_points(target.vertices, target.faces[near], point[None])
        face[row], weight[row] = near[found.face[0]], found.barycentric[0]
    return face, weight


def _at(
    values: np.ndarray, faces: Int[np.ndarray, "F 3"], face: np.ndarray, weight: np.ndarray
) -> np.ndarray:
    """Values [V, C] of vertices at points of the mesh."""
    return (np.asarray(values)[faces[face]] * weight[..., None]).sum(-2)
