"""The picture of docs/rasterizer.md: faces, depth, normals, and an outline before and after.

python -m benchmarks.raster_picture --out docs/rasterizer.png
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from absl import flags

from benchmarks.heads import posed
from fields_jax import cli
from fields_jax.disk import writing
from fields_jax.flame.procedural import procedural_head
from fields_jax.geometry.normals import vertex_normals
from fields_jax.render import antialias, interpolate, rasterize
from fields_jax.render.draw import grid, save_png

_ENLARGED = 8  # times, in the panels of the outline


def define_flags() -> None:
    """The flags of the command."""
    flags.DEFINE_string("out", "docs/rasterizer.png", "Where to write the picture.")
    flags.DEFINE_integer("size", 224, "Pixels along a side of a panel.", lower_bound=64)


def panels(size: int) -> list[np.ndarray]:
    """Images [1, H, W, 3] in [0, 1], left to right."""
    head = procedural_head()
    vertices = jnp.asarray(posed(np.asarray(head.template, np.float64), 1, seed=3))
    fragments = rasterize(vertices, head.faces, size)
    covered = np.asarray(fragments.face_index)[..., None] >= 0

    colors = np.random.default_rng(0).uniform(0.2, 1, (len(head.faces), 3))
    faces = np.where(covered, colors[np.asarray(fragments.face_index)], 1)
    depth = np.asarray(fragments.depth)[..., None]
    near, far = depth[covered].min(), depth[covered].max()
    depth = np.where(covered, 0.9 - 0.8 * (depth - near) / (far - near), 1).repeat(3, axis=-1)
    # `project` makes y point down and z away; both are turned back for the normals.
    upright = vertices * jnp.array([1.0, -1.0, -1.0])[None, None]
    pointing = interpolate(fragments, vertices, head.faces, vertex_normals(upright, head.faces))
    normals = np.where(covered, 0.5 + 0.5 * np.asarray(pointing), 1)

    shade = jnp.where(covered, 0.15 + 0.7 * jnp.maximum(pointing[..., 2:], 0), 1.0)
    smooth = antialias(shade, fragments, vertices, head.faces)
    part = size // _ENLARGED
    # Around the first pixel of the middle row that the head covers.
    row = size // 2 - part // 2
    column = int(np.argmax(covered[0, size // 2, :, 0])) - part // 2
    window = np.s_[:, row : row + part, max(column, 0) : max(column, 0) + part]
    outlines = [
        np.asarray(image)[window].repeat(_ENLARGED, axis=1).repeat(_ENLARGED, axis=2)
        for image in (shade, smooth)
    ]
    edges = [np.clip(outline, 0, 1).repeat(3, axis=-1) for outline in outlines]
    return [faces, depth, normals, *edges]


def main(_: list[str]) -> None:
    """The command."""
    chosen = flags.FLAGS
    picture = grid(panels(chosen.size))
    with writing(chosen.out, instead="another --out"):
        save_png(chosen.out, picture)


if __name__ == "__main__":
    define_flags()
    cli.run(main)
