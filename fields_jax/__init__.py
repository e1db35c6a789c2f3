"""FIELDS: emotion-faithful 3D faces from one image, in JAX.

    import fields_jax

    faces = fields_jax.load().reconstruct("anna.jpg")  # by a trained model
    faces = fields_jax.fit("anna.jpg")  # by landmarks: anna.npy beside it, or landmarks=...

See `fields_jax.reconstruction` and `fields_jax.landmark_fit`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fields_jax.face3d import Face3D, Picture
    from fields_jax.reconstruction import Model
    from fields_jax.types import FlameModel

__version__ = "0.1.0"


def load(path: str | os.PathLike | None = None, *, head: str | os.PathLike | None = None) -> Model:
    """A trained model, from a workdir or, by default, the one in the package.

    See `fields_jax.reconstruction.load`. JAX is imported by the call, not by the package.
    """
    from fields_jax import reconstruction

    return reconstruction.load(path, head=head)


def fit(
    images: Picture | Sequence[Picture],
    *,
    landmarks: Any = None,
    head: str | os.PathLike | FlameModel | None = None,
) -> list[Face3D]:
    """The faces of pictures, by a fit of the head to their landmarks, without a network.

    See `fields_jax.landmark_fit.fit`. JAX is imported by the call, not by the package.
    """
    from fields_jax import landmark_fit

    return landmark_fit.fit(images, landmarks=landmarks, head=head)
