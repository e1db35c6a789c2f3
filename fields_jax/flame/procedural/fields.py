"""Displacement fields of which the procedural head's components are made, in millimetres."""

from __future__ import annotations

import numpy as np

from fields_jax.flame.procedural import patches, surface
from fields_jax.flame.procedural.mesh import HeadMesh
from fields_jax.flame.procedural.rig import gauss
from fields_jax.flame.procedural.surface import smoothstep

EYES = surface.EYE_CENTRE * np.array([[1, 1, 1], [-1, 1, 1]])
HALF_MOUTH = patches.MOUTH_COLUMNS // 2


def bumps(points: np.ndarray, chosen, mirror: bool = True) -> np.ndarray:
    """Sum of Gaussian bumps [N, 3], each (centre on the left side, radii, displacement there).

    Mirrored ones change the sign of x smoothly across the midline.
    """
    total = np.zeros_like(points)
    side = np.tanh(points[:, 0] / 8) if mirror else np.ones(len(points))
    for centre, radii, (right, up, out) in chosen:
        weight = gauss(points, centre, radii)
        total += weight[:, None] * np.stack([right * side, 0 * side + up, 0 * side + out], 1)
    return total


def with_eyes(mesh: HeadMesh, field: np.ndarray, inner: float, outer: float) -> np.ndarray:
    """Carries each eyeball and the lids on it as one piece.

    `field` may end with two rows that move the eye centres; without them the eyes stay put. What
    lies between the distances `inner` and `outer` of an eye's centre takes part in both movements.
    """
    vertices = len(mesh.points)
    moves = field[vertices:] if len(field) > vertices else np.zeros((2, 3))
    field = field[:vertices].copy()
    for centre, move, left in zip(EYES, moves, (True, False), strict=True):
        zone = smoothstep((outer - np.linalg.norm(mesh.points - centre, axis=1)) / (outer - inner))
        field += zone[:, None] * (move - field)
        field[mesh.select("eyeball", left)] = move
    return field


def lip_profiles(mesh: HeadMesh) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Per vertex: 1 at the lips' border, 1 at their fullest, and +1 or -1 for upper and lower.

    All are 0 at the slit, at the corners and away from the mouth.
    """
    mouth = mesh.part == "mouth"
    share = 1 - np.abs(mesh.column - HALF_MOUTH) / HALF_MOUTH
    along = np.where(mouth, np.maximum(1 - share**2, 0) ** 0.7, 0)
    rings = np.array([0, 0, 0, 0, 0, 0.2, 0.55, 0.85, 1, 0.85, 0.55, 0.15, 0])
    fullness = np.array([0, 0, 0, 0, 0.1, 0.6, 1, 0.8, 0.35, 0.15, 0, 0, 0])
    ring = np.where(mouth, mesh.ring, 0)
    return along * rings[ring], along * fullness[ring], np.sign(HALF_MOUTH - mesh.column)


def smooth_noise(
    points: np.ndarray, count: int, wavelengths: tuple[float, float], seed: int
) -> list[np.ndarray]:
    """Random smooth fields [N, 3] whose grain gets finer, from the first wavelength to the second.

    Nine of ten are symmetric, as most of the difference between faces is, and two thirds of those
    move the skin only in and out, which is what one sees of a surface.
    """
    rng = np.random.default_rng(seed)
    flip = np.array([-1, 1, 1])
    outwards = points - np.array([0, -10, -20])
    outwards /= np.linalg.norm(outwards, axis=1, keepdims=True)
    fields = []
    for number, length in enumerate(np.geomspace(*wavelengths, count)):
        direction = rng.normal(size=(4, 3))
        direction *= 2 * np.pi / length / np.linalg.norm(direction, axis=1, keepdims=True)
        phase, sway = rng.uniform(0, 2 * np.pi, 4), rng.normal(size=(4, 3))
        waves = np.cos(points @ direction.T + phase)
        mirrored = np.cos((points * flip) @ direction.T + phase)
        if number % 10 == 0:
            fields.append(waves @ sway)
        elif number % 3:
            fields.append(((waves + mirrored) @ sway[:, :1]) * outwards)
        else:
            fields.append(waves @ sway + mirrored @ sway * flip)
    return fields


def falling(fields: list[np.ndarray], first: float, last: float) -> list[np.ndarray]:
    """Scales fields so that their peaks fall from `first` to `last` mm."""
    peaks = np.geomspace(first, last, len(fields))
    return [
        field * (peak / np.linalg.norm(field, axis=1).max())
        for field, peak in zip(fields, peaks, strict=True)
    ]
