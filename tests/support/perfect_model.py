"""A model that knows the answers."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from fields_jax.types import FieldsOutput, FlameCoefficients
from tests.support.cube import S


class PerfectModel:
    """Reads the number of the example out of its first pixel and looks the answer up."""

    def __init__(self, labels, scale=1.0):
        self.labels, self.scale = labels, scale

    def apply(self, variables, image, *rest, method=None):
        if method == "synthesize":
            masked, _ = rest  # image is the geometry map
            return jnp.where(image > 0, 1.0, masked)
        row = jnp.round(image[:, 0, 0, 0] * 255).astype(jnp.int32)
        known = {k: jnp.asarray(v)[row] for k, v in self.labels.items() if v.dtype.kind == "f"}
        n = len(image)
        coefficients = FlameCoefficients(
            **{k: known[k] * self.scale for k in ("expression", "jaw", "eyelid")},
            shape=jnp.zeros((n, S)),
            pose=jnp.zeros((n, 3)),
            camera=jnp.tile(variables["camera"], (n, 1)),
        )
        logits = jax.nn.one_hot(jnp.asarray(self.labels["emotion"])[row], 8)
        return FieldsOutput(
            coefficients, jnp.zeros((n, 4, 2)), logits, known["valence"], known["arousal"]
        )
