"""Named vertex sets and texture coordinates of the procedural head."""

from __future__ import annotations

import numpy as np

from fields_jax.flame.procedural import patches as patches
from fields_jax.flame.procedural import surface as surface
from fields_jax.flame.procedural.mesh import HeadMesh
from fields_jax.types import PARTS


def regions(mesh: HeadMesh) -> dict[str, np.ndarray]:
    """Sorted vertex indices by name; "face" is its skin without eyeballs, ears, neck and scalp."""
    x, y, z = mesh.points.T
    part, left = mesh.part, mesh.left
    skin = np.isin(part, ("sheet", "eye", "mouth"))
    inside = (part == "mouth") & (mesh.ring < patches.MOUTH_SLIT)
    lining = (part == "mouth") & (mesh.ring < patches.MOUTH_SLIT - 1)
    face = mesh.face | (part == "eye") | ((part == "mouth") & ~lining)
    low = (y < surface.jaw_edge(z) - 6) | ((z < -5) & (y < -45))
    below = skin & ~face & ~inside & low
    eye = np.minimum(*(np.hypot(x - side * 32.5, y - 24) for side in (1, -1)))
    eye_region = face & ((part == "eye") | ((eye < 26) & (z > 10)))
    nose = face & (np.abs(x) < 20 + 0 * y) & (y > -30) & (y < 24) & (part == "sheet")
    nose &= np.abs(x) < 8 + 12 * surface.smoothstep((20 - y) / 30)
    upper, lower = (np.interp(np.abs(x), surface.BROW[:, 0], surface.BROW[:, k]) for k in (1, 2))
    along = (np.abs(x) > surface.BROW[0, 0] - 2) & (np.abs(x) < surface.BROW[-1, 0] + 2)
    brow = face & along & (y > lower - 1) & (y < upper + 1)
    lips = (part == "mouth") & (mesh.ring >= patches.MOUTH_SLIT - 1)
    masks = {
        "face": face,
        "left_eyeball": (part == "eyeball") & left,
        "right_eyeball": (part == "eyeball") & ~left,
        "left_ear": (part == "ear") & left,
        "right_ear": (part == "ear") & ~left,
        "neck": below,
        "scalp": skin & ~inside & ~face & ~below,
        "forehead": face & (y > 50),
        "nose": nose,
        "lips": lips & (mesh.ring <= patches.MOUTH_BORDER),
        "eye_region": eye_region,
        "left_eye_region": eye_region & left & (x > 0),
        "right_eye_region": eye_region & (x < 0),
        "left_brow": brow & (x > 0),
        "right_brow": brow & (x < 0),
        "mouth_interior": inside,
    }
    found = {name: np.flatnonzero(mask) for name, mask in masks.items()}
    return found | {"boundary": mesh.neck_rim}


def face_parts(mesh: HeadMesh, named: dict[str, np.ndarray]) -> np.ndarray:
    """[F] rows of `types.PARTS`: the eyeballs, the mouth's lining, and skin for the rest."""
    parts = np.zeros(len(mesh.faces), np.int32)
    for name, part in (
        ("left_eyeball", "eyes"),
        ("right_eyeball", "eyes"),
        ("mouth_interior", "gums"),
    ):
        parts[np.isin(mesh.faces, named[name]).all(1)] = PARTS.index(part)
    return parts


def face_triangles(mesh: HeadMesh, face: np.ndarray) -> np.ndarray:
    """Triangles wholly inside the face mask, as rows of `face`."""
    row = np.full(len(mesh.points), -1)
    row[face] = np.arange(len(face))
    triangles = row[mesh.faces]
    return triangles[(triangles >= 0).all(1)]


def texture(mesh: HeadMesh) -> tuple[np.ndarray, np.ndarray]:
    """Texture coordinates [U, 2] and, for each corner of each face, their rows [F, 3].

    The skin is unrolled about the vertical axis, widest at the face, with its seam at the back. The
    eyeballs lie in the lower corners, seen along their axes, the mouth's lining between them.
    """
    corners = mesh.points[mesh.faces]  # [F, 3, 3]
    half = len(mesh.faces) // 2
    side = np.where(np.arange(len(mesh.faces)) < half, 1.0, -1.0)[:, None]
    x, y, z = np.moveaxis(corners, -1, 0)
    turn = np.arctan2(np.abs(x), z - surface.CROWN_DEPTH) / np.pi
    uv = np.stack(
        [0.5 + 0.5 * side * turn * (1.55 - 0.55 * turn), 0.16 + 0.84 * (y + 150) / 275], -1
    )

    crown = np.hypot(x, z - surface.CROWN_DEPTH) < 1
    uv = _at_poles(uv, crown)

    part = mesh.part[mesh.faces]
    eyeball = (part == "eyeball").all(1)
    offset = corners - surface.EYE_CENTRE * np.stack([side, side**2, side**2], -1)
    flat = np.linalg.norm(offset[..., :2], axis=-1, keepdims=True)
    polar = np.arctan2(flat, offset[..., 2:]) / np.pi
    disc = offset[..., :2] / np.maximum(flat, 1e-9) * polar * 0.07
    disc = _at_poles(disc, polar[..., 0] > 0.999)
    uv = np.where(eyeball[:, None, None], disc + [0.5, 0.08] + [0.4, 0] * side[..., None], uv)

    lining = ((part == "mouth") & (mesh.ring[mesh.faces] < patches.MOUTH_SLIT)).any(1)
    up = np.sign(patches.MOUTH_COLUMNS // 2 - mesh.column[mesh.faces]).sum(1, keepdims=True)
    depth = patches.MOUTH_SLIT - mesh.ring[mesh.faces]
    strip = np.stack([0.5 + x / 100, 0.08 + 0.017 * np.sign(up) * (4 - depth)], -1)
    uv = np.where(lining[:, None, None], strip, uv)

    keys = np.column_stack([mesh.faces.ravel(), np.round(uv.reshape(-1, 2) * 1e7)]).astype(np.int64)
    _, first, rows = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    return np.clip(uv.reshape(-1, 2)[first], 0, 1), rows.reshape(-1, 3)


def _at_poles(uv: np.ndarray, pole: np.ndarray) -> np.ndarray:
    """Gives corners at a pole of the map, where it has no one value, the mean of the other two."""
    others = (uv.sum(1, keepdims=True) - uv) / 2
    return np.where(pole[..., None], others, uv)
