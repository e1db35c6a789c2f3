"""Networks of the smallest kind: a linear layer each, which compile at once and have no batch norm.

They have the methods of `FieldsModel`. A network in training mode updates a running mean of the
images, which nothing reads.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import linen as nn

from fields_jax.types import FieldsOutput, FlameCoefficients

_GRID = 4  # images enter as means over this many cells to a side


class Reader(nn.Module):
    """Image to numbers."""

    features: int

    @nn.compact
    def __call__(self, image, train):
        mean = self.variable("batch_stats", "mean", jnp.zeros, (3,))
        if train and not self.is_initializing():
            mean.value = 0.9 * mean.value + 0.1 * image.mean((0, 1, 2))
        size = image.shape[1] // _GRID
        cells = image.reshape(len(image), _GRID, size, _GRID, size, 3).mean((2, 4))
        return nn.Dense(self.features, param_dtype=image.dtype)(cells.reshape(len(image), -1))


class LinearModel(nn.Module):
    """All networks; see `FieldsModel` for the methods."""

    n_shape: int
    n_expression: int
    token_dim: int

    def setup(self):
        self.pose_encoder = Reader(6)
        self.shape_encoder = Reader(self.n_shape)
        self.expression_encoder = Reader(self.n_expression + 5)
        self.token_encoder = Reader(4 * self.token_dim)
        self.synthesizer = nn.Dense(3, param_dtype=float)
        self.emotion_head = nn.Dense(10, param_dtype=float)

    def __call__(self, image, train=()):
        shape, expression, eyelid, jaw = self.encode_face(image, train)
        pose, camera = jnp.split(self.pose_encoder(image, "pose_encoder" in train), 2, axis=-1)
        camera = 0.1 * camera + jnp.asarray([[7.0, 0.0, 0.0]])
        logits, valence, arousal = self.read_emotion(expression, shape)
        coefficients = FlameCoefficients(
            shape=shape, expression=expression, jaw=jaw, eyelid=eyelid, pose=pose, camera=camera
        )
        tokens = self.encode_tokens(image, train)
        return FieldsOutput(coefficients, tokens, logits, valence, arousal)

    def encode_face(self, image, train=()):
        shape = self.shape_encoder(image, "shape_encoder" in train)
        found = self.expression_encoder(image, "expression_encoder" in train)
        n = self.n_expression
        return shape, *jnp.split(found, (n, n + 2), axis=-1)

    def encode_tokens(self, image, train=()):
        tokens = self.token_encoder(image, "token_encoder" in train)
        return tokens.reshape(len(image), 4, self.token_dim)

    def synthesize(self, geometry, masked, tokens, train=()):
        x = self.synthesizer(jnp.concatenate([geometry, masked], axis=-1))
        return jax.nn.sigmoid(x + tokens.mean((1, 2))[:, None, None, None])

    def read_emotion(self, expression, shape):
        found = self.emotion_head(jnp.concatenate([expression, shape], axis=-1))
        return found[:, :8], found[:, 8], found[:, 9]

    def run_all(self, image):
        self.synthesize(image[..., :1], image, self(image).tokens)
