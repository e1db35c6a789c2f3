"""Wavefront OBJ: a mesh of polygons, and the vertices of further files of the same mesh.

A rig comes as hundreds of such files that differ in their vertices alone, so that everything else
is read once and only compared afterwards.
"""

from __future__ import annotations

import dataclasses
import re

import numpy as np
from etils import epath
from jaxtyping import Float, Int

from fields_jax.errors import UserError, quoted
from fields_jax.files import LARGEST_TEXT, read_bytes

_CORNERS = 4  # of a polygon, at most
_TEXTURE = re.compile(rb"/\S*")  # of a corner: rows of texture coordinates and normals


@dataclasses.dataclass(frozen=True)
class PolygonMesh:
    """Triangles and quads with texture coordinates, as a file has them.

    Attributes:
      vertices: [V, 3] in the file's unit.
      polygons: [P, 4] rows of `vertices`; -1 for the fourth corner of a triangle.
      uv: [U, 2] texture coordinates, v up.
      uv_polygons: [P, 4] rows of `uv`, -1 likewise.
      materials: [P] rows of `material_names`.
      material_names: as `usemtl` calls them, in the order of the file.
      faces: the lines of the polygons, to compare other files with.
    """

    vertices: Float[np.ndarray, "V 3"]
    polygons: Int[np.ndarray, "P 4"]
    uv: Float[np.ndarray, "U 2"]
    uv_polygons: Int[np.ndarray, "P 4"]
    materials: Int[np.ndarray, " P"]
    material_names: tuple[str, ...]
    faces: bytes


def read_mesh(path: epath.PathLike) -> PolygonMesh:
    """Reads an OBJ whose polygons have three or four corners with texture coordinates.

    Raises:
      MissingFile: there is no such file.
      UserError: no such mesh, or damaged.
    """
    lines = _lines(path)
    vertices = _numbers(path, lines, b"v ", 3)
    uv = _numbers(path, lines, b"vt ", 2)
    polygons, materials, names = [], [], []
    material = -1
    for number, line in enumerate(lines, start=1):
        if line.startswith(b"f "):
            polygons.append(_polygon(path, number, line))
            materials.append(material)
        elif line.startswith(b"usemtl"):
            name = line[len(b"usemtl") :].strip().decode(errors="replace")
            names += [name] if name not in names else []
            material = names.index(name)
    if not polygons:
        raise UserError(f"{path} holds no mesh: it has no faces")
    corners = np.array(polygons, np.int64)  # [P, 4, 2], from 1, 0 for none
    for kind, rows in (("vertices", corners[..., 0]), ("texture coordinates", corners[..., 1])):
        count = len(vertices) if kind == "vertices" else len(uv)
        if rows.max() > count:
            raise UserError(f"{path}: a face refers to {kind} that the file has not")
    if min(materials) < 0:
        names, materials = ["", *names], [row + 1 for row in materials]
    return PolygonMesh(
        vertices=vertices,
        polygons=corners[..., 0] - 1,
        uv=uv,
        uv_polygons=corners[..., 1] - 1,
        materials=np.array(materials, np.int64),
        material_names=tuple(names),
        faces=_faces(lines),
    )


def read_vertices(path: epath.PathLike, mesh: PolygonMesh, name: str) -> Float[np.ndarray, "V 3"]:
    """The vertices of another file of the same mesh.

    Args:
      path: the file.
      mesh: whose polygons the file must have; their textures do not matter.
      name: of the mesh, for messages.

    Raises:
      MissingFile: there is no such file.
      UserError: another mesh, or damaged.
    """
    lines = _lines(path)
    vertices = _numbers(path, lines, b"v ", 3)
    if len(vertices) != len(mesh.vertices):
        raise UserError(
            f"{path} is cut short, or of another mesh: it has {len(vertices)} vertices, {name} "
            f"{len(mesh.vertices)}"
        )
    faces = _faces(lines)
    if faces != mesh.faces and _TEXTURE.sub(b"", faces) != _TEXTURE.sub(b"", mesh.faces):
        raise UserError(f"{path} is cut short, or of another mesh: its faces are not {name}'s")
    return vertices


def triangulated(mesh: PolygonMesh) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Quads split along the diagonal from their first corner.

    Returns:
      faces [F, 3], uv_faces [F, 3] and [F] the polygon that each comes from; triangles stay in the
      order of the polygons.
    """
    quads = np.flatnonzero(mesh.polygons[:, 3] >= 0)
    origin = np.concatenate([np.arange(len(mesh.polygons)), quads])
    order = np.argsort(origin, kind="stable")
    split = [
        np.concatenate([rows[:, :3], rows[quads][:, [0, 2, 3]]])[order]
        for rows in (mesh.polygons, mesh.uv_polygons)
    ]
    return split[0], split[1], origin[order]


def _lines(path: epath.PathLike) -> list[bytes]:
    return read_bytes(path, largest=LARGEST_TEXT).splitlines()


def _faces(lines: list[bytes]) -> bytes:
    return b"\n".join(line for line in lines if line.startswith(b"f "))


def _numbers(
    path: epath.PathLike, lines: list[bytes], kind: bytes, columns: int
) -> Float[np.ndarray, "N K"]:
    """The numbers of all lines of one kind."""
    rows = [line[len(kind) :].split() for line in lines if line.startswith(kind)]
    if not rows:
        raise UserError(f"{path} holds no mesh: it has no lines that begin with {kind.decode()!r}")
    if {len(row) for row in rows} != {columns}:
        raise UserError(f"{path}: {kind.decode()!r} without {columns} numbers in some lines")
    try:
        values = np.array([float(word) for row in rows for word in row])
    except ValueError as error:
        raise UserError(f"{path} is damaged: {error}") from None
    if not np.isfinite(values).all():
        raise UserError(f"{path} holds coordinates that are not finite")
    return values.reshape(-1, columns)


def _polygon(path: epath.PathLike, number: int, line: bytes) -> list[tuple[int, int]]:
    """(vertex, texture) of four corners, counted from 1, (0, 0) for the fourth of a triangle."""
    words = line.split()[1:]
    try:
        corners = [(int(a), int(b)) for a, b, *_ in (word.split(b"/") for word in words)]
    except ValueError:
        corners = []
    if len(corners) not in (3, _CORNERS) or min(map(min, corners)) < 1:
        raise UserError(
            f"{path}, line {number}: {quoted(line.decode(errors='replace'))} is no triangle or "
            "quad with texture coordinates"
        )
    return corners + [(0, 0)] * (_CORNERS - len(corners))
