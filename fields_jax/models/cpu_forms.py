"""What makes XLA's CPU backend fast where its own choices are poor.

Used through `platforms.per_platform`: other platforms never see these forms.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental.xla_metadata import set_xla_metadata
from jaxtyping import Array

_FEW = 8


def apart(function: Callable, *arguments: Any, **static: Any) -> Any:
    """Calls a function that XLA compiles by itself: nothing in it is fused with what is outside.

    A CPU fusion computes cheap inputs anew at each place that reads them, which is nine times for a
    3x3 convolution. Calls with equal shapes are traced once and share one compiled function.

    Args:
      function: of arrays and the keywords; defined in a module, so that calls can share it.
      arguments: arrays.
      static: hashable keywords.
    """
    with set_xla_metadata(inlineable="false"):
        return _compiled(function, tuple(static))(*arguments, **static)


@functools.cache
def _compiled(function: Callable, static: tuple[str, ...]) -> Callable:
    @functools.wraps(function)
    def inlined(*arguments: Any, **static: Any) -> Any:
        with set_xla_metadata(inlineable=None):
            return function(*arguments, **static)

    return jax.jit(inlined, static_argnames=static)


def sums(values: Sequence[Array], axes: tuple[int, ...]) -> list[Array]:
    """Sums of arrays of one shape over their leading axes or all between the first and the last.

    One pass over what the values are computed from. XLA vectorises over what a reduction keeps if
    it has unrolled the reduction: so few entries of an axis are added first.
    """
    shape, axis = values[0].shape, axes[0]
    few = max(n for n in range(1, _FEW + 1) if shape[axis] % n == 0)
    split = (*shape[:axis], few, shape[axis] // few, *shape[axis + 1 :])
    zero = jnp.zeros((), values[0].dtype)

    def add(a: Sequence[Array], b: Sequence[Array]) -> list[Array]:
        return [p + q for p, q in zip(a, b, strict=True)]

    parts = lax.reduce([v.reshape(split) for v in values], [zero] * len(values), add, (axis,))
    return [part.sum(axes) for part in parts]
