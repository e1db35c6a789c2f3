"""The mesh of the procedural head: the sheet of skin, its patches, their mirror images."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np

from fields_jax.flame.procedural import patches as patches
from fields_jax.flame.procedural import surface as surface
from fields_jax.flame.procedural import triangulation as triangulate

_CANDIDATES = 11000  # points tried, in the whole sheet and again in its face
# Edge of the face mask, from the hairline past the ear to under the chin: azimuth, level.
_FACE_EDGE = np.array(
    [
        [0.0, 2.75],
        [0.4, 2.85],
        [0.78, 3.3],
        [1.05, 4.05],
        [1.22, 5.0],
        [1.28, 6.1],
        [1.3, 7.2],
        [1.28, 8.3],
        [1.2, 9.3],
        [1.0, 10.0],
        [0.7, 10.35],
        [0.35, 10.5],
        [0.0, 10.5],
    ]
)


@dataclasses.dataclass(frozen=True)
class HeadMesh:
    """Both halves of the head, in millimetres.

    Attributes:
      points: [V, 3].
      faces: [F, 3] counter-clockwise from outside.
      mirror: [V] the vertex opposite each vertex; itself on the midline.
      part: [V] name of the patch (or "sheet") a vertex came from; shared rings count as sheet.
      ring, column: [V] place in the patch's grid, -1 in the sheet.
      left: [V] whether x is positive or on the midline (the half that was built).
      face: [V] whether a vertex of the sheet lies on or inside the edge of the face mask.
      neck_rim: vertices of the open end of the neck.
    """

    points: np.ndarray
    faces: np.ndarray
    mirror: np.ndarray
    part: np.ndarray
    ring: np.ndarray
    column: np.ndarray
    left: np.ndarray
    face: np.ndarray
    neck_rim: np.ndarray

    def select(self, part: str, left: bool = True, ring: int | None = None) -> np.ndarray:
        """Vertices of one side's patch, or of one of its rings, in the order of columns."""
        found = (self.part == part) & (self.left == left)
        if ring is not None:
            found &= self.ring == ring
        index = np.flatnonzero(found)
        return index[np.argsort(self.column[index], kind="stable")]


@functools.lru_cache(maxsize=1)
def head_mesh() -> HeadMesh:
    """Builds the left half and mirrors it; deterministic, cached."""
    grids = [
        patches.eye_patch(),
        patches.mouth_patch(),
        patches.ear_patch(),
        patches.eyeball_patch(),
    ]
    loops = [grid.points[grid.outer] for grid in grids[:3]]
    sheet, sheet_faces, loop_rows, face, neck = _sheet(loops)
    points, faces = [sheet], [sheet_faces]
    parts = [np.full(len(sheet), "sheet", dtype="<U8")]
    rings, columns = [np.full(len(sheet), -1)], [np.full(len(sheet), -1)]
    for grid, shared in zip(grids, [*loop_rows, None], strict=True):
        own, place = _new_vertices(grid, shared)
        place = np.where(place >= 0, place + sum(map(len, points)), -1 - place)
        ring, column = _grid_places(grid)
        points.append(grid.points[own])
        faces.append(place[grid.faces])
        parts.append(np.full(len(own), grid.name))
        rings.append(ring[own])
        columns.append(column[own])
    half = [np.concatenate(group) for group in (points, faces, parts, rings, columns)]
    return _mirror(*half, np.pad(face, (0, len(half[0]) - len(face))), neck)


def _grid_places(grid: patches.Patch) -> tuple[np.ndarray, np.ndarray]:
    """Ring and column of each vertex of a patch; the first ones where the grid is pinched."""
    rings, columns = np.indices(grid.index.shape)
    vertices, first = np.unique(grid.index, return_index=True)
    place = np.full((2, len(grid.points)), -1)
    place[:, vertices] = rings.ravel()[first], columns.ravel()[first]
    return place[0], place[1]


def _new_vertices(grid: patches.Patch, shared: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Which of a patch's vertices are new, and where each goes (-1 - sheet vertex if shared)."""
    place = np.arange(len(grid.points))
    if shared is None:
        return place, place
    fresh = np.ones(len(place), bool)
    fresh[grid.outer] = False
    place = np.cumsum(fresh) - 1
    place[grid.outer] = -1 - shared
    return np.flatnonzero(fresh), place


def _mirror(points, faces, part, ring, column, face, neck) -> HeadMesh:
    """Completes the left half; vertices on the midline have no copy."""
    middle = np.abs(points[:, 0]) < 1e-9
    points = np.where(middle[:, None], points * [0, 1, 1], points)
    twin = np.where(middle, np.arange(len(points)), len(points) + np.cumsum(~middle) - 1)
    mirror = np.concatenate([twin, np.flatnonzero(~middle)])
    both = mirror[len(points) :]
    return HeadMesh(
        points=np.concatenate([points, points[both] * [-1, 1, 1]]),
        faces=np.concatenate([faces, twin[faces][:, ::-1]]),
        mirror=mirror,
        part=np.concatenate([part, part[both]]),
        ring=np.concatenate([ring, ring[both]]),
        column=np.concatenate([column, column[both]]),
        face=np.concatenate([face, face[both]]),
        left=np.arange(len(mirror)) < len(points),
        neck_rim=np.unique(np.concatenate([neck, twin[neck]])),
    )


def _sheet(loops: list[np.ndarray]):
    """The half sheet of skin around the outer rings of the eye, mouth and ear patches.

    Returns:
      points [N, 3], faces [T, 3], the vertices of each loop, which vertices belong to the face
      mask [N], the vertices of the neck's rim.
    """
    state, loop_rows, mask_edge = _borders(loops)
    fixed = surface.skin(*state.T)
    fixed[np.concatenate(loop_rows)] = np.concatenate(loops)
    state = np.concatenate([state, _scatter(state, fixed, loops, loop_rows)])

    free = np.arange(len(fixed), len(state))
    faces = triangulate.delaunay(_plane(state))
    # The loops are convex: only the triangles that fill one have all corners on it.
    faces = faces[~np.any([np.isin(faces, rows).all(1) for rows in loop_rows], axis=0)]
    for _ in range(4):
        mean = _neighbour_mean(faces, state)
        state[free] += 0.6 * (mean[free] - state[free])
    points = surface.skin(*state.T)
    points[: len(fixed)] = fixed
    faces = triangulate.flip_edges(faces, _plane(state), points)
    neck = np.flatnonzero(state[:, 1] == surface.LAST_LEVEL)
    face = _inside(state, state[mask_edge])
    face[mask_edge] = True
    return points, faces, loop_rows, face, neck


def _scatter(state, fixed, loops, loop_rows) -> np.ndarray:
    """Azimuths and levels [N, 2] of points that fill the sheet at the wanted spacing."""
    rng = np.random.default_rng(0)  # the mesh is the same for every head
    face = rng.uniform([0.03, 3.5], [1.0, 11.0], (_CANDIDATES, 2))
    rest = rng.uniform([0.03, 0.3], [np.pi - 0.05, surface.LAST_LEVEL - 0.3], (_CANDIDATES, 2))
    candidates = np.concatenate([face, rest])
    filled = np.any([_inside(candidates, state[rows]) for rows in loop_rows], axis=0)
    candidates = candidates[~filled]
    gap = 0.75 * spacing(fixed)
    for loop, rows in zip(loops, loop_rows, strict=True):
        edge = np.linalg.norm(np.diff(loop, axis=0, append=loop[:1]), axis=1)
        # Nothing squeezes in between neighbours on a loop; the mouth's half loop stays open.
        edge = np.minimum(np.maximum(edge, np.roll(edge, 1)), 8)
        gap[rows] = np.maximum(gap[rows], 0.7 * edge)
    skin = surface.skin(*candidates.T)
    return candidates[triangulate.spread(skin, spacing(skin), fixed, gap)]


def _borders(loops: list[np.ndarray]) -> tuple[np.ndarray, list[np.ndarray], np.ndarray]:
    """Azimuths and levels of the fixed points; the rows of each loop and of the face's edge."""
    eye, mouth, ear = loops
    mouth_state = np.stack(patches.locate(mouth[:, :2], (0, 1)), 1)
    mouth_state[[0, -1], 0] = 0
    top, bottom = mouth_state[0, 1], mouth_state[-1, 1]
    last = surface.LAST_LEVEL
    hairline, throat = _FACE_EDGE[[0, -1], 1]
    smooth_edge = surface.cubic_spline(
        np.arange(len(_FACE_EDGE)), _FACE_EDGE, np.linspace(0, len(_FACE_EDGE) - 1, 400)
    )
    lines = [
        mouth_state,
        np.stack(patches.locate(eye[:, :2], (0, 1)), 1),
        np.stack(patches.locate(ear[:, [2, 1]], (2, 1)), 1),
        _spaced(smooth_edge),
        _line((0, 0), (0, hairline))[:-1],
        _line((0, hairline), (0, top))[1:-1],  # forehead and nose
        _line((0, bottom), (0, throat))[1:-1],  # chin
        _line((0, throat), (0, last))[1:],
        _line((np.pi, 0), (np.pi, last))[1:],  # back of the head
        _line((0, last), (np.pi, last))[1:-1],  # neck
    ]
    starts = np.cumsum([0, *map(len, lines)])
    mouth_rows, eye_rows, ear_rows, edge_rows = (
        np.arange(starts[k], starts[k + 1]) for k in range(4)
    )
    return np.concatenate(lines), [eye_rows, mouth_rows, ear_rows], edge_rows


def _line(start: tuple[float, float], end: tuple[float, float]) -> np.ndarray:
    """Spaced points of the straight line between two (azimuth, level)."""
    return _spaced(np.linspace(start, end, 2000))


def _spaced(state: np.ndarray) -> np.ndarray:
    """Points along a line in (azimuth, level), as far apart on the skin as `spacing` says."""
    skin = surface.skin(*state.T)
    length = np.linalg.norm(np.diff(skin, axis=0), axis=1) / spacing(0.5 * (skin[1:] + skin[:-1]))
    run = np.concatenate([[0], np.cumsum(length)])
    steps = np.linspace(0, run[-1], round(run[-1]) + 1)
    line = np.stack([np.interp(steps, run, state[:, k]) for k in range(2)], 1)
    line[[0, -1]] = state[[0, -1]]
    return line


def spacing(points: np.ndarray) -> np.ndarray:
    """Wanted distance between neighbours at points of the skin, in millimetres."""
    x, y, z = np.abs(points[:, 0]), points[:, 1], points[:, 2]
    gap = np.full(len(points), 6.5)
    face = surface.smoothstep((z + 5) / 40) * surface.smoothstep((y + 108) / 15)
    face = face * surface.smoothstep((95 - y) / 25)
    gap += face * (4.6 - gap)
    nose = surface.smoothstep((27 - x) / 10) * surface.smoothstep((y + 38) / 8)
    gap += nose * face * surface.smoothstep((22 - y) / 10) * (2.5 - gap)
    nostril = surface.smoothstep((9 - np.hypot(x - 6.5, 1.2 * (y + 25))) / 4)
    gap += nostril * face * (1.7 - gap)
    ear = surface.smoothstep((45 - np.hypot(y + 2, z + 28)) / 20) * (x > 40)
    return gap + ear * (5.0 - gap)


def _plane(state: np.ndarray) -> np.ndarray:
    """A flat map, in about millimetres, of (azimuth, level), in which triangles are chosen.

    Its straight borders are bent outwards a little, so that each lies on the convex hull.
    """
    levels = np.linspace(0, surface.LAST_LEVEL, 400)
    run = [surface.base(np.full(400, azimuth), levels) for azimuth in (0.0, 1.57)]
    length = sum(np.linalg.norm(np.diff(path, axis=0), axis=1) for path in run) / 2
    length = np.concatenate([[0], np.cumsum(length)])
    depth = np.interp(state[:, 1], levels, length) / length[-1]
    width = np.interp(state[:, 1], levels, np.maximum.accumulate(run[1][:, 0]))
    turn = state[:, 0] / np.pi
    across = np.pi * turn * width + (2 * turn - 1) * 20 * depth * (1 - depth)
    return np.stack([across, -depth * length[-1] - 5 * depth * np.sin(np.pi * turn)], 1)


def _inside(points: np.ndarray, polygon: np.ndarray) -> np.ndarray:
    """Whether plane points lie inside a polygon (crossing rule)."""
    result = np.zeros(len(points), bool)
    x, y = points.T
    for (x0, y0), (x1, y1) in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        if y0 != y1:
            crossed = (y0 > y) != (y1 > y)
            result ^= crossed & (x < x0 + (y - y0) * (x1 - x0) / (y1 - y0))
    return result


def _neighbour_mean(faces: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Mean over each vertex's neighbours."""
    total, count = np.zeros_like(values), np.zeros(len(values))
    for k in range(3):
        for other in (1, 2):
            np.add.at(total, faces[:, k], values[faces[:, (k + other) % 3]])
            np.add.at(count, faces[:, k], 1)
    return total / np.maximum(count, 1)[:, None]
