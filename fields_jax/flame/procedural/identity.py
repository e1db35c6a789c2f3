"""How heads differ: the shape components of the procedural head, mm per standard deviation.

First proportions of the skull, then proportions of the face made of bumps, then broad bending of
the whole face, then smooth noise of falling size, so that the head has as many degrees of freedom
as FLAME.
"""

from __future__ import annotations

import numpy as np

from fields_jax.flame.procedural.fields import (
    EYES,
    bumps,
    falling,
    lip_profiles,
    smooth_noise,
    with_eyes,
)
from fields_jax.flame.procedural.mesh import HeadMesh
from fields_jax.flame.procedural.rig import lid_travel, lower_lid_rise, mirrored
from fields_jax.flame.procedural.surface import smoothstep

SHAPE_COUNT = 300
# Between these distances from an eye's centre a field hands over to the eye's own movement.
_EYE_ZONE = 15.0, 22.0
_NOISE_WAVES, _NOISE_PEAKS = (90, 24), (0.6, 0.18)  # mm, first and last
_SCALP_NOISE = 0.4  # of the noise on the face

# Symmetric proportions made of bumps: centre on the left side, radii, displacement there.
_PROPORTIONS = {
    "jaw_width": [((56, -55, 0), (22, 26, 34), (2.6, 0, 0))],
    "chin_length": [((0, -90, 46), (32, 20, 32), (0, -2.6, 0))],
    "chin_protrusion": [((0, -82, 54), (22, 16, 24), (0, 0, 3.4))],
    "nose_length": [((0, -18, 72), (17, 14, 22), (0, -2.2, 0))],
    "nose_width": [((14, -18, 62), (8, 9, 14), (2.0, 0, 0))],
    "nose_protrusion": [((0, -14, 78), (13, 13, 20), (0, 0, 3.2))],
    "nose_bridge": [((0, 10, 66), (9, 13, 16), (0, 0, 2.6))],
    "eye_distance": [((32, 20, 40), (16, 22, 26), (1.1, 0, 0))],
    "eye_depth": [((32, 20, 40), (20, 16, 22), (0, 0, -2.0))],
    "brow_height": [((28, 45, 58), (24, 11, 26), (0, 1.4, 0))],
    "brow_ridge": [((22, 39, 62), (22, 8, 20), (0, 0, 2.2))],
    "cheek_fullness": [((46, -34, 40), (18, 20, 26), (2.0, 0, 2.2))],
    "cheekbones": [((58, 0, 34), (16, 12, 24), (2.4, 0, 1.8))],
    "mouth_width": [((25, -49, 54), (13, 10, 20), (1.6, 0, -0.4))],
    "mouth_height": [((0, -49, 64), (30, 18, 30), (0, 1.6, 0))],
    "mouth_protrusion": [((0, -48, 64), (24, 15, 24), (0, 0, 2.8))],
    "forehead_slope": [((0, 95, 45), (60, 28, 45), (0, 0, -3.8))],
    "neck_width": [((48, -130, -50), (40, 28, 60), (3.8, 0, 0))],
    "temple_width": [((68, 36, 14), (18, 24, 28), (2.4, 0, 0.8))],
}
# One-sided or turned proportions; x is not mirrored here.
_ASYMMETRIES = {
    "nose_aside": [((0, -18, 74), (14, 16, 20), (0.8, 0, 0))],
    "chin_aside": [((0, -84, 48), (40, 26, 40), (1.2, 0, 0))],
    "mouth_aside": [((0, -49, 62), (34, 16, 30), (0.8, 0, 0))],
}
# Smaller features, like `_PROPORTIONS`.
_FEATURES = {
    "nasal_root": [((0, 24, 61), (9, 8, 14), (0, 0, 1.8))],
    "nasal_root_width": [((10, 20, 55), (6, 10, 12), (1.0, 0, 0.4))],
    "nose_hump": [((0, 2, 74), (7, 8, 14), (0, 0, 1.6))],
    "nose_back_width": [((9, 0, 64), (6, 14, 12), (1.4, 0, 0.4))],
    "nose_tip_up": [((0, -16, 78), (10, 8, 16), (0, 1.8, 0))],
    "nose_tip_width": [((7, -14, 78), (5, 8, 10), (1.2, 0, 0.3))],
    "nose_wing_up": [((13, -19, 62), (7, 8, 13), (0, 1.5, 0))],
    "nose_wing_out": [((14, -17, 61), (7, 9, 12), (0, 0, 1.6))],
    "columella": [((0, -25, 70), (6, 6, 10), (0, -1.3, 0.6))],
    "nose_base": [((0, -30, 64), (14, 8, 16), (0, 0, 1.7))],
    "upper_lip_length": [((0, -37, 66), (18, 8, 20), (0, 1.1, 0))],
    "upper_lip_forward": [((0, -43, 66), (18, 6, 16), (0, 0, 1.8))],
    "lower_lip_forward": [((0, -55, 63), (18, 6, 16), (0, 0, 1.8))],
    "lower_lip_height": [((0, -60, 62), (20, 8, 18), (0, -1.8, 0))],
    "mouth_corner_up": [((25, -49, 52), (9, 8, 14), (0, 0.7, 0))],
    "mouth_corner_back": [((26, -49, 52), (10, 9, 14), (0, 0, -1.3))],
    "chin_fold": [((0, -67, 57), (18, 7, 16), (0, 0, 1.8))],
    "chin_width": [((20, -82, 48), (11, 13, 20), (1.3, 0, 0.6))],
    "chin_tip": [((0, -86, 54), (12, 9, 14), (0, 0, 1.6))],
    "under_chin": [((0, -95, 35), (24, 10, 22), (0, -2.0, 0))],
    "jaw_corner": [((60, -52, 0), (14, 16, 20), (1.6, 0, 0))],
    "jaw_line": [((44, -76, 20), (18, 13, 22), (0.8, -2.2, 0))],
    "cheek_front": [((32, -8, 55), (13, 11, 18), (0, 0, 1.9))],
    "cheek_under_eye": [((32, 5, 53), (14, 7, 14), (0, 0, 1.4))],
    "cheek_beside_nose": [((22, -22, 58), (9, 13, 14), (0.3, 0, 1.5))],
    "cheek_fold": [((31, -36, 54), (9, 12, 16), (0.4, 0, 1.6))],
    "cheek_side": [((60, -26, 22), (13, 16, 22), (2.0, 0, 1.0))],
    "jowl": [((42, -58, 38), (13, 12, 18), (0.9, 0, 1.2))],
    "brow_inner_height": [((13, 43, 64), (10, 9, 18), (0, 0.9, 0))],
    "brow_outer_height": [((49, 43, 47), (12, 9, 18), (0, 1.0, 0))],
    "glabella": [((0, 37, 66), (11, 9, 16), (0, 0, 1.7))],
    "brow_outer_ridge": [((48, 38, 46), (12, 7, 16), (0.6, 0, 1.6))],
    "brow_under": [((36, 32, 53), (12, 4, 13), (0, 0, 1.2))],
    "eye_inner_socket": [((16, 20, 50), (5, 8, 10), (0, 0, 1.2))],
    "eye_outer_socket": [((51, 20, 38), (7, 10, 13), (0.4, 0, 1.4))],
    "forehead_middle": [((0, 72, 62), (22, 16, 24), (0, 0, 2.0))],
    "forehead_side": [((40, 66, 50), (17, 17, 24), (0.6, 0, 1.9))],
    "forehead_low": [((24, 54, 62), (18, 9, 18), (0, 0, 1.3))],
    "forehead_high": [((0, 98, 46), (34, 14, 26), (0, 0, 1.6))],
    "temple_depth": [((62, 26, 26), (10, 16, 18), (1.6, 0, 1.0))],
    "cheekbone_height": [((52, 2, 42), (14, 11, 20), (0, 2.0, 0.6))],
}


def shape_basis(mesh: HeadMesh, seed: int) -> np.ndarray:
    """[V, 3, 300] identity: proportions of skull, jaw, nose, eyes, mouth, ears, then noise."""
    points = np.concatenate([mesh.points, EYES])
    fields = _skull_proportions(points)
    fields += [bumps(points, chosen) for chosen in _PROPORTIONS.values()]
    fields += [bumps(points, chosen, mirror=False) for chosen in _ASYMMETRIES.values()]
    basis = [with_eyes(mesh, field, *_EYE_ZONE) for field in fields]
    basis += [_eye_size(mesh), _ear_size(mesh), _lip_thickness(mesh, 1), _lip_thickness(mesh, -1)]
    basis += _lids(mesh)
    fields = _bending(points) + [bumps(points, chosen) for chosen in _FEATURES.values()]
    basis += [with_eyes(mesh, field, *_EYE_ZONE) for field in fields]
    noise = smooth_noise(points, SHAPE_COUNT - len(basis), _NOISE_WAVES, seed)
    face = smoothstep((points[:, 2] + 25) / 50) * smoothstep((110 - points[:, 1]) / 40)
    share = _SCALP_NOISE + (1 - _SCALP_NOISE) * face[:, None]
    noise = [with_eyes(mesh, share * field, *_EYE_ZONE) for field in noise]
    basis += falling(noise, *_NOISE_PEAKS)
    return np.stack(basis, axis=-1)


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
        np.stack([0.045 * x * above, zero, zero], 1),
        np.stack([zero, 0.05 * crown, zero], 1),
        np.stack([zero, zero, -0.05 * back], 1),
        np.stack([zero, -0.04 * length, zero], 1),
    ]


def _bending(points: np.ndarray) -> list[np.ndarray]:
    """Broad changes of the face: low powers of position, which level off behind and below it."""
    behind = points[:, 2] + 20
    ahead = 0.5 * (behind + np.hypot(behind, 20)) - 50
    x, y, z = points[:, 0], points[:, 1] / 60, ahead / 60
    across, up, out = 1.5 * np.tanh(x / 90), 1.5 * np.tanh(y / 1.5), 1.5 * np.tanh(z / 1.5)
    square = across**2
    sideways = (up, out, square, up**2, up * out, out**2, up**3)
    others = (up, out, square, up**2, out**2, up * out, square * up, square * out, up**3)
    zero, front = np.zeros_like(x), smoothstep((points[:, 1] + 130) / 60)
    fields = [np.stack([across * f, zero, zero], 1) for f in sideways]
    fields += [np.stack([zero, f, zero], 1) for f in others]
    fields += [np.stack([zero, zero, f], 1) for f in others]
    fields = [front[:, None] * field for field in fields]
    return falling(fields, 2.0, 2.0)


def _eye_size(mesh: HeadMesh) -> np.ndarray:
    field = np.zeros_like(mesh.points)
    for centre in EYES:
        offset = mesh.points - centre
        zone = smoothstep((30 - np.linalg.norm(offset, axis=1)) / 14)
        field += 0.06 * zone[:, None] * offset
    return field


def _lids(mesh: HeadMesh) -> list[np.ndarray]:
    """Width and slant of the eyes, opening of the upper and of the lower lid; eyeballs stay.

    Width and slant move the lids along the planes that touch the eyeball, so off it, if anything.
    """
    width, slant = np.zeros_like(mesh.points), np.zeros_like(mesh.points)
    for centre, side in zip(EYES, (1, -1), strict=True):
        x, y, z = (mesh.points - centre).T
        zone = smoothstep((26 - np.sqrt(x**2 + y**2 + z**2)) / 11) * (z > 0)
        zone = np.where(mesh.part == "eyeball", 0, zone)
        ahead = np.maximum(z, 6)
        width += 0.06 * (zone * [x, 0 * x, -(x**2) / ahead]).T
        slant += 0.06 * side * (zone * [-y, x, 0 * x]).T
    upper = lid_travel(mesh)[0]
    upper = upper + mirrored(mesh, upper)
    return [width, slant, -0.1 * upper, -0.9 * lower_lid_rise(mesh)]


def _ear_size(mesh: HeadMesh) -> np.ndarray:
    """Scales the ears about their attachment; the outermost ring belongs to the skin and stays."""
    ear = (mesh.part == "ear")[:, None]
    root = np.array([70, -4, -22]) * np.where(mesh.left, 1, -1)[:, None] ** np.array([1, 0, 0])
    return np.where(ear, 0.1 * (mesh.points - root), 0)


def _lip_thickness(mesh: HeadMesh, side: int) -> np.ndarray:
    """A thicker upper (1) or lower lip (-1): its border moves out and its middle forward."""
    border, bulge, up = lip_profiles(mesh)
    field = np.zeros_like(mesh.points)
    field[:, 1] = 1.5 * border * up * (up == side)
    field[:, 2] = 1.2 * bulge * (up == side)
    return field
