"""One reading of a face from the readings of several crops of it."""

from __future__ import annotations

from collections.abc import Callable

import jax
import numpy as np
from jaxtyping import Float

from fields_jax.geometry.rotations import matrix_of, vector_of
from fields_jax.outputs.wavering import UPRIGHT, VARIATIONS, in_plain_crops
from fields_jax.types import FlameCoefficients


def steadied(
    readings: FlameCoefficients,
    points: Float[np.ndarray, "F C 68 3"],
    landmarks: Callable[[FlameCoefficients], Float[np.ndarray, "F 68 3"]],
) -> tuple[FlameCoefficients, Float[np.ndarray, "F 68 3"]]:
    """The mean of what was read from the upright crops of every face, in the plain crop.

    A network's error from crop to crop is partly noise, which the mean is rid of. Heads that were
    turned with their crop are turned back; the camera is the one that brings the landmarks of the
    mean head closest to the mean of the landmarks.

    Args:
      readings: [F, C, ...] of the first C = `UPRIGHT` of `varied_crops`.
      points: of the readings, see `posed_landmarks`.
      landmarks: `posed_landmarks` of coefficients [F, ...].

    Returns:
      The coefficients [F, ...] and their landmarks.
    """
    mean = jax.tree.map(lambda column: np.float32(column.mean(axis=1)), readings)
    camera = np.tile(np.float32([1, 0, 0]), (len(points), 1))
    mean = mean.replace(pose=_mean_pose(readings.pose), camera=camera)
    posed = np.asarray(landmarks(mean), np.float64)
    where = in_plain_crops(points[..., :2]).mean(axis=1)
    # The least squares of where = scale (posed + shift).
    flat, there = posed[..., :2], where.mean(axis=1, keepdims=True)
    middle = flat.mean(axis=1, keepdims=True)
    gap = flat - middle
    scale = (gap * (where - there)).sum(axis=(1, 2)) / (gap**2).sum(axis=(1, 2))
    shift = (there / scale[:, None, None] - middle)[:, 0]
    camera = np.stack([scale, shift[:, 0], -shift[:, 1]], axis=-1)
    moved = posed + np.pad(shift, ((0, 0), (0, 1)))[:, None]
    return mean.replace(camera=np.float32(camera)), np.float32(scale[:, None, None] * moved)


def _mean_pose(poses: Float[np.ndarray, "F C 3"]) -> Float[np.ndarray, "F 3"]:
    """The rotation nearest to the mean of those that the crops' turns are taken from.

    NaN where a pose is not finite: the decomposition would raise, for all faces of the batch.
    """
    sound = np.isfinite(poses).all(axis=(1, 2))
    poses = np.where(sound[:, None, None], poses, 0)
    degrees = np.array([0.0, *(variation[3] for variation in VARIATIONS)])
    turns = np.zeros((UPRIGHT, 3))
    turns[:, 2] = np.deg2rad(degrees)
    left, _, right = np.linalg.svd((matrix_of(turns)[None] @ matrix_of(poses)).mean(axis=1))
    sign = np.ones((len(poses), 3))
    sign[:, 2] = np.linalg.det(left @ right)
    found = np.float32([vector_of(each) for each in (left * sign[:, None]) @ right])
    return np.where(sound[:, None], found, np.float32(np.nan))
