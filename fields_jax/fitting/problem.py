"""One face's landmark problem: its unknowns, its residuals, and the rounds of the search.

A search goes in rounds, with an outlier threshold that falls from loose to tight; each round renews
the contour, the visibility and the unit of length.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Bool, Float

from fields_jax.fitting.least_squares import minimise
from fields_jax.fitting.parameters import PLACE, POSE, Layout
from fields_jax.fitting.view import (
    COUNTS,
    LandmarkRigs,
    View,
    eye_distance,
    projected,
    projected_with_jacobian,
    view,
)

# First and last outlier threshold of each round, in units of the settings' final one. Placing uses
# loose ones, because the mean face differs much from any real face.
PLACING = ((40.0, 8.0), (8.0, 8.0))
REFINING = ((8.0, 2.0), (2.0, 1.0), (1.0, 1.0))


@dataclasses.dataclass(frozen=True)
class FitSettings:
    """How to search; all values are ours.

    Attributes:
      noise_mm: standard deviation of a landmark, in mm on the face. It weighs landmarks against
        the priors of the coefficients.
      gap_noise_mm: the same for the gap between two points on opposite lids or lips. Detectors
        shift both alike, so gaps are surer than places, and they tell a shut eye from a narrow one.
      outlier: residuals beyond about this many standard deviations cease to count.
      yaws: starting turns of the head, degrees, at the roll and scale that suit the points best.
      place_steps, steps: of each round.
      min_points: fewer seen points than this are not fitted.
    """

    noise_mm: float = 1.5
    gap_noise_mm: float = 0.75
    outlier: float = 5.0
    yaws: tuple[float, ...] = (-70.0, -35.0, 0.0, 35.0, 70.0)
    place_steps: int = 6
    steps: int = 7
    min_points: int = 12


def thresholds(rounds: tuple[tuple[float, float], ...], steps: int) -> Float[np.ndarray, "R K"]:
    """[R, K] outlier threshold of each step of each round."""
    return np.stack([np.geomspace(*ends, steps, dtype=np.float32) for ends in rounds])


@struct.dataclass
class Problem:
    """The landmarks of one face and what may explain them."""

    rigs: LandmarkRigs
    points: Float[Array, "381 2"]
    weights: Float[Array, "381"]
    layout: Layout = struct.field(pytree_node=False)
    settings: FitSettings = struct.field(pytree_node=False)

    def is_enough(self) -> Bool[Array, ""]:
        """Whether enough points are seen for a fit."""
        return jnp.sum(self.weights > 0) >= self.settings.min_points

    def placed(self) -> Float[Array, " P"]:
        """Pose, camera and jaw, the best of several starts."""

        def search(yaw):
            scales = thresholds(PLACING, self.settings.place_steps)
            x, _ = jax.lax.scan(self.moved, self.start(yaw), scales)
            return x, self.residual_shares(x)[0]

        yaws = jnp.deg2rad(jnp.asarray(self.settings.yaws, self.points.dtype))
        found, errors = jax.vmap(search)(yaws)
        return found[jnp.argmin(errors)]

    def start(self, yaw: Float[Array, ""]) -> Float[Array, " P"]:
        """The mean face at some yaw, turned in the image, scaled and shifted to the points.

        The similarity between two plane point sets that fits best in least squares, in closed form.
        """
        x = jnp.zeros(self.layout.size, self.points.dtype).at[1].set(yaw)
        seen = view(self.rigs, x[POSE])
        weight = self.weights * seen.visibility
        weight = (weight / jnp.maximum(jnp.sum(weight), 1e-12))[:, None]
        flat = projected(seen, x)
        centre = jnp.sum(weight * self.points, axis=0)
        a, b = flat - jnp.sum(weight * flat, axis=0)[None], self.points - centre[None]
        power = jnp.maximum(jnp.sum(weight * a * a), 1e-12)
        cosine = jnp.sum(weight * a * b) / power
        sine = jnp.sum(weight[:, 0] * (a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0])) / power
        scale = jnp.maximum(jnp.hypot(cosine, sine), 1e-6)
        roll = -jnp.arctan2(sine, cosine)  # the image's y points down
        x = x.at[POSE].set(_yaw_then_roll(yaw, roll)).at[3].set(jnp.log(scale))
        gap = centre - jnp.sum(weight * projected(seen, x), axis=0)
        return x.at[4:6].set(gap * jnp.array([1, -1], x.dtype))

    def moved(self, x: Float[Array, " P"], scales: Float[Array, " K"]) -> tuple[Array, None]:
        """A round of pose, camera and jaw alone."""
        seen, weights, unit = self.round(x)
        prior = jax.tree.map(lambda leaf: leaf[PLACE], self.rigs.prior)

        def residuals(place):
            return (projected(seen, x.at[PLACE].set(place)) - self.points) / unit

        scales = self.settings.outlier * scales
        solution = minimise(residuals, x[PLACE], prior, weights, scales)
        return x.at[PLACE].set(solution.parameters), None

    def refined(self, x: Float[Array, " P"], scales: Float[Array, " K"]) -> tuple[Array, Array]:
        """A round of all unknowns, and its costs."""
        seen, weights, unit = self.round(x)
        ratio = self.settings.noise_mm / self.settings.gap_noise_mm
        upper, lower = self.rigs.pairs.T

        def with_gaps(values):
            return jnp.concatenate([values, ratio * (values[upper] - values[lower])])

        def residuals(x):
            return with_gaps(projected(seen, x) - self.points) / unit

        def linearise(x):
            found, jacobian = projected_with_jacobian(seen, x)
            return with_gaps(found - self.points) / unit, with_gaps(jacobian) / unit

        weights = jnp.concatenate([weights, jnp.minimum(weights[upper], weights[lower])])

        scales = self.settings.outlier * scales
        solution = minimise(residuals, x, self.rigs.prior, weights, scales, linearise)
        return solution.parameters, solution.history

    def round(self, x: Float[Array, " P"]) -> tuple[View, Float[Array, "381"], Float[Array, ""]]:
        """What stays fixed in a round: the view, the weights, a landmark's noise in the image."""
        seen = view(self.rigs, x[POSE])
        unit = jnp.exp(x[3]) * self.settings.noise_mm * 1e-3
        return seen, self.weights * seen.visibility, unit

    def residual_shares(self, x: Float[Array, " P"]) -> list[Float[Array, ""]]:
        """Weighted mean distance of all points and of each set, in inter-ocular distances."""
        seen = view(self.rigs, x[POSE])
        distance = jnp.linalg.norm(projected(seen, x) - self.points, axis=-1)
        weights = self.weights * seen.visibility
        first = np.cumsum(COUNTS)[:-1]
        sums = [
            (jnp.sum(own * far), jnp.sum(own))
            for own, far in zip(jnp.split(weights, first), jnp.split(distance, first), strict=True)
        ]
        sums = [(jnp.sum(weights * distance), jnp.sum(weights)), *sums]
        eyes = eye_distance(seen, x)
        return [jnp.where(count > 0, total / count / eyes, jnp.nan) for total, count in sums]


def _yaw_then_roll(yaw: Float[Array, ""], roll: Float[Array, ""]) -> Float[Array, "3"]:
    """Axis-angle of a turn about y followed by one about z, by the product of quaternions."""
    cy, sy, cr, sr = jnp.cos(yaw / 2), jnp.sin(yaw / 2), jnp.cos(roll / 2), jnp.sin(roll / 2)
    real, imaginary = cr * cy, jnp.stack([-sr * sy, cr * sy, sr * cy])
    length = jnp.linalg.norm(imaginary)
    angle = 2 * jnp.arctan2(length, real)
    return imaginary * jnp.where(length > 1e-6, angle / jnp.maximum(length, 1e-6), 2.0)
