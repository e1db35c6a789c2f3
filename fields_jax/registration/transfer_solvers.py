"""The two searches of a transfer: the identity, then the movement of its face."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from fields_jax.fitting.least_squares import Prior, search
from fields_jax.fitting.parameters import CAMERA, COEFFICIENTS, JAW, Layout
from fields_jax.fitting.rig import Rig, pose_points
from fields_jax.fitting.surface import with_shape
from fields_jax.geometry.rotations import rodrigues
from fields_jax.landmark_schemes import ACROSS_SLITS_68

_HIGHEST = jax.lax.Precision.HIGHEST
_STEPS = 8, 14  # of the search for the identity and for the movement
_LID_DEVIATION = 0.2  # of one head's lids from the other's, ours
# The last points of a movement are differences: upper minus lower lid, then upper minus lower lip.
SLITS = ACROSS_SLITS_68
_EYE_SLITS = slice(-len(SLITS), -len(SLITS) + 4)


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
      distance: [N] metres, without those of the slits.
    """

    jaw: Float[Array, "*B 3"]
    eyelid: Float[Array, "*B 2"]
    expression: Float[Array, "*B E"]
    distance: Float[Array, "*B N"]


class Products(NamedTuple):
    """Weighted products of the second head's derivatives, the same for all faces.

    With B the derivative by expression at rest and D what the jaw drags of it.

    Attributes:
      dragged: [N, 3, K] D.
      plain: [K, K] B with B.
      mixed: [3, 3, K, K] of each two axes, B with D.
      twice: [3, 3, K, K] D with D.
    """

    dragged: Float[Array, "N 3 K"]
    plain: Float[Array, "K K"]
    mixed: Float[Array, "3 3 K K"]
    twice: Float[Array, "3 3 K K"]


@partial(jax.jit, static_argnames="layout")
def identity_products(points: Points, layout: Layout) -> Float[Array, "S S"]:
    """The normal matrix of the second head's shape, the same for all faces."""
    basis = points.b.basis[..., layout.n_expression :]
    return _gram(points.weight / points.noise**2, basis, basis)


@partial(jax.jit, static_argnames="layout")
def movement_products(points: Points, layout: Layout) -> Products:
    """Products of the derivatives by expression; of points with rows for the SLITS."""
    weight = points.weight / points.noise**2
    basis, dragged = (
        getattr(points.b, name)[..., : layout.n_expression] for name in ("basis", "dragged_basis")
    )
    hinge = points.b.joint_basis[1, :, : layout.n_expression]
    dragged = dragged - points.b.jaw_weight[:, None, None] * hinge[None]
    return Products(
        dragged=dragged,
        plain=_gram(weight, basis, basis),
        mixed=jnp.einsum("n,nip,njq->ijpq", weight, basis, dragged, precision=_HIGHEST),
        twice=jnp.einsum("n,nip,njq->ijpq", weight, dragged, dragged, precision=_HIGHEST),
    )


@partial(jax.jit, static_argnames="layout")
def solve_identities(
    points: Points,
    normal: Float[Array, "K K"],
    prior: Prior,
    layout: Layout,
    shapes: Float[Array, "B S"],
    starts: Float[Array, "B 6"],
) -> Identity:
    """The neutral faces of the second head that lie on the first's.

    Args:
      points: of the heads.
      normal: of `identity_products`.
      prior: of the second head's unknowns, in the order of `fitting.parameters`.
      layout: of the same.
      shapes: codes of the first head.
      starts: turn and shift to start from.
    """
    first = COEFFICIENTS.start + layout.n_expression
    own = jax.tree.map(lambda leaf: jnp.concatenate([leaf[: CAMERA.stop], leaf[first:]]), prior)
    basis = points.b.basis[..., layout.n_expression :]
    weight = points.weight / points.noise**2

    def solve(shape, start):
        wanted = with_shape(points.a, shape).mean

        def offset(motion, coefficients):
            """From where the points should be, in the second head's frame."""
            rotation = rodrigues(motion[:3])
            rest = points.b.mean + _moved(basis, coefficients)
            return rest - jnp.dot(wanted - motion[None, 3:], rotation, precision=_HIGHEST)

        def equations(x, scale):
            motion, coefficients = x[:6], x[6:]
            found = offset(motion, coefficients)
            columns = jax.jacfwd(offset)(motion, coefficients)
            both = jnp.concatenate([columns, found[..., None]], axis=-1)
            cross = jnp.einsum("n,nik,nip->kp", weight, basis, both, precision=_HIGHEST)
            return _joined(weight, found, columns, normal, cross)

        def cost(x, scale):
            return _cost(weight, offset(x[:6], x[6:]))

        x = own.mean.at[:6].set(start)
        x = search(cost, equations, x, own, jnp.zeros(_STEPS[0])).parameters
        return Identity(turn=x[:3], shift=x[3:6], shape=x[6:])

    return jax.vmap(solve)(shapes, starts)


@partial(jax.jit, static_argnames="layout")
def solve_movements(
    points: Points,
    products: Products,
    prior: Prior,
    layout: Layout,
    faces: Face,
    identities: Identity,
) -> Movement:
    """The movements of the second head's identities that are those of the first's faces.

    The derivative by expression, B + O D with O = J - I of the jaw and D what it drags, is far too
    large to make for each face. Products of B and D are made once, and the normal matrix of them.

    Eyes open and close by shares of their opening at rest, so that shut ones are shut on either
    head, and the lids are expected to do so by their own codes, which mean the same on all heads.
    All else moves by the same lengths.

    Args:
      points: of the heads, then as many rows as there are SLITS.
      products: of `movement_products`.
      prior: of the second head's unknowns, in the order of `fitting.parameters`.
      layout: of the same.
      faces: of the first head.
      identities: of the second.
    """
    end = COEFFICIENTS.start + layout.n_expression
    own = jax.tree.map(lambda leaf: leaf[JAW.start : end], prior)
    weight = points.weight / points.noise**2
    basis, (dragged, plain, mixed, twice) = points.b.basis[..., : layout.n_expression], products

    def solve(face, identity):
        rotation = rodrigues(identity.turn)
        rig, first = with_shape(points.b, identity.shape), with_shape(points.a, face.shape)
        now = pose_points(first, face.expression, face.jaw, face.eyelid, jnp.zeros(3))
        moved = jnp.dot(now - first.mean, rotation, precision=_HIGHEST)
        size, other = (
            jnp.linalg.norm(each[_EYE_SLITS], axis=-1) for each in (rig.mean, first.mean)
        )
        scale = size / jnp.maximum(other, 1e-6)
        wanted = rig.mean + moved.at[_EYE_SLITS].multiply(scale[:, None])

        def posed(jaw, rest):
            return pose_points(rig, rest[2:], jaw, rest[:2], jnp.zeros(3))

        def equations(x, scale):
            jaw, rest = x[:3], x[3:]
            opening = rodrigues(jaw) - jnp.eye(3)
            found = posed(jaw, rest) - wanted
            columns = jnp.concatenate([jax.jacfwd(posed)(jaw, rest), rig.eyelid], axis=-1)
            both = jnp.concatenate([columns, found[..., None]], axis=-1)
            turned = jnp.einsum("ij,nip->njp", opening, both, precision=_HIGHEST)
            cross = jnp.einsum("n,nik,nip->kp", weight, basis, both, precision=_HIGHEST)
            cross += jnp.einsum("n,nik,nip->kp", weight, dragged, turned, precision=_HIGHEST)
            once = jnp.einsum("ij,ijpq->pq", opening, mixed, precision=_HIGHEST)
            square = jnp.dot(opening.T, opening, precision=_HIGHEST)
            normal = plain + once + once.T
            normal += jnp.einsum("ij,ijpq->pq", square, twice, precision=_HIGHEST)
            return _joined(weight, found, columns, normal, cross)

        def cost(x, scale):
            return _cost(weight, posed(x[:3], x[3:]) - wanted)

        expected = own.replace(
            mean=own.mean.at[3:5].set(face.eyelid),
            precision=own.precision.at[3:5].set(_LID_DEVIATION**-2),
        )
        x = search(cost, equations, expected.mean, expected, jnp.zeros(_STEPS[1])).parameters
        there = jnp.dot(posed(x[:3], x[3:]), rotation.T, precision=_HIGHEST)
        there = there + identity.shift[None]
        distance = jnp.linalg.norm((there - now)[: -len(SLITS)], axis=-1)
        return Movement(jaw=x[:3], eyelid=x[3:5], expression=x[5:], distance=distance)

    return jax.vmap(solve)(faces, identities)


def _joined(
    weight: Float[Array, " N"],
    found: Float[Array, "N 3"],
    columns: Float[Array, "N 3 M"],
    normal: Float[Array, "K K"],
    cross: Float[Array, "K L"],
) -> tuple[Float[Array, ""], Float[Array, "P P"], Float[Array, " P"]]:
    """Cost, normal matrix and gradient of M unknowns with columns of their own and K without.

    Args:
      weight: of the points.
      found: the residuals.
      columns: their derivatives by the M.
      normal: products of the derivatives by the K.
      cross: of these with the columns, then with the residuals.
    """
    own = _gram(weight, columns, columns)
    gradient = jnp.einsum("n,nip,ni->p", weight, columns, found, precision=_HIGHEST)
    matrix = jnp.block([[own, cross[:, :-1].T], [cross[:, :-1], normal]])
    return _cost(weight, found), matrix, jnp.concatenate([gradient, cross[:, -1]])


def _cost(weight: Float[Array, " N"], found: Float[Array, "N 3"]) -> Float[Array, ""]:
    return jnp.sum(weight[:, None] * found**2)


def _gram(
    weight: Float[Array, " N"], one: Float[Array, "N 3 P"], two: Float[Array, "N 3 Q"]
) -> Float[Array, "P Q"]:
    return jnp.einsum("n,nip,niq->pq", weight, one, two, precision=_HIGHEST)


def _moved(basis: Float[Array, "N 3 K"], coefficients: Float[Array, " K"]) -> Float[Array, "N 3"]:
    return jnp.dot(basis, coefficients, precision=_HIGHEST)
