"""The unknowns of a face as one vector, with their priors and bounds."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from fields_jax.fitting.least_squares import Prior
from fields_jax.types import FlameCoefficients, FlameModel

# The order of the unknowns: those that place the face come first, so that they can be searched
# alone. The camera is (log s, s tx, s ty): scale stays positive, and the shift is in the image.
POSE, CAMERA, JAW, EYELID = slice(0, 3), slice(3, 6), slice(6, 9), slice(9, 11)
PLACE = slice(0, 7)  # pose, camera and the jaw's opening
MOTION = slice(0, 11)  # all but the coefficients of expression and shape, which follow
COEFFICIENTS = slice(11, None)
_SMALLEST_SCALE = 1e-3  # a head of a thousandth of the picture: networks may read none at all


class Layout(NamedTuple):
    """How many expression and shape components are fitted."""

    n_expression: int
    n_shape: int

    @property
    def size(self) -> int:
        return COEFFICIENTS.start + self.n_expression + self.n_shape


def unpack(layout: Layout, x: Float[Array, "*B P"]) -> FlameCoefficients:
    """The coefficients of vectors of unknowns."""
    scale = jnp.exp(x[..., 3:4])
    expression, shape = jnp.split(x[..., COEFFICIENTS], [layout.n_expression], axis=-1)
    return FlameCoefficients(
        shape=shape,
        expression=expression,
        jaw=x[..., JAW],
        eyelid=x[..., EYELID],
        pose=x[..., POSE],
        camera=jnp.concatenate([scale, x[..., 4:6] / scale], axis=-1),
    )


def concatenated(values: FlameCoefficients) -> Float[Array, "*B P"]:
    """Values of each coefficient, in the order of the unknowns."""
    names = ("pose", "camera", "jaw", "eyelid", "expression", "shape")
    return jnp.concatenate([jnp.asarray(getattr(values, name)) for name in names], axis=-1)


def pack(coefficients: FlameCoefficients) -> Float[Array, "*B P"]:
    """The vectors of unknowns that coefficients stand for; the inverse of `unpack`."""
    scale = jnp.maximum(coefficients.camera[..., :1], _SMALLEST_SCALE)
    camera = [jnp.log(scale), scale * coefficients.camera[..., 1:]]
    return concatenated(coefficients.replace(camera=jnp.concatenate(camera, axis=-1)))


def with_jacobian(
    points_of: Callable[[Float[Array, " P"]], Float[Array, "N D"]],
    x: Float[Array, " P"],
    basis: Float[Array, "N D K"],
) -> tuple[Float[Array, "N D"], Float[Array, "N D P"]]:
    """Points and their derivative: by `MOTION` in forward mode, by the coefficients as given.

    Args:
      points_of: the points as a function of the unknowns.
      x: the unknowns.
      basis: the derivative by the coefficients, in closed form.
    """

    def by_motion(motion):
        points = points_of(x.at[MOTION].set(motion))
        return points, points

    motion, points = jax.jacfwd(by_motion, has_aux=True)(x[MOTION])
    return points, jnp.concatenate([motion, basis], axis=-1)


def prior(head: FlameModel, layout: Layout, dtype: DTypeLike) -> Prior:
    """The head's priors of its coefficients; nothing known of pose and camera."""
    mean, precision = np.zeros(layout.size), np.zeros(layout.size)
    lower = np.full(layout.size, -np.inf)
    upper = -lower
    first = COEFFICIENTS.start + layout.n_expression
    places = {
        "jaw": JAW,
        "eyelid": EYELID,
        "expression": slice(COEFFICIENTS.start, first),
        "shape": slice(first, layout.size),
    }
    for name, place in places.items():
        known = {
            key: np.asarray(values)[: place.stop - place.start]
            for key, values in vars(head.priors[name]).items()
        }
        mean[place], lower[place], upper[place] = known["mean"], known["lower"], known["upper"]
        precision[place] = _as_written(known["deviation"]) ** -2
    return Prior(*(jnp.asarray(array, dtype) for array in (mean, precision, lower, upper)))


def _as_written(values: Float[np.ndarray, " K"]) -> Float[np.ndarray, " K"]:
    """Float32 numbers as the shortest decimals that they stand for: 0.03, not 0.0299999993."""
    return np.array([float(str(value)) for value in values])
