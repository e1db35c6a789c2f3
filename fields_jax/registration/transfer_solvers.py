"""The two searches of a transfer: the identity, then the movement of its face."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from fields_jax.fitting.least_squares import Prior, minimise
from fields_jax.fitting.parameters import CAMERA, COEFFICIENTS, EYELID, JAW, POSE, Layout
from fields_jax.fitting.rig import Rig, pose_basis, pose_points
from fields_jax.fitting.surface import posed, posed_with_jacobian, with_shape
from fields_jax.geometry.rotations import rodrigues

_HIGHEST = jax.lax.Precision.HIGHEST
_STEPS = 8, 14  # of the search for the identity and for the movement
_QUADRATIC = 1e4  # outlier threshold in standard deviations: there are no outliers
# The unknowns of a movement: jaw, lids, then expression.
_JAW, _EYELID, _EXPRESSION = slice(0, 3), slice(3, 5), slice(5, None)


class Points(NamedTuple):
    """The same N points on two heads.

    Attributes:
      a, b: their rigs, with the components that are used.
      weight: [N] of each, whose sum is the number of points they count as.
      noise: metres, standard deviation of each.
    """

    a: Rig
    b: Rig
    weight: Float[Array, " N"]
    noise: Float[Array, ""]


class Face(NamedTuple):
    """The codes of a face of the first head; a leading axis B for several.

    Attributes:
      shape: [S].
      expression: [E].
      jaw: [3].
      eyelid: [2].
    """

    shape: Float[Array, "*B S"]
    expression: Float[Array, "*B E"]
    jaw: Float[Array, "*B 3"]
    eyelid: Float[Array, "*B 2"]


class Identity(NamedTuple):
    """A face of the second head at rest, and the motion from its frame to that of the first.

    Attributes:
      turn: [3] axis-angle.
      shift: [3] metres.
      shape: [S].
    """

    turn: Float[Array, "*B 3"]
    shift: Float[Array, "*B 3"]
    shape: Float[Array, "*B S"]


class Movement(NamedTuple):
    """What the second head does, and how far its points are from where they should be.

    Attributes:
      jaw: [3].
      eyelid: [2].
      expression: [E].
      distance: [N] metres.
    """

    jaw: Float[Array, "*B 3"]
    eyelid: Float[Array, "*B 2"]
    expression: Float[Array, "*B E"]
    distance: Float[Array, "*B N"]


@partial(jax.jit, static_argnames="layout")
def solve_identities(
    points: Points,
    prior: Prior,
    layout: Layout,
    shapes: Float[Array, "B S"],
    starts: Float[Array, "B 6"],
) -> Identity:
    """The neutral faces of the second head that lie on the first's.

    Args:
      points: of the heads.
      prior: of the second head's unknowns, in the order of `fitting.parameters`.
      layout: of the same.
      shapes: codes of the first head.
      starts: turn and shift to start from.
    """
    first = COEFFICIENTS.start + layout.n_expression
    still = jax.tree.map(lambda leaf: leaf[: COEFFICIENTS.start], prior)
    # Jaw and lids are at rest; of turn and shift nothing is known.
    at_rest = jnp.zeros(JAW.stop - JAW.start), jnp.zeros(EYELID.stop - EYELID.start)
    for name in ("lower", "upper"):
        values = getattr(still, name).at[JAW].set(at_rest[0]).at[EYELID].set(at_rest[1])
        still = still.replace(**{name: values})
    joined = jax.tree.map(lambda one, all_: jnp.concatenate([one, all_[first:]]), still, prior)
    rig = points.b.replace(
        **{
            name: getattr(points.b, name)[..., layout.n_expression :]
            for name in ("basis", "dragged_basis", "joint_basis")
        }
    )

    def solve(shape, start):
        wanted = with_shape(points.a, shape).mean
        x = joined.mean.at[: CAMERA.stop].set(start)

        def residuals(x):
            return (posed(rig, x) - wanted) / points.noise

        def linearise(x):
            found, jacobian = posed_with_jacobian(rig, x)
            return (found - wanted) / points.noise, jacobian / points.noise

        x = jnp.clip(x, joined.lower, joined.upper)
        x = minimise(residuals, x, joined, points.weight, _scales(0), linearise).parameters
        return Identity(turn=x[POSE], shift=x[CAMERA], shape=x[COEFFICIENTS])

    return jax.vmap(solve)(shapes, starts)


@partial(jax.jit, static_argnames="layout")
def solve_movements(
    points: Points, prior: Prior, layout: Layout, faces: Face, identities: Identity
) -> Movement:
    """The movements of the second head's identities that are those of the first's faces.

    Args:
      points: of the heads.
      prior: of the second head's unknowns, in the order of `fitting.parameters`.
      layout: of the same.
      faces: of the first head.
      identities: of the second.
    """
    end = COEFFICIENTS.start + layout.n_expression
    own = jax.tree.map(lambda leaf: leaf[JAW.start : end], prior)

    def solve(face, identity):
        rotation = rodrigues(identity.turn)
        rig = with_shape(points.b, identity.shape)
        first = with_shape(points.a, face.shape)
        now = pose_points(first, face.expression, face.jaw, face.eyelid, jnp.zeros(3))
        wanted = rig.mean + jnp.dot(now - first.mean, rotation, precision=_HIGHEST)

        def posed_at(x):
            return pose_points(rig, x[_EXPRESSION], x[_JAW], x[_EYELID], jnp.zeros(3))

        def residuals(x):
            return (posed_at(x) - wanted) / points.noise

        def linearise(x):
            def by_jaw(jaw):
                found = posed_at(x.at[_JAW].set(jaw))
                return found, found

            jaw, found = jax.jacfwd(by_jaw, has_aux=True)(x[_JAW])
            basis = pose_basis(rig, x[_JAW], jnp.zeros(3))
            jacobian = jnp.concatenate([jaw, rig.eyelid, basis], axis=-1)
            return (found - wanted) / points.noise, jacobian / points.noise

        start = jnp.clip(own.mean, own.lower, own.upper)
        x = minimise(residuals, start, own, points.weight, _scales(1), linearise).parameters
        there = jnp.dot(posed_at(x), rotation.T, precision=_HIGHEST) + identity.shift[None]
        distance = jnp.linalg.norm(there - now, axis=-1)
        return Movement(x[_JAW], x[_EYELID], x[_EXPRESSION], distance)

    return jax.vmap(solve)(faces, identities)


def _scales(search: int) -> Float[Array, " K"]:
    return jnp.full(_STEPS[search], _QUADRATIC)
