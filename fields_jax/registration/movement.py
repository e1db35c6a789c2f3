"""How vertices of a neutral person move: displacements, which at rest are 0 to the last bit.

The difference of two posed heads is not: its rounding would come out as faint expressions. So the
joints' motions are composed as what they change: with x -> x + D x + t for a parent and a turn by R
about c for its child, the child's D is (R - I) + D + D (R - I), and its t is t - (I + D) (R - I) c.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Float, Int

from fields_jax.errors import UserError
from fields_jax.geometry.rotations import rodrigues
from fields_jax.kept import kept_program
from fields_jax.types import FlameModel

_HIGHEST = jax.lax.Precision.HIGHEST
_WIDEST = 1.0  # radians; no jaw opens further


@struct.dataclass
class Movable:
    """N vertices of the mean person, metres.

    Attributes:
      rest: [N, 3].
      basis: [N, 3, E] displacement per expression coefficient.
      corrective: [N, 3, P] displacement per entry of (R_j - I), joints after the root.
      weights: [N, J] of skinning.
      eyelid: [N, 3, 2] displacement per closed lid (left, right).
      joints: [J, 3] at rest.
      joint_basis: [J, 3, E] their displacement per expression coefficient.
      parents: of the joints.
      joint_names: of the joints.
    """

    rest: Float[Array, "N 3"]
    basis: Float[Array, "N 3 E"]
    corrective: Float[Array, "N 3 P"]
    weights: Float[Array, "N J"]
    eyelid: Float[Array, "N 3 2"]
    joints: Float[Array, "J 3"]
    joint_basis: Float[Array, "J 3 E"]
    parents: tuple[int, ...] = struct.field(pytree_node=False)
    joint_names: tuple[str, ...] = struct.field(pytree_node=False)

    def __getitem__(self, rows: Int[np.ndarray, " M"]) -> Movable:
        """Some of the vertices."""
        names = ("rest", "basis", "corrective", "weights", "eyelid")
        return self.replace(**{name: getattr(self, name)[rows] for name in names})


@struct.dataclass
class Movement:
    """What moves a face at rest; a leading axis B for several.

    Attributes:
      expression: [E].
      jaw: [3] axis-angle, radians.
      eyelid: [2].
      eyes: [6] axis-angle of the left, then the right eye.
    """

    expression: Float[Array, "*B E"]
    jaw: Float[Array, "*B 3"]
    eyelid: Float[Array, "*B 2"]
    eyes: Float[Array, "*B 6"]


def movable(head: FlameModel, rows: Int[np.ndarray, " N"], n_expression: int) -> Movable:
    """The tables of some vertices of a head, in numpy.

    Raises:
      UserError: more expression components than the head has.
    """
    there = head.expression_basis.shape[-1]
    if n_expression > there:
        raise UserError(
            f"{n_expression} expression coefficients for head {head.name}, which has {there}: they "
            "are of another head"
        )
    basis = np.asarray(head.expression_basis)[..., :n_expression]
    regressor = np.asarray(head.joint_regressor)
    template = np.asarray(head.template)
    return Movable(
        rest=template[rows],
        basis=basis[rows],
        corrective=np.asarray(head.pose_basis)[rows],
        weights=np.asarray(head.skin_weights)[rows],
        eyelid=np.moveaxis(np.asarray(head.eyelid_basis)[:, rows], 0, -1),
        joints=regressor @ template,
        joint_basis=np.tensordot(regressor, basis, axes=1),
        parents=head.parents,
        joint_names=head.joint_names,
    )


def displacement(
    points: Movable, movement: Movement, *, apart: bool = False
) -> Float[Array, "N 3"]:
    """Where the movement takes the points: `flame` less the head at rest, pose and neck at rest.

    Args:
      points: of a head.
      movement: of one face.
      apart: a joint's turns about x, y and z are added, as blend shapes are, and not composed.
    """
    turns = _joint_turns(points, movement)
    if apart:
        turns = sum(_turned(axis[None] * turns) for axis in jnp.eye(3, dtype=turns.dtype))
    else:
        turns = _turned(turns)
    joints = points.joints + _dot(points.joint_basis, movement.expression)
    moved = _dot(points.basis, movement.expression)
    if points.corrective.shape[-1]:
        moved = moved + _dot(points.corrective, turns[1:].ravel())
    change, shift = [turns[0]], [-_dot(turns[0], joints[0])]
    for joint in range(1, len(points.parents)):
        parent = points.parents[joint]
        own = turns[joint] + _dot(change[parent], turns[joint])
        change.append(own + change[parent])
        shift.append(shift[parent] - _dot(own, joints[joint]))
    change = jnp.einsum("nj,jkl->nkl", points.weights, jnp.stack(change), precision=_HIGHEST)
    place = points.rest + moved
    turned = jnp.sum(change * place[:, None], axis=-1) + _dot(points.weights, jnp.stack(shift))
    return moved + turned + _dot(points.eyelid, movement.eyelid)


def _joint_turns(points: Movable, movement: Movement) -> Float[Array, "J 3"]:
    """Axis-angle of each joint."""
    roles = {
        "jaw": movement.jaw,
        "left_eye": movement.eyes[:3],
        "right_eye": movement.eyes[3:],
    }
    rest = jnp.zeros_like(movement.jaw)
    return jnp.stack([roles.get(name, rest) for name in points.joint_names])


def _turned(turns: Float[Array, "J 3"]) -> Float[Array, "J 3 3"]:
    """R - I of rotations."""
    return rodrigues(turns) - jnp.eye(3, dtype=turns.dtype)[None]


def _dot(a: Array, b: Array) -> Array:
    return jnp.dot(a, b, precision=_HIGHEST)


def jaw_opened(points: Movable, angle: Float[Array, ""]) -> Float[Array, "N 3"]:
    """Displacement by the jaw's turn about x."""
    rest = Movement(
        expression=jnp.zeros(points.basis.shape[-1]),
        jaw=jnp.zeros(3).at[0].set(angle),
        eyelid=jnp.zeros(2),
        eyes=jnp.zeros(6),
    )
    return displacement(points, rest)


def jaw_travel(points: Movable, shape: Float[np.ndarray, "N 3"]) -> np.float32:
    """The angle about x at which the jaw does what a shape does, as far as it can.

    That is where its displacement's share of the shape, by projection, is 1 for the first time or
    else largest; 0 for a head without a jaw and for shapes that are nothing like it.
    """
    energy = (shape**2).sum(dtype=np.float64)
    if "jaw" not in points.joint_names or not energy:
        return np.float32(0)
    angles = np.linspace(0, _WIDEST, 101, dtype=np.float32)
    share = np.asarray(kept_program(_shares, points, shape, angles), np.float64) / energy
    if share.max() <= 0:
        return np.float32(0)
    last = int(np.argmax(share >= 1)) if share.max() >= 1 else int(np.argmax(share))
    return np.float32(np.interp(1.0, share[last - 1 : last + 1], angles[last - 1 : last + 1]))


def _shares(
    points: Movable, shape: Float[Array, "N 3"], angles: Float[Array, " A"]
) -> Float[Array, " A"]:
    """Inner products of a shape and of what the jaw does at angles about x."""
    return jax.vmap(lambda angle: jnp.sum(jaw_opened(points, angle) * shape))(angles)
