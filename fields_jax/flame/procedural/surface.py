"""The skin of the procedural head as an analytic surface, in millimetres.

A stack of horizontal sections (`_LEVELS`) gives a skull with a jaw and a neck; sculpting strokes,
ellipsoids blended by a smooth maximum and the lips' own relief turn it into a face. The surface is
a function of an azimuth (0 at the front, pi at the back) and a level (0 at the crown, 14 at the
base of the neck) and covers the head's left half, x >= 0; the right half is its mirror image.

All sizes are our own, chosen within the normal range of adult facial anthropometry (Farkas 1994,
"Anthropometry of the head and face").
"""

from __future__ import annotations

import numpy as np

EYE_CENTRE = np.array([32.0, 20.5, 37.0])  # left eyeball; pupils 64 mm apart
EYE_RADIUS = 12.0
LID_THICKNESS = 1.2
LAST_LEVEL = 14.0
CROWN_DEPTH = -37.0  # z of the highest point

# The left brow's hair from its inner to its outer end: frontal x, upper edge, lower edge.
BROW = np.array(
    [
        [10.5, 43, 36],
        [20, 45.5, 38.5],
        [31, 47.5, 41],
        [42, 47.5, 41.5],
        [51, 45.5, 41],
        [59, 39.5, 37],
    ]
)

# Per level: y at front, side and back; half width; extent to the front and to the back of the
# section's centre; z of that centre; exponent of the superellipse (2 = ellipse).
_LEVELS = np.array(
    [
        [129, 129, 129, 0.0, 0.0, 0.0, CROWN_DEPTH, 2.0],  # crown
        [124.5, 124.5, 123.5, 35, 43, 43, -37, 2.0],
        [108, 108, 106, 60, 73.5, 74, -38, 2.0],
        [80, 76, 74, 75.5, 94, 92, -38, 2.0],  # hairline
        [48, 46, 42, 77.5, 97.5, 96, -35, 2.15],  # brow
        [22, 20, 10, 75.5, 87, 94, -30, 2.35],  # nasion
        [0, -2, -14, 73.5, 82, 88, -28, 2.4],
        [-25, -24, -36, 70.5, 86, 77, -28, 2.3],  # base of the nose
        [-48, -42, -55, 65.5, 87, 70, -28, 2.2],  # mouth
        [-70, -56, -72, 60, 83.5, 66, -28, 2.05],  # mentolabial fold
        [-90, -67, -86, 53, 77, 66, -29, 1.95],  # edge of the jaw
        [-95, -78.5, -96, 47, 64, 64, -32, 1.9],
        [-100, -92, -112, 45, 46, 64, -42, 2.0],  # throat
        [-124, -118, -130, 46, 42, 68, -53, 2.1],
        [-150, -150, -150, 56, 47, 70, -60, 2.1],  # base of the neck
    ]
)

# Sculpting strokes, each a Gaussian bump over the frontal plane: centre x, y; radii along and
# across the stroke; its direction in degrees; displacement x, y, z.
_STROKES = np.array(
    [
        [0, 36, 11, 8, 0, 0, 0, 1.0],  # glabella
        [25, 38.5, 14, 5.8, 8, 0, -0.5, 2.4],  # brow ridge
        [52.5, 37, 9, 6.5, -25, 1.5, 0, 5.2],  # outer end of the brow ridge
        [24, 62, 16, 12, 0, 0, 0, 1.0],  # frontal eminence
        [0, 67, 19, 11, 0, 0, 0, -1.9],  # flat between them
        [66, 36, 12, 16, 0, -2.5, 0, -1.0],  # temple
        [30, 18.5, 14, 8.5, 0, 0, 0, -9.0],  # eye socket
        [14, 19, 5.5, 8, 0, 0, 0, -4.5],  # inner corner of the socket
        [53, -4, 13, 10, -20, 1.5, 0, 4.0],  # cheekbone
        [32, -14, 12, 11, 0, 0, 0, 0.5],  # front of the cheek
        [20.5, -21, 6, 10, 0, 0, 0, -2.8],  # beside the nose
        [55, -22, 12, 10, 0, 0, 0, 1.1],  # below the cheekbone
        [46, -40, 13, 15, 0, -1, 0, -1.0],  # hollow of the cheek
        [27, -36, 13, 2.6, 115, 0, 0, -1.2],  # nasolabial fold
        [33, -35, 13, 4.5, 115, 0, 0, 0.3],  # its outer bank
        [0, -46, 22, 15, 0, 0, 0, 4.0],  # teeth behind the lips
        [0, -37, 7.5, 13, 0, 0, 0, 4.5],  # the front ones and the base of the nose
        [42, 28, 8, 5, 0, 0, 0, 2.6],  # skin over the outer half of the upper lid
        [22, 31.5, 7, 4, 0, 0, 0, -2.0],  # inner corner of the socket's roof
        [20, 13, 4, 4, 0, 0, 0, 1.8],  # between the lower lid and the nose
        [39, 12.5, 8, 4, 0, 0, 0, 1.8],  # lower edge of the lower lid
        [50, 14, 6, 9, 0, 0, 0, -1.4],  # outer edge of the socket
        [64, 8, 7, 10, 0, 0, 0, 1.4],  # arch of the cheekbone
        [34, 0, 14, 5, -10, 0, 0, -1.5],  # hollow under the eye
        [0, -28, 6, 3, 0, 0, 0, 1.2],  # base of the nose's bridge
        [0, -35, 2.2, 5, 0, 0, 0, -1.3],  # philtrum
        [4.6, -35.5, 1.8, 6, 0, 0, 0, 0.9],  # its ridge
        [25, -49.5, 4, 4.5, 0, 0, 0, -4.5],  # corner of the mouth
        [0, -41.5, 14, 4, 0, 0, 0, 0.8],  # edge of the upper lip
        [20, -45, 6, 5, 0, 0, 0, 1.0],  # the same near its end
        [0, -59, 13, 5, 0, 0, 0, 1.6],  # edge of the lower lip
        [27, -61, 8, 7, 0, 0, 0, -2.2],  # below the corner of the mouth
        [0, -67, 17, 4.2, 0, 0, 0, -3.5],  # mentolabial fold
        [0, -81, 18, 9, 0, 0, 0, 4.0],  # chin
        [38, -86, 13, 12, 0, -2, 2, -2.0],  # taper of the chin
        [33, -33, 7, 9, 0, 0, 0, -1.4],  # fold from the nose to the mouth
        [43, -72, 10, 8, 0, 0, 0, 2.5],  # lower edge of the cheek
        [26, -84, 9, 7, 0, 0, 0, 2.2],  # side of the chin
        [58, -54, 9, 12, 0, 2.5, 0, 0],  # angle of the jaw
    ]
)

# Profile of the nose along the midline: y, z of the ridge, its half width, slope of its flanks.
_NOSE_RIDGE = np.array(
    [
        [44, 56, 9, 0.5],
        [32, 58.5, 8, 0.7],
        [22, 61, 5.5, 1.6],
        [12, 67, 6, 1.9],
        [0, 75, 7.5, 2.0],
        [-10, 80, 8, 2.1],
        [-16, 80, 7.5, 2.0],
        [-22, 74, 7.5, 2.0],
        [-28, 58, 7, 2.2],
        [-40, 46, 7, 2.2],
    ]
)
# Ellipsoids of the nose: centre and radii.
_NOSE_ELLIPSOIDS = (
    ((0.0, -14.5, 70.5), (9.5, 8.5, 10.5)),  # tip
    ((8.0, -14.0, 67.5), (5.0, 6.5, 8.5)),  # side of the tip
    ((12.6, -17.2, 60.5), (5.4, 6.0, 9.0)),  # wing
    ((0.0, -20.5, 64.0), (4.0, 6.0, 11.0)),  # columella
)


def skin(azimuth: np.ndarray, level: np.ndarray) -> np.ndarray:
    """Points of the sculpted skin, lips and ears excepted, [N, 3]."""
    return sculpt(base(azimuth, level))


def sculpt(points: np.ndarray) -> np.ndarray:
    """Moves points of the base surface, [N, 3], to the sculpted skin."""
    x, y = points[:, 0], points[:, 1]
    front = smoothstep((points[:, 2] + 30) / 45)
    points = points + front[:, None] * _stroke_sum(x, y)
    depth = points[:, 2]
    nose = front * smoothstep((30 - x) / 8) * smoothstep((46 - y) / 14) * smoothstep((y + 42) / 8)
    depth = depth + nose * (smooth_max(depth, _nose(x, y), 3.5) - depth)
    eye = front * smoothstep((26 - np.hypot(x - EYE_CENTRE[0], y - EYE_CENTRE[1])) / 8)
    depth = depth + eye * (smooth_max(depth, _lid_shell(x, y), 2.0) - depth)
    return np.stack([points[:, 0], points[:, 1], depth], axis=-1)


def _stroke_sum(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Sum of the strokes and of their mirror images at x, y."""
    total = np.zeros((len(x), 3))
    for side in (1.0, -1.0):
        for cx, cy, along, across, degrees, *move in _STROKES:
            if cx == 0 and side < 0:
                continue
            c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
            dx, dy = side * x - cx, y - cy
            weight = np.exp(
                -0.5 * (((c * dx + s * dy) / along) ** 2 + ((c * dy - s * dx) / across) ** 2)
            )
            total += weight[:, None] * (np.array(move) * [side, 1, 1])
    return total


def _nose(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Height of the nose over the frontal plane: a ridged roof, tip, wings and a nostril's pit."""
    ridge, width, slope = cubic_spline(-_NOSE_RIDGE[:, 0], _NOSE_RIDGE[:, 1:], -y).T
    height = ridge - slope * (np.sqrt(x**2 + width**2) - width)
    for centre, radii in _NOSE_ELLIPSOIDS:
        height = smooth_max(height, _ellipsoid_front(x, y, centre, radii), 4.0)
    nostril = np.exp(-0.5 * (((x - 8.5) / 3.0) ** 2 + ((y + 22.0) / 1.9) ** 2))
    return height - 7.0 * nostril


def _ellipsoid_front(x: np.ndarray, y: np.ndarray, centre, radii) -> np.ndarray:
    """Height of an ellipsoid's front over the frontal plane; it falls steeply outside."""
    outside = ((x - centre[0]) / radii[0]) ** 2 + ((y - centre[1]) / radii[1]) ** 2
    inside = np.sqrt(np.maximum(1 - outside, 0))
    return centre[2] + radii[2] * (inside - np.maximum(outside - 1, 0) * 1.5)


def _lid_shell(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Height of the sphere on which the lids' skin lies; the upper lid is the thicker one."""
    radius = EYE_RADIUS + LID_THICKNESS
    upper = smoothstep((y - EYE_CENTRE[1]) / 5) * smoothstep((33 - y) / 6)
    return _ellipsoid_front(x, y, EYE_CENTRE, (radius, radius, radius)) + 1.6 * upper


def jaw_edge(z: np.ndarray) -> np.ndarray:
    """Height of the mandible's lower edge at depth z, from the chin up to the angle of the jaw."""
    return -91 + 0.37 * (52 - z)


def smooth_max(a: np.ndarray, b: np.ndarray, softness: float) -> np.ndarray:
    """Maximum with a rounded kink; where a = b it exceeds them by half the softness."""
    return 0.5 * (a + b + np.sqrt((a - b) ** 2 + softness**2))


def smoothstep(x: np.ndarray) -> np.ndarray:
    """Rises from 0 at x = 0 to 1 at x = 1, flat at both ends and beyond."""
    x = np.clip(x, 0, 1)
    return x * x * (3 - 2 * x)


def base(azimuth: np.ndarray, level: np.ndarray) -> np.ndarray:
    """Points of the unsculpted head: [N] azimuths in [0, pi] and [N] levels to [N, 3]."""
    front, side, back, width, ahead, behind, centre, power = _level_values(level)
    cosine, sine = np.cos(azimuth), np.sin(azimuth)
    extent = np.where(cosine > 0, ahead, behind)
    width, extent = np.maximum(width, 1e-9), np.maximum(extent, 1e-9)
    radius = (np.abs(sine / width) ** power + np.abs(cosine / extent) ** power) ** (-1 / power)
    y = side + (np.where(cosine > 0, front, back) - side) * cosine**2
    return np.stack([radius * sine, y, centre + radius * cosine], axis=-1)


def _level_values(level: np.ndarray) -> np.ndarray:
    """The eight columns of `_LEVELS` at fractional levels, [8, N], by cubic splines.

    The table is continued through the crown (extents odd, the rest even) so that the top is smooth.
    """
    sign = np.where(np.isin(np.arange(8), (3, 4, 5)), -1.0, 1.0)
    knots = np.arange(-3, len(_LEVELS))
    values = np.concatenate([_LEVELS[3:0:-1] * sign, _LEVELS])
    return cubic_spline(knots, values, level).T


def cubic_spline(knots: np.ndarray, values: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Natural cubic spline through `values` [K, ...] at increasing `knots` [K]."""
    step = np.diff(knots).astype(float)
    slope = np.diff(values, axis=0) / step.reshape(-1, *[1] * (values.ndim - 1))
    matrix = np.eye(len(knots))
    inner = np.arange(1, len(knots) - 1)
    matrix[inner, inner - 1], matrix[inner, inner + 1] = step[:-1], step[1:]
    matrix[inner, inner] = 2 * (step[:-1] + step[1:])
    right = np.zeros(values.shape)
    right[1:-1] = 6 * np.diff(slope, axis=0)
    bend = np.linalg.solve(matrix, right.reshape(len(knots), -1)).reshape(values.shape)
    cell = np.clip(np.searchsorted(knots, at, side="right") - 1, 0, len(knots) - 2)
    shape = (-1, *[1] * (values.ndim - 1))
    width = step[cell].reshape(shape)
    left = (np.asarray(at) - knots[cell]).reshape(shape)
    rest = width - left
    return (
        (bend[cell] * rest**3 + bend[cell + 1] * left**3) / (6 * width)
        + (values[cell] / width - bend[cell] * width / 6) * rest
        + (values[cell + 1] / width - bend[cell + 1] * width / 6) * left
    )
