"""The face's surface and landmarks in space.

Unknowns are those of `parameters`, with the rotation and translation from the head's frame to the
scan's in place of pose and camera: the head itself stays upright, since FLAME's eyelids, added
after posing, close the eyes of an upright head only.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from fields_jax.fitting.parameters import (
    CAMERA,
    COEFFICIENTS,
    EYELID,
    JAW,
    POSE,
    Layout,
    with_jacobian,
)
from fields_jax.fitting.rig import Rig, point_rig, pose_basis, pose_points, turn
from fields_jax.geometry.rotations import rodrigues
from fields_jax.types import FlameModel, LandmarkEmbedding

LANDMARKS = 51 + 105
_HIGHEST = jax.lax.Precision.HIGHEST


@struct.dataclass
class Surface:
    """What a scan is compared with.

    Attributes:
      rig: of the V vertices of the face mask, then of the 51 and the 105 landmarks.
      triangles: [F, 3] of the mask.
      border: [V] vertices on the mask's outer border and around its holes.
      ring: [V, R] triangles about each vertex; the last repeats where there are fewer.
      ring_size: [V] how many there are.
    """

    rig: Rig
    triangles: Int[Array, "F 3"]
    border: Bool[Array, " V"]
    ring: Int[Array, "V R"]
    ring_size: Int[Array, " V"]


def face_surface(head: FlameModel, layout: Layout) -> Surface:
    """Tables of a head's face, in numpy.

    Raises:
      UserError: more components than the head has.
    """
    vertices = _as_points(np.asarray(head.faces), np.asarray(head.face_vertices))
    sets = (vertices, head.static_51, head.landmarks_105)
    joined = LandmarkEmbedding(
        face_index=np.concatenate([points.face_index for points in sets]),
        barycentric=np.concatenate([points.barycentric for points in sets]),
    )
    triangles = np.asarray(head.face_triangles)
    edges = np.sort(triangles[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=1)
    edges, count = np.unique(edges, axis=0, return_counts=True)
    border = np.zeros(len(head.face_vertices), bool)
    border[edges[count == 1]] = True
    ring, size = _rings(triangles, len(border))
    return Surface(point_rig(head, joined, *layout), triangles, border, ring, size)


def _rings(
    triangles: Int[np.ndarray, "F 3"], count: int
) -> tuple[Int[np.ndarray, "V R"], Int[np.ndarray, " V"]]:
    """Triangles about each vertex; vertices without any get the first triangle."""
    flat = triangles.ravel()
    order = np.argsort(flat, kind="stable")
    size = np.bincount(flat, minlength=count)
    first = np.cumsum(size) - size
    place = np.minimum(np.arange(size.max()), np.maximum(size[:, None] - 1, 0))
    ring = order[np.minimum(first[:, None] + place, len(order) - 1)] // 3
    return np.where(size[:, None] > 0, ring, 0).astype(np.int32), size.astype(np.int32)


def _as_points(faces: Int[np.ndarray, "F 3"], vertices: Int[np.ndarray, " V"]) -> LandmarkEmbedding:
    """Vertices as points of one of their triangles."""
    flat = faces.ravel()
    place = np.argsort(flat, kind="stable")
    first = place[np.searchsorted(flat[place], vertices)]
    return LandmarkEmbedding(
        face_index=first // 3, barycentric=np.eye(3, dtype=np.float32)[first % 3]
    )


def with_shape(rig: Rig, shape: Float[Array, " S"]) -> Rig:
    """The rig of one identity, with its shape's displacements added to the means."""
    split = rig.basis.shape[-1] - shape.shape[0]
    pairs = (("mean", "basis"), ("dragged_mean", "dragged_basis"), ("joint_mean", "joint_basis"))
    fields = {}
    for mean, basis in pairs:
        movement = jnp.dot(getattr(rig, basis)[..., split:], shape, precision=_HIGHEST)
        fields |= {mean: getattr(rig, mean) + movement, basis: getattr(rig, basis)[..., :split]}
    return rig.replace(**fields)


def posed(rig: Rig, x: Float[Array, " P"]) -> Float[Array, "N 3"]:
    """The rig's points in the scan's frame, metres."""
    points = pose_points(rig, x[COEFFICIENTS], x[JAW], x[EYELID], jnp.zeros_like(x[POSE]))
    return jnp.dot(points, rodrigues(x[POSE]).T, precision=_HIGHEST) + x[CAMERA][None]


def posed_with_jacobian(
    rig: Rig, x: Float[Array, " P"]
) -> tuple[Float[Array, "N 3"], Float[Array, "N 3 P"]]:
    """`posed` and its derivative, in closed form for the coefficients."""
    basis = turn(rodrigues(x[POSE]), pose_basis(rig, x[JAW], jnp.zeros_like(x[POSE])))
    return with_jacobian(lambda x: posed(rig, x), x, basis)
