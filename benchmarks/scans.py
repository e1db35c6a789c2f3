"""Scans of known faces: points on the posed head with the faults that real scanners have."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from fields_jax.fitting.scan_types import Scan
from fields_jax.flame import flame
from fields_jax.types import FlameCoefficients, FlameModel

_EXPRESSIONS = 50
_HIDDEN = ("left_eyeball", "right_eyeball", "mouth_interior")
_FRONT = 0.1  # cosine to the viewer below which a scanner in front sees no surface


@dataclasses.dataclass(frozen=True)
class Faults:
    """The faults of a scan.

    Attributes:
      points: number of points.
      noise_mm: standard deviation of a point, in every direction.
      landmark_mm: the same for a landmark.
      holes: number of round areas without points.
      hole_mm: their radius.
      outliers: fraction of points that lie anywhere around the head, half of them in clumps.
      dense: whether there are the 105 landmarks besides the 51.
    """

    points: int = 20000
    noise_mm: float = 0.3
    landmark_mm: float = 1.0
    holes: int = 3
    hole_mm: float = 10.0
    outliers: float = 0.08
    dense: bool = True


@dataclasses.dataclass(frozen=True)
class Known:
    """Frames of one subject whose truth is known.

    Attributes:
      coefficients: [T, ...] pose zero.
      vertices: [T, V, 3] of the whole head in the scan's frame, metres.
      landmarks: [T, 51 + 105, 3].
      scans: T of them.
    """

    coefficients: FlameCoefficients
    vertices: Float[np.ndarray, "T V 3"]
    landmarks: Float[np.ndarray, "T 156 3"]
    scans: list[Scan]


def movement(
    rng: np.random.Generator,
    frames: int,
    strength: float = 1.0,
    sequence: int = 0,
    shapes: int = 300,
) -> FlameCoefficients:
    """A face that goes from rest to an expression and back, opens the mouth and blinks once.

    Args:
      rng: decides identity and expression.
      frames: T.
      strength: standard deviation of the expression's coefficients at its height.
      sequence: another expression of the same identity.
      shapes: components that identities differ in.
    """
    shape = rng.normal(size=shapes)
    moving = np.random.default_rng((rng.integers(2**31), sequence))
    envelope = np.sin(np.pi * np.arange(frames) / max(frames - 1, 1))[:, None] ** 2
    expression = envelope * strength * moving.normal(size=_EXPRESSIONS)
    jaw = np.zeros((frames, 3))
    jaw[:, :1] = envelope * moving.uniform(0, 0.4)
    eyelid = np.zeros((frames, 2))
    if frames > 2:
        eyelid[moving.integers(1, frames)] = 1
    arrays = dict(
        shape=np.tile(shape, (frames, 1)),
        expression=expression,
        jaw=jaw,
        eyelid=eyelid,
        pose=np.zeros((frames, 3)),
        camera=np.tile([1.0, 0.0, 0.0], (frames, 1)),
    )
    return FlameCoefficients(**{k: jnp.asarray(v, jnp.float32) for k, v in arrays.items()})


def scanned(
    head: FlameModel,
    coefficients: FlameCoefficients,
    rng: np.random.Generator,
    faults: Faults | None = None,
    sequence: int = 0,
) -> Known:
    """Scans of the faces, which nod and drift a little before the scanner; computed in float64."""
    faults = faults or Faults()
    output = jax.jit(flame)(head, coefficients)
    frames = len(output.vertices)
    turn = np.deg2rad(12) * np.sin(np.linspace(0, 2, frames)[:, None] + rng.uniform(0, 6, 3))
    rotation = Rotation.from_rotvec(turn).as_matrix()
    shift = np.array([0.01, 1.2, 0.3]) + 0.003 * rng.normal(size=(frames, 3))
    vertices, inner, dense = (
        np.einsum("tij,tnj->tni", rotation, np.asarray(points, np.float64)) + shift[:, None]
        for points in (output.vertices, output.landmarks_68[:, 17:], output.landmarks_105)
    )
    landmarks = np.concatenate([inner, dense], axis=1)
    seen = landmarks + 1e-3 * faults.landmark_mm * rng.normal(size=landmarks.shape)
    faces = visible_faces(head)
    scans = [
        Scan(
            points=scan_points(v, faces, rng, faults),
            landmarks_51=marks[:51],
            landmarks_105=marks[51:] if faults.dense else None,
            sequence=sequence,
            name=f"frame {t}",
        )
        for t, (v, marks) in enumerate(zip(vertices, seen, strict=True))
    ]
    return Known(coefficients, vertices, landmarks, scans)


def visible_faces(head: FlameModel) -> np.ndarray:
    """The head's faces without those of eyeballs and mouth, most of which are hidden by skin."""
    faces = np.asarray(head.faces)
    hidden = [np.asarray(head.regions[name]) for name in _HIDDEN if name in head.regions]
    return faces[~np.isin(faces, np.concatenate([[-1], *hidden])).any(axis=1)]


def frontal_area(vertices: Float[np.ndarray, "V 3"], faces: np.ndarray) -> Float[np.ndarray, " F"]:
    """Twice the area of each triangle; 0 for those that a scanner in front does not see."""
    corners = vertices[faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    area = np.linalg.norm(normals, axis=1)
    return np.where(normals[:, 2] > _FRONT * area, area, 0)


def scan_points(
    vertices: Float[np.ndarray, "V 3"],
    faces: np.ndarray,
    rng: np.random.Generator,
    faults: Faults,
) -> Float[np.ndarray, "P 3"]:
    """Points on the surface that faces +z, uniform by area, with the faults."""
    corners, area = vertices[faces], frontal_area(vertices, faces)
    chosen = rng.choice(len(faces), faults.points, p=area / area.sum())
    points = np.einsum("pk,pkd->pd", rng.dirichlet(np.ones(3), faults.points), corners[chosen])
    for centre in points[rng.choice(len(points), faults.holes)]:
        points = points[np.linalg.norm(points - centre, axis=1) > 1e-3 * faults.hole_mm]
    points = points + 1e-3 * faults.noise_mm * rng.normal(size=points.shape)
    wrong = rng.permutation(len(points))[: int(faults.outliers * len(points))]
    low, high = points.min(axis=0), points.max(axis=0)
    anywhere, clumps = np.array_split(wrong, 2)
    points[anywhere] = rng.uniform(low, high, (len(anywhere), 3))
    for clump in np.array_split(clumps, 4):
        points[clump] = rng.uniform(low, high) + 0.004 * rng.normal(size=(len(clump), 3))
    return points
