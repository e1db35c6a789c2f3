"""Attributes of a mesh at the pixels it covers, with gradients to vertices and attributes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from fields_jax.platforms import per_platform
from fields_jax.render.camera import at_least_single, to_pixels
from fields_jax.types import Fragments

# Doubled triangle area, in square pixels, below which the gradient, which goes as 1 / area, stops
# growing. pytorch3d adds 1e-8 to areas in image coordinates, 1.3e-4 square pixels at 224.
_SLIVER = 1e-4
# Pixels per step of the CPU backward pass: small enough for the cache, large enough to amortise.
_BLOCK = 1024


def interpolate(
    fragments: Fragments,
    vertices: Float[Array, "B V 3"],
    faces: Int[Array, "F 3"],
    attributes: Float[Array, "B V C"],
) -> Float[Array, "B H W C"]:
    """Vertex attributes at every covered pixel, 0 elsewhere.

    The barycentric weights are computed anew from `vertices` for the faces of
    `fragments.face_index`, so that gradients reach the vertices' x and y as well as the attributes.
    Which face a pixel shows is a constant: outlines have no gradient.

    Args:
      fragments: what `rasterize` returned; only `face_index` is read.
      vertices: [B, V, 3] as `project` returns them.
      faces: [F, 3] the faces that were rasterised.
      attributes: [B, V, C]; include z here for a differentiable depth.

    Returns:
      [B, H, W, C] of the type that vertices and attributes promote to. Computed in float32 at
      least, gradients too.

    Raises:
      ValueError: batch or vertex counts that differ.
    """
    if attributes.ndim != 3 or attributes.shape[:2] != vertices.shape[:2]:
        raise ValueError(
            f"attributes of shape {attributes.shape} for vertices of shape {vertices.shape}: "
            "expected [B, V, C] and [B, V, 3]"
        )
    if fragments.face_index.shape[0] != vertices.shape[0]:
        raise ValueError(
            f"fragments of {fragments.face_index.shape[0]} images, vertices of {vertices.shape[0]}"
        )
    inputs = at_least_single(vertices), faces, at_least_single(attributes)
    image = _interpolate_table(fragments.face_index, *inputs)
    return image.astype(jnp.result_type(vertices, attributes))


def map_images(function: Callable, most: int, *batched: Array):
    """`function` over the leading axis: at once on accelerators, in chunks on CPUs.

    A chunk's temporaries stay in a CPU's cache, which doubles its speed. Chunks are equal, so that
    one program serves them all. Either way an image's result does not depend on its neighbours.

    Args:
      function: of one image's arrays.
      most: images per chunk, at most; at least one is taken.
      *batched: arrays of equal leading axis.
    """
    batch = batched[0].shape[0]
    chunk = next((size for size in range(min(most, batch), 1, -1) if batch % size == 0), 1)

    def in_chunks(*arrays: Array):
        batch_size = chunk if chunk > 1 else None  # plain: a batch of one would cost index lists
        return jax.lax.map(lambda image: function(*image), arrays, batch_size=batch_size)

    return per_platform(*batched, cpu=in_chunks, default=jax.vmap(function))


def surface(
    points: Float[Array, "V 3"], face_index: Int[Array, "H W"], faces: Int[Array, "F 3"]
) -> tuple[Float[Array, "H W 3"], Float[Array, "H W"]]:
    """Barycentric weights and depth at every covered pixel of one image, 0 elsewhere.

    Args:
      points: [V, 3] x and y in pixels, z.
      face_index: [H, W], -1 where empty.
      faces: [F, 3].
    """
    flat = face_index.reshape(-1)
    corners = _corners(points, flat, faces)
    weights, _, _ = _weights(corners, jnp.arange(flat.size), face_index.shape[1])
    depth = sum(weight * corner[:, 2] for weight, corner in zip(weights, corners, strict=True))
    columns = jnp.stack([*weights, depth], axis=-1).reshape(*face_index.shape, 4)
    columns = jnp.where(face_index[..., None] >= 0, columns, 0)
    return columns[..., :3], columns[..., 3]


@jax.jit
def _interpolate_table(face_index, vertices, faces, attributes):
    points = to_pixels(vertices, face_index.shape[1:])
    table = jnp.concatenate([points[..., :2], attributes], axis=-1)
    return _interpolate(table, face_index, faces)


@jax.custom_vjp
def _interpolate(table, face_index, faces):
    """Interpolates the columns of a table [B, V, 2 + C] whose first two are x and y in pixels."""
    return map_images(partial(_forward, faces=faces), 1, table, face_index)


def _interpolate_forward(table, face_index, faces):
    return _interpolate(table, face_index, faces), (table, face_index, faces)


def _interpolate_backward(residuals, cotangent):
    table, face_index, faces = residuals
    compacted = partial(_backward_compacted, faces=faces)
    whole = partial(_backward_whole, faces=faces)
    d_table = per_platform(
        table,
        face_index,
        cotangent,
        cpu=lambda *batched: jax.lax.map(lambda image: compacted(*image), batched),
        default=jax.vmap(whole),
    )
    return d_table, None, None


_interpolate.defvjp(_interpolate_forward, _interpolate_backward)


def _forward(table, face_index, faces):
    flat = face_index.reshape(-1)
    corners = _corners(table, flat, faces)
    weights, _, _ = _weights(corners, jnp.arange(flat.size), face_index.shape[1])
    value = sum(
        weight[:, None] * corner[:, 2:] for weight, corner in zip(weights, corners, strict=True)
    )
    return jnp.where(face_index[..., None] >= 0, value.reshape(*face_index.shape, -1), 0)


def _backward_whole(table, face_index, cotangent, faces):
    """All pixels at once; the empty ones scatter out of range and are dropped."""
    flat = face_index.reshape(-1)
    pixel = jnp.where(flat >= 0, jnp.arange(flat.size), flat.size)
    return _accumulate(jnp.zeros_like(table), pixel, table, face_index, cotangent, faces)


def _backward_compacted(table, face_index, cotangent, faces):
    """Only the covered pixels, block by block: two to four times as fast on a CPU."""
    flat = face_index.reshape(-1)
    rank = jnp.cumsum(flat >= 0, dtype=jnp.int32)
    padded = -(-flat.size // _BLOCK) * _BLOCK
    slot = jnp.where(flat >= 0, rank - 1, padded)
    pixels = jnp.full(padded, flat.size, jnp.int32)
    pixels = pixels.at[slot].set(jnp.arange(flat.size, dtype=jnp.int32), mode="drop")

    def step(block, total):
        pixel = jax.lax.dynamic_slice(pixels, [block * _BLOCK], [_BLOCK])
        return _accumulate(total, pixel, table, face_index, cotangent, faces)

    return jax.lax.fori_loop(0, -(-rank[-1] // _BLOCK), step, jnp.zeros_like(table))


def _accumulate(total, pixel, table, face_index, cotangent, faces):
    """Adds the contributions of some pixels to the table's gradient; out-of-range ones add nothing.

    With out = sum_k w_k a_k, w_k = e_k / A and e_k the cross product of the two other corners
    relative to the pixel, q_k = g . a_k gives dL/de_k = (q_k - sum_j w_j q_j) / A.
    """
    flat = face_index.reshape(-1)
    face = flat.at[pixel].get(mode="fill", fill_value=0)
    g = cotangent.reshape(flat.size, -1).at[pixel].get(mode="fill", fill_value=0)
    corners = _corners(table, face, faces)
    weights, area, (x, y) = _weights(corners, pixel, face_index.shape[1])

    q = [jnp.sum(g * corner[:, 2:], axis=1) for corner in corners]
    mean = sum(weights[k] * q[k] for k in range(3))
    bounded = jnp.where(area < 0, -1, 1) * jnp.maximum(jnp.abs(area), _SLIVER)
    r = [(q[k] - mean) / bounded for k in range(3)]
    vertex = faces[face]
    for k in range(3):
        i, j = (k + 1) % 3, (k + 2) % 3
        d_x = r[j] * y[i] - r[i] * y[j]
        d_y = r[i] * x[j] - r[j] * x[i]
        row = jnp.concatenate([jnp.stack([d_x, d_y], axis=1), weights[k][:, None] * g], axis=1)
        target = jnp.where(pixel < flat.size, vertex[:, k], total.shape[0])
        total = total.at[target].add(row, mode="drop")
    return total


def _corners(table, face_index, faces):
    """Rows [N, C] of the first, second and third corner; those of face 0 where empty.

    Whole rows: one gather per corner, the layout that proved fastest on a CPU.
    """
    vertex = faces[jnp.maximum(face_index, 0)]
    return [table[vertex[:, k]] for k in range(3)]


def _weights(corners, pixel, width):
    """Barycentric weights, doubled areas [N], and corners relative to the pixel (x, y)."""
    dtype = corners[0].dtype
    column, row = (pixel % width).astype(dtype), (pixel // width).astype(dtype)
    x = [corner[:, 0] - column for corner in corners]
    y = [corner[:, 1] - row for corner in corners]
    cross = [x[k - 2] * y[k - 1] - y[k - 2] * x[k - 1] for k in range(3)]
    area = sum(cross)
    weights = [value / jnp.where(area == 0, 1, area) for value in cross]
    # In a sliver the quotient is mostly rounding error: it is forced to be a convex combination.
    convex = [jnp.clip(weight, 0, 1) for weight in weights]
    total = jnp.maximum(sum(convex), 1)
    sliver = jnp.abs(area) < _SLIVER
    convex = [jnp.where(area == 0, 1 / 3, weight / total) for weight in convex]
    weights = [jnp.where(sliver, *pair) for pair in zip(convex, weights, strict=True)]
    return weights, area, (x, y)
