"""Landmark embeddings of the procedural head.

Every point is first placed on the left half (or the midline) and then mirrored, so that the sets
are exactly symmetric. Order and meaning of the points: the 68-point scheme (Sagonas et al. 2013,
"300 faces in-the-wild"), mediapipe's face mesh, and the 203-point scheme of LivePortrait.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from fields_jax import landmark_schemes as schemes
from fields_jax.flame.procedural import patches as patches
from fields_jax.flame.procedural import surface as surface
from fields_jax.flame.procedural.mesh import HeadMesh
from fields_jax.geometry.closest_points import closest_of_nearest

_HALF_MOUTH = patches.MOUTH_COLUMNS // 2
_LIDS = patches.EYE_COLUMNS
# Midline and left side of the nose, frontal x and y.
_NASION, _TIP, _SUBNASALE = (0.0, 24.0), (0.0, -14.0), (0.0, -28.5)
# The jaw line from before the ear to the chin: azimuth, level.
_JAW_LINE = np.array(
    [
        [1.31, 4.9],
        [1.32, 6.0],
        [1.35, 7.1],
        [1.35, 8.1],
        [1.27, 9.1],
        [1.08, 9.65],
        [0.8, 9.85],
        [0.4, 9.95],
        [0.0, 9.95],
    ]
)
# A contour point counts as seen if its unit normal has at least this z, and if it stands out by
# more millimetres than this beyond every point farther along its path.
_FACING, _MARGIN = 0.2, 0.3

# Where mediapipe's points of `landmark_schemes` lie: frontal y of the nose's midline, frontal x and
# y of its side, shares of the half width of the lips.
_NOSE_MIDLINE = (22.0, 15.5, 8.0, 1.0, -7.0, -14.5, -28.5)
_NOSE_SIDE = ((18.0, -18.5), (15.0, -25.0), (7.0, -27.0))
_OUTER_HIGH, _OUTER_LOW = (0, 0.3, 0.58, 0.79, 0.92), (0, 0.3, 0.56, 0.77, 0.91)
_INNER_HIGH, _INNER_LOW = (0, 0.28, 0.52, 0.7, 0.87), (0, 0.28, 0.5, 0.7, 0.85)


@dataclasses.dataclass(frozen=True)
class Points:
    """Embedded points: [N] rows of the faces and [N, 3] barycentric weights."""

    face: np.ndarray
    weight: np.ndarray

    def __getitem__(self, rows: slice | list[int] | np.ndarray) -> Points:
        return Points(self.face[rows], self.weight[rows])


def join(*groups: Points) -> Points:
    return Points(
        np.concatenate([group.face for group in groups]),
        np.concatenate([group.weight for group in groups]),
    )


class Places:
    """Finds places of the left half of the head on its mesh."""

    def __init__(self, mesh: HeadMesh):
        self.mesh = mesh
        self._half = len(mesh.faces) // 2
        left = mesh.faces[: self._half]
        part, ring, column = mesh.part[left], mesh.ring[left], mesh.column[left]
        skin = (
            (part != "eyeball")
            & (part != "ear")
            & ~((part == "mouth") & (ring < patches.MOUTH_SLIT))
        )
        self._skin = np.flatnonzero(skin.all(1))
        lip = ((part == "mouth") & (ring >= patches.MOUTH_SLIT)).all(1)
        self._lips = {
            True: np.flatnonzero(lip & (column <= _HALF_MOUTH).all(1)),
            False: np.flatnonzero(lip & (column >= _HALF_MOUTH).all(1)),
        }
        self._eyeball = np.flatnonzero((part == "eyeball").all(1))

    def mirror(self, points: Points) -> Points:
        """The same places on the right half."""
        return Points(points.face + self._half, points.weight[:, ::-1])

    def nearest(self, targets: np.ndarray, faces: np.ndarray | None = None) -> Points:
        """Nearest points of the skin (or of given left faces) to targets [N, 3].

        Targets on the midline get points exactly on it.
        """
        targets = np.atleast_2d(targets)
        faces = self._skin if faces is None else faces
        corners = self.mesh.points[self.mesh.faces[faces]]
        rows, weights = closest_of_nearest(corners, targets)
        middle = np.abs(targets[:, 0]) < 1e-9
        if middle.any():
            on_line = corners[..., 0] == 0
            bordering = np.flatnonzero(on_line.sum(1) == 2)
            near, share = closest_of_nearest(corners[bordering], targets[middle])
            share = share * on_line[bordering[near]]
            rows[middle] = bordering[near]
            weights[middle] = share / share.sum(1, keepdims=True)
        return Points(faces[rows], weights)

    def front(self, xy) -> Points:
        """Skin at frontal x, y."""
        return self.nearest(patches.on_front(np.atleast_2d(np.asarray(xy, float))))

    def brow(self, share, upper: bool) -> Points:
        """The brow's edge, share 0 at its inner and 1 at its outer end."""
        steps = np.linspace(0, 1, len(surface.BROW))
        x = np.interp(share, steps, surface.BROW[:, 0])
        return self.front(
            np.stack([x, np.interp(share, steps, surface.BROW[:, 1 if upper else 2])], -1)
        )

    def lid(self, columns) -> Points:
        """The middle of the lid's edge at fractional columns.

        Column 0 is the inner corner, 9 above, 18 the outer corner, 27 below.
        """
        rings = [self.mesh.select("eye", ring=patches.EYE_RIM - k) for k in (0, 1)]
        margin = self.mesh.points[np.stack(rings)].mean(0)
        margin = np.concatenate([margin, margin[:1]])
        steps = np.arange(_LIDS + 1)
        columns = np.asarray(columns, float) % _LIDS
        return self.nearest(np.stack([np.interp(columns, steps, m) for m in margin.T], -1))

    def lip(self, share, upper: bool, ring: int) -> Points:
        """A lip's border or slit at a fraction of the half width (0 midline, 1 corner)."""
        line = self.mesh.points[self._lip_line(upper, ring)]
        across = line[:, 0] / line[-1, 0]
        target = np.stack([np.interp(share, across, axis) for axis in line.T], -1)
        return self.nearest(target, self._lips[upper])

    def _lip_line(self, upper: bool, ring: int) -> np.ndarray:
        line = self.mesh.select("mouth", ring=ring)
        return line[: _HALF_MOUTH + 1] if upper else line[: _HALF_MOUTH - 1 : -1]

    def pupil(self) -> Points:
        front = surface.EYE_CENTRE + np.array([0, 0, surface.EYE_RADIUS])
        return self.nearest(front, self._eyeball)

    def jaw_line(self, share: np.ndarray, yaws=(0.0,)) -> Points:
        """Outlines of the left cheek and jaw in heads turned by `yaws` degrees, one after another.

        Share 0 lies before the ear, 1 at the chin. Where the jaw line itself faces away, the point
        moves across the cheek to the first place that faces the viewer, or to a farther one that
        hides it.
        """
        start = _along(_JAW_LINE, share)
        rise = np.sin(np.pi * np.clip((share - 0.2) / 0.8, 0, 1))
        goal = np.stack([0.3 * start[:, 0], start[:, 1] - rise], 1)
        path = start[:, None] + np.linspace(0, 1, 60)[:, None] * (goal - start)[:, None]
        normal = _normals(path.reshape(-1, 2)).reshape(*path.shape[:2], 3)
        turn = np.radians(yaws)[:, None, None]
        facing = normal[..., 2] * np.cos(turn) - normal[..., 0] * np.sin(turn)  # [yaw, N, step]
        points = surface.skin(*path.reshape(-1, 2).T).reshape(normal.shape)
        outwards = points[..., 0] * np.cos(turn) + points[..., 2] * np.sin(turn)
        beyond = np.maximum.accumulate(outwards[..., ::-1], axis=-1)[..., ::-1]
        beyond = np.pad(beyond[..., 3:], ((0, 0), (0, 0), (0, 3)), constant_values=-np.inf)
        seen = (facing > _FACING) & (outwards > beyond + _MARGIN)
        best = np.where(seen.any(-1), seen.argmax(-1), facing.argmax(-1))
        chosen = path[np.arange(len(share)), best].reshape(-1, 2)
        return self.nearest(surface.skin(*chosen.T))


def contour(places: Places) -> tuple[np.ndarray, np.ndarray]:
    """Faces [79, 17] and weights [79, 17, 3] of the outline for yaws 0..39, then -1..-39.

    Point 0 lies before the right ear (x < 0), 8 at the chin, 16 before the left ear. Positive yaw
    turns the nose to +x, which moves the left outline onto the cheek.
    """
    yaws = range(-schemes.CONTOUR_MAX_YAW, schemes.CONTOUR_MAX_YAW + 1)
    every = places.jaw_line(np.linspace(0, 1, 9), yaws)
    sides = {yaw: every[9 * row : 9 * row + 9] for row, yaw in enumerate(yaws)}
    rows = []
    for yaw in [*range(schemes.CONTOUR_MAX_YAW + 1), *range(-1, -schemes.CONTOUR_MAX_YAW - 1, -1)]:
        right = places.mirror(sides[-yaw][:8])
        rows.append(join(right, sides[0][8:], sides[yaw][7::-1]))
    return np.stack([row.face for row in rows]), np.stack([row.weight for row in rows])


def static_51(places: Places) -> Points:
    """Points 17..67 of the 68-point scheme: brows, nose, eyes, lips."""
    brow = places.brow([0.04, 0.28, 0.5, 0.74, 0.98], upper=True)  # inner to outer
    bridge = places.front([(0, 22), (0, 10), (0, -1.5), _TIP])
    base = places.front([(0, -28), (6.0, -27.5), (11.8, -26.5)])
    eye = places.lid([0, 7.1, 12, 18, 23.8, 28.9])  # inner, above, outer, below
    mirror = places.mirror
    border, slit = patches.MOUTH_BORDER, patches.MOUTH_SLIT
    high = places.lip([0, 0.29, 0.67, 1], True, border)
    low = places.lip([0, 0.4, 0.71], False, border)
    inner_high = places.lip([0, 0.45, 1], True, slit)
    inner_low = places.lip([0, 0.47], False, slit)
    return join(
        mirror(brow[::-1]),
        brow,
        bridge,
        mirror(base[:0:-1]),
        base,
        mirror(eye[[3, 2, 1, 0, 5, 4]]),
        eye,
        mirror(high[:0:-1]),
        high,
        low[::-1],
        mirror(low[1:]),
        mirror(inner_high[:0:-1]),
        inner_high,
        inner_low[::-1],
        mirror(inner_low[1:]),
    )


def landmarks_105(places: Places) -> Points:
    """The mediapipe points, in the order of `landmark_schemes.MEDIAPIPE_105`."""
    by_index: dict[int, Points] = {}

    def put(pairs, points: Points) -> None:
        for row, (left, right) in enumerate(pairs):
            if right != left:
                by_index[right] = places.mirror(points[[row]])
            by_index[left] = points[[row]]

    put(schemes.BROW_LOW_478, places.brow([0.03, 0.34, 0.57, 0.78, 0.97], upper=False))
    put(schemes.BROW_HIGH_478, places.brow([0.03, 0.36, 0.59, 0.8, 1], upper=True))
    put(schemes.LID_HIGH_478, places.lid(np.linspace(0, 18, 9)))
    put(schemes.LID_LOW_478, places.lid(np.linspace(36, 18, 9)[1:-1]))
    put(
        [(k, k) for k in schemes.NOSE_MIDLINE_478],
        places.front([(0, y) for y in _NOSE_MIDLINE]),
    )
    put(schemes.NOSE_SIDE_478, places.front(list(_NOSE_SIDE)))
    border, slit = patches.MOUTH_BORDER, patches.MOUTH_SLIT
    for pairs, share, upper, ring in (
        (schemes.LIP_OUTER_HIGH_478, _OUTER_HIGH, True, border),
        (schemes.LIP_OUTER_LOW_478, _OUTER_LOW, False, border),
        (schemes.LIP_INNER_HIGH_478, _INNER_HIGH, True, slit),
        (schemes.LIP_INNER_LOW_478, _INNER_LOW, False, slit),
    ):
        put(pairs, places.lip(share, upper, ring))
    for pair, ring in zip(schemes.LIP_CORNERS_478, (border, slit), strict=True):
        put([pair], places.lip([1.0], True, ring))
    return join(*(by_index[int(index)] for index in schemes.MEDIAPIPE_105))


def landmarks_203(places: Places) -> Points:
    """The dense points, group by group as LivePortrait numbers them."""
    mirror = places.mirror
    eye = places.lid(
        np.linspace(0, _LIDS, 24, endpoint=False)
    )  # from the inner corner, above first
    border, slit = patches.MOUTH_BORDER, patches.MOUTH_SLIT
    high, low = (places.lip(np.linspace(0, 1, 10), upper, border) for upper in (True, False))
    inner_high, inner_low = (places.lip(np.linspace(0, 1, 7), up, slit) for up in (True, False))
    jaw = places.jaw_line(np.linspace(0, 1, 19))  # before the ear to the chin
    brow_high = places.brow(np.linspace(0.02, 1, 10), upper=True)
    brow_low = places.brow(np.linspace(0.98, 0.05, 10), upper=False)
    nose = places.front([(9, 22), (11, 6), (15.5, -11), (17, -19), (11, -26.5), (4.5, -28)])
    midline = places.front([_NASION, (0, 4), _TIP, _SUBNASALE])
    return join(
        mirror(eye[(12 - np.arange(24)) % 24]),
        eye,
        mirror(high[:0:-1]),
        high[:9],
        low[:0:-1],
        mirror(low[:9]),
        mirror(inner_high[:0:-1]),
        inner_high,
        inner_low[5::-1],
        mirror(inner_low[1:6]),
        mirror(jaw[:18]),
        jaw[::-1],
        mirror(join(brow_high[::-1], brow_low[::-1])),
        brow_high,
        brow_low,
        mirror(nose),
        nose[::-1],
        mirror(places.pupil()),
        places.pupil(),
        midline,
    )


def _along(line: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Points of a line in (azimuth, level) at fractions of its length on the skin."""
    fine = surface.cubic_spline(np.arange(len(line)), line, np.linspace(0, len(line) - 1, 400))
    fine[:, 0] = np.maximum(fine[:, 0], 0)
    step = np.linalg.norm(np.diff(surface.skin(*fine.T), axis=0), axis=1)
    run = np.concatenate([[0], np.cumsum(step)]) / step.sum()
    return np.stack([np.interp(share, run, axis) for axis in fine.T], -1)


def _normals(state: np.ndarray) -> np.ndarray:
    """Unit outward normals of the skin at [N, 2] azimuths and levels, from differences."""
    step = 0.02
    across = surface.skin(state[:, 0] + step, state[:, 1])
    across = across - surface.skin(np.maximum(state[:, 0] - step, 0), state[:, 1])
    down = surface.skin(state[:, 0], state[:, 1] + step)
    down = down - surface.skin(state[:, 0], state[:, 1] - step)
    normal = np.cross(down, across)
    return normal / np.linalg.norm(normal, axis=1, keepdims=True)
