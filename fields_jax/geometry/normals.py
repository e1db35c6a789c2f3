"""Area-weighted normals of vertices: sums of the cross products of the faces around each.

All point outward where faces are counter-clockwise seen from outside. The versions differ in how
they sum and below which length they do not normalise: scatters for batches, gathers for searches
that map over frames, numpy for files.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

_SMALLEST_NORMAL = 1e-6  # square metres; pytorch3d's floor for the length that divides a normal


def vertex_normals(
    vertices: Float[Array, "B V 3"], faces: Int[Array, "F 3"]
) -> Float[Array, "B V 3"]:
    """Area-weighted unit normals, outward for faces that are counter-clockwise from outside.

    Sums the cross products of the faces around each vertex and divides by the sum's length, or by
    1e-6 where that is shorter; a vertex without faces has normal 0.

    Args:
      vertices: [B, V, 3] metres.
      faces: [F, 3].
    """
    # Batch innermost: one gather or scatter then moves a row of the whole batch, which makes the
    # gradient three times as fast on a CPU.
    position, faces = vertices.transpose(1, 2, 0), jnp.asarray(faces)
    a, b, c = (position[faces[:, k]] for k in range(3))
    doubled_area = jnp.cross(b - a, c - a, axis=1)
    total = jnp.zeros_like(position)
    for k in range(3):
        total = total.at[faces[:, k]].add(doubled_area)
    squared = jnp.sum(total**2, axis=1, keepdims=True)
    normals = total * jax.lax.rsqrt(jnp.maximum(squared, _SMALLEST_NORMAL**2))
    return normals.transpose(2, 0, 1)


def ring_normals(
    corners: Float[Array, "F 3 3"], ring: Int[Array, "V R"], ring_size: Int[Array, " V"]
) -> Float[Array, "V 3"]:
    """`vertex_normals` of one mesh by gathers, from tables of the triangles around each vertex.

    Args:
      corners: of the triangles, metres.
      ring: rows of the triangles around each vertex; padding follows the first `ring_size`.
      ring_size: how many there are.
    """
    doubled = jnp.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    counts = jnp.arange(ring.shape[1])[None] < ring_size[:, None]
    total = jnp.sum(doubled[ring] * counts[..., None], axis=1)
    return total / jnp.maximum(jnp.linalg.norm(total, axis=-1, keepdims=True), 1e-12)


def summed_normals(
    vertices: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"]
) -> Float[np.ndarray, "V 3"]:
    """The sums without normalisation, in numpy: twice the area long, 0 without faces."""
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    doubled, corners = np.cross(b - a, c - a), faces.T.ravel()
    return np.stack(
        [np.bincount(corners, np.tile(axis, 3), len(vertices)) for axis in doubled.T],
        axis=1,
        dtype=np.float64,  # also of no vertices, which numpy counts in integers
    )
