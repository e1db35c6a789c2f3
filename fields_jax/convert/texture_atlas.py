"""One unit square for the textures of several materials, each of which had one of its own."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from fields_jax.convert.obj import PolygonMesh
from fields_jax.errors import UserError

# (u, v, side) of the cells: the first material, the face, gets the large one, the next three a
# quarter of the side, all others an eighth.
_QUARTERS = [(0.75, 0.75 - 0.25 * row, 0.25) for row in range(3)]
_REST = [(0.25 * column, 0.0) for column in range(4)]
_EIGHTHS = [(u + 0.125 * (i % 2), v + 0.125 * (i // 2), 0.125) for u, v in _REST for i in range(4)]
CELLS = ((0.0, 0.25, 0.75), *_QUARTERS, *_EIGHTHS)


def atlas(
    mesh: PolygonMesh, materials: Int[np.ndarray, " F"], uv_faces: Int[np.ndarray, "F 3"]
) -> tuple[Float[np.ndarray, "U 2"], Int[np.ndarray, "F 3"]]:
    """Texture coordinates in [0, 1] in which no two materials share a place.

    A material's texture is the unit square that its coordinates begin in, or several in a row
    (UDIM tiles), and goes into one cell of `CELLS` by the material's place in the file, so that
    textures made for one head fit another with other parts.

    Args:
      mesh: whose coordinates they are.
      materials: [F] of each triangle, rows of `mesh.material_names`.
      uv_faces: [F, 3] rows of `mesh.uv`.

    Returns:
      uv [U, 2], those that the triangles use, and uv_faces [F, 3].

    Raises:
      UserError: more materials than cells.
    """
    if len(mesh.material_names) > len(CELLS):
        raise UserError(
            f"{len(mesh.material_names)} materials: texture coordinates have room for {len(CELLS)}"
        )
    keys = np.stack([np.repeat(materials, 3), uv_faces.ravel()], axis=1)
    used, rows = np.unique(keys, axis=0, return_inverse=True)
    placed = mesh.uv[used[:, 1]]
    for material in np.unique(materials):
        own = used[:, 0] == material
        first = np.floor(placed[own].min(axis=0))
        tiles = np.maximum(np.ceil(placed[own].max(axis=0)) - first, 1)
        u, v, side = CELLS[material]
        placed[own] = (placed[own] - first) / tiles * side + [u, v]
    return placed, rows.reshape(-1, 3)
