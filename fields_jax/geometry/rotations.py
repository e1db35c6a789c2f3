"""Rotations: axis-angle vectors, matrices, and the yaw of a head. Angles in radians."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

_HIGHEST = jax.lax.Precision.HIGHEST


def rodrigues(axis_angle: Float[Array, "*N 3"]) -> Float[Array, "*N 3 3"]:
    """Rotation matrices of axis-angle vectors in radians.

    R = I + a K + b K K with a = sin(t)/t and b = (1 - cos(t))/t^2, K the cross-product matrix of
    the unnormalised vector. Both factors are smooth at t = 0, where their series stand in for the
    quotients, so that zero rotation is exactly I and its gradient exactly the generators.
    """
    squared = jnp.sum(axis_angle**2, axis=-1)
    # Below t^2 = 1e-3 the series are exact to float32 (and to 1e-12 in float64).
    small = squared < 1e-3
    safe = jnp.where(small, 1.0, squared)
    angle = jnp.sqrt(safe)
    sine = jnp.where(
        small,
        1 - squared / 6 * (1 - squared / 20 * (1 - squared / 42)),
        jnp.sin(angle) / angle,
    )
    cosine = jnp.where(
        small,
        0.5 - squared / 24 * (1 - squared / 30 * (1 - squared / 56)),
        (1 - jnp.cos(angle)) / safe,
    )
    x, y, z = jnp.moveaxis(axis_angle, -1, 0)
    zero = jnp.zeros_like(x)
    rows = [[zero, -z, y], [z, zero, -x], [-y, x, zero]]
    cross = jnp.stack([jnp.stack(row, axis=-1) for row in rows], axis=-2)
    square = jnp.matmul(cross, cross, precision=_HIGHEST)
    identity = jnp.broadcast_to(jnp.eye(3, dtype=axis_angle.dtype), square.shape)
    return identity + sine[..., None, None] * cross + cosine[..., None, None] * square


def yaw(rotation: Float[Array, "*N 3 3"]) -> Float[Array, "*N"]:
    """The turn about the vertical axis; positive yaw turns the nose to +x."""
    return jnp.arctan2(-rotation[..., 2, 0], jnp.hypot(rotation[..., 0, 0], rotation[..., 1, 0]))


def yaw_of(axis_angle: Float[np.ndarray, "3"]) -> float:
    """`yaw` of an axis-angle vector, in numpy."""
    matrix = matrix_of(axis_angle)
    return float(np.arctan2(-matrix[2, 0], np.hypot(matrix[0, 0], matrix[1, 0])))


def rotation_vector(yaw: float, pitch: float, roll: float) -> Float[np.ndarray, "3"]:
    """Axis-angle, radians, of a pitch about x, then a yaw about y, then a roll about z; degrees."""
    matrix = np.eye(3)
    for axis, angle in ((0, pitch), (1, yaw), (2, roll)):
        a, b = (axis + 1) % 3, (axis + 2) % 3
        turn = np.eye(3)
        turn[a, a] = turn[b, b] = np.cos(np.deg2rad(angle))
        turn[b, a] = np.sin(np.deg2rad(angle))
        turn[a, b] = -turn[b, a]
        matrix = turn @ matrix
    return vector_of(matrix)


def vector_of(matrix: Float[np.ndarray, "3 3"]) -> Float[np.ndarray, "3"]:
    """The axis-angle of a rotation, in numpy; not for turns near 180 degrees."""
    angle = np.arccos(np.clip((np.trace(matrix) - 1) / 2, -1, 1))
    axis = np.array([matrix[k - 1, k - 2] - matrix[k - 2, k - 1] for k in range(3)])
    # sin(angle) / angle is 1 at 0; no pose comes near 180 degrees.
    return axis / (2 * np.sinc(angle / np.pi))


def matrix_of(axis_angle: Float[np.ndarray, "*N 3"]) -> Float[np.ndarray, "*N 3 3"]:
    """`rodrigues` in numpy, the inverse of `vector_of`: a few are not worth a compiled program."""
    turns = np.reshape(np.asarray(axis_angle, np.float64), (-1, 3))
    columns = [all_turned(turns, np.tile(axis, (len(turns), 1))) for axis in np.eye(3)]
    return np.stack(columns, axis=-1).reshape(*np.shape(axis_angle), 3)


def turned(
    axis_angle: Float[np.ndarray, "3"], vector: Float[np.ndarray, "3"]
) -> Float[np.ndarray, "3"]:
    """A vector after the rotation by an axis-angle, in numpy."""
    angle = float(np.linalg.norm(axis_angle))
    if angle == 0:
        return np.asarray(vector, np.float64)
    axis = np.asarray(axis_angle) / angle
    across = np.cross(axis, vector)
    return vector + np.sin(angle) * across + (1 - np.cos(angle)) * np.cross(axis, across)


def angles(axis_angle: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, "N 3"]:
    """Yaw, pitch and roll in radians, in numpy: the inverse of `rotation_vector`, whose order they
    follow: a pitch about x, then a yaw about y, then a roll about z.
    """
    turns = np.asarray(axis_angle, np.float64)
    x, y, z = (all_turned(turns, np.tile(axis, (len(turns), 1))) for axis in np.eye(3))
    pitch, yaw = np.arctan2(y[:, 2], z[:, 2]), np.arctan2(-x[:, 2], np.hypot(x[:, 0], x[:, 1]))
    return np.stack([yaw, pitch, np.arctan2(x[:, 1], x[:, 0])], axis=-1)


def all_turned(
    axis_angle: Float[np.ndarray, "N 3"], vectors: Float[np.ndarray, "N 3"]
) -> Float[np.ndarray, "N 3"]:
    """Vectors after as many rotations, in numpy; Rodrigues' formula, smooth at 0."""
    turns = np.asarray(axis_angle, np.float64)
    angle = np.linalg.norm(turns, axis=-1, keepdims=True)
    across = np.cross(turns, vectors)
    sine, half = np.sinc(angle / np.pi), np.sinc(angle / (2 * np.pi))
    return vectors + sine * across + 0.5 * half**2 * np.cross(turns, across)
