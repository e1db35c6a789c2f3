"""Coefficients, pose and camera of faces from their landmarks.

`fit_landmarks` knows nothing else: pose, camera and jaw of the mean face are searched from several
turns of the head, and the best result is kept; then all unknowns are searched. `refine_landmarks`
starts where a network has seen the face and departs from there only as far as the landmarks ask.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Bool, Float

from fields_jax.fitting import parameters
from fields_jax.fitting.parameters import MOTION, Layout
from fields_jax.fitting.problem import PLACING, REFINING, FitSettings, Problem, thresholds
from fields_jax.fitting.view import (
    COUNTS,
    LandmarkRigs,
    landmark_rigs,
    with_known,
    without_coefficients,
)
from fields_jax.types import FlameCoefficients, FlameModel

SETS = {f"landmarks_{count}": count for count in COUNTS}
_SETTLED = 0.01  # fraction of the cost that the steps of the last round may still gain
_BATCHES = (1, 8, 32)  # faces solved at a time; others are padded to the next


@struct.dataclass
class Observed:
    """Landmarks seen in images; any set may be missing.

    Attributes:
      landmarks_68, landmarks_105, landmarks_203, landmarks_5: [B, N, 2] in [-1, 1] of a square
        crop, x right, y down; points that are not finite count as unseen.
      weights_68, weights_105, weights_203, weights_5: [B, N] 0 for unseen; None stands for 1.
    """

    landmarks_68: Float[Array, "B 68 2"] | None = None
    landmarks_105: Float[Array, "B 105 2"] | None = None
    landmarks_203: Float[Array, "B 203 2"] | None = None
    landmarks_5: Float[Array, "B 5 2"] | None = None
    weights_68: Float[Array, "B 68"] | None = None
    weights_105: Float[Array, "B 105"] | None = None
    weights_203: Float[Array, "B 203"] | None = None
    weights_5: Float[Array, "B 5"] | None = None


@struct.dataclass
class Fit:
    """Fitted faces.

    Attributes:
      coefficients: [B, ...] on the head that was given.
      residual: [B] weighted mean distance of the projected landmarks, as a fraction of the distance
        of the outer eye corners of the fitted head (which does not shrink as the head turns).
      residual_68, residual_105, residual_203, residual_5: [B] the same for each set; NaN if none of
        it was seen.
      converged: [B] the last steps changed the cost by less than one per cent.
      valid: [B] enough points were seen and all points with a weight were finite. With too few
        points the coefficients are the neutral head's and the residual is NaN.
    """

    coefficients: FlameCoefficients
    residual: Float[Array, " B"]
    residual_68: Float[Array, " B"]
    residual_105: Float[Array, " B"]
    residual_203: Float[Array, " B"]
    residual_5: Float[Array, " B"]
    converged: Bool[Array, " B"]
    valid: Bool[Array, " B"]


@struct.dataclass
class Guess:
    """Faces as they are believed to be before any landmark is seen.

    Attributes:
      coefficients: [B, ...]; cameras of the crops that the landmarks are given in.
      deviation: [B, ...] standard deviation of each coefficient; the camera's are those of the
        logarithm of the scale and of the shift (x, y) in image coordinates.
    """

    coefficients: FlameCoefficients
    deviation: FlameCoefficients


@struct.dataclass
class Refinement:
    """Faces fitted from a guess.

    Attributes:
      fit: with their guess where too few points were seen.
      before: [B] the residual that the guess leaves, in the same unit.
    """

    fit: Fit
    before: Float[Array, " B"]


def fit_landmarks(
    head: FlameModel,
    observed: Observed,
    *,
    n_shape: int = 100,
    n_expression: int = 50,
    settings: FitSettings | None = None,
) -> Fit:
    """Fits each face of a batch on its own.

    Args:
      head: any; its priors and bounds hold.
      observed: landmarks; at least one set.
      n_shape, n_expression: components that are fitted.
      settings: of the search.

    Raises:
      ValueError: no set of landmarks, a set of the wrong shape, sets of different batch sizes, or
        more components than the head has.
    """
    layout = Layout(n_expression, n_shape)
    rigs = jax.device_put(landmark_rigs(head, layout))
    solve = partial(_fit_batch, layout=layout, settings=settings or FitSettings())
    return _in_batches(partial(solve, rigs), _collect(observed))


def refine_landmarks(
    head: FlameModel,
    observed: Observed,
    guess: Guess,
    *,
    n_shape: int = 100,
    settings: FitSettings | None = None,
) -> Refinement:
    """Fits each face of a batch from where somebody else, such as a network, has seen it.

    The guess is both the start and, with its deviations, the prior: what landmarks do not say stays
    as guessed. Bounds are the head's.

    Args:
      head: any; the guess has no more components than it.
      observed: landmarks; at least one set. Faces with fewer than `settings.min_points` keep their
        guess, with a NaN residual.
      guess: of every face.
      n_shape: leading shape components that are fitted; the others stay as guessed.
      settings: of the search; `yaws` is not used.

    Raises:
      ValueError: no set of landmarks, or a set of the wrong shape or batch size.
      UserError: more components than the head has.
    """
    start = np.asarray(parameters.pack(guess.coefficients), np.float32)
    deviation = np.asarray(parameters.concatenated(guess.deviation), np.float32)
    points, weights = _collect(observed)
    if len(start) != len(points) or deviation.shape != start.shape:
        raise ValueError(
            f"{len(points)} faces: expected a guess of {len(points)} with a deviation of each "
            f"coefficient, got {list(start.shape)} and {list(deviation.shape)}"
        )
    whole = Layout(guess.coefficients.expression.shape[-1], guess.coefficients.shape.shape[-1])
    rigs = jax.device_put(landmark_rigs(head, whole))
    layout = whole._replace(n_shape=min(n_shape, whole.n_shape))
    solve = partial(_refine_batch, layout=layout, settings=settings or FitSettings(min_points=3))
    return _in_batches(partial(solve, rigs), (points, weights, start, deviation))


def _in_batches(solve: Callable[[tuple], Any], columns: tuple[np.ndarray, ...]) -> Any:
    """Results of all faces, solved as many at a time as programs are compiled for."""
    total, parts = len(columns[0]), []
    for first in range(0, total, _BATCHES[-1]):
        count = min(_BATCHES[-1], total - first)
        size = next(size for size in _BATCHES if size >= count)
        rows = np.arange(first, first + size) % total
        solved = solve(tuple(column[rows] for column in columns))
        parts.append(jax.tree.map(lambda leaf, count=count: leaf[:count], solved))
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *parts)


def _collect(observed: Observed) -> tuple[Float[np.ndarray, "B N 2"], Float[np.ndarray, "B N"]]:
    """All sets as one, missing ones with weight 0, so that one program serves every combination."""
    given = [name for name in SETS if getattr(observed, name) is not None]
    if not given:
        raise ValueError(f"no landmarks to fit: give at least one of {', '.join(SETS)}")
    batch = len(getattr(observed, given[0]))
    if batch == 0:
        raise ValueError("no faces to fit: the landmarks have batch size 0")
    points, weights = [], []
    for name, count in SETS.items():
        place, weight = getattr(observed, name), getattr(observed, f"weights_{count}")
        if place is None:
            place, weight = np.zeros((batch, count, 2)), np.zeros((batch, count))
        weight = np.ones((batch, count)) if weight is None else weight
        place, weight = np.asarray(place, np.float32), np.asarray(weight, np.float32)
        if place.shape != (batch, count, 2) or weight.shape != (batch, count):
            raise ValueError(
                f"{name} of shape {list(place.shape)} with weights {list(weight.shape)}: "
                f"expected [{batch}, {count}, 2] and [{batch}, {count}]"
            )
        points.append(place)
        weights.append(weight)
    return np.concatenate(points, axis=1), np.concatenate(weights, axis=1)


@partial(jax.jit, static_argnames=("layout", "settings"))
def _fit_batch(rigs: LandmarkRigs, columns: tuple, layout: Layout, settings: FitSettings) -> Fit:
    def one(points, weights) -> Fit:
        face, valid = _problem(rigs, points, weights, layout, settings)
        mean_face = face.replace(rigs=without_coefficients(rigs), layout=Layout(0, 0))
        x = jnp.clip(jnp.zeros(layout.size, points.dtype), rigs.prior.lower, rigs.prior.upper)
        return _solved(face, x.at[MOTION].set(mean_face.placed()), x, valid)

    return jax.vmap(one)(*columns)


@partial(jax.jit, static_argnames=("layout", "settings"))
def _refine_batch(
    rigs: LandmarkRigs, columns: tuple, layout: Layout, settings: FitSettings
) -> Refinement:
    def one(points, weights, start, deviation) -> Refinement:
        start = jnp.clip(start, rigs.prior.lower, rigs.prior.upper)
        start, rest = start[: layout.size], start[layout.size :]
        own = with_known(rigs, layout.n_expression + layout.n_shape, rest)
        prior = own.prior.replace(mean=start, precision=deviation[: layout.size] ** -2)
        face, valid = _problem(own.replace(prior=prior), points, weights, layout, settings)
        x, _ = jax.lax.scan(face.moved, start, thresholds(PLACING, settings.place_steps))
        before = jnp.where(face.is_enough(), face.residual_shares(start)[0], jnp.nan)
        fit = _solved(face, x, start, valid)
        shape = jnp.concatenate([fit.coefficients.shape, rest])
        return Refinement(fit.replace(coefficients=fit.coefficients.replace(shape=shape)), before)

    return jax.vmap(one)(*columns)


def _problem(
    rigs: LandmarkRigs, points, weights, layout: Layout, settings: FitSettings
) -> tuple[Problem, Bool[Array, ""]]:
    """The problem without points that cannot be used, and whether there were only usable ones."""
    finite = jnp.all(jnp.isfinite(points), axis=-1) & jnp.isfinite(weights)
    given = ~(weights <= 0)  # true for NaN, so that a faulty weight is noticed
    seen = jnp.where(finite & given, weights, 0.0)
    face = Problem(rigs, jnp.where(finite[:, None], points, 0.0), seen, layout, settings)
    return face, jnp.all(finite | ~given)


def _solved(face: Problem, x, otherwise, valid) -> Fit:
    """The fit that starts at `x`; `otherwise` where too few points were seen."""
    x, history = jax.lax.scan(face.refined, x, thresholds(REFINING, face.settings.steps))
    enough = face.is_enough()
    x = jnp.where(enough, x, otherwise)
    shares = [jnp.where(enough, share, jnp.nan) for share in face.residual_shares(x)]
    settled = history[-1, 0] - history[-1, -1] <= _SETTLED * history[-1, -1]
    found = parameters.unpack(face.layout, x)
    return Fit(found, *shares, converged=settled & enough, valid=enough & valid)
