"""Blend shapes and linear blend skinning, each step a pure function.

Written from the equations of FLAME (Li et al. 2017, "Learning a model of facial shape and
expression from 4D scans") and of SMPL (Loper et al. 2015), on which it builds.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from fields_jax.errors import UserError

_HIGHEST = jax.lax.Precision.HIGHEST


def blend_shapes(
    coefficients: Float[Array, "B C"], basis: Float[Array, "V 3 K"]
) -> Float[Array, "B V 3"]:
    """Displacements of the first C components of a basis; the remaining components are zero.

    Raises:
      UserError: more coefficients than components.
    """
    count = coefficients.shape[-1]
    if count > basis.shape[-1]:
        raise UserError(
            f"{count} coefficients for a head with {basis.shape[-1]} components: "
            "lower config.model.n_shape or n_expression"
        )
    # As one matrix product with the basis on the left, in whose layout it lies in memory.
    flat = basis[..., :count].reshape(-1, count)
    moved = jnp.dot(flat, coefficients.T, precision=_HIGHEST).T
    return moved.reshape(-1, *basis.shape[:2])


def eyelids(closed: Float[Array, "B 2"], basis: Float[Array, "2 V 3"]) -> Float[Array, "B V 3"]:
    """Displacements by lids (left, right), which are closed by so much."""
    return jnp.einsum("bl,lvk->bvk", closed, basis, precision=_HIGHEST)


def regress_joints(
    vertices: Float[Array, "B V 3"], joint_regressor: Float[Array, "J V"]
) -> Float[Array, "B J 3"]:
    """Joint positions as fixed averages of shaped vertices."""
    return jnp.einsum("jv,bvk->bjk", joint_regressor, vertices, precision=_HIGHEST)


def pose_correctives(
    rotations: Float[Array, "B J 3 3"], pose_basis: Float[Array, "V 3 P"]
) -> Float[Array, "B V 3"]:
    """Displacements linear in (R_j - I) of every joint but the root, joint-major, row-major."""
    if not pose_basis.shape[-1]:
        return jnp.zeros((rotations.shape[0], *pose_basis.shape[:2]), pose_basis.dtype)
    feature = rotations[:, 1:] - jnp.eye(3, dtype=rotations.dtype)[None, None]
    feature = feature.reshape(rotations.shape[0], -1)
    return jnp.einsum("bp,vkp->bvk", feature, pose_basis, precision=_HIGHEST)


def rigid_chain(
    rotations: Float[Array, "B J 3 3"], joints: Float[Array, "B J 3"], parents: tuple[int, ...]
) -> tuple[Float[Array, "B J 3 3"], Float[Array, "B J 3"], Float[Array, "B J 3"]]:
    """Forward kinematics over a tree whose parents precede their children.

    Returns:
      For each joint the rotation and the translation that carry a rest-pose point to its posed
      place (x -> R x + t), and the posed joint position.
    """
    world, position = [rotations[:, 0]], [joints[:, 0]]
    for joint in range(1, len(parents)):
        parent = parents[joint]
        offset = joints[:, joint] - joints[:, parent]
        position.append(position[parent] + _apply(world[parent], offset))
        world.append(jnp.matmul(world[parent], rotations[:, joint], precision=_HIGHEST))
    world, position = jnp.stack(world, axis=1), jnp.stack(position, axis=1)
    return world, position - _apply(world, joints), position


def skin(
    vertices: Float[Array, "B V 3"],
    rotations: Float[Array, "B J 3 3"],
    translations: Float[Array, "B J 3"],
    skin_weights: Float[Array, "V J"],
) -> Float[Array, "B V 3"]:
    """Each vertex moves by the weighted mean of its joints' rigid transforms."""
    rotation = jnp.einsum("vj,bjkl->bvkl", skin_weights, rotations, precision=_HIGHEST)
    translation = jnp.einsum("vj,bjk->bvk", skin_weights, translations, precision=_HIGHEST)
    return _apply(rotation, vertices) + translation


def _apply(rotation: Float[Array, "*N 3 3"], vector: Float[Array, "*N 3"]) -> Float[Array, "*N 3"]:
    return jnp.einsum("...kl,...l->...k", rotation, vector, precision=_HIGHEST)
