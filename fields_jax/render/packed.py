"""The "scatter" backend on CPUs: `patches` with depth and face in one integer of 64 bits.

One minimum then does the work of two, and of the comparison between them. The integers exist only
in here: JAX need not be set to 64 bits.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from fields_jax.render import patches
from fields_jax.render.jobs import Pass
from fields_jax.render.patches import count, most
from fields_jax.render.triangles import EMPTY, Frame, Triangles, face_index

__all__ = ["count", "draw", "faces", "most", "start"]

_NOTHING = np.uint64(2**64 - 1)
_DEPTH = np.uint64(32)  # bits below the depth's


def start(size: tuple[int, int]):
    """An empty buffer."""
    with jax.enable_x64(True):
        return jnp.full(patches.shape(size), _NOTHING)


def faces(buffer, size: tuple[int, int]):
    """The faces in the buffer as an image."""
    with jax.enable_x64(True):
        return face_index(buffer.astype(jnp.uint32))[: size[0], : size[1]]


def draw(triangles: Triangles, work: Pass, buffer, frame: Frame, first_face):
    """Draws the jobs of a pass into the buffer; see `Backend.draw`."""
    samples, place = patches.test(triangles, work, frame, first_face)
    with jax.enable_x64(True):
        key, face = (values.astype(jnp.uint64) for values in samples)
        packed = jnp.where(samples.key == EMPTY, _NOTHING, (key << _DEPTH) | face)
        return patches.lower(buffer, packed, place)
