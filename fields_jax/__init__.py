"""FIELDS: emotion-faithful 3D faces from one image, in JAX.

    import fields_jax

    faces = fields_jax.load().reconstruct("anna.jpg")

See `fields_jax.reconstruction`.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fields_jax.reconstruction import Model

__version__ = "0.1.0"


def load(path: str | os.PathLike | None = None, *, head: str | os.PathLike | None = None) -> Model:
    """A trained model, from a workdir or, by default, the one in the package.

    See `fields_jax.reconstruction.load`. JAX is imported by the call, not by the package.
    """
    from fields_jax import reconstruction

    return reconstruction.load(path, head=head)
