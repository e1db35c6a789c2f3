"""Which scan points belong to which places of a posed face."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Float, Int
from scipy.spatial import KDTree

from fields_jax.fitting.surface import Surface

_NEAREST = 2  # vertices of a point whose triangles are tried
_FACING = 0.5  # cosine of 60 degrees; normals that differ by more belong to different surfaces
_ON_BORDER = 1e-5  # weight below which a corner does not carry a point
_HIGHEST = jax.lax.Precision.HIGHEST


@struct.dataclass
class Cloud:
    """The scan points a frame is fitted to.

    Attributes:
      points: [N, 3] metres.
      normals: [N, 3] outward and of unit length, or 0 where unknown.
      real: [N] False for rows that only fill up.
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
      inside: [N] 1 where the place is off the face's border, beyond which lie neck, hair and
        eyeballs; 0 elsewhere and for rows that only fill up.
      weight: [N] 1 for those `inside` that are within reach and face the same way.
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
      near: `nearest_vertices`, of these or of slightly other vertices.
      reach: metres; points that are further do not weigh.
    """
    tried = surface.ring[near].reshape(len(near), -1)
    corners = vertices[surface.triangles]  # [F, 3, 3]
    weights, squared = closest_on_triangles(corners[tried], cloud.points[:, None])
    best = jnp.argmin(squared, axis=1)[:, None]
    face = jnp.take_along_axis(tried, best, axis=1)[:, 0]
    barycentric = jnp.take_along_axis(weights, best[..., None], axis=1)[:, 0]
    distance = jnp.sqrt(jnp.take_along_axis(squared, best, axis=1)[:, 0])
    index = surface.triangles[face]
    normal = jnp.einsum(
        "nc,ncd->nd", barycentric, vertex_normals(surface, corners)[index], precision=_HIGHEST
    )
    normal /= jnp.maximum(jnp.linalg.norm(normal, axis=-1, keepdims=True), 1e-12)
    inside = jnp.any((barycentric > _ON_BORDER) & ~surface.border[index], axis=1) * cloud.real
    facing = jnp.sum(normal * cloud.normals, axis=-1)
    known = jnp.any(cloud.normals != 0, axis=-1)
    kept = (distance < reach) & ((facing > _FACING) | ~known)
    return Matches(index, barycentric, normal, cloud.points, distance, inside, inside * kept)


def closest_on_triangles(
    corners: Float[Array, "*N 3 3"], points: Float[Array, "*N 3"]
) -> tuple[Float[Array, "*N 3"], Float[Array, "*N"]]:
    """Barycentric weights of the points of triangles closest to others, and squared distances.

    Where the foot of the perpendicular lies outside, the closest point is on one of the edges.
    """
    a = corners[..., 0, :]
    one, two, offset = corners[..., 1, :] - a, corners[..., 2, :] - a, points - a
    aa, ab, bb = _dot(one, one), _dot(one, two), _dot(two, two)
    ap, bp = _dot(one, offset), _dot(two, offset)
    area = jnp.maximum(aa * bb - ab * ab, 1e-24)
    v, w = (bb * ap - ab * bp) / area, (aa * bp - ab * ap) / area
    along_one, along_two = _share(ap, aa), _share(bp, bb)
    across = _share(_dot(two - one, offset - one), aa - 2 * ab + bb)
    zero = jnp.zeros_like(v)
    # Pairs (v, w) of the inside and of the edges ab, ac and bc.
    v = jnp.stack([v, along_one, zero, 1 - across])
    w = jnp.stack([w, zero, along_two, across])
    gap = v[..., None] * one + w[..., None] * two - offset
    squared = _dot(gap, gap)
    outside = (v[0] < 0) | (w[0] < 0) | (v[0] + w[0] > 1)
    squared = squared.at[0].set(jnp.where(outside, jnp.inf, squared[0]))
    best = jnp.argmin(squared, axis=0)[None]
    v, w, squared = (jnp.take_along_axis(x, best, axis=0)[0] for x in (v, w, squared))
    return jnp.stack([1 - v - w, v, w], axis=-1), squared


def vertex_normals(surface: Surface, corners: Float[Array, "F 3 3"]) -> Float[Array, "V 3"]:
    """Area-weighted sums of the normals of the triangles about each vertex; not of unit length."""
    doubled = jnp.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    counts = jnp.arange(surface.ring.shape[1]) < surface.ring_size[:, None]
    total = jnp.sum(doubled[surface.ring] * counts[..., None], axis=1)
    return total / jnp.maximum(jnp.linalg.norm(total, axis=-1, keepdims=True), 1e-12)


def covered(
    vertices: Float[np.ndarray, "V 3"], points: Float[np.ndarray, "N 3"], reach: float
) -> float:
    """Share of the vertices with a scan point within `reach`."""
    distance, _ = KDTree(points).query(vertices, distance_upper_bound=reach)
    return float(np.mean(np.isfinite(distance)))


def rigid(
    source: Float[np.ndarray, "N 3"], target: Float[np.ndarray, "N 3"]
) -> tuple[Float[np.ndarray, "3 3"], Float[np.ndarray, "3"], float]:
    """Rotation and translation that carry one point set to another, in least squares.

    By singular values (Umeyama 1991). The third value is the scale between the sets, which the
    first two leave out.
    """
    a, b = source - source.mean(axis=0), target - target.mean(axis=0)
    u, size, v = np.linalg.svd(b.T @ a)
    proper = np.array([1, 1, np.sign(np.linalg.det(u @ v))])
    rotation = (u * proper) @ v
    shift = target.mean(axis=0) - rotation @ source.mean(axis=0)
    return rotation, shift, float((size * proper).sum() / (a**2).sum())


def _dot(a: Float[Array, "*N 3"], b: Float[Array, "*N 3"]) -> Float[Array, "*N"]:
    return jnp.sum(a * b, axis=-1)


def _share(along: Float[Array, "*N"], length: Float[Array, "*N"]) -> Float[Array, "*N"]:
    return jnp.clip(along / jnp.maximum(length, 1e-18), 0, 1)
