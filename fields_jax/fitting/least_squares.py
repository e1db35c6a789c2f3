"""Robust nonlinear least squares with a Gaussian prior and bounds: Levenberg-Marquardt.

Minimises over x [P], with r [N, D] the residual points of one example,

    sum_n w_n rho(|r_n(x)|^2; c) + sum_p precision_p (x_p - mean_p)^2,   lower <= x <= upper

where rho(s; c) = s / (1 + s / c^2) is Geman and McClure's: s for small residuals, at most c^2 for
outliers. Each step solves the normal equations with the outliers' weights frozen (iteratively
reweighted least squares); c falls from step to step, which spares the search bad local minima.
Bounds are kept by projection: a parameter on its bound that the gradient pushes outward is left out
of the step. The number of steps is fixed, so that examples can be mapped.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import jax.scipy.linalg
from flax import struct
from jaxtyping import Array, Bool, Float

_HIGHEST = jax.lax.Precision.HIGHEST
# Damping relative to the normal matrix's diagonal (Marquardt's): start, factors, least and most.
# The least keeps the float32 Cholesky factor finite for 200 unknowns.
_DAMPING, _LOWER, _RAISE = 1e-3, 0.2, 8.0
_DAMPING_RANGE = (1e-5, 1e6)

Residuals = Callable[[Float[Array, " P"]], Float[Array, "N D"]]
Equations = Callable[
    [Float[Array, " P"], Float[Array, ""]],
    tuple[Float[Array, ""], Float[Array, "P P"], Float[Array, " P"]],
]
Linearise = Callable[[Float[Array, " P"]], tuple[Float[Array, "N D"], Float[Array, "N D P"]]]


@struct.dataclass
class Prior:
    """What is known of the parameters beforehand.

    Attributes:
      mean: [P].
      precision: [P] 1 / variance; 0 where nothing is known.
      lower, upper: [P] bounds, infinite for unbounded parameters.
    """

    mean: Float[Array, " P"]
    precision: Float[Array, " P"]
    lower: Float[Array, " P"]
    upper: Float[Array, " P"]


@struct.dataclass
class Solution:
    """Where the search ended.

    Attributes:
      parameters: [P].
      cost: [] of the parameters, at the last scale.
      history: [K] cost after each step, each at that step's scale.
    """

    parameters: Float[Array, " P"]
    cost: Float[Array, ""]
    history: Float[Array, " K"]


def minimise(
    residuals: Residuals,
    start: Float[Array, " P"],
    prior: Prior,
    weights: Float[Array, " N"],
    scales: Float[Array, " K"],
    linearise: Linearise | None = None,
) -> Solution:
    """Searches from `start`, one step for each robust scale.

    Args:
      residuals: parameters to [N, D] residual points, in standard deviations of their noise.
      start: it is brought within the bounds.
      prior: of the parameters.
      weights: of the points; 0 leaves a point out.
      scales: c of each step, in the residuals' unit.
      linearise: residuals with their Jacobian; None: by forward differentiation.
    """
    linearise = linearise or partial(_linearise, residuals)

    def data_cost(x, scale):
        return _robust(residuals(x), weights, scale)

    def equations(x, scale):
        found, jacobian = linearise(x)
        return _robust(found, weights, scale), *_equations(found, jacobian, weights, scale)

    return search(data_cost, equations, start, prior, scales)


def search(
    data_cost: Callable[[Float[Array, " P"], Float[Array, ""]], Float[Array, ""]],
    equations: Equations,
    start: Float[Array, " P"],
    prior: Prior,
    scales: Float[Array, " K"],
) -> Solution:
    """`minimise` for problems that set up their normal equations themselves.

    Args:
      data_cost: parameters and scale to the first sum of the cost.
      equations: the same to that sum, half its second derivative (the normal matrix), and half its
        gradient.
      start: it is brought within the bounds.
      prior: of the parameters.
      scales: c of each step.
    """
    start = jnp.clip(start, prior.lower, prior.upper)

    def step(carry, scale):
        x, damping = carry
        before, normal, gradient = equations(x, scale)
        before += _prior_cost(x, prior)
        proposal = x + _direction(normal, gradient, x, prior, damping)
        proposal = jnp.clip(proposal, prior.lower, prior.upper)
        after = data_cost(proposal, scale) + _prior_cost(proposal, prior)
        better = after < before  # False if the step leads to NaN
        x = jnp.where(better, proposal, x)
        damping = jnp.clip(damping * jnp.where(better, _LOWER, _RAISE), *_DAMPING_RANGE)
        return (x, damping), jnp.where(better, after, before)

    first = (start, jnp.asarray(_DAMPING, start.dtype))
    (x, _), history = jax.lax.scan(step, first, scales)
    return Solution(parameters=x, cost=history[-1], history=history)


def geman_mcclure_weight(
    squared: Float[Array, "*N"], scale: Float[Array, ""] | float
) -> Float[Array, "*N"]:
    """Derivative of rho by s at s = `squared`: 1 for small residuals, toward 0 for outliers."""
    return (1 + squared / scale**2) ** -2


def _robust(found, weights, scale) -> Float[Array, ""]:
    squared = jnp.sum(found**2, axis=-1)
    return jnp.sum(weights * squared / (1 + squared / scale**2))


def _prior_cost(x, prior) -> Float[Array, ""]:
    return jnp.sum(prior.precision * (x - prior.mean) ** 2)


def _linearise(residuals: Residuals, x) -> tuple[Float[Array, "N D"], Float[Array, "N D P"]]:
    def twice(x):
        found = residuals(x)
        return found, found

    jacobian, found = jax.jacfwd(twice, has_aux=True)(x)
    return found, jacobian


def _equations(found, jacobian, weights, scale) -> tuple[Float[Array, "P P"], Float[Array, " P"]]:
    """Normal matrix and gradient of the data, with the outliers' weights frozen."""
    robust = weights * geman_mcclure_weight(jnp.sum(found**2, axis=-1), scale)
    flat = jacobian.reshape(-1, jacobian.shape[-1])
    each = jnp.repeat(robust, found.shape[1])
    normal = jnp.dot(flat.T * each[None], flat, precision=_HIGHEST)
    return normal, jnp.dot(flat.T, each * found.ravel(), precision=_HIGHEST)


def _direction(normal, gradient, x, prior, damping) -> Float[Array, " P"]:
    """The damped Gauss-Newton step over the parameters that are free to move."""
    normal = normal + jnp.diag(prior.precision)
    gradient = gradient + prior.precision * (x - prior.mean)
    free = _free(x, gradient, prior)
    # Scaled to a unit diagonal, which float32 needs: radians weigh 1e6 times as much as some shape.
    scaling = jnp.where(free, jax.lax.rsqrt(jnp.maximum(jnp.diag(normal), 1e-12)), 0.0)
    scaled = normal * scaling[:, None] * scaling[None]
    scaled = scaled + jnp.diag(jnp.where(free, damping, 1.0))
    factor = jax.scipy.linalg.cho_factor(scaled, lower=True)
    return -scaling * jax.scipy.linalg.cho_solve(factor, scaling * gradient)


def _free(x, gradient, prior) -> Bool[Array, " P"]:
    held = ((x <= prior.lower) & (gradient > 0)) | ((x >= prior.upper) & (gradient < 0))
    return ~held
