"""Points of the head as a short closed form of their coefficients, for cheap Jacobians.

With neck and eyes at rest only two rotations are left, R of the head about the root joint o and J
of the jaw about its hinge h, and skinning by weights w of a point v with correctives is

    p = R (v + (J - I) w (v - h) - o) + o + eyelids,

linear in shape and expression. Both v and w v of a point inside a triangle are averages over its
corners, so that a rig of N points holds N rows, wherever on the mesh the points lie.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Float

from fields_jax.errors import UserError
from fields_jax.geometry.rotations import rodrigues
from fields_jax.types import FlameModel, LandmarkEmbedding

_HIGHEST = jax.lax.Precision.HIGHEST
_ROOT = 0


@struct.dataclass
class Rig:
    """How N points move with K coefficients, those of expression, then those of shape.

    Attributes:
      mean: [*R, N, 3] at rest, metres.
      basis: [*R, N, 3, K] movement per coefficient.
      corrective: [*R, N, 3, 9] movement per entry of J - I.
      dragged_mean, dragged_basis, dragged_corrective: the same of w v.
      jaw_weight: [*R, N] mean weight w of the jaw.
      eyelid: [*R, N, 3, 2] movement per closed lid (left, right).
      joint_mean: [2, 3] root and hinge at rest; the root twice for a head without a jaw joint.
      joint_basis: [2, 3, K].
    """

    mean: Float[Array, "*R N 3"]
    basis: Float[Array, "*R N 3 K"]
    corrective: Float[Array, "*R N 3 9"]
    dragged_mean: Float[Array, "*R N 3"]
    dragged_basis: Float[Array, "*R N 3 K"]
    dragged_corrective: Float[Array, "*R N 3 9"]
    jaw_weight: Float[Array, "*R N"]
    eyelid: Float[Array, "*R N 3 2"]
    joint_mean: Float[Array, "2 3"]
    joint_basis: Float[Array, "2 3 K"]


def point_rig(head: FlameModel, points: LandmarkEmbedding, n_expression: int, n_shape: int) -> Rig:
    """The rig of points in triangles, in numpy.

    Raises:
      UserError: more components than the head has.
    """
    _check_components(head, n_expression, n_shape)
    corners = np.asarray(head.faces)[np.asarray(points.face_index)]  # [*R, N, 3]
    share = np.asarray(points.barycentric)
    basis = np.concatenate(
        [head.expression_basis[..., :n_expression], head.shape_basis[..., :n_shape]], axis=-1
    )
    weight, corrective, hinge = _jaw(head)
    joint_regressor = np.asarray(head.joint_regressor)[[_ROOT, hinge]]
    plain, dragged = share, share * weight[corners]

    def average(values: np.ndarray, shares: np.ndarray) -> np.ndarray:
        flat = values.reshape(len(values), -1)
        total = sum(shares[..., i, None] * flat[corners[..., i]] for i in range(3))
        return total.reshape(*corners.shape[:-1], *values.shape[1:])

    template = np.asarray(head.template)
    return Rig(
        mean=average(template, plain),
        basis=average(basis, plain),
        corrective=average(corrective, plain),
        dragged_mean=average(template, dragged),
        dragged_basis=average(basis, dragged),
        dragged_corrective=average(corrective, dragged),
        jaw_weight=dragged.sum(-1),
        eyelid=average(np.moveaxis(np.asarray(head.eyelid_basis), 0, -1), plain),
        joint_mean=joint_regressor @ template,
        joint_basis=np.tensordot(joint_regressor, basis, axes=1),
    )


def _jaw(head: FlameModel) -> tuple[np.ndarray, np.ndarray, int]:
    """Weights [V] and correctives [V, 3, 9] of the jaw, zero without one, and the hinge's joint."""
    jaw, vertices = head.joint("jaw"), len(head.template)
    still = np.zeros((vertices, 3, 9), np.float32)
    if jaw is None:
        return np.zeros(vertices, np.float32), still, _ROOT
    basis = np.asarray(head.pose_basis)
    corrective = basis[..., 9 * (jaw - 1) : 9 * jaw] if basis.shape[-1] else still
    return np.asarray(head.skin_weights)[:, jaw], corrective, jaw


def _check_components(head: FlameModel, n_expression: int, n_shape: int) -> None:
    asked = {"expression": n_expression, "shape": n_shape}
    for name, count in asked.items():
        there = getattr(head, f"{name}_basis").shape[-1]
        if not 0 <= count <= there:
            raise UserError(f"n_{name} is {count}: the head has {there} {name} components")


def pose_points(
    rig: Rig,
    coefficients: Float[Array, " K"],
    jaw: Float[Array, "3"],
    eyelid: Float[Array, "2"],
    pose: Float[Array, "3"],
) -> Float[Array, "N 3"]:
    """The points of one face in metres: `flame` with neck and eyes at rest."""
    opening = rodrigues(jaw) - jnp.eye(3, dtype=jaw.dtype)
    feature = opening.ravel()
    rest = rig.mean + _dot(rig.basis, coefficients) + _dot(rig.corrective, feature)
    root, hinge = rig.joint_mean + _dot(rig.joint_basis, coefficients)
    dragged = rig.dragged_mean + _dot(rig.dragged_basis, coefficients)
    dragged += _dot(rig.dragged_corrective, feature) - rig.jaw_weight[:, None] * hinge[None]
    turned = _dot(rest + _dot(dragged, opening.T) - root[None], rodrigues(pose).T)
    return turned + root[None] + _dot(rig.eyelid, eyelid)


def pose_basis(rig: Rig, jaw: Float[Array, "3"], pose: Float[Array, "3"]) -> Float[Array, "N 3 K"]:
    """Derivative of `pose_points` by the coefficients, which it is linear in."""
    opening = rodrigues(jaw) - jnp.eye(3, dtype=jaw.dtype)
    root, hinge = rig.joint_basis
    dragged = rig.dragged_basis - rig.jaw_weight[:, None, None] * hinge[None]
    moved = rig.basis + turn(opening, dragged) - root[None]
    return turn(rodrigues(pose), moved) + root[None]


def turn(rotation: Float[Array, "3 3"], basis: Float[Array, "N 3 K"]) -> Float[Array, "N 3 K"]:
    """The basis with rotated vectors, as a sum: it compiles to far less code than a product."""
    return jnp.sum(rotation[None, :, :, None] * basis[:, None], axis=2)


def _dot(a: Array, b: Array) -> Array:
    return jnp.dot(a, b, precision=_HIGHEST)
