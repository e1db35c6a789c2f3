"""Blend shapes of the procedural head, in millimetres per standard deviation.

Leading components are proportions and facial movements with a name; the rest is smooth noise of
falling size, so that the head has as many degrees of freedom as FLAME.
"""

from __future__ import annotations

import numpy as np

from fields_jax.flame.procedural import patches as patches
from fields_jax.flame.procedural.fields import (
    EYES,
    HALF_MOUTH,
    bumps,
    falling,
    lip_profiles,
    smooth_noise,
    with_eyes,
)
from fields_jax.flame.procedural.mesh import HeadMesh
from fields_jax.flame.procedural.rig import (
    JAW_JOINT,
    gauss,
    lid_travel,
    lower_lid_rise,
    mirrored,
    skin_weights,
)
from fields_jax.flame.procedural.surface import smoothstep

EXPRESSION_COUNT = 100
# Between these distances from an eye's centre the skin's movement hands over to the still eye.
_EYE_ZONE = 14.5, 21.0

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
# How the lids of either eye follow the eyeball, in the same order; the second to the left, by
# negative amounts to the right.
LIDS = ("lid_follow_down", "lid_follow_aside")
# Movements of the whole face, which come between the two. Those aside go to the left, by negative
# amounts to the right.
WHOLE = (
    "chin_raise",
    "lip_funnel",
    "lip_roll_upper",
    "lip_roll_lower",
    "jaw_forward",
    "jaw_aside",
    "mouth_aside",
)
# The movements made of bumps: centre on the left side, radii, displacement there. Small bumps of
# opposite sign keep still what does not follow, or fold it.
_MOVEMENTS = {
    "brow_inner_up": [
        ((17, 44, 62), (12, 13, 26), (0.3, 3.0, 0.1)),
        ((22, 62, 56), (14, 14, 24), (0.1, 1.1, 0.2)),
        ((18, 88, 50), (18, 10, 20), (0, -0.9, 0.9)),
    ],
    "brow_outer_up": [
        ((41, 46, 50), (16, 14, 24), (0.7, 2.8, -0.6)),
        ((38, 30, 50), (11, 5, 12), (-0.4, -1.1, 0.2)),
        ((44, 62, 46), (17, 18, 20), (0.4, 0.7, -0.3)),
    ],
    "brow_down": [
        ((34, 45, 55), (19, 13, 20), (-2.0, -2.0, 1.0)),
        ((17, 39, 61), (11, 8, 22), (-0.6, -1.2, 0.4)),
        ((35, 31, 52), (11, 4.5, 12), (1.0, 0.9, -0.5)),
    ],
    "lid_tighten": [
        ((29, 6, 48), (15, 8, 14), (-1.2, 1.1, 0.3)),
        ((54, 8, 38), (13, 18, 18), (-0.4, 0.3, 0.5)),
    ],
    "cheek_raise": [
        ((53, -12, 40), (17, 24, 24), (-0.3, 2.6, 1.2)),
        ((34, -40, 52), (14, 14, 18), (0.6, 0.5, -0.7)),
        ((53, 23, 38), (13, 9, 16), (0, -1.0, 0)),
    ],
    "nose_wrinkle": [
        ((17, -18, 60), (11, 15, 18), (0, 2.2, 0)),
        ((28, -31, 54), (14, 18, 18), (-0.4, 1.6, 0.2)),
        ((12, 12, 58), (8, 9, 16), (-0.3, 0.8, 0.4)),
        ((20, 38, 61), (14, 12, 20), (-0.3, -1.2, -0.3)),
    ],
    "lip_corner_up": [
        ((26, -48, 51), (14, 13, 20), (1.8, 2.8, -1.9)),
        ((52, -34, 32), (14, 26, 24), (1.4, 1.2, 0.2)),
        ((36, -72, 36), (20, 14, 22), (-0.2, 1.0, 0.1)),
        ((42, -17, 47), (13, 12, 18), (0.4, 0.5, 0.9)),
        ((18, -51, 58), (8, 6, 12), (-0.8, -1.0, 0.3)),
        ((28, -30, 54), (11, 11, 16), (0.2, 0.3, -1.0)),
    ],
    "lip_corner_down": [
        ((28, -50, 49), (9, 13, 16), (1.0, -2.6, -1.5)),
        ((43, -60, 37), (10, 12, 16), (0.9, -1.2, 0.4)),
        ((24, -66, 50), (9, 12, 14), (0, -0.3, 1.3)),
        ((20, -37, 58), (9, 12, 14), (0.1, -0.7, -0.6)),
    ],
    "lip_stretch": [
        ((25, -49, 51), (10, 11, 16), (2.7, -1.0, -2.6)),
        ((46, -58, 32), (13, 20, 24), (1.7, 0.2, 0)),
        ((12, -46, 62), (12, 14, 16), (0.8, -0.2, -0.8)),
    ],
    "lip_pucker": [
        ((22, -49, 53), (10, 11, 18), (-2.2, 0.2, 2.4)),
        ((0, -49, 64), (14, 12, 18), (0, 0, 1.8)),
        ((40, -60, 38), (15, 18, 22), (-1.2, 0.8, 1.2)),
    ],
    "lip_press": [
        ((15, -81, 52), (17, 16, 18), (0, 1.4, 0.5)),
        ((19, -30, 57), (14, 12, 14), (0.2, -0.1, 0.8)),
    ],
    "upper_lip_raise": [((23, -29, 55), (12, 13, 16), (0.5, 1.4, -0.4))],
    "lower_lip_down": [((15, -78, 52), (14, 14, 18), (0.3, -1.2, -0.7))],
    "lip_dimple": [
        ((25, -52, 51), (9, 9, 14), (0.8, 1.0, -2.4)),
        ((46, -28, 42), (13, 15, 18), (1.0, 0.2, 1.8)),
        ((30, -70, 43), (13, 12, 16), (0.2, 1.7, 0.3)),
        ((25, -58, 51), (8, 7, 14), (0, 1.2, -0.6)),
    ],
    "cheek_puff": [
        ((26, -52, 50), (20, 19, 22), (-0.7, 0.1, 3.8)),
        ((50, -44, 32), (13, 20, 22), (2.0, 0.5, 0.9)),
        ((52, -66, 8), (13, 22, 18), (-0.3, 0.5, 1.1)),
    ],
    "chin_raise": [
        ((0, -79, 56), (24, 17, 26), (0, 2.7, 0.8)),
        ((0, -55, 64), (17, 8, 20), (0, 0.8, 1.1)),
    ],
    "lip_funnel": [
        ((21, -50, 54), (9, 10, 14), (-1.4, -0.3, 1.6)),
        ((40, -58, 38), (15, 18, 22), (-0.8, 0.3, 0.5)),
        ((0, -50, 64), (14, 12, 16), (0, 0, 0.9)),
    ],
}
# To the left: x is not mirrored, y and z are for the left side and opposite on the right.
_MOUTH_TO_LEFT = ((0, -50, 60), (28, 17, 26), 3.0)
_MOUTH_TURN = [((27, -50, 50), (14, 16, 18), (0, 0.7, -1.2))]
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


def expression_basis(mesh: HeadMesh, seed: int) -> tuple[np.ndarray, tuple[str, ...]]:
    """[V, 3, 100] movements and the names of the leading ones, left before right."""
    fields = {name: bumps(mesh.points, chosen) for name, chosen in _MOVEMENTS.items()}
    fields = {name: with_eyes(mesh, field, *_EYE_ZONE) for name, field in fields.items()}
    upper, rise = lid_travel(mesh)[0], lower_lid_rise(mesh)
    upper = upper + mirrored(mesh, upper)
    fields["lid_raise"] = -0.2 * upper
    fields["lid_tighten"] = fields["lid_tighten"] + 0.1 * upper + 1.3 * rise
    fields["cheek_raise"] = fields["cheek_raise"] + 0.03 * upper + 0.6 * rise
    for name, field in _lip_movements(mesh).items():
        fields[name] = fields.get(name, 0) + field
    fields |= _jaw_movements(mesh)
    fields["mouth_aside"] = _to_left(mesh)
    left = smoothstep((mesh.points[:, :1] + 8) / 16)
    basis, names = [], []
    for name in EXPRESSIONS:
        basis += [left * fields[name], (1 - left) * fields[name]]
        names += [f"{name}_left", f"{name}_right"]
    basis += [fields[name] for name in WHOLE]
    names += WHOLE
    for name, both in zip(LIDS, _lids_follow(mesh), strict=True):
        basis += both
        names += [f"{name}_left", f"{name}_right"]
    noise = smooth_noise(mesh.points, EXPRESSION_COUNT - len(basis), (90, 35), seed + 1)
    face = smoothstep((mesh.points[:, 2] - 5) / 40) * smoothstep((95 - mesh.points[:, 1]) / 40)
    noise = [with_eyes(mesh, face[:, None] * field, *_EYE_ZONE) for field in noise]
    basis += falling(noise, 0.8, 0.05)
    return np.stack(basis, axis=-1), tuple(names)


def _lip_movements(mesh: HeadMesh) -> dict[str, np.ndarray]:
    """Movements in which one lip parts from the other."""
    x, y, _ = mesh.points.T
    mouth = mesh.part == "mouth"
    share = np.where(mouth, 1 - np.abs(mesh.column - HALF_MOUTH) / HALF_MOUTH, 0)
    is_upper = np.where(mouth, mesh.column < HALF_MOUTH, y > patches.STOMION)
    along = np.where(mouth, 1 - share**3, 1)
    # The lining follows its lip less the deeper it lies.
    ring = np.where(mouth, mesh.ring, patches.MOUTH_SLIT)
    depth = np.array([0, 0.25, 0.6, 0.9, 1])[np.minimum(ring, patches.MOUTH_SLIT)]
    outside = smoothstep((np.abs(x) - 34) / -14)
    upper = gauss(mesh.points, (7, -42, 66), (12, 10, 26)) * is_upper * along * depth * outside
    lower = gauss(mesh.points, (7, -58, 64), (13, 11, 26)) * ~is_upper * along * depth * outside
    middle = gauss(mesh.points, (0, -50, 64), (16, 11, 22)) * along * depth * outside
    side = np.tanh(x / 8)
    border, bulge, up = lip_profiles(mesh)
    roll, lift = _roll(mesh)
    return {
        "upper_lip_raise": _vectors(upper, 0.3 * side, 2.7, 0.5),
        "lower_lip_down": _vectors(lower, 0.3 * side, -2.7, -0.4),
        "lip_press": np.stack([0 * x, -1.3 * border * up, -1.4 * bulge], 1),
        "lip_funnel": _vectors(middle, 0, np.where(is_upper, 2.2, -2.2), 0.9),
        "lip_roll_upper": np.stack([0 * x, -1.0 * lift, -4.0 * roll], 1) * is_upper[:, None],
        "lip_roll_lower": np.stack([0 * x, 1.5 * lift, -4.0 * roll], 1) * ~is_upper[:, None],
    }


def _vectors(weight: np.ndarray, right, up, out) -> np.ndarray:
    """[V, 3] a weight times a displacement, whose parts may differ between vertices."""
    return np.stack([weight * right, weight * up, weight * out], 1)


def _roll(mesh: HeadMesh) -> tuple[np.ndarray, np.ndarray]:
    """Per vertex of the lips: how far it goes inwards, and towards the slit, when they roll in."""
    mouth = mesh.part == "mouth"
    share = 1 - np.abs(mesh.column - HALF_MOUTH) / HALF_MOUTH
    along = np.where(mouth, np.maximum(1 - share**4, 0), 0)
    inwards = np.array([0.2, 0.4, 0.7, 0.95, 1, 0.9, 0.65, 0.4, 0.25, 0.2, 0.12, 0.05, 0])
    upwards = np.array([0, 0, 0.1, 0.2, 0.3, 0.5, 0.8, 1, 1, 0.95, 0.7, 0.35, 0])
    ring = np.where(mouth, mesh.ring, 0)
    return along * inwards[ring], along * upwards[ring]


def _jaw_movements(mesh: HeadMesh) -> dict[str, np.ndarray]:
    """The jaw slides forwards and to the left without opening."""
    weight = skin_weights(mesh)[:, JAW_JOINT]
    return {
        "jaw_forward": _vectors(weight, 0, -0.5, 3.0),
        "jaw_aside": _vectors(weight, 3.0, 0, 0),
    }


def _lids_follow(mesh: HeadMesh) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The lids of the left and of the right eye turn with it, down and to the left.

    They move along the planes that touch the eyeball, so off it, if anything.
    """
    down, aside = [], []
    for centre in EYES:
        x, y, z = (mesh.points - centre).T
        zone = smoothstep((23 - np.sqrt(x**2 + y**2 + z**2)) / 8) * smoothstep(z / 4)
        zone = np.where(mesh.part == "eyeball", 0, zone)
        down.append(0.16 * _vectors(zone, 0, -z, y))
        aside.append(0.16 * _vectors(zone, z, 0, -x))
    return down, aside


def _to_left(mesh: HeadMesh) -> np.ndarray:
    """The mouth goes to the left and turns with the teeth's arch."""
    centre, radii, amount = _MOUTH_TO_LEFT
    turn = bumps(mesh.points, _MOUTH_TURN) * np.tanh(mesh.points[:, :1] / 8)
    return turn + _vectors(gauss(mesh.points, centre, radii), amount, 0, 0)


def expression_templates(names: tuple[str, ...]) -> np.ndarray:
    """[M, 100] coefficients of common expressions, on the named components."""
    rows = np.zeros((len(_TEMPLATES), EXPRESSION_COUNT))
    for row, template in zip(rows, _TEMPLATES, strict=True):
        for name, amount in template.items():
            for candidate in (name, f"{name}_left", f"{name}_right"):
                if candidate in names:
                    row[names.index(candidate)] = amount
    return rows
