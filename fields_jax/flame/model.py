"""FLAME: coefficients to a posed head and its landmarks."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from fields_jax.flame import lbs
from fields_jax.flame.landmarks import contour_row, embed, embed_contour
from fields_jax.geometry.rotations import rodrigues
from fields_jax.types import JOINTS, FlameCoefficients, FlameModel, FlameOutput


def flame(head: FlameModel, coefficients: FlameCoefficients) -> FlameOutput:
    """Poses a head: blend shapes, pose correctives, skinning, then the eyelids.

    The camera of `coefficients` is not used here; see `fields_jax.render.project`.

    Args:
      head: any; rotations of joints that it lacks move nothing.
      coefficients: batched coefficients; expression and shape may be shorter than the bases.

    Returns:
      Vertices, joints and every landmark set, in metres.

    Raises:
      UserError: more coefficients than the head has components.
      ValueError: batch sizes that differ.
    """
    rotations = _joint_rotations(head, coefficients)
    shaped = (
        head.template[None]
        + lbs.blend_shapes(coefficients.shape, head.shape_basis)
        + lbs.blend_shapes(coefficients.expression, head.expression_basis)
    )
    joints = lbs.regress_joints(shaped, head.joint_regressor)
    posed = shaped + lbs.pose_correctives(rotations, head.pose_basis)
    world, translation, posed_joints = lbs.rigid_chain(rotations, joints, head.parents)
    vertices = lbs.skin(posed, world, translation, head.skin_weights)
    # SMIRK and TEASER add the eyelids after skinning, unrotated; their weights were trained so.
    vertices = vertices + lbs.eyelids(coefficients.eyelid, head.eyelid_basis)

    skull = world[:, head.joint("neck") or 0]  # a head without a neck turns at its root
    contour = embed_contour(vertices, head.faces, head.contour, contour_row(skull))
    inner = embed(vertices, head.faces, head.static_51)
    return FlameOutput(
        vertices=vertices,
        joints=posed_joints,
        landmarks_68=jnp.concatenate([contour, inner], axis=1),
        landmarks_68_static=embed(vertices, head.faces, head.static_68),
        landmarks_105=embed(vertices, head.faces, head.landmarks_105),
        landmarks_203=embed(vertices, head.faces, head.landmarks_203),
    )


def _joint_rotations(head: FlameModel, coefficients: FlameCoefficients) -> Float[Array, "B J 3 3"]:
    batch = coefficients.pose.shape[0]
    for name in ("shape", "expression", "jaw", "eyelid", "neck", "eyes"):
        own = getattr(coefficients, name)
        if own is not None and own.shape[0] != batch:
            raise ValueError(f"coefficients.{name} has batch size {own.shape[0]}, pose has {batch}")
    rest = jnp.zeros((batch, 3), coefficients.pose.dtype)
    neck = rest if coefficients.neck is None else coefficients.neck
    eyes = jnp.tile(rest, (1, 2)) if coefficients.eyes is None else coefficients.eyes
    turns = (coefficients.pose, neck, coefficients.jaw, eyes[:, :3], eyes[:, 3:])
    by_role = dict(zip(JOINTS, turns, strict=True))
    pose = jnp.concatenate([by_role.get(name, rest) for name in head.joint_names], axis=1)
    return rodrigues(pose.reshape(batch, -1, 3))


def face_centre(head: FlameModel) -> tuple[float, ...]:
    """The joint that the global pose turns the head about, and the middle of its face mask.

    Returns:
      Six numbers, metres, of the template.
    """
    template = np.asarray(head.template, np.float64)
    root = np.asarray(head.joint_regressor, np.float64)[0] @ template
    face = template[np.asarray(head.face_vertices)]
    middle = 0.5 * (face.min(axis=0) + face.max(axis=0))
    return tuple(round(float(value), 6) for value in (*root, *middle))
