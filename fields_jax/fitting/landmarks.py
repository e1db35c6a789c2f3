"""Coefficients, pose and camera of faces from their landmarks.

First pose, camera and jaw of the mean face are searched from several turns of the head, and the
best result is kept; then all unknowns are searched, with an outlier threshold that falls from loose
to tight. Both searches go in rounds; each renews the contour, the visibility and the unit of
length.
"""

from __future__ import annotations

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Bool, Float

from fields_jax.fitting import parameters
from fields_jax.fitting.least_squares import minimise
from fields_jax.fitting.parameters import MOTION, PLACE, POSE, Layout
from fields_jax.fitting.view import (
    COUNTS,
    LandmarkRigs,
    View,
    eye_distance,
    landmark_rigs,
    projected,
    projected_with_jacobian,
    view,
    without_coefficients,
)
from fields_jax.types import FlameCoefficients, FlameModel

SETS = {f"landmarks_{count}": count for count in COUNTS}
# First and last outlier threshold of each round, in units of the settings' final one. Placing uses
# loose ones, because the mean face differs much from any real face.
_PLACING = ((40.0, 8.0), (8.0, 8.0))
_REFINING = ((8.0, 2.0), (2.0, 1.0), (1.0, 1.0))
_SETTLED = 0.01  # fraction of the cost that the steps of the last round may still gain
_BATCHES = (1, 8, 32)  # faces solved at a time; others are padded to the next


@struct.dataclass
class Observed:
    """Landmarks seen in images; any set may be missing.

    Attributes:
      landmarks_68, landmarks_105, landmarks_203: [B, N, 2] in [-1, 1] of a square crop, x right,
        y down; points that are not finite count as unseen.
      weights_68, weights_105, weights_203: [B, N] 0 for unseen; None stands for 1.
    """

    landmarks_68: Float[Array, "B 68 2"] | None = None
    landmarks_105: Float[Array, "B 105 2"] | None = None
    landmarks_203: Float[Array, "B 203 2"] | None = None
    weights_68: Float[Array, "B 68"] | None = None
    weights_105: Float[Array, "B 105"] | None = None
    weights_203: Float[Array, "B 203"] | None = None


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


@struct.dataclass
class Fit:
    """Fitted faces.

    Attributes:
      coefficients: [B, ...] on the head that was given.
      residual: [B] weighted mean distance of the projected landmarks, as a fraction of the distance
        of the outer eye corners of the fitted head (which does not shrink as the head turns).
      residual_68, residual_105, residual_203: [B] the same for each set; NaN if none was seen.
      converged: [B] the last steps changed the cost by less than one per cent.
      valid: [B] enough points were seen and all points with a weight were finite. With too few
        points the coefficients are the neutral head's and the residual is NaN.
    """

    coefficients: FlameCoefficients
    residual: Float[Array, " B"]
    residual_68: Float[Array, " B"]
    residual_105: Float[Array, " B"]
    residual_203: Float[Array, " B"]
    converged: Bool[Array, " B"]
    valid: Bool[Array, " B"]


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
    settings = settings or FitSettings()
    layout = Layout(n_expression, n_shape)
    points, weights = _collect(observed)
    rigs = jax.device_put(landmark_rigs(head, layout))
    parts = []
    for first in range(0, len(points), _BATCHES[-1]):
        chunk = slice(first, first + _BATCHES[-1])
        count = len(points[chunk])
        size = next(size for size in _BATCHES if size >= count)
        rows = np.arange(first, first + size) % len(points)
        solved = _fit_batch(rigs, points[rows], weights[rows], layout, settings)
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
def _fit_batch(rigs: LandmarkRigs, points, weights, layout: Layout, settings: FitSettings) -> Fit:
    return jax.vmap(lambda p, w: _fit_one(rigs, p, w, layout, settings))(points, weights)


def _fit_one(rigs: LandmarkRigs, points, weights, layout: Layout, settings: FitSettings) -> Fit:
    finite = jnp.all(jnp.isfinite(points), axis=-1) & jnp.isfinite(weights)
    given = ~(weights <= 0)  # true for NaN, so that a faulty weight is noticed
    seen = jnp.where(finite & given, weights, 0.0)
    enough = jnp.sum(seen > 0) >= settings.min_points
    face = _Face(rigs, jnp.where(finite[:, None], points, 0.0), seen, layout, settings)

    mean_face = face.replace(rigs=without_coefficients(rigs), layout=Layout(0, 0))
    x = jnp.zeros(layout.size, points.dtype).at[MOTION].set(mean_face.placed())
    x, history = jax.lax.scan(face.refined, x, _scales(_REFINING, settings.steps))
    x = jnp.where(enough, x, jnp.zeros_like(x))
    shares = [jnp.where(enough, share, jnp.nan) for share in face.residual_shares(x)]
    settled = history[-1, 0] - history[-1, -1] <= _SETTLED * history[-1, -1]
    return Fit(
        parameters.unpack(layout, x),
        *shares,
        converged=settled & enough,
        valid=enough & jnp.all(finite | ~given),
    )


def _scales(rounds: tuple[tuple[float, float], ...], steps: int) -> Float[np.ndarray, "R K"]:
    return np.stack([np.geomspace(*ends, steps, dtype=np.float32) for ends in rounds])


@struct.dataclass
class _Face:
    """One face's problem."""

    rigs: LandmarkRigs
    points: Float[Array, "376 2"]
    weights: Float[Array, "376"]
    layout: Layout = struct.field(pytree_node=False)
    settings: FitSettings = struct.field(pytree_node=False)

    def placed(self) -> Float[Array, " P"]:
        """Pose, camera and jaw, the best of several starts."""

        def search(yaw):
            scales = _scales(_PLACING, self.settings.place_steps)
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

    def round(self, x: Float[Array, " P"]) -> tuple[View, Float[Array, "376"], Float[Array, ""]]:
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
