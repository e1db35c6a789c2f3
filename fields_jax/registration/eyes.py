"""Eyeballs in ARKit's shapes: how they turn, and lids that stay in front of them."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from fields_jax import arkit
from fields_jax.flame.eyes import eyeballs
from fields_jax.geometry.rotations import vector_of
from fields_jax.geometry.similarity import rigid_motion
from fields_jax.types import PARTS, FlameModel

EYE_JOINTS = ("left_eye", "right_eye")
# Of lids, in metres and in radii of the eyeball: how far in front of it they stay, the movement
# from which on they do so in full, and how far from its centre they reach.
_CLEAR, _MOVING, _REACH = 4e-4, 2e-3, 1.5
_ABOUT = 4  # vertices of the eyeball that tell how far it reaches in a direction


def eye_turns(head: FlameModel) -> Float[np.ndarray, "52 2 3"]:
    """Axis-angle, radians, that the left and the right eyeball turn by in each shape."""
    turns = np.zeros((len(arkit.NAMES), 2, 3), np.float32)
    for side, rows in enumerate(eyeballs(head)):
        rest = np.asarray(head.template)[rows].astype(np.float64)
        shapes = np.asarray(head.arkit_basis)[rows].astype(np.float64)
        for row, moved in enumerate(np.moveaxis(shapes, -1, 0)):
            if moved.any():
                rotation, _, _ = rigid_motion(rest, rest + moved)
                turns[row, side] = vector_of(rotation)
    return turns


def clear_eyes(head: FlameModel, moved: Float[np.ndarray, "V 3 52"]) -> None:
    """Lifts moving lids off the eyeballs, in place; what lies inside an eyeball at rest stays so.

    Args:
      head: with joints of its eyes; nothing is done for one without.
      moved: displacements of its vertices by each shape.
    """
    own = np.asarray(head.template, np.float64)
    joints = np.asarray(head.joint_regressor, np.float64) @ own
    parts = np.asarray(head.face_parts)
    skin = np.unique(np.asarray(head.faces)[parts == PARTS.index("skin")])
    for side, rows in enumerate(eyeballs(head)):
        if not len(rows):
            continue
        centre = joints[head.joint(EYE_JOINTS[side])]
        ball, lids = own[rows] - centre, own[np.setdiff1d(skin, rows)] - centre
        radius = np.linalg.norm(ball, axis=1).max()
        near = (np.linalg.norm(lids, axis=1) < _REACH * radius) & (lids[:, 2] > 0)
        near = np.setdiff1d(skin, rows)[near]
        lids = own[near] - centre
        gap = np.linalg.norm(lids, axis=1) - _reach(ball, lids)
        for shape in np.flatnonzero(moved[near].any((0, 1))):
            way = moved[near, :, shape]
            there = lids + way
            distance = np.linalg.norm(there, axis=1)
            share = np.minimum(np.linalg.norm(way, axis=1) / _MOVING, 1)
            least = _reach(ball + moved[rows, :, shape], there)
            least += np.minimum(gap, _CLEAR * share)
            short = np.where(gap > 0, np.maximum(least - distance, 0), 0) * share
            moved[near, :, shape] += (short / distance)[:, None] * there


def _reach(ball: Float[np.ndarray, "N 3"], points: Float[np.ndarray, "P 3"]) -> np.ndarray:
    """How far an eyeball reaches in the directions of points, all from its centre."""
    from scipy.spatial import KDTree  # takes a second to load

    radius = np.linalg.norm(ball, axis=1)
    towards = points / np.linalg.norm(points, axis=1, keepdims=True)
    _, nearest = KDTree(ball / radius[:, None]).query(towards, min(_ABOUT, len(ball)))
    return radius[nearest].reshape(len(points), -1).max(1)
