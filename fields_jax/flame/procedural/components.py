"""Blend shapes of the procedural head, in millimetres per standard deviation.

Leading components are proportions and facial movements with a name; the rest is smooth noise of
falling size, so that the head has as many degrees of freedom as FLAME.
"""

from __future__ import annotations

import numpy as np

from fields_jax.flame.procedural import patches as patches
from fields_jax.flame.procedural import surface as surface
from fields_jax.flame.procedural.mesh import HeadMesh
from fields_jax.flame.procedural.rig import gauss, lid_travel, mirrored
from fields_jax.flame.procedural.surface import smoothstep

SHAPE_COUNT, EXPRESSION_COUNT = 300, 100
_EYES = surface.EYE_CENTRE * np.array([[1, 1, 1], [-1, 1, 1]])
_HALF_MOUTH = patches.MOUTH_COLUMNS // 2

# Symmetric proportions made of bumps: centre on the left side, radii, displacement there.
_PROPORTIONS = {
    "jaw_width": [((54, -60, 0), (22, 24, 32), (3.6, 0, 0))],
    "chin_length": [((0, -92, 50), (30, 20, 30), (0, -3.6, 0))],
    "chin_protrusion": [((0, -82, 60), (22, 16, 24), (0, 0, 3.4))],
    "nose_length": [((0, -18, 72), (17, 14, 22), (0, -3.0, 0))],
    "nose_width": [((15, -19, 62), (7, 9, 14), (2.4, 0, 0))],
    "nose_protrusion": [((0, -14, 78), (13, 13, 20), (0, 0, 3.4))],
    "nose_bridge": [((0, 10, 64), (9, 13, 16), (0, 0, 2.8))],
    "eye_distance": [((31.5, 20, 40), (16, 22, 26), (2.2, 0, 0))],
    "eye_depth": [((31.5, 20, 40), (20, 16, 22), (0, 0, -2.2))],
    "brow_height": [((27, 43, 58), (24, 11, 26), (0, 2.6, 0))],
    "brow_ridge": [((22, 37, 62), (22, 8, 20), (0, 0, 2.8))],
    "cheek_fullness": [((46, -34, 38), (18, 20, 26), (2.6, 0, 2.2))],
    "cheekbones": [((56, 0, 32), (16, 12, 24), (2.6, 0, 1.8))],
    "mouth_width": [((25, -50, 56), (13, 10, 20), (2.8, 0, -0.6))],
    "mouth_height": [((0, -50, 64), (30, 18, 30), (0, 2.4, 0))],
    "mouth_protrusion": [((0, -49, 66), (24, 15, 24), (0, 0, 2.8))],
    "forehead_slope": [((0, 92, 40), (60, 28, 40), (0, 0, -3.8))],
    "neck_width": [((54, -130, -45), (40, 28, 60), (3.8, 0, 0))],
    "temple_width": [((66, 36, 12), (18, 24, 28), (2.6, 0, 0.8))],
}
# One-sided or turned proportions; x is not mirrored here.
_ASYMMETRIES = {
    "nose_aside": [((0, -18, 74), (14, 16, 20), (1.6, 0, 0))],
    "chin_aside": [((0, -84, 50), (40, 26, 40), (2.4, 0, 0))],
    "mouth_aside": [((0, -50, 62), (34, 16, 30), (1.6, 0, 0))],
}

# Movements of one half of the face, in the order of their components.
EXPRESSIONS = (
    "brow_inner_up",
    "brow_outer_up",
    "brow_down",
    "lid_raise",
    "lid_tighten",
    "cheek_raise",
    "nose_wrinkle",
    "lip_corner_up",
    "lip_corner_down",
    "lip_stretch",
    "lip_pucker",
    "lip_press",
    "upper_lip_raise",
    "lower_lip_down",
    "lip_dimple",
    "cheek_puff",
)
# The movements made of bumps, given for the left half like `_PROPORTIONS`.
_MOVEMENTS = {
    "brow_inner_up": [((11, 43, 62), (12, 10, 26), (0.4, 3.2, 0.4))],
    "brow_outer_up": [((43, 42, 46), (14, 10, 26), (0.2, 3.0, -0.4))],
    "brow_down": [((18, 39, 60), (15, 9, 24), (-1.6, -2.7, 0.8))],
    "cheek_raise": [((39, -3, 50), (15, 10, 22), (-0.3, 2.4, 1.4))],
    "nose_wrinkle": [
        ((15, -15, 62), (9, 11, 16), (0.4, 2.3, -0.3)),
        ((10, 14, 58), (8, 9, 16), (-0.3, 0.9, 0.7)),
        ((9, 36, 62), (9, 7, 20), (-0.5, -1.2, 0.3)),
    ],
    "lip_corner_up": [
        ((26, -50, 56), (14, 11, 24), (1.6, 2.6, -1.3)),
        ((12, -50, 64), (11, 9, 20), (0.3, 0.6, -0.2)),
        ((40, -20, 50), (14, 11, 22), (0.5, 1.0, 1.2)),
    ],
    "lip_corner_down": [
        ((26, -51, 56), (11, 10, 22), (0.3, -2.8, -0.4)),
        ((22, -66, 56), (11, 9, 20), (0.2, -0.9, 0.5)),
    ],
    "lip_stretch": [((26, -50, 56), (14, 11, 24), (3.0, -0.6, -1.6))],
    "lip_pucker": [
        ((22, -50, 58), (11, 12, 26), (-3.2, 0, 0.6)),
        ((0, -50, 66), (15, 13, 26), (0, 0, 2.6)),
    ],
    "lip_dimple": [((27, -50, 56), (8, 8, 18), (1.8, 0.3, -2.6))],
    "cheek_puff": [
        ((44, -40, 40), (14, 15, 24), (2.6, 0, 2.6)),
        ((24, -38, 58), (10, 10, 18), (0.4, 0, 1.0)),
    ],
}
_CHIN_RAISE = [
    ((0, -76, 62), (18, 13, 24), (0, 2.6, 1.0)),
    ((0, -54, 66), (17, 9, 24), (0, 1.3, 0.6)),
]
# Compositions people make: name of a movement (both sides, or one) and standard deviations.
_TEMPLATES = (
    {"lip_corner_up": 1.5, "cheek_raise": 0.6},
    {"lip_corner_up": 2.5, "cheek_raise": 1.5, "lid_tighten": 0.8},
    {"lip_corner_up": 2.2, "upper_lip_raise": 1.2, "lower_lip_down": 0.8, "cheek_raise": 1.0},
    {"lip_corner_up_left": 2.4, "lip_dimple_left": 0.8},
    {"lip_corner_up_right": 2.4, "lip_dimple_right": 0.8},
    {"lip_pucker": 2.5},
    {"lip_pucker": 1.6, "upper_lip_raise": 0.6, "lower_lip_down": 0.8},
    {"lip_press": 2.2, "lip_dimple": 0.6},
    {"lip_press": 1.5, "chin_raise": 1.2},
    {"lip_stretch_left": 2.2, "lip_corner_down_left": 0.6, "lip_pucker_right": 0.8},
    {"lip_stretch_right": 2.2, "lip_corner_down_right": 0.6, "lip_pucker_left": 0.8},
    {"lip_stretch": 2.0, "lower_lip_down": 0.8},
    {"brow_inner_up": 1.8, "brow_outer_up": 1.8},
    {"brow_inner_up": 2.0, "brow_outer_up": 2.0, "lid_raise": 1.8},
    {"brow_outer_up_left": 2.5, "brow_down_right": 1.0},
    {"brow_outer_up_right": 2.5, "brow_down_left": 1.0},
    {"brow_down": 2.2, "lid_tighten": 0.8},
    {"brow_down": 2.2, "lid_raise": 0.8, "lip_press": 1.5, "nose_wrinkle": 0.8},
    {"brow_inner_up": 2.0, "brow_down": 0.6, "lip_corner_down": 1.8, "chin_raise": 1.0},
    {"brow_inner_up": 1.8, "brow_outer_up": 1.2, "lid_raise": 2.0, "lip_stretch": 1.8},
    {"nose_wrinkle": 2.4, "upper_lip_raise": 1.2, "brow_down": 0.8},
    {"nose_wrinkle": 1.6, "upper_lip_raise": 1.6, "lip_corner_down": 1.0, "chin_raise": 0.8},
    {"cheek_puff": 2.2, "lip_press": 0.8},
    {"cheek_puff": -1.4, "lip_pucker": 1.0},
    {"lip_dimple_left": 2.4, "lip_corner_up_left": 0.8},
    {"upper_lip_raise": 1.8, "lower_lip_down": 1.8},
)


def shape_basis(mesh: HeadMesh, seed: int) -> np.ndarray:
    """[V, 3, 300] identity: proportions of skull, jaw, nose, eyes, mouth, ears, then noise."""
    points = np.concatenate([mesh.points, _EYES])
    fields = _skull_proportions(points)
    fields += [_bumps(points, bumps) for bumps in _PROPORTIONS.values()]
    fields += [_bumps(points, bumps, mirror=False) for bumps in _ASYMMETRIES.values()]
    basis = [_with_eyes(mesh, field, 17, 28) for field in fields]
    basis += [_eye_size(mesh), _ear_size(mesh), _lip_thickness(mesh)]
    noise = _smooth_noise(points, SHAPE_COUNT - len(basis), (180, 55), seed)
    noise = [_with_eyes(mesh, field, 17, 28) for field in noise]
    basis += _falling(noise, 0.8, 0.02)
    return np.stack(basis, axis=-1)


def expression_basis(mesh: HeadMesh, seed: int) -> tuple[np.ndarray, tuple[str, ...]]:
    """[V, 3, 100] movements and the names of the leading ones, left before right."""
    fields = {name: _bumps(mesh.points, bumps) for name, bumps in _MOVEMENTS.items()}
    fields = {name: _with_eyes(mesh, field, 15.5, 23) for name, field in fields.items()}
    upper, lower = lid_travel(mesh)
    upper, lower = upper + mirrored(mesh, upper), lower + mirrored(mesh, lower)
    fields["lid_raise"] = -0.2 * upper
    fields["lid_tighten"] = 0.16 * upper + 0.7 * lower
    fields["cheek_raise"] = fields["cheek_raise"] + 0.05 * upper + 0.35 * lower
    fields |= _lip_movements(mesh)
    left = smoothstep((mesh.points[:, :1] + 8) / 16)
    basis, names = [], []
    for name in EXPRESSIONS:
        basis += [left * fields[name], (1 - left) * fields[name]]
        names += [f"{name}_left", f"{name}_right"]
    basis.append(_with_eyes(mesh, _bumps(mesh.points, _CHIN_RAISE), 15.5, 23))
    names.append("chin_raise")
    noise = _smooth_noise(mesh.points, EXPRESSION_COUNT - len(basis), (90, 35), seed + 1)
    face = smoothstep((mesh.points[:, 2] - 5) / 40) * smoothstep((95 - mesh.points[:, 1]) / 40)
    noise = [_with_eyes(mesh, face[:, None] * field, 15.5, 23) for field in noise]
    basis += _falling(noise, 0.8, 0.05)
    return np.stack(basis, axis=-1), tuple(names)


def _skull_proportions(points: np.ndarray) -> list[np.ndarray]:
    """Width, height, depth of the head and length of the face; the last two rows are the eyes."""
    x, y, z = points.T
    zero = np.zeros_like(x)
    above = smoothstep((y + 120) / 60)
    crown = np.maximum(y - 25, 0) ** 2 / (np.maximum(y - 25, 0) + 25)
    back = np.maximum(-20 - z, 0) ** 2 / (np.maximum(-20 - z, 0) + 25) * above
    low = np.maximum(15 - y, 0) ** 2 / (np.maximum(15 - y, 0) + 25)
    length = low * smoothstep((z + 60) / 70)
    return [
        np.stack([0.048 * x * above, zero, zero], 1),
        np.stack([zero, 0.045 * crown, zero], 1),
        np.stack([zero, zero, -0.05 * back], 1),
        np.stack([zero, -0.036 * length, zero], 1),
    ]


def _bumps(points: np.ndarray, bumps, mirror: bool = True) -> np.ndarray:
    """Sum of bumps [N, 3]; mirrored ones change the sign of x smoothly across the midline."""
    total = np.zeros_like(points)
    side = np.tanh(points[:, 0] / 8) if mirror else np.ones(len(points))
    for centre, radii, (right, up, out) in bumps:
        weight = gauss(points, centre, radii)
        total += weight[:, None] * np.stack([right * side, 0 * side + up, 0 * side + out], 1)
    return total


def _with_eyes(mesh: HeadMesh, field: np.ndarray, inner: float, outer: float) -> np.ndarray:
    """Carries each eyeball and the lids on it as one piece.

    `field` may end with two rows that move the eye centres; without them the eyes stay put.
    """
    vertices = len(mesh.points)
    moves = field[vertices:] if len(field) > vertices else np.zeros((2, 3))
    field = field[:vertices].copy()
    for centre, move, left in zip(_EYES, moves, (True, False), strict=True):
        zone = smoothstep((outer - np.linalg.norm(mesh.points - centre, axis=1)) / (outer - inner))
        field += zone[:, None] * (move - field)
        field[mesh.select("eyeball", left)] = move
    return field


def _eye_size(mesh: HeadMesh) -> np.ndarray:
    field = np.zeros_like(mesh.points)
    for centre in _EYES:
        offset = mesh.points - centre
        zone = smoothstep((30 - np.linalg.norm(offset, axis=1)) / 14)
        field += 0.07 * zone[:, None] * offset
    return field


def _ear_size(mesh: HeadMesh) -> np.ndarray:
    """Scales the ears about their attachment; the outermost ring belongs to the skin and stays."""
    ear = (mesh.part == "ear")[:, None]
    root = np.array([70, -4, -22]) * np.where(mesh.left, 1, -1)[:, None] ** np.array([1, 0, 0])
    return np.where(ear, 0.1 * (mesh.points - root), 0)


def _lip_thickness(mesh: HeadMesh) -> np.ndarray:
    """Thicker lips: their borders move apart and their middle comes forward."""
    border, bulge, up = _lip_profiles(mesh)
    field = np.zeros_like(mesh.points)
    field[:, 1] = 1.5 * border * up
    field[:, 2] = 1.3 * bulge
    return field


def _lip_profiles(mesh: HeadMesh) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Per vertex: 1 at the lips' border, 1 at their fullest, and +1 or -1 for upper and lower.

    All are 0 at the slit, at the corners and away from the mouth.
    """
    mouth = mesh.part == "mouth"
    share = 1 - np.abs(mesh.column - _HALF_MOUTH) / _HALF_MOUTH
    along = np.where(mouth, np.maximum(1 - share**2, 0) ** 0.7, 0)
    rings = np.array([0, 0, 0, 0, 0, 0.2, 0.55, 0.85, 1, 0.85, 0.55, 0.15, 0])
    fullness = np.array([0, 0, 0, 0, 0.1, 0.6, 1, 0.8, 0.35, 0.15, 0, 0, 0])
    ring = np.where(mouth, mesh.ring, 0)
    return along * rings[ring], along * fullness[ring], np.sign(_HALF_MOUTH - mesh.column)


def _lip_movements(mesh: HeadMesh) -> dict[str, np.ndarray]:
    """Movements in which one lip parts from the other."""
    x, y, _ = mesh.points.T
    mouth = mesh.part == "mouth"
    share = np.where(mouth, 1 - np.abs(mesh.column - _HALF_MOUTH) / _HALF_MOUTH, 0)
    is_upper = np.where(mouth, mesh.column < _HALF_MOUTH, y > patches.STOMION)
    along = np.where(mouth, 1 - share**3, 1)
    # The lining follows its lip less the deeper it lies.
    ring = np.where(mouth, mesh.ring, patches.MOUTH_SLIT)
    depth = np.array([0, 0.25, 0.6, 0.9, 1])[np.minimum(ring, patches.MOUTH_SLIT)]
    outside = smoothstep((np.abs(x) - 34) / -14)
    upper = gauss(mesh.points, (7, -42, 66), (12, 10, 26)) * is_upper * along * depth * outside
    lower = gauss(mesh.points, (7, -58, 66), (13, 11, 26)) * ~is_upper * along * depth * outside
    side = np.tanh(x / 8)
    border, bulge, up = _lip_profiles(mesh)
    return {
        "upper_lip_raise": upper[:, None] * np.stack([0.3 * side, 2.7 + 0 * x, 0.5 + 0 * x], 1),
        "lower_lip_down": lower[:, None] * np.stack([0.3 * side, -2.7 + 0 * x, 0.3 + 0 * x], 1),
        "lip_press": np.stack([0 * x, -1.5 * border * up, -1.5 * bulge], 1),
    }


def _smooth_noise(
    points: np.ndarray, count: int, wavelengths: tuple[float, float], seed: int
) -> list[np.ndarray]:
    """Random smooth fields [N, 3] whose grain gets finer, from the first wavelength to the second.

    Two of three are symmetric, as most of the difference between faces is.
    """
    rng = np.random.default_rng(seed)
    flip = np.array([-1, 1, 1])
    fields = []
    for number, length in enumerate(np.geomspace(*wavelengths, count)):
        direction = rng.normal(size=(4, 3))
        direction *= 2 * np.pi / length / np.linalg.norm(direction, axis=1, keepdims=True)
        phase, sway = rng.uniform(0, 2 * np.pi, 4), rng.normal(size=(4, 3))
        field = np.cos(points @ direction.T + phase) @ sway
        if number % 3:
            field += np.cos((points * flip) @ direction.T + phase) @ sway * flip
        fields.append(field)
    return fields


def _falling(fields: list[np.ndarray], first: float, last: float) -> list[np.ndarray]:
    """Scales fields so that their peaks fall from `first` to `last` mm."""
    peaks = np.geomspace(first, last, len(fields))
    return [
        field * (peak / np.linalg.norm(field, axis=1).max())
        for field, peak in zip(fields, peaks, strict=True)
    ]


def expression_templates(names: tuple[str, ...]) -> np.ndarray:
    """[M, 100] coefficients of common expressions, on the named components."""
    rows = np.zeros((len(_TEMPLATES), EXPRESSION_COUNT))
    for row, template in zip(rows, _TEMPLATES, strict=True):
        for name, amount in template.items():
            for candidate in (name, f"{name}_left", f"{name}_right"):
                if candidate in names:
                    row[names.index(candidate)] = amount
    return rows
