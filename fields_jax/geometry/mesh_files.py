"""Meshes of outside origin, such as scans: Wavefront OBJ and Stanford PLY, and nothing but shape.

Scanners and other programs write these formats in many dialects: polygons of any number of corners,
rows counted from the end, colours behind the coordinates, elements nobody asked for. All of that is
read or skipped; whatever is damaged leads to one line that names the file.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from etils import epath
from jaxtyping import Float, Int

from fields_jax.errors import UserError, quoted
from fields_jax.files import LARGEST_ARRAYS, LARGEST_TEXT, damage_named, read_bytes

SUFFIXES = (".obj", ".ply")
_FARTHEST = 1e7  # of a coordinate from 0, in any unit of a scan

_TEXTURE = re.compile(rb"/\S*")  # of a corner: rows of texture coordinates and normals
_CONTINUED = re.compile(rb"\\\r?\n")
_HEADER_END = re.compile(rb"(?:^|\n)end_header[ \t]*\r?\n")
_LONGEST_HEADER = 65536
_PLY_TYPES = {
    **dict(char="i1", uchar="u1", short="i2", ushort="u2", int="i4", uint="u4"),
    **dict(int8="i1", uint8="u1", int16="i2", uint16="u2", int32="i4", uint32="u4"),
    **dict(float="f4", float32="f4", double="f8", float64="f8"),
}
_PLY_ORDERS = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}
_CORNER_LISTS = ("vertex_indices", "vertex_index")


class Surface(NamedTuple):
    """A triangle mesh, or points without triangles.

    Attributes:
      vertices: [V, 3] float64 in the file's unit.
      faces: [F, 3] rows of `vertices`; polygons are fans from their first corner.
    """

    vertices: Float[np.ndarray, "V 3"]
    faces: Int[np.ndarray, "F 3"]


def read_surface(path: epath.PathLike, *, points_suffice: bool = False) -> Surface:
    """Reads an .obj or .ply.

    Args:
      path: the file; its suffix tells the format.
      points_suffice: take a file without triangles, such as the points of a scan.

    Raises:
      MissingFile: there is no such file.
      UserError: another format or damage; no vertices, or no triangles where they are needed;
        coordinates that are not finite; faces of vertices that the file has not.
    """
    suffix = epath.Path(path).suffix.lower()
    if suffix not in SUFFIXES:
        raise UserError(f"{path} is no mesh that can be read: name an .obj or a .ply")
    largest = LARGEST_TEXT if suffix == ".obj" else LARGEST_ARRAYS
    content = read_bytes(path, largest=largest)
    with damage_named(f"{path} is damaged, or no {suffix}"):
        vertices, faces = (_obj if suffix == ".obj" else _ply)(content)
    if not len(vertices):
        raise UserError(f"{path} is empty: it has no vertices")
    if not len(faces) and not points_suffice:
        raise UserError(f"{path} has {len(vertices)} vertices and no faces: a surface needs them")
    if not (np.abs(vertices) < _FARTHEST).all():  # NaN fails too
        raise UserError(f"{path}: some vertices are not finite, or farther than {_FARTHEST:g}")
    if len(faces) and not (faces.min() >= 0 and faces.max() < len(vertices)):
        raise UserError(f"{path}: faces of vertices that it has not")
    return Surface(vertices, faces)


# ---- Wavefront OBJ.


def _obj(content: bytes) -> tuple[np.ndarray, np.ndarray]:
    lines = _CONTINUED.sub(b" ", content.removeprefix(codecs.BOM_UTF8)).splitlines()
    lines = [line.partition(b"#")[0].lstrip() for line in lines]
    rows = [line.split()[1:4] for line in lines if line.startswith((b"v ", b"v\t"))]
    if any(len(row) != 3 for row in rows):
        raise ValueError("a vertex without three coordinates")
    vertices = np.array([float(word) for row in rows for word in row]).reshape(-1, 3)
    before, sizes, corners = 0, [], []
    for line in lines:  # a negative row counts back from the vertices before the face
        if line.startswith((b"v ", b"v\t")):
            before += 1
        elif line.startswith((b"f ", b"f\t")):
            words = _TEXTURE.sub(b"", line).split()[1:]
            own = [int(word) for word in words]
            if min(own, default=0) < 0:
                own = [before + 1 + row if row < 0 else row for row in own]
            sizes.append(len(own))
            corners += own
    return vertices, _fans(np.array(sizes, np.int64), np.array(corners, np.int64) - 1)


def _fans(sizes: Int[np.ndarray, " P"], corners: Int[np.ndarray, " C"]) -> Int[np.ndarray, "F 3"]:
    """Triangles of polygons whose corners follow each other; fewer than three corners make none."""
    first = np.cumsum(sizes) - sizes
    count = np.maximum(sizes - 2, 0)
    origin = np.repeat(first, count)
    step = np.arange(len(origin)) - np.repeat(np.cumsum(count) - count, count)
    return np.stack([corners[origin + k] for k in (0 * step, step + 1, step + 2)], axis=1)


# ---- Stanford PLY.


class _Property(NamedTuple):
    """Of a PLY's element: `count` is the type of a list's length, None for a single number."""

    name: str
    kind: str
    count: str | None


class _Element(NamedTuple):
    name: str
    rows: int
    properties: list[_Property]


def _ply(content: bytes) -> tuple[np.ndarray, np.ndarray]:
    end = _HEADER_END.search(content[:_LONGEST_HEADER])
    if not content.startswith(b"ply") or end is None:
        raise ValueError("it does not begin as one")
    order, elements = _ply_header(content[: end.start() + 1].decode("latin1"))
    body = content[end.end() :]
    take = _binary_taker(body, order) if order else _text_taker(body)
    vertices, faces = np.zeros((0, 3)), np.zeros((0, 3), np.int64)
    for element in elements:
        columns = take(element)
        if element.name == "vertex":
            if missing := {"x", "y", "z"} - set(columns):
                raise ValueError(f"vertices without {min(missing)}")
            vertices = np.stack([np.asarray(columns[axis], np.float64) for axis in "xyz"], axis=1)
        elif element.name == "face":
            name = next((name for name in _CORNER_LISTS if name in columns), None)
            if name is not None:
                sizes, corners = columns[name]
                faces = _fans(sizes, corners)
    return vertices, faces


def _ply_header(text: str) -> tuple[str, list[_Element]]:
    """The order of bytes, "" for text, and the elements in their order."""
    order, elements = None, []
    for words in map(str.split, text.splitlines()):
        match words:
            case ["format", name, _]:
                order = _PLY_ORDERS[name]
            case ["element", name, rows]:
                elements.append(_Element(name, int(rows), []))
            case ["property", "list", count, kind, name]:
                elements[-1].properties.append(_Property(name, _PLY_TYPES[kind], _PLY_TYPES[count]))
            case ["property", kind, name]:
                elements[-1].properties.append(_Property(name, _PLY_TYPES[kind], None))
    if order is None:
        raise ValueError("a header without a format")
    if any(element.rows < 0 for element in elements):
        raise ValueError("a header with a negative number of rows")
    return order, elements


# The columns of an element: numbers [N], or a list's lengths [N] and its values one after another.
_Columns = dict[str, np.ndarray | tuple[np.ndarray, np.ndarray]]


def _binary_taker(body: bytes, order: str) -> Callable[[_Element], _Columns]:
    place = 0

    def take(element: _Element) -> _Columns:
        nonlocal place
        if not element.properties or not element.rows:
            return {each.name: _nothing(each) for each in element.properties}
        rows = _binary_rows(body, place, element, order)
        if rows is None:  # lists of several lengths
            return walk(element)
        place += rows.nbytes
        return {
            each.name: rows[f"{i}"]
            if each.count is None
            else (rows[f"n{i}"].astype(np.int64), rows[f"{i}"].ravel().astype(np.int64))
            for i, each in enumerate(element.properties)
        }

    def walk(element: _Element) -> _Columns:
        nonlocal place
        found = [([], []) for _ in element.properties]
        for _ in range(element.rows):
            for each, (sizes, values) in zip(element.properties, found, strict=True):
                size = 1
                if each.count is not None:
                    kind = np.dtype(order + each.count)
                    size = int(np.frombuffer(body, kind, 1, place)[0])
                    place += kind.itemsize
                kind = np.dtype(order + each.kind)
                if size < 0 or place + size * kind.itemsize > len(body):
                    raise ValueError(f"its {quoted(element.name)} is cut short")
                values.append(np.frombuffer(body, kind, size, place))
                sizes.append(size)
                place += size * kind.itemsize
        return _joined(element.properties, found)

    return take


def _binary_rows(body: bytes, place: int, element: _Element, order: str) -> np.ndarray | None:
    """All rows of an element whose lists are all as long as those of its first row, else None."""
    fields, start = [], place
    for i, each in enumerate(element.properties):
        kind = np.dtype(order + each.kind)
        if each.count is None:
            fields.append((f"{i}", kind))
            start += kind.itemsize
            continue
        count = np.dtype(order + each.count)
        if start + count.itemsize > len(body):
            raise ValueError(f"its {quoted(element.name)} is cut short")
        size = int(np.frombuffer(body, count, 1, start)[0])
        if size < 0 or size * kind.itemsize > len(body):
            raise ValueError(f"a list of {size} entries")
        fields += [(f"n{i}", count), (f"{i}", kind, (size,))]
        start += count.itemsize + size * kind.itemsize
    row = np.dtype(fields)
    lists = any(each.count is not None for each in element.properties)
    if element.rows * row.itemsize > len(body) - place:
        if lists:  # later lists may be shorter
            return None
        raise ValueError(f"its {quoted(element.name)} is cut short")
    rows = np.frombuffer(body, row, element.rows, place)
    same = all(
        (rows[f"n{i}"] == rows[f"n{i}"][0]).all()
        for i, each in enumerate(element.properties)
        if each.count is not None
    )
    return rows if same else None


def _text_taker(body: bytes) -> Callable[[_Element], _Columns]:
    words, place = body.split(), 0

    def take(element: _Element) -> _Columns:
        nonlocal place
        if not element.properties or not element.rows:
            return {each.name: _nothing(each) for each in element.properties}
        if element.rows > len(words) - place:
            raise ValueError(f"its {quoted(element.name)} is cut short")
        found = [([], []) for _ in element.properties]
        for _ in range(element.rows):
            for each, (sizes, values) in zip(element.properties, found, strict=True):
                size = 1
                if each.count is not None:
                    size, place = int(words[place]), place + 1
                if size < 0 or place + size > len(words):
                    raise ValueError(f"its {quoted(element.name)} is cut short")
                number = float if each.count is None or np.dtype(each.kind).kind == "f" else int
                values.append([number(word) for word in words[place : place + size]])
                sizes.append(size)
                place += size
        return _joined(element.properties, found)

    return take


def _joined(properties: Sequence[_Property], found: list[tuple[list, list]]) -> _Columns:
    columns: _Columns = {}
    for each, (sizes, values) in zip(properties, found, strict=True):
        flat = np.concatenate(values)
        columns[each.name] = (
            flat if each.count is None else (np.array(sizes, np.int64), flat.astype(np.int64))
        )
    return columns


def _nothing(each: _Property) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
    none = np.zeros(0, np.int64)
    return none.astype(np.float64) if each.count is None else (none, none)
