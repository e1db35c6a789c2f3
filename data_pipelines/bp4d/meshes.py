"""Scan meshes: Wavefront .obj with texture coordinates, read as arrays."""

from __future__ import annotations

import dataclasses

import numpy as np
from etils import epath
from jaxtyping import Float, Int
from scipy.spatial import KDTree

from fields_jax.errors import UserError, first_line
from fields_jax.files import read_text
from fields_jax.geometry.normals import summed_normals

_FARTHEST = 1e7  # of a coordinate from 0, in any unit of a scan
_UV_REACH = 0.02  # of the texture's side between a pixel and the nearest textured vertex


@dataclasses.dataclass(frozen=True)
class Mesh:
    """A scan as it is stored.

    Attributes:
      vertices: [V, 3] in the file's unit.
      triangles: [F, 3]; of polygons with more corners the first three.
      uv: [U, 2] texture coordinates, v up; none in a mesh without.
      uv_triangles: [F, 3] rows of `uv`, or [0, 3].
    """

    vertices: Float[np.ndarray, "V 3"]
    triangles: Int[np.ndarray, "F 3"]
    uv: Float[np.ndarray, "U 2"]
    uv_triangles: Int[np.ndarray, "F 3"]

    def normals(self) -> Float[np.ndarray, "V 3"]:
        """[V, 3] unit normals, 0 for vertices without triangles, away from the scan's middle."""
        total = summed_normals(self.vertices, self.triangles)
        outward = np.sum(total * (self.vertices - self.vertices.mean(axis=0)))
        length = np.linalg.norm(total, axis=1, keepdims=True)
        return (1 if outward >= 0 else -1) * total / np.where(length > 0, length, 1)

    def lift(
        self, pixels: Float[np.ndarray, "N 2"], width: int, height: int
    ) -> Float[np.ndarray, "N 3"]:
        """Points of the surface that the texture shows at some pixels; NaN where it shows none.

        Args:
          pixels: [N, 2] x right, y down.
          width: of the texture, pixels.
          height: of the same.
        """
        found = np.full((len(pixels), 3), np.nan)
        if len(self.uv_triangles):
            uv = np.stack([pixels[:, 0] / width, 1 - pixels[:, 1] / height], axis=1)
            known = np.isfinite(uv).all(axis=1)
            used, vertex = self.uv_triangles.ravel(), self.triangles.ravel()
            distance, row = KDTree(self.uv[used]).query(uv[known])
            place = self.vertices[vertex[row]]
            found[known] = np.where(distance[:, None] < _UV_REACH, place, np.nan)
        return found


def read_mesh(file: epath.Path) -> Mesh:
    """Reads an .obj.

    Raises:
      FileNotFoundError: there is no such file.
      UserError: not such a file, or one without vertices or triangles, with coordinates that are
        not finite or with faces that refer to missing vertices.
    """
    lines = read_text(file).splitlines()
    try:
        vertices = _table([line[2:] for line in lines if line.startswith("v ")], 3)
        uv = _table([line[3:] for line in lines if line.startswith("vt ")], 2)
        corners = _corners([line[2:] for line in lines if line.startswith("f ")])
    except ValueError as error:
        raise UserError(f"{file}: not a readable mesh ({first_line(error)})") from error
    if not (len(vertices) and len(corners)):
        raise UserError(f"{file}: {len(vertices)} vertices and {len(corners)} faces")
    if not (np.abs(vertices) < _FARTHEST).all():  # NaN fails too
        raise UserError(f"{file}: some vertices are not finite, or farther than {_FARTHEST:g}")
    triangles = _rows(corners[..., 0], len(vertices))
    uv_triangles = None
    if len(uv) and corners.shape[-1] > 1 and (np.abs(uv) < _FARTHEST).all():
        uv_triangles = _rows(corners[..., 1], len(uv))
    if triangles is None:
        raise UserError(f"{file}: faces of vertices that it has not")
    if uv_triangles is None:  # a damaged texture costs the texture alone
        uv, uv_triangles = np.zeros((0, 2)), np.zeros((0, 3), int)
    return Mesh(vertices, triangles, uv, uv_triangles)


def _table(lines: list[str], columns: int) -> np.ndarray:
    """The first columns of lines of numbers."""
    if not lines:
        return np.zeros((0, columns))
    _refuse_empty(lines)
    return np.loadtxt(lines, usecols=range(columns), ndmin=2, comments=None)


def _corners(lines: list[str]) -> Float[np.ndarray, "F 3 K"]:
    """The numbers between the slashes of each face's first three corners, 0 where left out."""
    if not lines:
        return np.zeros((0, 3, 1))
    _refuse_empty(lines)
    parts = lines[0].split()[0].count("/") + 1
    filled = (line.replace("//", "/0/").replace("/", " ") for line in lines)
    values = np.loadtxt(filled, usecols=range(3 * parts), ndmin=2, comments=None)
    return values.reshape(len(values), 3, parts)


def _refuse_empty(lines: list[str]) -> None:
    """Refuses lines without numbers: numpy skips them, which would shift all later rows."""
    if not all(map(str.strip, lines)):
        raise ValueError("a vertex or face without numbers")


def _rows(numbers: Float[np.ndarray, "F 3"], count: int) -> Int[np.ndarray, "F 3"] | None:
    """Rows from numbers that count from 1, or backwards from -1; None if some are not rows.

    They come as floats, which hold any row number exactly and also 1.5, 1e30 or NaN.
    """
    rows = np.where(numbers < 0, numbers + count, numbers - 1)
    valid = (numbers != 0) & (rows >= 0) & (rows < count) & (np.floor(rows) == rows)
    return rows.astype(int) if valid.all() else None
