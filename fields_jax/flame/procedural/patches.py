"""Structured parts of the procedural head's left half: eye, mouth, ear, eyeball (millimetres).

Each patch is a grid of rings (inside first) by columns (clockwise as seen from outside) whose
outermost ring is shared with the sheet of skin around it.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from fields_jax.flame.procedural import surface as surface
from fields_jax.flame.procedural.surface import smoothstep

EYE_COLUMNS = 36
EYE_RIM = 2  # ring of the lid's outer edge; rings 0 and 1 are tucked in behind it
MOUTH_COLUMNS = 21  # of the half mouth, both midlines included
MOUTH_SLIT = 4  # ring where the lips touch; rings below it line the mouth
MOUTH_BORDER = 8  # ring between vermilion and skin
EAR_COLUMNS = 26

INNER_CANTHUS = np.array([18.2, 18.4])
OUTER_CANTHUS = np.array([44.8, 20.6])
MOUTH_CORNER = 23.5  # half width of the slit
STOMION = -48.8  # height of the slit


@dataclasses.dataclass(frozen=True)
class Patch:
    """A grid of points and its triangles.

    Attributes:
      name: which patch.
      points: [N, 3].
      index: [R, C] vertex of every ring and column; entries repeat where the grid is pinched.
      faces: [T, 3].
    """

    name: str
    points: np.ndarray
    index: np.ndarray
    faces: np.ndarray

    @property
    def outer(self) -> np.ndarray:
        """Vertices of the outermost ring."""
        return self.index[-1]


def lid_margin(columns: np.ndarray) -> np.ndarray:
    """Frontal x, y of the left lids' margin at columns 0..36, [N, 2].

    Column 0 is the inner corner, 9 the upper lid, 18 the outer corner, 27 the lower lid.
    """
    turn = 2 * np.pi * np.asarray(columns) / EYE_COLUMNS
    along = 0.5 - 0.5 * np.cos(turn)
    upper = np.sin(turn) > 0
    # The upper lid peaks towards the nose, the lower one towards the temple.
    skewed = np.where(upper, along**0.88, along**1.15)
    arch = np.maximum(4 * skewed * (1 - skewed), 0) ** 0.8
    line = INNER_CANTHUS + along[:, None] * (OUTER_CANTHUS - INNER_CANTHUS)
    line[:, 1] += np.where(upper, 6.0, -4.5) * arch
    return line


def eye_patch() -> Patch:
    """The left lids: a rim that rests on the eyeball, and skin out to brow and cheek."""
    columns = np.arange(EYE_COLUMNS)
    turn = np.pi - 2 * np.pi * columns / EYE_COLUMNS
    outer = np.array([32.8, 21.0]) + np.stack([23.5 * np.cos(turn), 18.5 * np.sin(turn)], 1)
    margin = lid_margin(columns)
    rings = []
    for t in (0.0, 0.09, 0.2, 0.33, 0.5, 0.72, 1.0):
        rings.append(on_front(margin + t * (outer - margin)))
    centre, radius = surface.EYE_CENTRE, surface.EYE_RADIUS
    direction = _unit(rings[0] - centre)
    rim = centre + (radius + 0.3) * direction
    outwards = np.pad(_unit(margin - margin.mean(0)), ((0, 0), (0, 1)))
    tucked = centre + (radius + 0.3) * _unit(direction + 0.22 * outwards)
    points = np.concatenate([tucked, rim, *rings])
    index = np.arange(len(points)).reshape(-1, EYE_COLUMNS)
    return Patch("eye", points, index, grid_faces(index, points, closed=True))


def lip_curves(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Heights of the upper border, the slit and the lower border of the lips at x."""
    u = np.clip(np.abs(x) / MOUTH_CORNER, 0, 1)
    slit = STOMION - 0.7 * np.exp(-((x / 4.5) ** 2)) + 0.5 * u**2 - 0.9 * u**6
    upper = STOMION - 0.3 + 9.7 * (1 - u**2.2) ** 0.95 - 2.0 * np.exp(-((x / 3.0) ** 2))
    lower = STOMION - 0.3 - 10.5 * (1 - u**2.8) ** 0.9
    return upper, slit, lower


def mouth_patch() -> Patch:
    """The left half of the lips, of the skin around them and of the pocket behind them."""
    half = MOUTH_COLUMNS // 2
    columns = np.arange(MOUTH_COLUMNS)
    turn = np.pi / 2 * (1 - columns / half)
    share = 1 - np.abs(columns - half) / half  # 0 at the midline, 1 at the corner
    x = MOUTH_CORNER * (0.35 * share + 0.65 * np.sin(np.pi / 2 * share))
    upper, slit, lower = lip_curves(x)
    is_upper = columns < half
    border = np.stack([x * (1 + 0.08 * share**2), np.where(is_upper, upper, lower)], 1)
    inner = np.stack([x, slit], 1)
    outer = np.array([0, -48.5]) + np.stack([37 * np.cos(turn), 18.5 * np.sin(turn)], 1)
    outer[[0, -1], 0] = 0
    u = x / MOUTH_CORNER
    fullness = np.where(is_upper, 0.4, -0.4) * np.maximum(1 - u**2, 0) ** 0.6
    crease = 4.0 * (1 - 0.6 * u**6)  # the lips curl inwards where they meet
    rings = []
    for t in (1.0, 0.8, 0.5, 0.2):  # vermilion, from the slit to its border
        ring = on_front(border + t * (inner - border))
        ring[:, 2] += fullness * np.sin(np.pi * t**0.85) - crease * t**6
        rings.append(ring)
    for t in (0.0, 0.1, 0.28, 0.58, 1.0):  # skin
        rings.append(on_front(border + t * (outer - border)))
    lining, line = _mouth_lining(rings[0], share, np.sign(half - columns))
    grid = np.stack([*lining, *rings])
    points = np.concatenate([line, grid.reshape(-1, 3)])
    index = len(line) + np.arange(grid.shape[0] * MOUTH_COLUMNS).reshape(-1, MOUTH_COLUMNS)
    seam = np.minimum(columns, 2 * half - columns)
    index = np.concatenate([seam[None], index])
    return Patch("mouth", points, index, grid_faces(index, points, closed=False))


def _mouth_lining(slit, share, side) -> tuple[list[np.ndarray], np.ndarray]:
    """Three rings behind the slit (deepest first) and the line where roof and floor meet."""
    taper = np.sqrt(np.maximum(1 - share**2, 0)) * side
    rings = []
    for depth, height, width in ((30, 3.0, 0.8), (12, 4.0, 0.92), (3.5, 1.6, 0.99)):
        ring = slit * [width, 1, 1]
        ring[:, 1] += height * taper
        ring[:, 2] -= depth * (1 - 0.45 * share**2)
        rings.append(ring)
    half = len(slit) // 2
    line = slit[: half + 1] * [0.7, 1, 1]
    line[:, 2] -= 55 * (1 - 0.45 * share[: half + 1] ** 2)
    return rings, line


# The ear's folds from the hollow to the edge: fraction of the outline, then height over the ear's
# plane behind, at the lobe and in front.
_EAR_FOLDS = (
    (0.15, -10.0, -4.5, -8.5),
    (0.31, -9.0, -2.5, -6.0),
    (0.45, -4.0, -0.5, -2.0),
    (0.57, 1.6, 0.4, -1.0),
    (0.68, 1.0, 0.6, -0.8),
    (0.79, -1.8, 0.8, -0.5),
    (0.89, 0.4, 0.9, 0.2),
    (0.95, 2.2, 0.6, 0.5),
    (0.99, 1.4, -0.2, 0.0),
    (1.00, -0.4, -1.6, -0.8),
)
_EAR_HOLLOW = np.array([-26.5, -5.0])  # its z and y


def ear_patch() -> Patch:
    """The left ear: a rim that stands off the head, its folds and the hollow in the middle."""
    turn = -2 * np.pi * np.arange(EAR_COLUMNS) / EAR_COLUMNS
    back, up = np.cos(turn), np.sin(turn)  # clockwise as seen from the side; 0 points backwards
    width = 17.0 * (1 - 0.18 * smoothstep(-up))  # narrower at the lobe
    outline = np.stack([-31.5 - width * back - 5.5 * up, -2.5 + 31.0 * up], 1)
    # The root of the ear: all of its front edge, half way back behind it.
    reach = 1.05 - 0.28 * (1 + back) - 0.1 * np.abs(up)
    attach = on_side(_EAR_HOLLOW + reach[:, None] * (outline - _EAR_HOLLOW))
    lobe, front = smoothstep((-up - 0.5) / 0.4), smoothstep((-back + 0.1) / 0.8)
    tragus = smoothstep((-back - 0.5) / 0.4) * np.exp(-(((up + 0.1) / 0.3) ** 2))
    rings = []
    for part, behind, at_lobe, ahead in _EAR_FOLDS:
        side = _EAR_HOLLOW + part * (outline - _EAR_HOLLOW)
        height = behind + (at_lobe - behind) * lobe
        height = height + (ahead - height) * front
        height = height + 4.0 * tragus * np.exp(-(((part - 0.5) / 0.17) ** 2))
        root = attach[:, 0].mean() + part * (attach[:, 0] - attach[:, 0].mean())
        rings.append(np.stack([root + _flare(side[:, 0]) + height, side[:, 1], side[:, 0]], 1))
    wall = 0.5 * attach + 0.5 * rings[-1]
    centre = np.array([[attach[:, 0].mean() - 8.0, _EAR_HOLLOW[1], _EAR_HOLLOW[0]]])
    points = np.concatenate([centre, *rings, wall, attach])
    index = 1 + np.arange(len(points) - 1).reshape(-1, EAR_COLUMNS)
    index = np.concatenate([np.zeros((1, EAR_COLUMNS), int), index])
    return Patch("ear", points, index, grid_faces(index, points, closed=True))


def _flare(z: np.ndarray) -> np.ndarray:
    """How far the ear's plane stands off the head at depth z."""
    return 1.0 + 0.45 * np.maximum(-16 - z, 0)


def eyeball_patch(rings: int = 16, columns: int = 22) -> Patch:
    """The left eyeball: a sphere with its poles on the optical axis, +z first.

    Rings are dense around the iris, so that it can be told apart by vertex.
    """
    polar = np.pi * (np.arange(1, rings) / rings) ** 1.25
    turn = -2 * np.pi * np.arange(columns) / columns
    ring = np.stack([np.cos(turn), np.sin(turn)], 1)
    body = np.concatenate(
        [np.pad(np.sin(p) * ring, ((0, 0), (0, 1)), constant_values=np.cos(p)) for p in polar]
    )
    sphere = np.concatenate([[[0, 0, 1.0]], body, [[0, 0, -1.0]]])
    points = surface.EYE_CENTRE + surface.EYE_RADIUS * sphere
    index = 1 + np.arange(len(body)).reshape(-1, columns)
    poles = np.zeros((1, columns), int), np.full((1, columns), len(points) - 1)
    index = np.concatenate([poles[0], index, poles[1]])
    return Patch("eyeball", points, index, grid_faces(index, points, closed=True))


def on_front(xy: np.ndarray) -> np.ndarray:
    """Skin at frontal positions [N, 2]: x and y as given, z from the surface."""
    azimuth, level = locate(xy, (0, 1))
    return np.column_stack([xy, surface.skin(azimuth, level)[:, 2]])


def on_side(zy: np.ndarray) -> np.ndarray:
    """Skin of the left side at [N, 2] depths z and heights y."""
    azimuth, level = locate(zy, (2, 1))
    return surface.skin(azimuth, level)


def locate(target: np.ndarray, axes: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Azimuth and level at which two coordinates of the base surface take given values (Newton)."""
    start = (0.4, 7.0) if axes == (0, 1) else (1.6, 6.0)
    state = np.tile(np.array(start), (len(target), 1))
    for _ in range(12):
        here = surface.base(*state.T)[:, axes]
        step = 1e-5
        slopes = [(surface.base(*(state + d).T)[:, axes] - here) / step for d in np.eye(2) * step]
        jacobian = np.stack(slopes, axis=-1)
        move = np.linalg.solve(jacobian, (target - here)[..., None])[..., 0]
        state = state + np.clip(move, [-0.3, -1.5], [0.3, 1.5])
        state = np.clip(state, [0, 0.5], [np.pi - 0.05, 13.5])
    return state[:, 0], state[:, 1]


def grid_faces(index: np.ndarray, points: np.ndarray, closed: bool) -> np.ndarray:
    """Triangles of a grid, each quadrilateral cut along its shorter diagonal; pinched ones drop."""
    if closed:
        index = np.concatenate([index, index[:, :1]], axis=1)
    a, b = index[:-1, :-1].ravel(), index[:-1, 1:].ravel()
    d, c = index[1:, :-1].ravel(), index[1:, 1:].ravel()
    one = np.linalg.norm(points[a] - points[c], axis=1)
    other = np.linalg.norm(points[b] - points[d], axis=1)
    first = np.where((one <= other)[:, None], np.stack([a, b, c], 1), np.stack([a, b, d], 1))
    second = np.where((one <= other)[:, None], np.stack([a, c, d], 1), np.stack([b, c, d], 1))
    faces = np.stack([first, second], 1).reshape(-1, 3)
    pinched = (faces == np.roll(faces, 1, axis=1)).any(1)
    return faces[~pinched]


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
