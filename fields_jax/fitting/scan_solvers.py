"""The searches of a scan fit, compiled: a start from landmarks, one frame, a shared identity."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from fields_jax.fitting.correspondence import Cloud, Matches, match
from fields_jax.fitting.least_squares import Prior, minimise
from fields_jax.fitting.parameters import COEFFICIENTS, JAW
from fields_jax.fitting.rig import Rig
from fields_jax.fitting.scan_types import Noise
from fields_jax.fitting.surface import (
    LANDMARKS,
    Surface,
    posed,
    posed_with_jacobian,
    with_shape,
)

_HIGHEST = jax.lax.Precision.HIGHEST


class Observed(NamedTuple):
    """What was measured of one frame, or of T frames with a leading axis.

    Attributes:
      cloud: the scan.
      near: [N, 2] nearest vertices of its points.
      landmarks: [L, 3] metres; those that are not finite do not count.
    """

    cloud: Cloud
    near: Int[Array, "*T N 2"]
    landmarks: Float[Array, "*T L 3"]


class Round(NamedTuple):
    """The steps after one matching.

    Attributes:
      reach: metres, see `match`.
      scales: [K] outlier threshold of each step, in standard deviations of a point.
    """

    reach: Float[Array, ""]
    scales: Float[Array, " K"]


@partial(jax.jit, static_argnames="noise")
def solve_frame(
    surface: Surface,
    observed: Observed,
    start: Float[Array, " P"],
    prior: Prior,
    steps: Round,
    noise: Noise,
) -> tuple[Float[Array, " P"], Float[Array, "V 3"]]:
    """All unknowns of one frame after one matching; also the posed rig.

    Args:
      surface: of the identity.
      observed: of the frame.
      start: of the unknowns.
      prior: of the same.
      steps: how to search.
      noise: of points and landmarks.
    """
    rig = surface.rig
    start = jnp.clip(start, prior.lower, prior.upper)
    matches = match(surface, posed(rig, start), observed.cloud, observed.near, steps.reach)
    landmarks, weight = _present(observed.landmarks)

    def residuals(x):
        return _rows(posed(rig, x), matches, landmarks, noise)

    def linearise(x):
        points, jacobian = posed_with_jacobian(rig, x)
        return _rows(points, matches, landmarks, noise), _slopes(jacobian, matches, noise)

    weights = jnp.concatenate([matches.weight, weight])
    x = minimise(residuals, start, prior, weights, steps.scales, linearise).parameters
    return x, posed(rig, x)


@partial(jax.jit, static_argnames=("noise", "n_expression"))
def solve_landmarks(
    rig: Rig,
    landmarks: Float[Array, "L 3"],
    start: Float[Array, " P"],
    prior: Prior,
    scales: Float[Array, " K"],
    noise: Noise,
    n_expression: int,
) -> tuple[Float[Array, " P"], Float[Array, "V 3"], Float[Array, "L 3"]]:
    """All unknowns of one frame from its landmarks alone.

    Also the posed rig, and the landmarks of the same head without expression or opened jaw.
    """
    rows = {name: value[-LANDMARKS:] for name, value in vars(rig).items() if "joint" not in name}
    own = rig.replace(**rows)
    seen, weight = _present(landmarks)

    def whitened(values):
        return (values / (1e-3 * noise.landmark)).reshape(3 * LANDMARKS, 1, *values.shape[2:])

    def linearise(x):
        points, jacobian = posed_with_jacobian(own, x)
        return whitened(points - seen), whitened(jacobian)

    solution = minimise(
        lambda x: whitened(posed(own, x) - seen), start, prior, weight, scales, linearise
    )
    x = solution.parameters
    moving = jnp.arange(JAW.start, COEFFICIENTS.start + n_expression)
    return x, posed(rig, x), posed(own, x.at[moving].set(0))


@partial(jax.jit, static_argnames="noise")
def solve_identity(
    surface: Surface,
    observed: Observed,
    start: tuple[Float[Array, " S"], Float[Array, "T M"]],
    prior: tuple[Prior, Prior],
    steps: Round,
    noise: Noise,
) -> tuple[Float[Array, " S"], Float[Array, "T M"], Float[Array, "T V 3"]]:
    """One shape and every frame's other unknowns, jointly, after one matching.

    Args:
      surface: with a rig of all components.
      observed: of all frames, each leaf with a leading axis [T, ...].
      start: the shape and the frames' motion and expression.
      prior: of the same two.
      steps: how to search.
      noise: of points and landmarks.

    Returns:
      Shape, the frames' other unknowns and posed rigs.
    """
    landmarks, weight = _present(observed.landmarks)
    shape, frames = start
    count, size = frames.shape

    def apart(x):
        return x[: shape.size], x[shape.size :].reshape(count, size)

    def posed_frames(x):
        identity, moving = apart(x)
        fixed = with_shape(surface.rig, identity)
        return jax.vmap(lambda y: posed(fixed, y))(moving)

    x = jnp.concatenate([shape, frames.ravel()])
    points = posed_frames(x)
    matches = jax.vmap(lambda *of: match(surface, *of, steps.reach))(
        points, observed.cloud, observed.near
    )

    def rows(points):
        return jax.vmap(partial(_rows, noise=noise))(points, matches, landmarks).reshape(-1, 1)

    def linearise(x):
        identity, moving = apart(x)
        full = jnp.concatenate([moving, jnp.tile(identity, (count, 1))], axis=1)
        points, jacobian = jax.vmap(partial(posed_with_jacobian, surface.rig))(full)
        slopes = jax.vmap(partial(_slopes, noise=noise))(jacobian, matches)[:, :, 0]
        blocks = slopes[:, :, None, :size] * jnp.eye(count, dtype=x.dtype)[:, None, :, None]
        blocks = blocks.reshape(*slopes.shape[:2], -1)
        whole = jnp.concatenate([slopes[..., size:], blocks], axis=-1)
        return rows(points), whole.reshape(-1, 1, x.size)

    joint = jax.tree.map(lambda one, each: jnp.concatenate([one, jnp.tile(each, count)]), *prior)
    weights = jnp.concatenate([matches.weight, weight], axis=1).ravel()
    solution = minimise(
        lambda x: rows(posed_frames(x)), x, joint, weights, steps.scales, linearise
    ).parameters
    return *apart(solution), posed_frames(solution)


def split_prior(prior: Prior, n_expression: int) -> tuple[Prior, Prior]:
    """Priors of the shape and of a frame's other unknowns."""
    first = COEFFICIENTS.start + n_expression
    return (
        jax.tree.map(lambda leaf: leaf[first:], prior),
        jax.tree.map(lambda leaf: leaf[:first], prior),
    )


def _rows(
    points: Float[Array, "V 3"], matches: Matches, landmarks: Float[Array, "L 3"], noise: Noise
) -> Float[Array, "M 1"]:
    """Distances in standard deviations: of scan points to the surface's plane, then of landmarks.

    Along the plane a closest point does not tell where the scan point belongs.
    """
    at = jnp.einsum("nc,ncd->nd", matches.barycentric, points[matches.corners], precision=_HIGHEST)
    across = jnp.sum((at - matches.target) * matches.normal, axis=-1) / (1e-3 * noise.point)
    off = (points[-LANDMARKS:] - landmarks) / (1e-3 * noise.landmark)
    return jnp.concatenate([across, off.ravel()])[:, None]


def _slopes(
    jacobian: Float[Array, "V 3 P"], matches: Matches, noise: Noise
) -> Float[Array, "M 1 P"]:
    """Derivative of `_rows` from that of the posed rig."""
    share = matches.barycentric[..., None] * matches.normal[:, None]  # [N, 3 corners, 3]
    across = jnp.einsum("nci,ncip->np", share, jacobian[matches.corners], precision=_HIGHEST) / (
        1e-3 * noise.point
    )
    off = jacobian[-LANDMARKS:].reshape(3 * LANDMARKS, -1) / (1e-3 * noise.landmark)
    return jnp.concatenate([across, off])[:, None]


def _present(landmarks: Float[Array, "*T L 3"]) -> tuple[Array, Array]:
    """Landmarks with zeros for the missing ones, and the weights [*T, 3 L] of their rows."""
    finite = jnp.all(jnp.isfinite(landmarks), axis=-1)
    weight = jnp.repeat(finite.astype(landmarks.dtype), 3, axis=-1)
    return jnp.where(finite[..., None], landmarks, 0.0), weight
