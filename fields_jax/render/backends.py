"""The backends of `rasterize` by name, and what each must be able to do."""

from __future__ import annotations

from typing import Protocol

from jaxtyping import Array, Int

from fields_jax.render import patches, tiles
from fields_jax.render.jobs import Pass
from fields_jax.render.triangles import Frame, Samples, Triangles


class Backend(Protocol):
    """Draws triangles job by job; a module of these functions will do, as `patches` and `tiles`.

    A job is a piece of a triangle, of about the same cost for all. `rasterize` counts the jobs of
    every triangle and has them drawn in passes of a fixed number, until all are drawn.
    """

    def shape(self, size: tuple[int, int]) -> tuple[int, ...]:
        """Shape of the buffers for an image of (height, width)."""

    def image(self, buffer: Array, size: tuple[int, int]) -> Int[Array, "H W"]:
        """A buffer of that shape as an image."""

    def count(self, triangles: Triangles) -> Int[Array, " F"]:
        """How many jobs each triangle is; 0 for one that is not drawn."""

    def most(self, size: tuple[int, int]) -> int:
        """How many jobs a triangle is at most."""

    def draw(
        self, triangles: Triangles, work: Pass, buffers: Samples, frame: Frame, first_face
    ) -> Samples:
        """Draws the jobs of one pass into the buffers; see `patches.draw`."""


# "auto" takes "sorted" on TPUs, else "scatter". "reference" is no entry: it has no jobs.
BACKENDS: dict[str, Backend] = {"scatter": patches, "sorted": tiles}
