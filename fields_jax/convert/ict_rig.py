"""Joints, skinning and pose correctives for ICT's face model, which has blend shapes alone.

The jaw. ICT opens the mouth by a blend shape, along straight lines. In that shape the lower teeth
move as a rigid body (to 0.3 mm), about an axis that runs from ear to ear where a jaw is hinged. So
the jaw becomes a joint on that axis; the angle that the teeth turn by at weight 1 is its travel.
A vertex follows the joint by the share of the rotation that is in the shape's displacement, and the
pose correctives hold the rest, so that the jaw at its travel is the shape jawOpen exactly, and
short of it teeth, lower gums and tongue turn on arcs, not on chords that cut through them. With
the jaw as a joint, landmark fits, scan fits and the networks' jaw output work as with FLAME.

Eyeballs turn about the centre of the sphere that their sclera is part of. Root and neck lie in the
axis of the neck, where FLAME has them. ICT's shapes say nothing of either.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from jaxtyping import Float

from fields_jax.convert.ict_clone import Clone
from fields_jax.geometry.similarity import rigid_motion
from fields_jax.geometry.spheres import fit_sphere
from fields_jax.types import JOINTS

PARENTS = (-1, 0, 1, 1, 1)
_ROOT, _NECK, _JAW, _LEFT_EYE, _RIGHT_EYE = range(5)
_CHIN = 8  # of the 68 landmarks
# Heights of joints below the chin, and how far the head's weight reaches up from the root, in
# units of the height of the eyes above the chin and of the distance of the two joints. Ours.
_NECK_BELOW, _ROOT_BELOW, _HEAD_FROM = 0.04, 0.45, 1.4
_SPINE = 0.9  # the joints' distance from the back of the neck, in half widths of the neck
_SLAB = 0.006  # metres; half the height of the slices that the neck is measured in
_BESIDE = 0.02  # metres from the jaw's axis of the skin that its joint is regressed from
_CORNEA = 45.0  # degrees from straight ahead within which the eyeball is no sphere
# Lengths whose square joins that of the rotation's displacement: where the rotation hardly moves
# anything, near the axis, no share of it can be told.
_STILL = 0.002
_TEETH = "lower_teeth"
_RIGID = ("mouth_socket", "face", "head_and_neck", "left_eye_socket", "right_eye_socket")


@dataclasses.dataclass(frozen=True)
class Rig:
    """How the model turns, in metres.

    Attributes:
      joints: [5, 3] at rest, of `types.JOINTS`.
      regressor: [5, V] rows that sum to 1.
      skin_weights: [V, 5] rows sum to 1.
      pose_basis: [V, 3, 36] displacement per entry of (R_j - I).
      travel: the jaw's angle that is jawOpen at weight 1, radians.
    """

    joints: Float[np.ndarray, "5 3"]
    regressor: Float[np.ndarray, "5 V"]
    skin_weights: Float[np.ndarray, "V 5"]
    pose_basis: Float[np.ndarray, "V 3 36"]
    travel: float


def make_rig(clone: Clone) -> Rig:
    """The rig of a clone; see the module."""
    points, layout = clone.neutral, clone.layout
    eyes = np.stack([sphere(points[layout.rows(f"{side}_sclera")]) for side in ("left", "right")])
    travel, hinge = jaw_motion(clone)
    neck = _neck(points[layout.rows("face", "head_and_neck")], points[clone.landmarks_68], eyes)
    joints = np.concatenate([neck, hinge[None], eyes])
    jaw = _jaw_weights(clone, travel, hinge)
    head = _smoothstep(_along(points, joints) / _HEAD_FROM)
    weights = np.stack([1 - head, head * (1 - jaw), head * jaw, 0 * jaw, 0 * jaw], axis=1)
    for joint, side in ((_LEFT_EYE, "left"), (_RIGHT_EYE, "right")):
        weights[layout.eyeball(side)] = np.eye(len(JOINTS))[joint]
    return Rig(
        joints=joints,
        regressor=_regressor(clone, joints),
        skin_weights=weights,
        pose_basis=_correctives(clone, weights[:, _JAW], travel, hinge),
        travel=travel,
    )


def sphere(points: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, "3"]:
    """The centre of the sphere that an eyeball is but for its cornea, which faces +z."""
    kept = np.ones(len(points), bool)
    for _ in range(5):  # the cornea is told by the centre, the centre by the rest
        centre, _ = fit_sphere(points[kept])
        offset = points - centre
        cosine = offset[:, 2] / np.linalg.norm(offset, axis=1)
        kept = cosine < np.cos(np.radians(_CORNEA))
    return centre


def jaw_motion(clone: Clone) -> tuple[float, Float[np.ndarray, "3"]]:
    """The angle about x that the lower teeth turn by in jawOpen, and the midpoint of the axis."""
    rows = clone.layout.rows(_TEETH)
    points = clone.neutral[rows]
    rotation, shift, _ = rigid_motion(points, points + clone.expression["jawOpen"][rows])
    angle = float(np.arctan2(rotation[2, 1] - rotation[1, 2], rotation[1, 1] + rotation[2, 2]))
    still = (np.eye(3) - _about_x(angle))[1:, 1:]
    return angle, np.concatenate([[0.0], np.linalg.solve(still, shift[1:])])


def _about_x(angle: float) -> Float[np.ndarray, "3 3"]:
    cosine, sine = np.cos(angle), np.sin(angle)
    return np.array([[1, 0, 0], [0, cosine, -sine], [0, sine, cosine]])


def _neck(
    skin: Float[np.ndarray, "N 3"],
    landmarks: Float[np.ndarray, "68 3"],
    eyes: Float[np.ndarray, "2 3"],
) -> Float[np.ndarray, "2 3"]:
    """Root and neck: below the chin, before the back of the neck."""
    chin = landmarks[_CHIN, 1]
    height = eyes[:, 1].mean() - chin
    levels = chin - np.array([_ROOT_BELOW, _NECK_BELOW]) * height
    half_width = np.abs(skin[np.abs(skin[:, 1] - levels[1]) < _SLAB, 0]).max()
    middle = skin[np.abs(skin[:, 0]) < 3 * _SLAB]
    backs = [middle[np.abs(middle[:, 1] - level) < 2 * _SLAB, 2].min() for level in levels]
    return np.stack([np.zeros(2), levels, np.array(backs) + _SPINE * half_width], axis=1)


def _along(points: Float[np.ndarray, "N 3"], joints: Float[np.ndarray, "5 3"]) -> np.ndarray:
    """Places along the neck: 0 at the root, 1 at the neck's joint."""
    axis = joints[_NECK] - joints[_ROOT]
    return (points - joints[_ROOT]) @ axis / (axis @ axis)


def _jaw_weights(
    clone: Clone, travel: float, hinge: Float[np.ndarray, "3"]
) -> Float[np.ndarray, " V"]:
    """The share of the jaw's rotation in each displacement of jawOpen; 0 or 1 for what is rigid."""
    turned = (clone.neutral - hinge) @ (_about_x(travel) - np.eye(3)).T
    moved = clone.expression["jawOpen"]
    share = (turned * moved).sum(axis=1) / ((turned**2).sum(axis=1) + _STILL**2)
    soft = np.isin(np.arange(len(share)), clone.layout.rows(*_RIGID))
    return np.where(soft, np.clip(share, 0, 1), np.rint(share))


def _correctives(
    clone: Clone, jaw: Float[np.ndarray, " V"], travel: float, hinge: Float[np.ndarray, "3"]
) -> Float[np.ndarray, "V 3 36"]:
    """What skinning by the jaw leaves of jawOpen, carried back into the pose at rest.

    It follows the sine of the jaw's rotation about x, which (R - I) holds at [2, 1] and, negated,
    at [1, 2].
    """
    opening = jaw[:, None, None] * (_about_x(travel) - np.eye(3))
    target = clone.neutral + clone.expression["jawOpen"]
    target = target + np.einsum("vkl,l->vk", opening, hinge)
    rest = np.linalg.solve(np.eye(3) + opening, target[..., None])[..., 0] - clone.neutral
    rest = rest / (2 * np.sin(travel))
    basis = np.zeros((*rest.shape, 9 * (len(JOINTS) - 1)), np.float32)
    first = 9 * (_JAW - 1)
    basis[..., first + 7], basis[..., first + 5] = rest, -rest
    return basis


def _regressor(clone: Clone, joints: Float[np.ndarray, "5 3"]) -> Float[np.ndarray, "5 V"]:
    """Rows that sum to 1 and average vertices about each joint to it exactly."""
    points, layout = clone.neutral, clone.layout
    skin = layout.rows("face", "head_and_neck")
    along = _along(points[skin], joints)
    beside = np.linalg.norm((points[skin] - joints[_JAW])[:, 1:], axis=1)
    slab = 0.2
    sets = [
        skin[np.abs(along) < slab],
        skin[np.abs(along - 1) < slab],
        skin[beside < _BESIDE],
        layout.eyeball("left"),
        layout.eyeball("right"),
    ]
    rows = np.zeros((len(joints), len(points)))
    for row, index, joint in zip(rows, sets, joints, strict=True):
        # The weights closest to equal ones that meet the four conditions.
        conditions = np.concatenate([np.ones((1, len(index))), points[index].T])
        equal = np.full(len(index), 1 / len(index))
        missing = np.concatenate([[1.0], joint]) - conditions @ equal
        row[index] = equal + np.linalg.lstsq(conditions, missing, rcond=None)[0]
    return rows


def _smoothstep(x: np.ndarray) -> np.ndarray:
    x = np.clip(x, 0, 1)
    return x * x * (3 - 2 * x)
