"""The searches of a scan fit, compiled: a start from landmarks, one frame, a shared identity."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from fields_jax.fitting.least_squares import Prior, minimise
from fields_jax.fitting.parameters import COEFFICIENTS
from fields_jax.fitting.rig import Rig
from fields_jax.fitting.surface import (
    LANDMARKS,
    Matches,
    Noise,
    distances,
    posed,
    posed_with_jacobian,
    slopes,
    with_shape,
)


@partial(jax.jit, static_argnames="noise")
def solve_frame(
    rig: Rig,
    matches: Matches,
    landmarks: Float[Array, "L 3"],
    start: Float[Array, " P"],
    prior: Prior,
    scales: Float[Array, " K"],
    noise: Noise,
) -> Float[Array, " P"]:
    """All unknowns of one frame, for fixed matches; landmarks that are not finite do not count."""
    landmarks, weight = _present(landmarks)

    def residuals(x):
        return distances(posed(rig, x), matches, landmarks, noise)

    def linearise(x):
        points, jacobian = posed_with_jacobian(rig, x)
        return distances(points, matches, landmarks, noise), slopes(jacobian, matches, noise)

    weights = jnp.concatenate([matches.weight, weight])
    start = jnp.clip(start, prior.lower, prior.upper)
    return minimise(residuals, start, prior, weights, scales, linearise).parameters


@partial(jax.jit, static_argnames="noise")
def solve_landmarks(
    rig: Rig,
    landmarks: Float[Array, "T L 3"],
    start: Float[Array, "T P"],
    prior: Prior,
    scales: Float[Array, " K"],
    noise: Noise,
) -> Float[Array, "T P"]:
    """All unknowns of each frame from landmarks alone."""
    rows = {name: value[-LANDMARKS:] for name, value in vars(rig).items() if "joint" not in name}
    own = rig.replace(**rows)
    none = Matches(*(jnp.zeros((0, 3), kind) for kind in (int, float, float, float)), jnp.zeros(0))
    return jax.vmap(lambda seen, x: solve_frame(own, none, seen, x, prior, scales, noise))(
        landmarks, start
    )


@partial(jax.jit, static_argnames="noise")
def solve_identity(
    rig: Rig,
    matches: Matches,
    landmarks: Float[Array, "T L 3"],
    start: tuple[Float[Array, " S"], Float[Array, "T M"]],
    prior: tuple[Prior, Prior],
    scales: Float[Array, " K"],
    noise: Noise,
) -> tuple[Float[Array, " S"], Float[Array, "T M"]]:
    """One shape and every frame's other unknowns, jointly.

    Args:
      rig: of all components.
      matches: of all frames, each leaf with a leading axis [T, ...].
      landmarks: metres, not finite where missing.
      start: the shape and the frames' motion and expression.
      prior: of the same two.
      scales: c of each step.
      noise: of points and landmarks.
    """
    landmarks, weight = _present(landmarks)
    shape, frames = start
    count, size = frames.shape

    def apart(x):
        return x[: shape.size], x[shape.size :].reshape(count, size)

    def residuals(x):
        identity, moving = apart(x)
        fixed = with_shape(rig, identity)
        found = jax.vmap(lambda own, seen, y: distances(posed(fixed, y), own, seen, noise))(
            matches, landmarks, moving
        )
        return found.reshape(-1, 3)

    def linearise(x):
        identity, moving = apart(x)
        full = jnp.concatenate([moving, jnp.tile(identity, (count, 1))], axis=1)

        def one(own, seen, y):
            points, jacobian = posed_with_jacobian(rig, y)
            return distances(points, own, seen, noise), slopes(jacobian, own, noise)

        found, jacobian = jax.vmap(one)(matches, landmarks, full)
        frame_blocks = jnp.einsum("tnip,tu->tniup", jacobian[..., :size], jnp.eye(count))
        frame_blocks = frame_blocks.reshape(*jacobian.shape[:3], -1)
        whole = jnp.concatenate([jacobian[..., size:], frame_blocks], axis=-1)
        return found.reshape(-1, 3), whole.reshape(-1, 3, x.size)

    joint = jax.tree.map(lambda one, each: jnp.concatenate([one, jnp.tile(each, count)]), *prior)
    weights = jnp.concatenate([matches.weight, weight], axis=1).ravel()
    x = jnp.concatenate([shape, frames.ravel()])
    return apart(minimise(residuals, x, joint, weights, scales, linearise).parameters)


def split_prior(prior: Prior, n_expression: int) -> tuple[Prior, Prior]:
    """Priors of the shape and of a frame's other unknowns."""
    first = COEFFICIENTS.start + n_expression
    return (
        jax.tree.map(lambda leaf: leaf[first:], prior),
        jax.tree.map(lambda leaf: leaf[:first], prior),
    )


def _present(landmarks: Float[Array, "*T L 3"]) -> tuple[Array, Array]:
    """Landmarks with zeros for the missing ones, and their weights."""
    finite = jnp.all(jnp.isfinite(landmarks), axis=-1)
    return jnp.where(finite[..., None], landmarks, 0.0), finite.astype(landmarks.dtype)
