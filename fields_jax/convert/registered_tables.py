"""Landmark tables and regions of a head that has none: carried over from the procedural head.

The 105 points of mediapipe, the 203 of LivePortrait and the regions are published for FLAME's mesh
alone. Here the procedural head's are taken to where its surface lies on the other head.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from fields_jax.geometry.closest_points import closest_points
from fields_jax.registration.surfaces import Surface, carry, register_both
from fields_jax.types import PARTS, FlameModel, LandmarkEmbedding

_TABLES = ("landmarks_105", "landmarks_203")
_COPIED = ("mediapipe_index", "front_203", "left_203", "right_203")
# Regions that a mesh tells by itself.
_OWN = ("left_eyeball", "right_eyeball", "mouth_interior", "boundary")


def surface(
    vertices: Float[np.ndarray, "V 3"],
    faces: Int[np.ndarray, "F 3"],
    face_parts: Int[np.ndarray, " F"],
    static_68: LandmarkEmbedding,
) -> Surface:
    """A head at rest, in metres, as registration looks at it."""
    corners, weights = faces[np.asarray(static_68.face_index)], np.asarray(static_68.barycentric)
    landmarks = (vertices[corners] * weights[..., None]).sum(-2)
    return Surface(vertices, faces, landmarks, face_parts, corners, weights)


def tables_by_registration(head: FlameModel, target: Surface) -> dict[str, np.ndarray]:
    """A known head's landmark tables, regions and face mask on another mesh.

    Args:
      head: the known one.
      target: the mesh without tables.

    Returns:
      Arrays by their names in a head file: landmarks_105, landmarks_203 and what belongs to them,
      the regions, face_vertices, face_triangles.
    """
    known = (np.asarray(array) for array in (head.template, head.faces, head.face_parts))
    source = surface(*known, head.static_68)
    there, back = register_both(source, target)
    arrays = {name: np.asarray(getattr(head, name)) for name in _COPIED}
    carried = carry(there, target.faces, target.vertices)
    for name in _TABLES:
        table = getattr(head, name)
        corners = source.faces[np.asarray(table.face_index)]
        weights = np.asarray(table.barycentric)
        points = (carried[corners] * weights[..., None]).sum(-2)
        face, weight = _nearest_about(target, points, there.face_index[corners])
        arrays[f"{name}.face_index"], arrays[f"{name}.barycentric"] = face, weight
    skin = np.unique(target.faces[target.parts == PARTS.index("skin")])
    for name, rows in head.regions.items():
        if name in _OWN:
            continue
        member = np.zeros(len(source.vertices))
        member[np.asarray(rows)] = 1
        inside = carry(back, source.faces, member)[skin] > 0.5
        arrays[f"regions.{name}"] = skin[inside]
    return arrays | face_mask(arrays["regions.face"], target.faces)


def face_mask(face: Int[np.ndarray, " K"], faces: Int[np.ndarray, "F 3"]) -> dict[str, np.ndarray]:
    """`face_vertices` and `face_triangles` of a head whose mask is known."""
    whole = np.isin(faces, face).all(axis=1)
    return {"face_vertices": face, "face_triangles": np.searchsorted(face, faces[whole])}


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


def rim(faces: Int[np.ndarray, "F 3"], among: Int[np.ndarray, " N"]) -> Int[np.ndarray, " R"]:
    """Those of some vertices that lie on edges of one face alone."""
    edges = np.sort(faces[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=1)
    edges, count = np.unique(edges, axis=0, return_counts=True)
    return np.intersect1d(edges[count == 1], among)


def storage_type(array: np.ndarray) -> np.ndarray:
    """An array of a head as files hold it: integers as int32, reals as float32."""
    if array.dtype == bool:
        return array
    return np.ascontiguousarray(array, np.int32 if array.dtype.kind in "iu" else np.float32)
