"""Landmarks on the mesh: fixed embeddings and the contour that slides with the head's yaw."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from fields_jax.geometry.rotations import yaw
from fields_jax.landmark_schemes import CONTOUR_MAX_YAW as _MAX_YAW
from fields_jax.types import LandmarkEmbedding


def embed(
    vertices: Float[Array, "B V 3"], faces: Int[Array, "F 3"], embedding: LandmarkEmbedding
) -> Float[Array, "B N 3"]:
    """Points at fixed barycentric places of the mesh."""
    corners = vertices[:, faces[embedding.face_index]]
    return jnp.sum(corners * embedding.barycentric[None, ..., None], axis=-2)


def contour_row(head_rotation: Float[Array, "B 3 3"]) -> Int[Array, " B"]:
    """Row of the 79-row contour table for each head rotation.

    The yaw is that of the chain root * neck. Rows 0..39 serve 0..39 degrees, rows 40..78 serve
    -1..-39, beyond which they saturate. The choice is discrete and carries no gradient. Positive
    yaw turns the nose to +x; with this sign the rows lie on the visible silhouette.
    """
    rotation = jax.lax.stop_gradient(head_rotation)
    degrees = jnp.round(jnp.clip(jnp.rad2deg(yaw(rotation)), -_MAX_YAW, _MAX_YAW)).astype(jnp.int32)
    return jnp.where(degrees < 0, _MAX_YAW - degrees, degrees)


def embed_contour(
    vertices: Float[Array, "B V 3"],
    faces: Int[Array, "F 3"],
    contour: LandmarkEmbedding,
    row: Int[Array, " B"],
) -> Float[Array, "B 17 3"]:
    """The 17 contour points of each head's own row."""
    triangles = faces[contour.face_index[row]]  # [B, 17, 3]
    corners = jnp.take_along_axis(
        vertices[:, None], triangles.reshape(triangles.shape[0], 1, -1, 1), axis=2
    ).reshape(*triangles.shape, 3)
    return jnp.sum(corners * contour.barycentric[row][..., None], axis=-2)
