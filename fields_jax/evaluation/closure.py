"""Whether eyes and mouth are as far open as they should be, in millimetres.

Points of the two lids, and of the two lips, that face each other are taken as pairs. The error is
the mean length of the difference between the predicted and the true way from one to the other, on
the head of the true identity at zero pose (EMOCA and EMICA train with such differences in the
picture; Danecek et al. 2022). An error of the whole eye's or mouth's place does not enter.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from fields_jax.evaluation.geometry import at_rest
from fields_jax.evaluation.predict import map_batches
from fields_jax.flame.model import flame
from fields_jax.landmark_schemes import ACROSS_SLITS_68, EYES_68
from fields_jax.types import FlameCoefficients, FlameModel

_EYES = tuple(pair for pair in ACROSS_SLITS_68 if pair[0] < EYES_68.stop)
_LIPS = tuple(pair for pair in ACROSS_SLITS_68 if pair[0] >= EYES_68.stop)


class Closure(NamedTuple):
    """Errors [N] in mm of N examples, and those of the face at rest, without any expression."""

    eye_closure_error: Float[np.ndarray, " N"]
    zero_eye_closure_error: Float[np.ndarray, " N"]
    mouth_closure_error: Float[np.ndarray, " N"]
    zero_mouth_closure_error: Float[np.ndarray, " N"]


def measure_closure(
    head: FlameModel,
    truth: FlameCoefficients,
    prediction: FlameCoefficients,
    *,
    batch_size: int = 64,
) -> Closure:
    """Closure errors of N >= 1 examples.

    Args:
      head: FLAME or the procedural head.
      truth: true shape, expression, jaw and eyelids, [N, ...]; pose and camera are not used.
      prediction: predicted expression, jaw and eyelids, [N, ...]; the rest is not used.
      batch_size: examples posed at a time.
    """
    columns = map_batches(partial(_compare, head), (truth, prediction), batch_size)
    return Closure(*(column.astype(np.float64) for column in columns))


@jax.jit
def _compare(
    head: FlameModel, columns: tuple[FlameCoefficients, FlameCoefficients]
) -> list[Float[Array, " B"]]:
    true, predicted = columns
    poses = true, predicted, jax.tree.map(jnp.zeros_like, true)
    points = [
        1e3 * flame(head, at_rest(head, true.shape, each)).landmarks_68_static for each in poses
    ]
    errors = []
    for pairs in (_EYES, _LIPS):
        one, other = jnp.array(pairs).T
        actual, guess, neutral = (each[:, other] - each[:, one] for each in points)
        errors += [
            jnp.mean(jnp.linalg.norm(ways - actual, axis=-1), axis=-1) for ways in (guess, neutral)
        ]
    return errors
