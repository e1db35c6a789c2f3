"""The landmarks of a face as seen at some pose: which contour, which points count, and where.

All sets are kept as one of 381 points in the order 68, 105, 203, 5. What depends on the pose in
steps (the row of the contour table, the visibility) is chosen once for each round of a search, so
that the residuals are smooth within a round.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from fields_jax.fitting import parameters
from fields_jax.fitting.least_squares import Prior
from fields_jax.fitting.parameters import COEFFICIENTS, EYELID, JAW, POSE, Layout, with_jacobian
from fields_jax.fitting.rig import Rig, point_rig, pose_basis, pose_points
from fields_jax.flame.landmarks import contour_row
from fields_jax.geometry.rotations import rodrigues, yaw
from fields_jax.landmark_schemes import (
    ACROSS_SLITS_68,
    ACROSS_SLITS_478,
    AVERAGED_5,
    CONTOUR_68,
    EYE_CORNERS_68,
    FRONTAL_YAW,
    INNER_68,
)
from fields_jax.render.camera import project
from fields_jax.types import FlameModel, LandmarkEmbedding

COUNTS = (68, 105, 203, 5)
_DENSE = slice(173, 376)  # of the 203 points
# Visibility of a point: 1 where its direction is 70 degrees or less from the camera's, falling to
# _LEAST behind the head, since detectors guess the points they do not see. Ours.
_FULL_FACING, _LEAST = 0.35, 0.1


@struct.dataclass
class LandmarkRigs:
    """All landmarks of a head.

    Attributes:
      contour: rig of the [79, 17] contour table.
      inner: rig of the other 364 points.
      outward: [381, 3] direction of each point from the vertical axis through the jaw's hinge.
      subsets: [3, 203] frontal, left and right subsets of the dense points.
      pairs: [G, 2] rows of points that move apart when an eye or the mouth opens.
      prior: of the unknowns that move them.
    """

    contour: Rig
    inner: Rig
    outward: Float[Array, "381 3"]
    subsets: Bool[Array, "3 203"]
    pairs: Int[Array, "G 2"]
    prior: Prior


@struct.dataclass
class View:
    """The landmarks at a pose.

    Attributes:
      rig: of the 381 points.
      visibility: [381] weights.
    """

    rig: Rig
    visibility: Float[Array, "381"]


def landmark_rigs(head: FlameModel, layout: Layout) -> LandmarkRigs:
    """Tables of a head's landmarks, in numpy.

    Raises:
      UserError: more components than the head has.
    """
    sets = (head.static_51, head.landmarks_105, head.landmarks_203)
    joined = LandmarkEmbedding(
        face_index=np.concatenate([points.face_index for points in sets]),
        barycentric=np.concatenate([points.barycentric for points in sets]),
    )
    inner = _with_averages(point_rig(head, joined, *layout))
    contour = point_rig(head, head.contour, *layout)
    _, hinge = inner.joint_mean
    outward = (np.concatenate([contour.mean[0], inner.mean]) - hinge) * [1, 0, 1]
    outward /= np.linalg.norm(outward, axis=-1, keepdims=True)
    subsets = np.stack([head.front_203, head.left_203, head.right_203])
    prior = parameters.prior(head, layout, np.float32)
    return LandmarkRigs(contour, inner, outward.astype(np.float32), subsets, _pairs(head), prior)


def _with_averages(inner: Rig) -> Rig:
    """The rig with the points of `AVERAGED_5` at its end: averages, as points are linear in it."""
    average = np.zeros((len(AVERAGED_5), len(inner.mean)), np.float32)
    for share, rows in zip(average, AVERAGED_5, strict=True):
        share[np.array(rows) - INNER_68.start] = 1 / len(rows)

    def longer(values: np.ndarray) -> np.ndarray:
        return np.concatenate([values, np.tensordot(average, values, axes=1)])

    return inner.replace(**{name: longer(getattr(inner, name)) for name in _per_point(inner)})


def without_coefficients(rigs: LandmarkRigs) -> LandmarkRigs:
    """The tables of the mean head, which has no expression and shape components."""
    bases = ("basis", "dragged_basis", "joint_basis")
    still = [
        part.replace(**{name: getattr(part, name)[..., :0] for name in bases})
        for part in (rigs.contour, rigs.inner)
    ]
    return rigs.replace(contour=still[0], inner=still[1])


def with_known(rigs: LandmarkRigs, count: int, known: Float[Array, " K"]) -> LandmarkRigs:
    """The tables of a head whose coefficients from `count` on are known: part of its mean."""

    def held(rig: Rig) -> Rig:
        fields = {}
        for kind in ("", "dragged_", "joint_"):
            mean, basis = getattr(rig, f"{kind}mean"), getattr(rig, f"{kind}basis")
            moved = jnp.dot(basis[..., count:], known, precision=jax.lax.Precision.HIGHEST)
            fields |= {f"{kind}mean": mean + moved, f"{kind}basis": basis[..., :count]}
        return rig.replace(**fields)

    prior = jax.tree.map(lambda leaf: leaf[: COEFFICIENTS.start + count], rigs.prior)
    return rigs.replace(contour=held(rigs.contour), inner=held(rigs.inner), prior=prior)


def _pairs(head: FlameModel) -> Int[np.ndarray, "G 2"]:
    row = {int(point): COUNTS[0] + i for i, point in enumerate(head.mediapipe_index)}
    mediapipe = [(row[a], row[b]) for a, b in ACROSS_SLITS_478 if a in row and b in row]
    return np.array([*ACROSS_SLITS_68, *mediapipe], np.int32)


def view(rigs: LandmarkRigs, pose: Float[Array, "3"]) -> View:
    """The landmarks of a head as seen at a pose."""
    rotation = rodrigues(pose)
    row = contour_row(rotation[None])[0]
    contour = {name: getattr(rigs.contour, name)[row] for name in _per_point(rigs.inner)}
    joined = {
        name: jnp.concatenate([rows, getattr(rigs.inner, name)]) for name, rows in contour.items()
    }
    return View(rig=rigs.inner.replace(**joined), visibility=_visibility(rigs, rotation))


def _per_point(rig: Rig) -> list[str]:
    return [name for name in vars(rig) if not name.startswith("joint_")]


def _visibility(rigs: LandmarkRigs, rotation: Float[Array, "3 3"]) -> Float[Array, "381"]:
    """Weights by how far each point has turned away.

    Uses a point's direction from the head's axis, not its normal, which on lips and lids points up
    or down. The contour lies on the outline at any pose. Of the 203 points the subset for the yaw
    counts, as in training.
    """
    facing = jnp.dot(rigs.outward, rotation[2], precision=jax.lax.Precision.HIGHEST)
    weight = jnp.clip(facing / _FULL_FACING, _LEAST, 1.0).at[CONTOUR_68].set(1.0)
    turned = yaw(rotation)
    front, left, right = rigs.subsets
    chosen = jnp.where(turned < -FRONTAL_YAW, left, jnp.where(turned > FRONTAL_YAW, right, front))
    return weight.at[_DENSE].multiply(chosen.astype(weight.dtype))


def projected(seen: View, x: Float[Array, " P"]) -> Float[Array, "381 2"]:
    """Image coordinates of the landmarks."""
    points = pose_points(seen.rig, x[COEFFICIENTS], x[JAW], x[EYELID], x[POSE])
    return project(points[None], _camera(x)[None])[0, :, :2]


def projected_with_jacobian(
    seen: View, x: Float[Array, " P"]
) -> tuple[Float[Array, "381 2"], Float[Array, "381 2 P"]]:
    """`projected` and its derivative, in closed form for the coefficients."""
    flip = jnp.exp(x[3]) * jnp.array([[[1], [-1]]], x.dtype)
    basis = flip * pose_basis(seen.rig, x[JAW], x[POSE])[:, :2]
    return with_jacobian(lambda x: projected(seen, x), x, basis)


def eye_distance(seen: View, x: Float[Array, " P"]) -> Float[Array, ""]:
    """Distance of the outer eye corners in space, in image coordinates of a frontal view."""
    points = pose_points(seen.rig, x[COEFFICIENTS], x[JAW], x[EYELID], x[POSE])
    right, left = points[jnp.array(EYE_CORNERS_68)]
    return jnp.exp(x[3]) * jnp.linalg.norm(left - right)


def _camera(x: Float[Array, " P"]) -> Float[Array, "3"]:
    return parameters.unpack(Layout(0, x.size - COEFFICIENTS.start), x).camera
