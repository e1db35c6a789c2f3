"""FLAME fitted to a sequence of 3D scans of one subject.

1. Each frame from its landmarks alone: a rigid start in closed form, then all unknowns.
2. The identity: the frames with the least movement are searched together, one shape for all.
3. Each frame at that identity: expression, jaw, eyelids and place, by the robust distance of scan
   points to the surface. Points are matched anew before every few steps while the outlier
   threshold falls. The first sweep ties a frame to the one before, the second to both neighbours.
4. A gate: frames that the face does not explain are marked, with the reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.spatial import KDTree
from scipy.spatial.transform import Rotation

from fields_jax.fitting import parameters
from fields_jax.fitting.correspondence import match, rigid
from fields_jax.fitting.least_squares import Prior
from fields_jax.fitting.parameters import CAMERA, COEFFICIENTS, EYELID, JAW, POSE, Layout
from fields_jax.fitting.scan_gate import judge
from fields_jax.fitting.scan_solvers import (
    solve_frame,
    solve_identity,
    solve_landmarks,
    split_prior,
)
from fields_jax.fitting.scan_types import Cloud, Scan, ScanSettings, SequenceFit
from fields_jax.fitting.surface import LANDMARKS, Matches, Surface, face_surface, posed, with_shape
from fields_jax.types import FlameModel

_FEWEST_LANDMARKS = 6  # that fix a rigid start
_FEWEST_POINTS = 300  # about the face
_SECOND_ROUNDS = 3  # of the second sweep
_ABOUT = 0.03  # metres from the landmark fit within which scan points belong to the face


def fit_sequence(
    model: FlameModel,
    frames: Sequence[Scan],
    *,
    n_shape: int = 100,
    n_expression: int = 50,
    shape: Float[np.ndarray, " S"] | None = None,
    settings: ScanSettings | None = None,
) -> SequenceFit:
    """Fits all frames of one subject.

    Args:
      model: the head.
      frames: in order of time; one sequence or several (`Scan.sequence`).
      n_shape, n_expression: components that are fitted.
      shape: [n_shape] the identity where it is known from other frames; else it is fitted.
      settings: of the search and the gate.

    Raises:
      ValueError: no frames, arrays of the wrong shape, no frame with enough landmarks, or units
        that are not metres.
    """
    settings = settings or ScanSettings()
    layout = Layout(n_expression, n_shape)
    landmarks = np.stack(_checked_landmarks(frames))
    surface = face_surface(model, layout)
    prior, frame_prior = split_prior(parameters.prior(layout, jnp.float32), n_expression)
    x = _start(surface, landmarks, (prior, frame_prior), settings)
    clouds = _clouds(surface, frames, x, settings)
    usable = np.array([np.isfinite(c.points).all(axis=1).sum() >= _FEWEST_POINTS for c in clouds])
    if not usable.any():
        raise ValueError(
            f"no frame has {_FEWEST_POINTS} scan points within {_ABOUT * 1e3:.0f} mm of its "
            "landmarks: points and landmarks must share one frame of reference"
        )
    problem = _Problem(surface, clouds, landmarks, settings)
    size = frame_prior.mean.size
    if shape is None:
        neutral = _least_movement(problem, x, size, usable)
        shape, x[neutral, :size] = _identity(problem, neutral, x, (prior, frame_prior))
    else:
        neutral, shape = np.zeros(0, int), np.asarray(shape, np.float32)
        if shape.shape != (n_shape,):
            raise ValueError(f"shape of shape {list(shape.shape)}, expected [{n_shape}]")
    own = problem._replace(surface=surface.replace(rig=with_shape(surface.rig, shape)))
    order = np.array([frame.sequence for frame in frames])
    x = _track(own, x[:, :size], order, usable, frame_prior)
    return judge(own.surface, clouds, landmarks, x, shape, neutral, settings)


class _Problem(NamedTuple):
    surface: Surface
    clouds: list[Cloud]
    landmarks: Float[np.ndarray, "T L 3"]
    settings: ScanSettings

    def matches(self, frame: int, vertices: Float[np.ndarray, "V 3"], reach: float) -> Matches:
        cloud, face = self.clouds[frame], self.surface
        vertices = np.asarray(vertices, np.float64)[: len(face.border)]
        return match(vertices, face.triangles, face.border, *cloud, reach)[0]

    def rounds(self) -> list[tuple[float, Float[np.ndarray, " K"]]]:
        """For each round how far points may lie, metres, and its outlier thresholds."""
        chosen = self.settings
        outlier = np.geomspace(chosen.first_outlier, chosen.last_outlier, chosen.rounds)
        reach = chosen.reach_mm * 1e-3 * outlier / chosen.last_outlier
        return [
            (min(far, _ABOUT), np.full(chosen.steps, c, np.float32))
            for far, c in zip(reach, outlier, strict=True)
        ]


def _checked_landmarks(frames: Sequence[Scan]) -> list[Float[np.ndarray, "L 3"]]:
    if not frames:
        raise ValueError("no scans to fit")
    rows = []
    for number, frame in enumerate(frames):
        name = frame.name or f"frame {number}"
        sets = []
        for count in (51, 105):
            given = getattr(frame, f"landmarks_{count}")
            given = np.full((count, 3), np.nan) if given is None else np.asarray(given)
            if given.shape != (count, 3):
                shape = list(given.shape)
                raise ValueError(f"{name}: landmarks_{count} of shape {shape}, not [{count}, 3]")
            sets.append(given)
        shape = np.shape(frame.points)
        if len(shape) != 2 or shape[1] != 3:
            raise ValueError(f"{name}: points of shape {list(shape)}, expected [P, 3]")
        if frame.normals is not None and np.shape(frame.normals) != shape:
            found = list(np.shape(frame.normals))
            raise ValueError(f"{name}: normals of shape {found} for points of {list(shape)}")
        if (frame.normals is None) != (frames[0].normals is None):
            raise ValueError(f"{name}: either all frames have normals or none has")
        rows.append(np.concatenate(sets).astype(np.float32))
    return rows


def _start(
    surface: Surface,
    landmarks: Float[np.ndarray, "T L 3"],
    priors: tuple[Prior, Prior],
    settings: ScanSettings,
) -> Float[np.ndarray, "T P"]:
    """Each frame from its landmarks; frames with too few take the nearest other frame's."""
    mean = np.asarray(surface.rig.mean[-LANDMARKS:], np.float64)
    present = np.isfinite(landmarks).all(axis=-1)
    enough = present.sum(axis=1) >= _FEWEST_LANDMARKS
    if not enough.any():
        raise ValueError(f"no scan has {_FEWEST_LANDMARKS} landmarks to start from")
    prior = jax.tree.map(lambda own, frame: jnp.concatenate([frame, own]), *priors)
    x, sizes = np.zeros((len(landmarks), prior.mean.size), np.float32), []
    for t in np.flatnonzero(enough):
        rotation, translation, size = rigid(mean[present[t]], landmarks[t][present[t]])
        x[t, POSE], x[t, CAMERA] = Rotation.from_matrix(rotation).as_rotvec(), translation
        sizes.append(size)
    if not 0.5 < np.median(sizes) < 2:
        raise ValueError(
            f"the landmarks span {np.median(sizes):.3g} times a head: points must be in metres "
            "(divide millimetres by 1000)"
        )
    scales = np.geomspace(settings.first_outlier, settings.last_outlier, 15, dtype=np.float32)
    x = np.array(solve_landmarks(surface.rig, landmarks, x, prior, scales, settings.noise))
    started = np.flatnonzero(enough)
    nearest = started[np.argmin(abs(np.arange(len(x))[:, None] - started), axis=1)]
    return x[nearest]


def _clouds(
    surface: Surface, frames: Sequence[Scan], x: Float[np.ndarray, "T P"], settings: ScanSettings
) -> list[Cloud]:
    """A draw of the points about the face of each frame, all of one length."""
    faces = np.asarray(jax.vmap(posed, in_axes=(None, 0))(surface.rig, x))
    return [
        _cloud(frame, face, settings, np.random.default_rng((settings.seed, number)))
        for number, (frame, face) in enumerate(zip(frames, faces, strict=True))
    ]


def _cloud(
    frame: Scan, face: Float[np.ndarray, "V 3"], settings: ScanSettings, rng: np.random.Generator
) -> Cloud:
    points = np.asarray(frame.points, np.float64)
    about = np.flatnonzero(np.isfinite(points).all(axis=1))
    distance, _ = KDTree(face).query(points[about], distance_upper_bound=_ABOUT)
    about = about[np.isfinite(distance)]
    chosen = np.sort(rng.permutation(about)[: settings.points])
    padding = ((0, settings.points - len(chosen)), (0, 0))
    arrays = (
        None
        if array is None
        else np.pad(np.asarray(array)[chosen], padding, constant_values=np.nan)
        for array in (points, frame.normals)
    )
    return Cloud(*arrays)


def _least_movement(
    problem: _Problem, x: Float[np.ndarray, "T P"], size: int, usable: Bool[np.ndarray, " T"]
) -> Int[np.ndarray, " K"]:
    """The frames whose landmarks expression and jaw move least, in order of time."""
    rest = x.copy()
    rest[:, JAW] = rest[:, EYELID] = rest[:, COEFFICIENTS.start : size] = 0
    moved, still = (
        np.asarray(jax.vmap(posed, in_axes=(None, 0))(problem.surface.rig, y))[:, -LANDMARKS:]
        for y in (x, rest)
    )
    movement = np.linalg.norm(moved - still, axis=-1).mean(axis=1)
    misfit = np.linalg.norm(moved - problem.landmarks, axis=-1)
    far = np.nanmean(misfit, axis=1) > problem.settings.gate.landmark_mm * 1e-3
    movement = np.where(usable, movement, np.inf) + np.where(far, 1.0, 0.0)  # a metre behind
    order = np.argsort(movement, kind="stable")[: problem.settings.neutral_frames]
    return np.sort(order[usable[order]])


def _identity(
    problem: _Problem,
    neutral: Int[np.ndarray, " K"],
    x: Float[np.ndarray, "T P"],
    priors: tuple[Prior, Prior],
) -> tuple[Float[np.ndarray, " S"], Float[np.ndarray, "K M"]]:
    """The shape of the neutral frames, and their other unknowns."""
    prior, calm = priors
    calm = calm.replace(
        precision=calm.precision.at[COEFFICIENTS].divide(problem.settings.neutral_sd**2)
    )
    size = calm.mean.size
    shape, frames = x[neutral, size:].mean(axis=0), x[neutral, :size]
    for reach, scales in problem.rounds():
        rig = with_shape(problem.surface.rig, shape)
        faces = jax.vmap(posed, in_axes=(None, 0))(rig, frames)
        matches = [problem.matches(t, face, reach) for t, face in zip(neutral, faces, strict=True)]
        matches = jax.tree.map(lambda *leaves: np.stack(leaves), *matches)
        shape, frames = solve_identity(
            problem.surface.rig,
            matches,
            problem.landmarks[neutral],
            (shape, frames),
            (prior, calm),
            scales,
            problem.settings.noise,
        )
    return np.asarray(shape), np.asarray(frames)


def _track(
    problem: _Problem,
    x: Float[np.ndarray, "T M"],
    sequence: Int[np.ndarray, " T"],
    usable: Bool[np.ndarray, " T"],
    prior: Prior,
) -> Float[np.ndarray, "T M"]:
    """Every usable frame at the identity that the problem's surface has.

    The first sweep goes through all rounds, tied to the frame before; the second repeats the last
    rounds, tied to the frames on both sides.
    """
    x, rounds = x.copy(), problem.rounds()
    for sides, chosen in (((-1,), rounds), ((-1, 1), rounds[-_SECOND_ROUNDS:])):
        for t in np.flatnonzero(usable):
            near = [t + side for side in sides if 0 <= t + side < len(x)]
            near = [n for n in near if usable[n] and sequence[n] == sequence[t]]
            tied = _tied(prior, x[near], problem.settings)
            x[t] = _frame(problem, t, x[t], tied, chosen)
    return x


def _tied(prior: Prior, neighbours: Float[np.ndarray, "N M"], settings: ScanSettings) -> Prior:
    """The prior of a frame between neighbours in time: a product of Gaussians is one."""
    change = np.full(prior.mean.size, np.inf)
    change[COEFFICIENTS] = settings.expression_change
    change[JAW], change[EYELID] = settings.jaw_change, settings.eyelid_change
    tie = change**-2
    total = prior.precision + len(neighbours) * tie
    weighted = prior.precision * prior.mean + tie * neighbours.sum(axis=0)
    mean = jnp.where(total > 0, weighted / jnp.maximum(total, 1e-12), 0.0)
    return prior.replace(mean=jnp.float32(mean), precision=jnp.float32(total))


def _frame(
    problem: _Problem,
    frame: int,
    x: Float[np.ndarray, " M"],
    prior: Prior,
    rounds: list[tuple[float, Float[np.ndarray, " K"]]],
) -> Float[np.ndarray, " M"]:
    rig = problem.surface.rig
    for reach, scales in rounds:
        matches = problem.matches(frame, posed(rig, x), reach)
        x = solve_frame(
            rig, matches, problem.landmarks[frame], x, prior, scales, problem.settings.noise
        )
    return np.asarray(x)
