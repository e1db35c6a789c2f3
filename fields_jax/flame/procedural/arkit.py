"""ARKit's 52 blend shapes of the procedural head, made of its own movements (millimetres).

Each is a displacement of the neutral head at weight 1; amounts are ours, about what strong but
common faces do.
"""

from __future__ import annotations

import numpy as np

from fields_jax.arkit import NAMES
from fields_jax.flame.procedural.fields import EYES
from fields_jax.flame.procedural.mesh import HeadMesh
from fields_jax.flame.procedural.rig import gauss, jaw_travel

_SIDES = ("left", "right")
_JAW_OPEN = 0.4  # radians
# Radians about x, and outwards about y.
_GAZE = {"Up": (-0.4, 0), "Down": (0.45, 0), "In": (0, -0.5), "Out": (0, 0.5)}
_LIDS = {
    "Up": {"lid_raise": 1.6},
    "Down": {"eyelid": 0.3, "lid_follow_down": 1.0},
    "In": {},
    "Out": {},
}
# Amounts of named movements in standard deviations. Those with two sides are meant on both, or on
# the side of a shape that has one; "eyelid" closes an eye.
_AMOUNTS = {
    "eyeBlink": {"eyelid": 1},
    "eyeSquint": {"lid_tighten": 1.6, "cheek_raise": 0.3},
    "eyeWide": {"lid_raise": 2.2},
    "jawForward": {"jaw_forward": 3.0},
    "jawLeft": {"jaw_aside": 2.5, "mouth_aside": 0.4},
    "jawRight": {"jaw_aside": -2.5, "mouth_aside": -0.4},
    "mouthFunnel": {"lip_funnel": 2.0, "lip_pucker": 2.0, "lower_lip_down": 0.8},
    "mouthPucker": {"lip_pucker": 3.0, "chin_raise": 0.5},
    "mouthLeft": {"mouth_aside": 4.0, "jaw_aside": 0.4, "lip_pucker_right": 2.0},
    "mouthRight": {"mouth_aside": -4.0, "jaw_aside": -0.4, "lip_pucker_left": 2.0},
    "mouthSmile": {"lip_corner_up": 3.2, "cheek_raise": 0.5},
    "mouthFrown": {"lip_corner_down": 2.0},
    "mouthDimple": {"lip_dimple": 2.2},
    "mouthStretch": {"lip_stretch": 2.0},
    "mouthRollLower": {"lip_roll_lower": 2.5, "chin_raise": 0.6},
    "mouthRollUpper": {"lip_roll_upper": 2.5},
    "mouthShrugLower": {"chin_raise": 3.0},
    "mouthShrugUpper": {"upper_lip_raise": 0.8, "lip_funnel": 0.3},
    "mouthPress": {"lip_press": 1.5, "chin_raise": 0.3},
    "mouthLowerDown": {"lower_lip_down": 2.0},
    "mouthUpperUp": {"upper_lip_raise": 2.2, "nose_wrinkle": 0.5},
    "browDown": {"brow_down": 2.5},
    "browInnerUp": {"brow_inner_up": 2.0},
    "browOuterUp": {"brow_outer_up": 2.5},
    "cheekPuff": {"cheek_puff": 2.7},
    "cheekSquint": {"cheek_raise": 2.3},
    "noseSneer": {"nose_wrinkle": 2.6, "cheek_raise": 0.8},
}


def arkit_basis(
    mesh: HeadMesh, expression: np.ndarray, names: tuple[str, ...], eyelids: np.ndarray
) -> np.ndarray:
    """[V, 3, 52] displacements of the neutral head, in the order of `fields_jax.arkit.NAMES`.

    Args:
      mesh: the head.
      expression: [V, 3, E] its movements per standard deviation.
      names: of the leading ones.
      eyelids: [2, V, 3] what closes the left and the right eye.
    """
    parts = {name: expression[..., index] for index, name in enumerate(names)}
    parts |= {f"eyelid_{side}": field for side, field in zip(_SIDES, eyelids, strict=True)}
    opened = jaw_travel(mesh, _JAW_OPEN)
    whole = {
        "jawOpen": opened,
        "mouthClose": -_closing(mesh)[:, None] * opened,
        "tongueOut": np.zeros_like(opened),
    }
    shapes = [whole[name] if name in whole else _shape(mesh, name, parts) for name in NAMES]
    return np.stack(shapes, axis=-1)


def _shape(mesh: HeadMesh, name: str, parts: dict[str, np.ndarray]) -> np.ndarray:
    """[V, 3] one shape made of movements and, for a gaze, of an eyeball's turn."""
    if name in _AMOUNTS:
        return _sum(_AMOUNTS[name], parts, _SIDES)
    side = _SIDES[name.endswith("Right")]
    stem = name.removesuffix(side.capitalize())
    if stem.startswith("eyeLook"):
        return _gaze(mesh, stem.removeprefix("eyeLook"), side, parts)
    return _sum(_AMOUNTS[stem], parts, (side,))


def _sum(
    amounts: dict[str, float], parts: dict[str, np.ndarray], sides: tuple[str, ...]
) -> np.ndarray:
    """Movements times their amounts; those with two sides on the sides asked for."""
    total = np.zeros_like(next(iter(parts.values())))
    for name, amount in amounts.items():
        for one in [name] if name in parts else [f"{name}_{side}" for side in sides]:
            total = total + amount * parts[one]
    return total


def _gaze(mesh: HeadMesh, where: str, side: str, parts: dict[str, np.ndarray]) -> np.ndarray:
    """An eyeball turns, the lids follow a little."""
    from scipy.spatial.transform import Rotation  # half a second, for a head that is kept

    about_x, outwards = _GAZE[where]
    about_y = outwards if side == "left" else -outwards
    ball = mesh.select("eyeball", side == "left")
    offset = mesh.points[ball] - EYES[_SIDES.index(side)]
    field = _sum(_LIDS[where], parts, (side,)) + about_y * parts[f"lid_follow_aside_{side}"]
    field[ball] = offset @ Rotation.from_rotvec([about_x, about_y, 0]).as_matrix().T - offset
    return field


def _closing(mesh: HeadMesh) -> np.ndarray:
    """[V] how far each vertex returns from an open jaw to where its lips meet."""
    window = gauss(mesh.points, (0, -52, 60), (30, 15, 40))
    mouth = mesh.part == "mouth"
    lips = np.array([1, 1, 1, 1, 1, 1, 1, 1, 1, 0.9, 0.7, 0.4, 0])
    share = np.where(mouth, lips[np.where(mouth, mesh.ring, 0)], 0)
    return np.maximum(share, window * (1 - share))
