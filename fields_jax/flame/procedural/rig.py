"""How the procedural head moves: skin weights, joints, correctives, eyelids (millimetres)."""

from __future__ import annotations

import numpy as np

from fields_jax.flame.procedural import patches as patches
from fields_jax.flame.procedural import surface as surface
from fields_jax.flame.procedural.mesh import HeadMesh
from fields_jax.flame.procedural.surface import smoothstep

PARENTS = (-1, 0, 1, 1, 1)  # root, neck, jaw, left eye, right eye
JAW_JOINT = 2
_EYE = surface.EYE_CENTRE
# A jaw's condyles lie a finger's breadth before the ears, but slide forwards as it opens: it turns
# about a line below and behind them.
_CONDYLE = np.array([0, 0, -14])
JOINTS = np.array([[0, -140, -54], [0, -98, -50], [0, -12, -28], _EYE, _EYE * [-1, 1, 1]])
_HALF_MOUTH = patches.MOUTH_COLUMNS // 2
_CLOSING = 0.88  # fraction of the opening that the upper lid covers; the lower lid covers the rest
_LID_CLEARANCE = 0.2  # mm between a moving lid and the eyeball
# How far each ring of the eye patch follows its lid, from the tucked rim to brow and cheek.
_LID_FOLLOWS = np.array([0.95, 1.0, 1.0, 0.95, 0.65, 0.25, 0.08, 0.02, 0.0])


def skin_weights(mesh: HeadMesh) -> np.ndarray:
    """[V, 5] weights; rows sum to 1."""
    y = mesh.points[:, 1]
    head = smoothstep((y + 146) / 46)
    jaw = _jaw_weights(mesh)
    weights = np.stack([1 - head, head * (1 - jaw), head * jaw, 0 * y, 0 * y], axis=1)
    for joint, left in ((3, True), (4, False)):
        weights[mesh.select("eyeball", left)] = np.eye(5)[joint]
    return weights


def _jaw_weights(mesh: HeadMesh) -> np.ndarray:
    """How far each vertex follows the jaw.

    Seen from the side the jaw is a sector about its condyle: it begins at the line from there to
    the slit of the mouth and ends at the edge of the mandible. The skin around the ears stays.
    """
    x, y, z = mesh.points.T
    from_condyle = mesh.points - _CONDYLE
    elevation = np.degrees(np.arctan2(from_condyle[:, 1], from_condyle[:, 2]))
    width = 5 + 13 * smoothstep((np.abs(x) - 15) / 35)  # degrees; sharper near the lips
    sector = smoothstep(0.5 + (-33 - elevation) / (2 * width))
    sector = np.where(elevation > 90, 0, sector * smoothstep((elevation + 160) / 70))
    above = smoothstep((y - surface.jaw_edge(z) + 44) / 44)
    before = smoothstep((z + 44) / 52)
    weight = sector * above * before
    # Towards the cheeks the skin is held by the skull as well.
    weight *= 1 - 0.52 * smoothstep((np.abs(x) - 14) / 22)
    from_ear = np.hypot((z + 26) / 20, (y + 3) / 34)  # 1 on the ear's outline
    weight *= np.where(np.abs(x) > 50, smoothstep((from_ear - 0.9) / 0.9), 1)
    weight[mesh.part == "ear"] = 0
    return _lip_weights(mesh, weight)


def _lip_weights(mesh: HeadMesh, weight: np.ndarray) -> np.ndarray:
    """Parts the lips: the lower one belongs to the jaw, the upper one to the skull."""
    mouth = np.flatnonzero(mesh.part == "mouth")
    ring, column = mesh.ring[mouth], mesh.column[mouth]
    share = 1 - np.abs(column - _HALF_MOUTH) / _HALF_MOUTH
    lip = np.where(column < _HALF_MOUTH, 0.42 * share**5, 1 - 0.58 * share**5)
    # Roof and floor of the mouth meet half way at the back.
    lip += (0.42 - lip) * np.array([1.0, 0.2, 0.05, 0.0])[np.minimum(ring, 3)] * (ring < 4)
    outer = np.maximum(ring - patches.MOUTH_SLIT, 0) / (12 - patches.MOUTH_SLIT)
    weight[mouth] += (1 - smoothstep(outer * 1.15)) * (lip - weight[mouth])
    return weight


def joint_regressor(mesh: HeadMesh) -> np.ndarray:
    """[5, V] rows that sum to 1 and average nearby vertices to the joints exactly."""
    points = mesh.points
    sheet = mesh.part == "sheet"
    side = np.abs(points) * [1, 0, 0] + points * [0, 1, 1]
    sets = [
        sheet & (points[:, 1] < -138),
        sheet & (points[:, 1] < -85) & (points[:, 1] > -125) & (points[:, 2] < 10),
        sheet & (np.linalg.norm(side - [68, 0, -14], axis=1) < 26),
        (mesh.part == "eyeball") & mesh.left,
        (mesh.part == "eyeball") & ~mesh.left,
    ]
    rows = np.zeros((5, len(points)))
    for row, chosen, joint in zip(rows, sets, JOINTS, strict=True):
        index = np.flatnonzero(chosen)
        # The weights closest to equal ones that meet the four conditions.
        conditions = np.concatenate([np.ones((1, len(index))), points[index].T])
        equal = np.full(len(index), 1 / len(index))
        missing = np.concatenate([[1.0], joint]) - conditions @ equal
        row[index] = equal + np.linalg.lstsq(conditions, missing, rcond=None)[0]
    return rows


def pose_basis(mesh: HeadMesh) -> np.ndarray:
    """[V, 3, 36] correctives: an opening jaw draws the mouth's corners in and hollows the cheeks.

    They follow the sine of the jaw's rotation about x, which (R - I) holds at [2, 1] and, negated,
    at [1, 2].
    """
    side = np.tanh(mesh.points[:, 0] / 12)
    corner = gauss(mesh.points, (25, -50, 55), (9, 12, 20))
    cheek = gauss(mesh.points, (47, -35, 30), (13, 18, 22))
    sine = np.zeros_like(mesh.points)
    sine[:, 0] = -side * (3.2 * corner + 2.4 * cheek)
    sine[:, 2] = -2.0 * cheek
    sine[mesh.part == "eyeball"] = 0
    basis = np.zeros((*sine.shape, 36))
    basis[:, :, 9 + 7], basis[:, :, 9 + 5] = sine / 2, -sine / 2
    return basis


def jaw_travel(mesh: HeadMesh, angle: float) -> np.ndarray:
    """Offsets [V, 3] of a jaw that opens by an angle, the rest of the head being still."""
    from scipy.spatial.transform import Rotation  # half a second, for a head that is kept

    turn = Rotation.from_rotvec([angle, 0, 0]).as_matrix()
    basis = pose_basis(mesh).reshape(*mesh.points.shape, 4, 3, 3)[:, :, JAW_JOINT - 1]
    corrected = mesh.points + (basis * (turn - np.eye(3))).sum((-2, -1))
    offset = corrected - JOINTS[JAW_JOINT]
    weight = skin_weights(mesh)[:, JAW_JOINT, None]
    return corrected + weight * (offset @ turn.T - offset) - mesh.points


def lid_travel(mesh: HeadMesh) -> tuple[np.ndarray, np.ndarray]:
    """Offsets [V, 3] of the upper lid, and of the lower lid, that close the left eye.

    Offsets act along straight lines, so each vertex lands far enough off the eyeball for its whole
    path to clear it.
    """
    eye = np.flatnonzero((mesh.part == "eye") & mesh.left)
    ring, column = mesh.ring[eye], mesh.column[eye]
    margin = mesh.points[mesh.select("eye", ring=patches.EYE_RIM)]
    opposite = margin[-np.arange(patches.EYE_COLUMNS) % patches.EYE_COLUMNS]
    is_upper = np.arange(patches.EYE_COLUMNS) <= patches.EYE_COLUMNS // 2
    meeting = np.where(
        is_upper[:, None],
        margin + _CLOSING * (opposite - margin),
        margin + (1 - _CLOSING) * (opposite - margin),
    )
    start, end = margin - _EYE, meeting - _EYE
    turn = np.arctan2(end[:, 1], end[:, 2]) - np.arctan2(start[:, 1], start[:, 2])
    target = _EYE + _turn_about_x(mesh.points[eye] - _EYE, turn[column] * _LID_FOLLOWS[ring])
    target = _meet(target, ring, column, np.minimum)
    target = _clear_of_eyeball(mesh.points[eye], target)
    target = _meet(target, ring, column, np.maximum)
    upper, lower = np.zeros((2, *mesh.points.shape))
    top = is_upper[column]
    upper[eye[top]] = (target - mesh.points[eye])[top]
    lower[eye[~top]] = (target - mesh.points[eye])[~top]
    return upper, lower


def lower_lid_rise(mesh: HeadMesh) -> np.ndarray:
    """Offsets [V, 3] that lift both lower lids by about a millimetre over the eyeball.

    They act along the planes that touch the eyeball, so off it, if anything.
    """
    offset = mesh.points - _EYE * np.where(mesh.left, 1, -1)[:, None] ** np.array([1, 0, 0])
    half = patches.EYE_COLUMNS // 2
    arch = np.sin(np.pi * np.clip((mesh.column - half) / half, 0, 1))
    ring = np.where(mesh.part == "eye", mesh.ring, len(_LID_FOLLOWS) - 1)
    weight = 0.09 * arch * _LID_FOLLOWS[ring] * (mesh.part == "eye")
    return weight[:, None] * np.stack([0 * arch, offset[:, 2], -offset[:, 1]], 1)


def _turn_about_x(vectors: np.ndarray, angle: np.ndarray) -> np.ndarray:
    """Turns y, z of [N, 3] so that atan2(y, z) grows by `angle`."""
    x, y, z = vectors.T
    cosine, sine = np.cos(angle), np.sin(angle)
    return np.stack([x, cosine * y + sine * z, cosine * z - sine * y], axis=1)


def _clear_of_eyeball(start: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Lifts targets off the left eyeball until the straight paths to them clear it."""
    share = np.linspace(0, 1, 21)[:, None, None]
    moving = np.linalg.norm(target - start, axis=1) > 1e-9
    for _ in range(60):
        path = start + share * (target - start) - _EYE
        nearest = np.linalg.norm(path, axis=2).min(0)
        low = moving & (nearest < surface.EYE_RADIUS + _LID_CLEARANCE)
        if not low.any():
            break
        target = np.where(low[:, None], _EYE + (target - _EYE) * 1.006, target)
    return target


def _meet(target: np.ndarray, ring: np.ndarray, column: np.ndarray, which) -> np.ndarray:
    """Brings the rims of the closed lids together, at the one or the other's height."""
    target = target.copy()
    for rim in range(patches.EYE_RIM + 1):
        rows = np.flatnonzero(ring == rim)
        rows = rows[np.argsort(column[rows], kind="stable")]
        offset = target[rows] - _EYE
        radius = np.linalg.norm(offset, axis=1, keepdims=True)
        across = -np.arange(len(rows)) % len(rows)
        middle = offset / radius + (offset / radius)[across]
        middle /= np.linalg.norm(middle, axis=1, keepdims=True)
        target[rows] = _EYE + which(radius, radius[across]) * middle
    return target


def mirrored(mesh: HeadMesh, field: np.ndarray) -> np.ndarray:
    """The mirror image of a displacement field [V, 3]."""
    return field[mesh.mirror] * [-1, 1, 1]


def gauss(points: np.ndarray, centre, radii) -> np.ndarray:
    """A bump of height 1 around a place of the left side and around its mirror image, [N]."""
    offset = (np.abs(points) * [1, 0, 0] + points * [0, 1, 1] - centre) / np.asarray(radii)
    return np.exp(-0.5 * (offset**2).sum(-1))
