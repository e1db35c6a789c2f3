"""Which scan points belong to which places of a posed face."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Float, Int
from scipy.spatial import KDTree

from fields_jax.fitting.surface import Surface
from fields_jax.geometry.closest_points import closest_on_triangles
from fields_jax.geometry.normals import ring_normals

_NEAREST = 2  # nearest vertices of a point, whose triangles are tried
_FACING = 0.5  # cosine of 60 degrees; normals that differ by more belong to different surfaces
_ON_BORDER = 1e-5  # weight below which a corner does not carry a point
_HIGHEST = jax.lax.Precision.HIGHEST


@struct.dataclass
class Cloud:
    """The scan points a frame is fitted to.

    Attributes:
      points: [N, 3] metres.
      normals: [N, 3] outward and of unit length, or 0 where unknown.
      real: [N] False for padding.
    """

    points: Float[np.ndarray, "N 3"]
    normals: Float[np.ndarray, "N 3"]
    real: Float[np.ndarray, " N"]


@struct.dataclass
class Matches:
    """Places of the surface that are closest to scan points.

    Attributes:
      corners: [N, 3] vertices of each place's triangle.
      barycentric: [N, 3] where in the triangle.
      normal: [N, 3] of the surface there.
      target: [N, 3] the scan point.
      distance: [N] between them, metres.
      inside: [N] 1 where the place is not on the face's border, beyond which lie neck, hair and
        eyeballs; 0 on the border and for padding.
      weight: [N] 1 where the place is `inside`, within reach and faces the same way as the point.
    """

    corners: Int[Array, "N 3"]
    barycentric: Float[Array, "N 3"]
    normal: Float[Array, "N 3"]
    target: Float[Array, "N 3"]
    distance: Float[Array, " N"]
    inside: Float[Array, " N"]
    weight: Float[Array, " N"]


def nearest_vertices(
    vertices: Float[np.ndarray, "V 3"], points: Float[np.ndarray, "N 3"]
) -> Int[np.ndarray, "N 2"]:
    """The two vertices nearest to each point, by a k-d tree."""
    return KDTree(vertices).query(points, _NEAREST)[1].astype(np.int32)


def match(
    surface: Surface,
    vertices: Float[Array, "V 3"],
    cloud: Cloud,
    near: Int[Array, "N 2"],
    reach: Float[Array, ""] | float,
) -> Matches:
    """The place closest to each scan point, exactly, on the triangles about its nearest vertices.

    Args:
      surface: its tables.
      vertices: of the posed face, metres.
      cloud: the scan points.
      near: from `nearest_vertices`, for these or slightly different vertices.
      reach: metres; points farther away have no weight.
    """
    tried = surface.ring[near].reshape(len(near), -1)
    corners = vertices[surface.triangles]  # [F, 3, 3]
    weights, squared = closest_on_triangles(corners[tried], cloud.points[:, None])
    best = jnp.argmin(squared, axis=1)[:, None]
    face = jnp.take_along_axis(tried, best, axis=1)[:, 0]
    barycentric = jnp.take_along_axis(weights, best[..., None], axis=1)[:, 0]
    distance = jnp.sqrt(jnp.take_along_axis(squared, best, axis=1)[:, 0])
    index = surface.triangles[face]
    normals = ring_normals(corners, surface.ring, surface.ring_size)
    normal = jnp.einsum("nc,ncd->nd", barycentric, normals[index], precision=_HIGHEST)
    normal /= jnp.maximum(jnp.linalg.norm(normal, axis=-1, keepdims=True), 1e-12)
    inside = jnp.any((barycentric > _ON_BORDER) & ~surface.border[index], axis=1) * cloud.real
    facing = jnp.sum(normal * cloud.normals, axis=-1)
    known = jnp.any(cloud.normals != 0, axis=-1)
    kept = (distance < reach) & ((facing > _FACING) | ~known)
    return Matches(index, barycentric, normal, cloud.points, distance, inside, inside * kept)


def covered(
    vertices: Float[np.ndarray, "V 3"], points: Float[np.ndarray, "N 3"], reach: float
) -> float:
    """Fraction of the vertices with a scan point within `reach`."""
    distance, _ = KDTree(points).query(vertices, distance_upper_bound=reach)
    return float(np.mean(np.isfinite(distance)))
