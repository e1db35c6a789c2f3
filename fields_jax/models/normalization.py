"""Batch normalisation, with instance modulation and ReLU in the same passes over memory.

Normalisation is bound by memory. Everything here is one affine map per channel, or per channel and
image, whose coefficients come from means of the input and of its square: a forward pass reads the
input twice, a backward pass reads input and gradient twice, and of all values with the size of an
image only the input is kept, in its own dtype. Statistics and arithmetic are float32 or better.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax
from jaxtyping import Array, Float

from fields_jax.models.cpu_forms import apart, sums
from fields_jax.models.layers import at_least_float32
from fields_jax.platforms import per_platform


class Affine(NamedTuple):
    """What is learned about a normalisation.

    Attributes:
      scale, bias: [C] of batch normalisation.
      gamma, beta: [B, C] of the modulation after it, or None: the batch-normalised image is
        normalised again, each channel of each image by itself, then times `1 + gamma`, plus `beta`.
    """

    scale: Array
    bias: Array
    gamma: Array | None = None
    beta: Array | None = None


class Moments(NamedTuple):
    """Means of values and of their squares, [1, C] over a batch or [B, C] over each image."""

    first: Array
    second: Array

    @property
    def variance(self) -> Array:
        """Never negative, whatever the rounding."""
        return jnp.maximum(0, self.second - self.first**2)


class Rules(NamedTuple):
    """What is fixed when a normalisation is traced.

    Attributes:
      epsilon: added to variances.
      relu: set negative results to 0.
      axis_name: mapped axis over which batch statistics are taken, or None.
      dtype: of the result; None: the input's.
    """

    epsilon: float = 1e-5
    relu: bool = False
    axis_name: str | None = None
    dtype: Any = None


class BatchNorm(nn.Module):
    """Batch normalisation over all axes but the last, with flax's names of variables.

    Attributes:
      use_running_average: take the running statistics and leave them as they are.
      momentum: share of the past that running statistics keep.
      epsilon: added to variances.
      dtype: of the result; None: the input's.
      axis_name: mapped axis over which training takes its statistics, or None.
    """

    use_running_average: bool
    momentum: float = 0.9
    epsilon: float = 1e-5
    dtype: Any = None
    axis_name: str | None = None

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "B *N C"],
        modulation: tuple[Float[Array, "B C"], Float[Array, "B C"]] | None = None,
        *,
        relu: bool = False,
    ) -> Float[Array, "B *N C"]:
        """Normalises, modulates if gamma and beta are given (see `Affine`), and rectifies."""
        kind = x.shape[-1:], jnp.float32
        mean = self.variable("batch_stats", "mean", jnp.zeros, *kind)
        variance = self.variable("batch_stats", "var", jnp.ones, *kind)
        scale = self.param("scale", nn.initializers.ones, *kind)
        bias = self.param("bias", nn.initializers.zeros, *kind)
        axis_name = None if self.is_initializing() else self.axis_name
        rules = Rules(self.epsilon, relu, axis_name, self.dtype)
        affine = Affine(scale, bias, *modulation or (None, None))
        if self.use_running_average:
            return apply_batch_norm(x, affine, (mean.value, variance.value), rules)
        y, statistics = batch_norm(x, affine, rules)
        if not self.is_initializing():
            for running, value in zip((mean, variance), statistics, strict=True):
                running.value = self.momentum * running.value + (1 - self.momentum) * value
        return y


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def batch_norm(
    x: Float[Array, "B *N C"], affine: Affine, rules: Rules
) -> tuple[Float[Array, "B *N C"], tuple[Float[Array, " C"], Float[Array, " C"]]]:
    """Normalises by the statistics of the batch.

    Returns:
      The result, and the batch's mean and (biased) variance, which carry no gradient.
    """
    return _batch_norm_forward(x, affine, rules)[0]


def _batch_norm_forward(x: Array, affine: Affine, rules: Rules) -> tuple:
    of_images = None if affine.gamma is None else _moments(x, _inner_axes(x))
    local = _moments(x, _all_axes(x)) if of_images is None else _mean_of_images(of_images)
    of_batch = _over_devices(local, rules.axis_name)
    small = affine, of_batch, of_images
    line = _small(_batch_line, *small, epsilon=rules.epsilon)
    statistics = of_batch.first[0], of_batch.variance[0]
    return (_transform(x, line, rules), statistics), (x, line, small)


def _batch_norm_backward(rules: Rules, kept: tuple, gradients: tuple) -> tuple:
    x, line, small = kept
    d_y = gradients[0]
    d_line = _line_gradients(x, line, d_y, rules)
    d_affine, d_batch, d_images = _small(_pull_batch_line, small, d_line, epsilon=rules.epsilon)
    # Each device's result depends on all devices' images.
    d_moments = _over_devices(d_batch, rules.axis_name)
    if d_images is not None:
        d_moments = Moments(*(a + b / len(x) for a, b in zip(d_images, d_moments, strict=True)))
    return _input_gradient(x, line, d_y, d_moments, rules), d_affine


batch_norm.defvjp(_batch_norm_forward, _batch_norm_backward)


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def apply_batch_norm(
    x: Float[Array, "B *N C"],
    affine: Affine,
    statistics: tuple[Float[Array, " C"], Float[Array, " C"]],
    rules: Rules,
) -> Float[Array, "B *N C"]:
    """Normalises by a given mean and variance; a modulation still takes those of the images."""
    return _apply_forward(x, affine, statistics, rules)[0]


def _apply_forward(x: Array, affine: Affine, statistics: tuple, rules: Rules) -> tuple:
    of_images = None if affine.gamma is None else _moments(x, _inner_axes(x))
    small = affine, statistics, of_images
    line = _small(_line, *small, epsilon=rules.epsilon)
    return _transform(x, line, rules), (x, line, small)


def _apply_backward(rules: Rules, kept: tuple, d_y: Array) -> tuple:
    x, line, small = kept
    d_line = _line_gradients(x, line, d_y, rules)
    d_affine, d_statistics, d_images = _small(_pull_line, small, d_line, epsilon=rules.epsilon)
    return _input_gradient(x, line, d_y, d_images, rules), d_affine, d_statistics


apply_batch_norm.defvjp(_apply_forward, _apply_backward)


def _batch_line(
    affine: Affine, of_batch: Moments, of_images: Moments | None, epsilon: float
) -> tuple[Array, Array, Array]:
    return _line(affine, (of_batch.first[0], of_batch.variance[0]), of_images, epsilon)


def _line(
    affine: Affine, statistics: tuple[Array, Array], of_images: Moments | None, epsilon: float
) -> tuple[Array, Array, Array]:
    """(shift, factor, offset), [1 or B, C]: the result is `(x - shift) * factor + offset`."""
    mean, variance = statistics
    factor = (affine.scale * lax.rsqrt(variance + epsilon))[None]
    if of_images is None:
        return mean[None], factor, affine.bias[None]
    # The variance of an image that has gone through the batch normalisation; its mean drops out.
    normed = factor**2 * of_images.variance
    factor = factor * lax.rsqrt(normed + epsilon) * (1 + affine.gamma)
    return of_images.first, factor, affine.beta


def _transform(x: Array, line: tuple[Array, Array, Array], rules: Rules) -> Array:
    y = _on_line(x, line)
    return (nn.relu(y) if rules.relu else y).astype(rules.dtype or x.dtype)


def _on_line(x: Array, line: tuple[Array, Array, Array]) -> Array:
    shift, factor, offset = (_spread(v, x) for v in line)
    return (at_least_float32(x) - shift) * factor + offset


def _pull_batch_line(small: tuple, d_line: tuple, *, epsilon: float) -> tuple:
    return jax.vjp(lambda *small: _batch_line(*small, epsilon), *small)[1](d_line)


def _pull_line(small: tuple, d_line: tuple, *, epsilon: float) -> tuple:
    return jax.vjp(lambda *small: _line(*small, epsilon), *small)[1](d_line)


def _before_relu(x: Array, line: tuple, d_y: Array, rules: Rules) -> Array:
    d_y = at_least_float32(d_y)
    return jnp.where(_on_line(x, line) > 0, d_y, 0) if rules.relu else d_y


def _line_gradients(x: Array, line: tuple, d_y: Array, rules: Rules) -> tuple[Array, Array, Array]:
    shift, factor, _ = line
    axes = _all_axes(x) if len(shift) == 1 else _inner_axes(x)
    sums = _sums(_line_terms, (x, line, d_y), axes, rules=rules)
    d_offset, d_factor = (v.reshape(shift.shape) for v in sums)
    return -factor * d_offset, d_factor, d_offset


def _line_terms(x: Array, line: tuple, d_y: Array, *, rules: Rules) -> tuple[Array, Array]:
    d_y = _before_relu(x, line, d_y, rules)
    return d_y, d_y * (at_least_float32(x) - _spread(line[0], x))


def _input_gradient(
    x: Array, line: tuple, d_y: Array, d_moments: Moments | None, rules: Rules
) -> Array:
    d_x = _spread(line[1], x) * _before_relu(x, line, d_y, rules)
    if d_moments is not None:
        count = x.size // d_moments.first.size
        first, second = (_spread(v / count, x) for v in d_moments)
        d_x += first + 2 * second * at_least_float32(x)
    return d_x.astype(x.dtype)


def _moments(x: Array, axes: tuple[int, ...]) -> Moments:
    count = math.prod(x.shape[axis] for axis in axes)
    sums = _sums(_powers, (x,), axes)
    return Moments(*(v.reshape(-1, x.shape[-1]) / count for v in sums))


def _powers(x: Array) -> tuple[Array, Array]:
    return at_least_float32(x), at_least_float32(x) ** 2


def _sums(terms: Callable, arguments: tuple, axes: tuple[int, ...], **static: Any) -> list[Array]:
    """Sums over axes of each term of the arguments, in one pass over these."""

    def plain(*arguments: Any) -> list[Array]:
        return [v.sum(axes) for v in terms(*arguments, **static)]

    def in_parts(*arguments: Any) -> list[Array]:
        return apart(_sums_in_parts, *arguments, terms=terms, axes=axes, **static)

    return per_platform(*arguments, cpu=in_parts, default=plain)


def _sums_in_parts(
    *arguments: Any, terms: Callable, axes: tuple[int, ...], **static: Any
) -> list[Array]:
    return sums(terms(*arguments, **static), axes)


def _small(function: Callable, *arguments: Any, **static: Any) -> Any:
    """A function of coefficients, which CPUs shall not compute again for each pixel."""
    return per_platform(
        *arguments,
        cpu=lambda *arguments: apart(function, *arguments, **static),
        default=lambda *arguments: function(*arguments, **static),
    )


def _mean_of_images(moments: Moments) -> Moments:
    return Moments(*(v.mean(0, keepdims=True) for v in moments))


def _over_devices(moments: Moments, axis_name: str | None) -> Moments:
    """Means over a mapped axis; both travel in one collective."""
    if axis_name is None or lax.axis_size(axis_name) == 1:
        return moments
    return Moments(*lax.pmean(jnp.stack(moments), axis_name))


def _spread(v: Float[Array, "b C"], x: Array) -> Array:
    return v.reshape(len(v), *(1,) * (x.ndim - 2), v.shape[-1])


def _all_axes(x: Array) -> tuple[int, ...]:
    return tuple(range(x.ndim - 1))


def _inner_axes(x: Array) -> tuple[int, ...]:
    return tuple(range(1, x.ndim - 1))
