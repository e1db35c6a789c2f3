"""ARKit's 52 weights of the faces of any head that has the shapes, and faces of such weights.

Both are about the mean person at zero pose: the displacement that expression, jaw, lids and eyes
make there, over the face mask and the eyeballs, against A w with the shapes A of the head's
`arkit_basis` and weights w between 0 and 1.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Float, Int

from fields_jax import arkit
from fields_jax.errors import UserError
from fields_jax.fitting.least_squares import Prior, geman_mcclure_weight, search
from fields_jax.fitting.parameters import COEFFICIENTS, JAW, Layout, prior
from fields_jax.flame.eyes import eyeballs
from fields_jax.kept import kept_program
from fields_jax.registration.eyes import eye_turns
from fields_jax.registration.movement import (
    Movable,
    Movement,
    displacement,
    jaw_opened,
    jaw_travel,
    movable,
)
from fields_jax.types import FlameCoefficients, FlameModel

_HIGHEST = jax.lax.Precision.HIGHEST
_NOISE = 5e-4  # metres; standard deviation of a point
# Movement costs in proportion to its size, so that one shape is taken where two together would do
# the same: 4 units for each millimetre (root mean square) of a weighted shape. The parabola that
# this is a branch of has its bottom far below 0.
_MEAN, _PRECISION, _LEAST = -40.0, 50.0, 1e-4
# Points that fits look at: far more than there are unknowns, far fewer than a fine head has.
_FACE_POINTS, _EYE_POINTS = 1200, 100
# Scales of Geman and McClure, in standard deviations: 5 cm, where no point is an outlier, to 3 mm.
_SCALES = np.geomspace(100.0, 6.0, 20)
_INVERSE_STEPS = 25
_MOST_FRAMES = 64  # that are solved at once
_PAIRS = np.triu_indices(len(arkit.NAMES))
_JAW_OPEN = arkit.NAMES.index("jawOpen")


class ArkitWeights(NamedTuple):
    """What ARKit would say of B faces.

    Attributes:
      weights: [B, 52] in [0, 1], of `arkit.NAMES`.
      error_mm: [B] root mean square distance, over the face, of the head's displacement and that
        of the weighted shapes.
    """

    weights: Float[np.ndarray, "B 52"]
    error_mm: Float[np.ndarray, " B"]


class FromArkit(NamedTuple):
    """Faces of a head that do what weights say.

    Attributes:
      coefficients: of the mean person, at zero pose, with a camera of (1, 0, 0).
      error_mm: [B] as that of `ArkitWeights`.
    """

    coefficients: FlameCoefficients
    error_mm: Float[np.ndarray, " B"]


@struct.dataclass
class Tables:
    """What fits of a head need. Points are those of its face mask, then those of its eyeballs.

    A jaw that opens moves the chin along an arc and turns all that expressions do there; the shape
    jawOpen moves it along a chord and adds to them. Left to other shapes, the difference would come
    out as a jaw that moves forward. So the turn of the jaw about x counts as so much of jawOpen as
    is nearest to it, by itself. The error is that of the true displacement.

    Attributes:
      points: [N] how they move.
      shapes: [N, 3, 52] metres.
      travel: radians, how far the jaw turns for jawOpen.
      looked_at: [M] rows of points that the fit looks at.
      products: [M, 1378] of each two shapes at those points, the upper triangle.
      eye_turns: [52, 6] axis-angle of both eyes at weight 1 of each shape.
      face: how many of the points are of the face.
    """

    points: Movable
    shapes: Float[Array, "N 3 52"]
    travel: Float[Array, ""]
    looked_at: Int[Array, " M"]
    products: Float[Array, "M 1378"]
    eye_turns: Float[Array, "52 6"]
    face: int = struct.field(pytree_node=False)


def arkit_tables(head: FlameModel, n_expression: int) -> Tables:
    """What fits of a head need, to be made once for many clips.

    Args:
      head: with `arkit_basis`.
      n_expression: how many expression coefficients the faces have.

    Raises:
      UserError: the head has no such shapes, or fewer components.
    """
    if head.arkit_basis is None:
        raise UserError(
            f"head {head.name} has no ARKit shapes: add them with "
            "`python -m fields_jax.convert arkit ICT-FaceKit HEAD.npz`"
        )
    face, eyes = np.asarray(head.face_vertices), eyeballs(head)
    rows = np.concatenate([face, *eyes])
    points = movable(head, rows, n_expression)
    shapes = np.asarray(head.arkit_basis)[rows]
    starts = np.cumsum([0, len(face), len(eyes[0])])
    looked_at = np.concatenate(
        [
            start + _some(len(part), count)
            for start, part, count in zip(
                starts, (face, *eyes), (_FACE_POINTS, _EYE_POINTS, _EYE_POINTS), strict=True
            )
        ]
    )
    seen = shapes[looked_at]
    products = np.einsum("nki,nki->ni", seen[..., _PAIRS[0]], seen[..., _PAIRS[1]])
    tried = _some(len(face), _FACE_POINTS)
    travel = jaw_travel(points[tried], shapes[tried, :, _JAW_OPEN])
    return Tables(
        points=points,
        shapes=shapes,
        travel=travel,
        looked_at=looked_at,
        products=products,
        eye_turns=eye_turns(head).reshape(-1, 6),
        face=len(face),
    )


def arkit_weights(
    head: FlameModel, coefficients: FlameCoefficients, tables: Tables | None = None
) -> ArkitWeights:
    """ARKit's weights of faces; shape, pose, neck and camera of the coefficients do not matter.

    Args:
      head: with `arkit_basis`.
      coefficients: of B faces, such as the frames of a clip.
      tables: of `arkit_tables`, with as many components; None: they are made here.

    Raises:
      UserError: the head has no such shapes, or the coefficients are not finite or of another head.
    """
    movement = _movement(coefficients)
    tables = tables or arkit_tables(head, movement.expression.shape[-1])
    solve = partial(kept_program, _solve_weights, tables)
    weights, error = _in_chunks(solve, movement)
    return ArkitWeights(weights, 1e3 * error)


def from_arkit(
    head: FlameModel, weights: Float[np.ndarray, "B 52"], tables: Tables | None = None
) -> FromArkit:
    """Faces of a head that do what ARKit's weights say.

    Expression components named as ARKit's shapes take the weights as they are, but for those that
    the head holds still since its lids or its jaw make them. Eyes turn by the sum of the turns that
    the shapes have. On heads with other components, these, lids and jaw are fitted to A w, with
    the head's priors and bounds.

    Args:
      head: with `arkit_basis`.
      weights: of `arkit.NAMES`.
      tables: of `arkit_tables` with all components; None: they are made here.

    Raises:
      UserError: the head has no such shapes, or weights that are not [B, 52] finite numbers.
    """
    weights = np.asarray(weights, np.float32)
    if weights.ndim != 2 or weights.shape[1] != len(arkit.NAMES) or not np.isfinite(weights).all():
        raise UserError(
            f"ARKit's weights have shape {weights.shape}, expected finite numbers [B, 52]"
        )
    tables = tables or arkit_tables(head, head.expression_basis.shape[-1])
    names = [arkit.own_name(name) for name in head.expression_names]
    eyes = weights @ np.asarray(tables.eye_turns)
    if any(names):
        movement = _named(head, tables, names, weights, eyes)
        (error,) = _in_chunks(partial(_errors, tables), (movement, weights))
    else:
        layout = Layout(tables.points.basis.shape[-1], 0)
        known = prior(head, layout, jnp.float32)
        known = jax.tree.map(lambda leaf: leaf[_MOVES], known)
        movement, error = _in_chunks(partial(_solve_movement, tables, known), (weights, eyes))
    rest = np.zeros((len(weights), 3), np.float32)
    coefficients = FlameCoefficients(
        shape=np.zeros((len(weights), head.shape_basis.shape[-1]), np.float32),
        expression=movement.expression,
        jaw=movement.jaw,
        eyelid=movement.eyelid,
        pose=rest,
        camera=rest + np.array([1, 0, 0], np.float32),
        eyes=movement.eyes,
    )
    return FromArkit(coefficients, 1e3 * error)


_MOVES = slice(JAW.start, None)  # of `fitting.parameters`: jaw, lids, expression
_JAW, _EYELID, _EXPRESSION = (
    slice(0, 3),
    slice(3, 5),
    slice(COEFFICIENTS.start - JAW.start, None),
)


def _movement(coefficients: FlameCoefficients) -> Movement:
    count = len(coefficients.expression)
    eyes = np.zeros((count, 6)) if coefficients.eyes is None else coefficients.eyes
    columns = {
        "expression": coefficients.expression,
        "jaw": coefficients.jaw,
        "eyelid": coefficients.eyelid,
        "eyes": eyes,
    }
    found = {name: np.asarray(value, np.float32) for name, value in columns.items()}
    for name, value in found.items():
        if not np.isfinite(value).all():
            raise UserError(f"{name} of the faces holds numbers that are not finite")
    return Movement(**found)


def _some(count: int, most: int) -> Int[np.ndarray, " N"]:
    """Up to so many of a part's vertices, dense where the mesh is."""
    return np.sort(np.random.default_rng(0).permutation(count)[:most])


def _in_chunks(solve: Callable[[Any], Any], arrays: Any) -> Any:
    """Solves rows in chunks of few sizes, filled up with zeros, so that few programs are made."""
    count = len(jax.tree.leaves(arrays)[0])
    size = min(_MOST_FRAMES, 1 << max(count - 1, 0).bit_length())
    filled = -count % size
    arrays = jax.tree.map(
        lambda leaf: np.pad(leaf, [(0, filled), *[(0, 0)] * (leaf.ndim - 1)]), arrays
    )
    parts = [
        solve(jax.tree.map(lambda leaf, first=first: leaf[first : first + size], arrays))
        for first in range(0, max(count, 1), size)
    ]
    return jax.tree.map(lambda *leaves: np.concatenate(leaves)[:count], *jax.device_get(parts))


def _solve_weights(tables: Tables, movements: Movement) -> tuple[Array, Array]:
    """Weights [B, 52] and errors in metres [B]."""
    points, shapes = tables.points[tables.looked_at], tables.shapes[tables.looked_at] / _NOISE
    opening = _NOISE * shapes[..., _JAW_OPEN]
    products = tables.products / _NOISE**2
    triangle = np.zeros((len(arkit.NAMES),) * 2, np.int32)
    triangle[_PAIRS] = np.arange(len(_PAIRS[0]))
    triangle = np.maximum(triangle, triangle.T)
    known = _weight_prior(tables.shapes[tables.looked_at])

    def solve(movement):
        wanted = _straightened(points, opening, tables.travel, movement) / _NOISE

        def found(weights):
            return jnp.dot(shapes, weights, precision=_HIGHEST) - wanted

        def cost(weights, scale):
            squared = jnp.sum(found(weights) ** 2, axis=-1)
            return jnp.sum(squared / (1 + squared / scale**2))

        def equations(weights, scale):
            off = found(weights)
            robust = geman_mcclure_weight(jnp.sum(off**2, axis=-1), scale)
            normal = jnp.dot(robust, products, precision=_HIGHEST)[triangle]
            pull = jnp.einsum("nik,ni->k", shapes, robust[:, None] * off, precision=_HIGHEST)
            return cost(weights, scale), normal, pull

        scales = jnp.asarray(_SCALES, jnp.float32)
        weights = search(cost, equations, known.lower, known, scales).parameters
        return weights, _error(tables, displacement(tables.points, movement), weights)

    return jax.vmap(solve)(movements)


def _weight_prior(shapes: Float[Array, "M 3 52"]) -> Prior:
    size = jnp.sqrt(jnp.mean(jnp.sum(shapes**2, axis=1), axis=0))
    none = jnp.zeros(len(arkit.NAMES))
    precision = _PRECISION * jnp.maximum(size, _LEAST)
    return Prior(mean=none + _MEAN, precision=precision, lower=none, upper=none + 1)


def _straightened(
    points: Movable,
    shape: Float[Array, "N 3"],
    travel: Float[Array, ""],
    movement: Movement,
) -> Float[Array, "N 3"]:
    """The displacement of points with their shape jawOpen in place of the jaw's turn about x."""
    energy = jnp.maximum(jnp.sum(shape**2), 1e-30)
    share = jnp.sum(jaw_opened(points, movement.jaw[0]) * shape) / energy
    share = jnp.where(travel > 0, share, 0.0)
    x = jnp.where(travel > 0, 0.0, movement.jaw[0])
    others = movement.replace(jaw=movement.jaw.at[0].set(x))
    return displacement(points, others, apart=True) + share * shape


def _error(
    tables: Tables, moved: Float[Array, "N 3"], weights: Float[Array, "52"]
) -> Float[Array, ""]:
    """Root mean square distance over the face, metres."""
    shaped = jnp.dot(tables.shapes[: tables.face], weights, precision=_HIGHEST)
    off = jnp.sum((moved[: tables.face] - shaped) ** 2, axis=-1)
    return jnp.sqrt(jnp.mean(off))


@jax.jit
def _errors(tables: Tables, faces: tuple[Movement, Float[Array, "B 52"]]) -> tuple[Array]:
    def error(movement, weights):
        return _error(tables, displacement(tables.points, movement), weights)

    return (jax.vmap(error)(*faces),)


def _named(
    head: FlameModel,
    tables: Tables,
    names: list[str | None],
    weights: Float[np.ndarray, "B 52"],
    eyes: Float[np.ndarray, "B 6"],
) -> Movement:
    """The movements of a head whose components are ARKit's shapes."""
    known = head.priors["expression"]
    held = np.asarray(known.lower) == np.asarray(known.upper)
    expression = np.zeros((len(weights), head.expression_basis.shape[-1]), np.float32)
    jaw = np.zeros((len(weights), 3), np.float32)
    eyelid = np.zeros((len(weights), 2), np.float32)
    for component, name in enumerate(names):
        if name is None:
            continue
        weight = weights[:, arkit.NAMES.index(name)]
        if held[component] and name == "jawOpen":
            jaw[:, 0] = weight * np.asarray(tables.travel)
        elif held[component] and name.startswith("eyeBlink"):
            eyelid[:, int(name.endswith("Right"))] = weight
        else:
            expression[:, component] = weight
    return Movement(expression=expression, jaw=jaw, eyelid=eyelid, eyes=eyes)


@jax.jit
def _solve_movement(
    tables: Tables, known: Prior, faces: tuple[Float[Array, "B 52"], Float[Array, "B 6"]]
) -> tuple[Movement, Array]:
    """Movements of a head whose components are its own, and errors in metres [B].

    They are fitted as `arkit_weights` sees them, with the jaw's opening by itself. The derivative
    at rest serves for all: gradients are exact, so that only the number of steps depends on it.
    """
    rows = _some(tables.face, _FACE_POINTS)
    points, shapes = tables.points[rows], tables.shapes[rows]
    start = jnp.clip(known.mean, known.lower, known.upper)

    def movement(x, eyes):
        return Movement(expression=x[_EXPRESSION], jaw=x[_JAW], eyelid=x[_EYELID], eyes=eyes)

    def moved_by(x, eyes):
        return _straightened(points, shapes[..., _JAW_OPEN], tables.travel, movement(x, eyes))

    columns = jax.jacfwd(moved_by)(start, jnp.zeros(6))
    columns = columns.reshape(-1, len(start)) / _NOISE
    normal = jnp.dot(columns.T, columns, precision=_HIGHEST)

    def solve(weights, eyes):
        wanted = jnp.dot(shapes, weights, precision=_HIGHEST)

        def cost(x, scale):
            return jnp.sum(((moved_by(x, eyes) - wanted) / _NOISE) ** 2)

        def equations(x, scale):
            value, slope = jax.value_and_grad(cost)(x, scale)
            return value, normal, slope / 2

        found = search(cost, equations, start, known, jnp.zeros(_INVERSE_STEPS)).parameters
        moved = movement(found, eyes)
        return moved, _error(tables, displacement(tables.points, moved), weights)

    return jax.vmap(solve)(*faces)
