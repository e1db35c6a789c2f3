"""FLAME: coefficients to a posed head and its landmarks."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from fields_jax.flame import lbs
from fields_jax.flame.landmarks import contour_row, embed, embed_contour
from fields_jax.geometry.rotations import rodrigues
from fields_jax.types import FlameCoefficients, FlameModel, FlameOutput


def flame(model: FlameModel, coefficients: FlameCoefficients) -> FlameOutput:
    """Poses a head: blend shapes, pose correctives, skinning, then the eyelids.

    The camera of `coefficients` is not used here; see `fields_jax.render.project`.

    Args:
      model: the head.
      coefficients: batched coefficients; expression and shape may be shorter than the bases.

    Returns:
      Vertices, joints and every landmark set, in metres.

    Raises:
      UserError: more coefficients than the head has components.
      ValueError: batch sizes that differ.
    """
    rotations = _joint_rotations(model, coefficients)
    shaped = (
        model.template[None]
        + lbs.blend_shapes(coefficients.shape, model.shape_basis)
        + lbs.blend_shapes(coefficients.expression, model.expression_basis)
    )
    joints = lbs.regress_joints(shaped, model.joint_regressor)
    posed = shaped + lbs.pose_correctives(rotations, model.pose_basis)
    world, translation, posed_joints = lbs.rigid_chain(rotations, joints, model.parents)
    vertices = lbs.skin(posed, world, translation, model.skin_weights)
    # SMIRK and TEASER add the eyelids after skinning, unrotated; their weights were trained so.
    vertices = vertices + jnp.einsum("bl,lvk->bvk", coefficients.eyelid, model.eyelid_basis)

    contour = embed_contour(vertices, model.faces, model.contour, contour_row(world[:, 1]))
    inner = embed(vertices, model.faces, model.static_51)
    return FlameOutput(
        vertices=vertices,
        joints=posed_joints,
        landmarks_68=jnp.concatenate([contour, inner], axis=1),
        landmarks_68_static=embed(vertices, model.faces, model.static_68),
        landmarks_105=embed(vertices, model.faces, model.landmarks_105),
        landmarks_203=embed(vertices, model.faces, model.landmarks_203),
    )


def _joint_rotations(model: FlameModel, coefficients: FlameCoefficients) -> Float[Array, "B J 3 3"]:
    batch = coefficients.pose.shape[0]
    for name in ("shape", "expression", "jaw", "eyelid", "pose"):
        size = getattr(coefficients, name).shape[0]
        if size != batch:
            raise ValueError(f"coefficients.{name} has batch size {size}, pose has {batch}")
    rest = jnp.zeros((batch, 3), coefficients.pose.dtype)
    neck = rest if coefficients.neck is None else coefficients.neck
    eyes = jnp.tile(rest, (1, 2)) if coefficients.eyes is None else coefficients.eyes
    pose = jnp.concatenate([coefficients.pose, neck, coefficients.jaw, eyes], axis=1)
    if pose.shape[1] != 3 * len(model.parents):
        raise ValueError(f"pose vector of {pose.shape[1]} for {len(model.parents)} joints")
    return rodrigues(pose.reshape(batch, -1, 3))
