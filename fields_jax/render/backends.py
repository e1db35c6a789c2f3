"""The backends of `rasterize` by name, and what each must be able to do."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from jaxtyping import Array, Int

from fields_jax.render import packed, patches, tiles
from fields_jax.render.jobs import Pass
from fields_jax.render.triangles import Frame, Triangles


@runtime_checkable
class Backend(Protocol):
    """Draws triangles job by job; a module of these functions will do, as `patches` and `tiles`.

    A job is a piece of a triangle, of about the same cost for all. `rasterize` counts the jobs of
    every triangle and has them drawn in passes of a fixed number, until all are drawn. The buffers,
    arrays of any kind, hold the nearest face of each pixel so far.
    """

    def start(self, size: tuple[int, int]) -> Any:
        """Empty buffers for an image of (height, width)."""

    def faces(self, buffers: Any, size: tuple[int, int]) -> Int[Array, "H W"]:
        """The face of each pixel in the buffers, -1 where there is none."""

    def count(self, triangles: Triangles) -> Int[Array, " F"]:
        """How many jobs each triangle is; 0 for one that is not drawn."""

    def most(self, size: tuple[int, int]) -> int:
        """How many jobs a triangle is at most."""

    def draw(self, triangles: Triangles, work: Pass, buffers: Any, frame: Frame, first_face) -> Any:
        """Draws the jobs of a pass into the buffers.

        Args:
          triangles: F triangles.
          work: the pass, over the jobs that `count` returned for them.
          buffers: what `start` or `draw` returned.
          frame: what is drawn.
          first_face: index of the first triangle in the whole mesh.
        """


# "reference" is no entry: it has no jobs.
BACKENDS: dict[str, Backend] = {"scatter": patches, "sorted": tiles}


def by_platform(backend: str) -> dict[str, Backend]:
    """What draws on which platform for a name in `BACKENDS` or "auto"."""
    scatter = {"cpu": packed, "default": patches}
    chosen = {"auto": {"tpu": tiles, **scatter}, "scatter": scatter}
    return chosen.get(backend) or {"default": BACKENDS[backend]}
