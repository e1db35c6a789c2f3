"""The start of the search for a scan: a frame's landmarks, and the scan points near the face."""

from __future__ import annotations

import dataclasses

import numpy as np
from jaxtyping import Float
from scipy.spatial import KDTree
from scipy.spatial.transform import Rotation

from fields_jax.fitting.correspondence import Cloud
from fields_jax.fitting.least_squares import Prior
from fields_jax.fitting.parameters import CAMERA, POSE
from fields_jax.fitting.rig import Rig
from fields_jax.fitting.scan_solvers import solve_landmarks
from fields_jax.fitting.scan_types import Scan, ScanSettings
from fields_jax.fitting.surface import LANDMARKS
from fields_jax.geometry.similarity import rigid_motion

_FEWEST_LANDMARKS = 6  # that determine a rigid start
_FEWEST_POINTS = 300  # near the face
_SIZES = (0.7, 1.4)  # of heads; landmarks of another size are not in metres, or not of a face
_ABOUT = 0.03  # metres from the landmark fit within which scan points belong to the face
_STEPS = 15  # of the search by landmarks


@dataclasses.dataclass(frozen=True)
class Started:
    """A frame that is ready to be searched, or what is wrong with it.

    Attributes:
      landmarks: [L, 3] metres, not finite where missing.
      x: the layout's unknowns.
      movement_mm: how far expression and jaw move the landmarks.
      misfit_mm: mean distance of the landmarks from the fit.
      cloud: the points drawn from the scan.
      fault: "" for a frame that can be searched.
    """

    landmarks: Float[np.ndarray, "L 3"]
    x: Float[np.ndarray, " P"]
    movement_mm: float | np.floating
    misfit_mm: float | np.floating
    cloud: Cloud
    fault: str = ""


def start(
    rig: Rig,
    prior: Prior,
    n_expression: int,
    frame: Scan,
    settings: ScanSettings,
    number: int = 0,
) -> Started:
    """Searches a frame by its landmarks and draws the scan points about the face found.

    Args:
      rig: of the layout's components.
      prior: of the unknowns; without shape components the identity is the rig's.
      n_expression: how many of them are expression.
      frame: the scan.
      settings: of the search.
      number: of the frame, for the draw.

    Raises:
      ValueError: arrays of the wrong shape.
    """
    landmarks = _landmarks(frame)
    present = np.isfinite(landmarks).all(axis=1)
    x = np.clip(np.zeros(prior.mean.size, np.float32), prior.lower, prior.upper)
    empty = _draw(frame, np.zeros(0, int), settings)
    if present.sum() < _FEWEST_LANDMARKS:
        fault = f"fewer than {_FEWEST_LANDMARKS} landmarks"
        return Started(landmarks, x, np.nan, np.nan, empty, fault)
    rest = np.asarray(rig.mean[-LANDMARKS:], np.float64)
    rotation, translation, size = rigid_motion(rest[present], landmarks[present])
    if not _SIZES[0] < size < _SIZES[1]:
        fault = f"landmarks of another size: {size:.3g} times the size of a head's in metres"
        return Started(landmarks, x, np.nan, np.nan, empty, fault)
    x[POSE], x[CAMERA] = Rotation.from_matrix(rotation).as_rotvec(), translation
    scales = settings.outliers(_STEPS)
    solved = solve_landmarks(rig, landmarks, x, prior, scales, settings.noise, n_expression)
    x, points, still = map(np.asarray, solved)
    found = points[-LANDMARKS:]
    chosen = _about_face(frame, points[:-LANDMARKS], settings, number)
    few = len(chosen) < _FEWEST_POINTS
    about = f"{1e3 * _ABOUT:.0f} mm of where the landmarks put the face"
    return Started(
        landmarks,
        x,
        1e3 * np.linalg.norm(found - still, axis=1).mean(),
        1e3 * np.linalg.norm(found - landmarks, axis=1)[present].mean(),
        _draw(frame, chosen, settings),
        f"fewer than {_FEWEST_POINTS} scan points within {about}" if few else "",
    )


def _landmarks(frame: Scan) -> Float[np.ndarray, "L 3"]:
    """Both sets in one, after a check of all shapes."""
    sets = []
    for count in (51, 105):
        given = getattr(frame, f"landmarks_{count}")
        given = np.full((count, 3), np.nan) if given is None else np.asarray(given)
        if given.shape != (count, 3):
            shape = list(given.shape)
            raise ValueError(f"{frame.name}: landmarks_{count} of shape {shape}, not [{count}, 3]")
        sets.append(given)
    shape = np.shape(frame.points)
    if len(shape) != 2 or shape[1] != 3:
        raise ValueError(f"{frame.name}: points of shape {list(shape)}, expected [P, 3]")
    if frame.normals is not None and np.shape(frame.normals) != shape:
        found = list(np.shape(frame.normals))
        raise ValueError(f"{frame.name}: normals of shape {found} for points of {list(shape)}")
    return np.concatenate(sets).astype(np.float32)


def _about_face(
    frame: Scan, face: Float[np.ndarray, "V 3"], settings: ScanSettings, number: int
) -> np.ndarray:
    """A random draw of the finite points about the face, as rows."""
    points = np.asarray(frame.points, np.float64)
    about = np.flatnonzero(np.isfinite(points).all(axis=1))
    low, high = face.min(axis=0) - _ABOUT, face.max(axis=0) + _ABOUT
    about = about[((points[about] > low) & (points[about] < high)).all(axis=1)]
    draw = np.random.default_rng((settings.seed, number)).permutation(about)
    draw = draw[: 3 * settings.points]  # enough, since few of them lie beyond the face
    distance, _ = KDTree(face).query(points[draw], distance_upper_bound=_ABOUT)
    return draw[np.isfinite(distance)][: settings.points]


def _draw(frame: Scan, rows: np.ndarray, settings: ScanSettings) -> Cloud:
    """The rows of a scan, filled up to the number of points that every frame has."""
    padding = ((0, settings.points - len(rows)), (0, 0))
    normals = np.zeros_like(frame.points) if frame.normals is None else frame.normals
    points, normals = (
        np.pad(np.asarray(array, np.float32)[rows], padding) for array in (frame.points, normals)
    )
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    unit = np.nan_to_num(normals / np.maximum(length, 1e-12))
    return Cloud(points, unit, (np.arange(settings.points) < len(rows)).astype(np.float32))
