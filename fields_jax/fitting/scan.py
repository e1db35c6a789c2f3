"""FLAME fitted to sequences of 3D scans of one subject.

1. Each frame from its landmarks alone: a rigid start in closed form, then all unknowns.
2. The identity: the frames with the least movement are searched together, one shape for all.
3. Each frame at that identity: expression, jaw, eyelids and place, by the robust distance of scan
   points to the surface. Points are matched anew before every few steps while the outlier
   threshold falls. The first sweep ties a frame to the one before, the second to both neighbours.
4. A gate: frames that the face does not explain are marked, with the reason.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from fields_jax.errors import UserError
from fields_jax.fitting import parameters, scan_gate
from fields_jax.fitting.correspondence import nearest_vertices
from fields_jax.fitting.least_squares import Prior
from fields_jax.fitting.parameters import CAMERA, COEFFICIENTS, EYELID, JAW, POSE, Layout
from fields_jax.fitting.rig import Rig
from fields_jax.fitting.scan_solvers import (
    Observed,
    Round,
    solve_frame,
    solve_identity,
    split_prior,
)
from fields_jax.fitting.scan_start import Started, start
from fields_jax.fitting.scan_types import Scan, ScanSettings, SequenceFit
from fields_jax.fitting.surface import LANDMARKS, Surface, face_surface, posed, with_shape
from fields_jax.types import FlameCoefficients, FlameModel

_IDENTITY_TRIES = 3
# Frames whose scan is farther than this from their landmarks' face, in units of the usual distance,
# are not used for the identity; a scan of a ball is at 5.
_UNUSUAL = 2.0
_FAR_MM = 30.0  # largest distance of a scan point that counts for it

_posed = jax.jit(posed)
_posed_frames = jax.jit(jax.vmap(posed, in_axes=(None, 0)))
_with_shape = jax.jit(with_shape)


class ScanFitter:
    """Fits scans with one head.

    Attributes:
      settings: of the search and the gate.
      layout: which components are fitted.
    """

    def __init__(
        self,
        head: FlameModel,
        *,
        n_shape: int = 300,
        n_expression: int = 50,
        settings: ScanSettings | None = None,
    ):
        """Prepares tables.

        Args:
          head: FLAME or the procedural head.
          n_shape, n_expression: components that are fitted.
          settings: of the search and the gate.

        Raises:
          UserError: more components than the head has.
        """
        self.settings, self.layout = settings or ScanSettings(), Layout(n_expression, n_shape)
        surface = face_surface(head, self.layout)
        self._tables, self._surface = surface.replace(rig=None), jax.device_put(surface)
        prior = parameters.prior(head, self.layout, jnp.float32)
        self._shape_prior, self._prior = split_prior(prior, n_expression)
        self._whole_prior = prior
        spread = (head.priors[name].deviation for name in ("expression", "shape"))
        self._deviations = tuple(map(np.asarray, spread))

    def identity(self, frames: Sequence[Scan]) -> Float[np.ndarray, " S"]:
        """The shape of one subject, of the frames with the least movement.

        Raises:
          UserError: no frame can be searched.
          ValueError: arrays of the wrong shape.
        """
        return self._identity(frames)[0]

    def fit(
        self, frames: Sequence[Scan], shape: Float[np.ndarray, " S"] | None = None
    ) -> SequenceFit:
        """Fits all frames of one subject.

        Args:
          frames: in order of time; one sequence or several (`Scan.sequence`).
          shape: [n_shape] the identity where it is known from other frames; else it is fitted.

        Raises:
          UserError: no frame from which to fit the identity.
          ValueError: no frames, arrays of the wrong shape.
        """
        neutral = np.zeros(0, int)
        if shape is None:
            shape, neutral = self._identity(frames)
        if np.shape(shape) != (self.layout.n_shape,):
            found, wanted = list(np.shape(shape)), self.layout.n_shape
            raise ValueError(f"shape of shape {found}, expected [{wanted}]")
        shape = np.asarray(shape, np.float32)
        own = self._surface.replace(rig=_with_shape(self._surface.rig, shape))
        started = self._started(own.rig, self._prior, frames)
        x = self._track(own, started, [frame.sequence for frame in frames], shape)
        return self._judged(own, started, x, shape, neutral)

    def _started(self, rig: Rig, prior: Prior, frames: Sequence[Scan]) -> list[Started]:
        if not frames:
            raise ValueError("no scans to fit")
        count = self.layout.n_expression
        return [start(rig, prior, count, frame, self.settings, t) for t, frame in enumerate(frames)]

    def _rounds(self) -> Iterator[Round]:
        chosen = self.settings
        reach = np.geomspace(chosen.first_reach_mm, chosen.reach_mm, chosen.rounds)
        outlier = chosen.outliers(chosen.rounds)
        for far, limit in zip(reach, outlier, strict=True):
            yield Round(np.float32(1e-3 * far), np.full(chosen.steps, limit))

    def _identity(self, frames: Sequence[Scan]) -> tuple[Float[np.ndarray, " S"], np.ndarray]:
        """The shape, and which frames decided it.

        Frames that the gate turns down at the shape they took part in are replaced by others.
        """
        started = self._started(self._surface.rig, self._whole_prior, frames)
        able = [t for t, frame in enumerate(started) if not frame.fault]
        if not able:
            raise UserError(f"no scan can be fitted; the first: {started[0].fault}")
        limit, distance = self.settings.gate.landmark_mm, self._distances(started, able)
        # A scan of something else lies far from its landmarks' face and would spoil the shape.
        usual = np.nanmedian(list(distance.values()))
        able = [t for t in able if not distance[t] > _UNUSUAL * usual]
        able.sort(key=lambda t: (started[t].misfit_mm > limit, started[t].movement_mm))
        for _ in range(_IDENTITY_TRIES):
            neutral = sorted(able[: self.settings.neutral_frames])
            shape, moving = self._shared_shape([started[t] for t in neutral])
            own = self._surface.replace(rig=_with_shape(self._surface.rig, shape))
            pairs = zip(neutral, moving, strict=True)
            bad = [t for t, x in pairs if self._judge(own, started[t], x, shape)[1]]
            if len(bad) == len(neutral) > 1:  # one may have spoiled it for all
                bad = [max(bad, key=distance.get)]
            able = [t for t in able if t not in bad]
            if not bad or not able:
                break
        return shape, np.array(neutral)

    def _distances(self, started: Sequence[Started], able: list[int]) -> dict[int, float]:
        """Median distance in mm of each frame's scan to the face that its landmarks gave."""
        size, found = self._prior.mean.size, {}
        for t in able:
            own = _with_shape(self._surface.rig, started[t].x[size:])
            points = np.asarray(_posed(own, started[t].x[:size]))
            row = scan_gate.measure(
                self._tables, points, started[t].cloud, started[t].landmarks, _FAR_MM
            )
            found[t] = row["median_mm"]
        return found

    def _shared_shape(
        self, chosen: list[Started]
    ) -> tuple[Float[np.ndarray, " S"], Float[np.ndarray, "K M"]]:
        """One shape for some frames, searched with all their other unknowns."""
        real, count = len(chosen), self.settings.neutral_frames
        chosen = [chosen[k % real] for k in range(count)]  # always `count`, for one program
        clouds = jax.tree.map(lambda *leaves: np.stack(leaves), *(f.cloud for f in chosen))
        clouds = clouds.replace(real=clouds.real * (np.arange(count) < real)[:, None])
        landmarks = np.stack([frame.landmarks for frame in chosen])
        landmarks[real:] = np.nan  # padding must not count
        calm = self._prior.replace(
            precision=self._prior.precision.at[COEFFICIENTS].divide(self.settings.neutral_sd**2)
        )
        size, x = self._prior.mean.size, np.stack([frame.x for frame in chosen])
        shape, moving = x[:, size:].mean(axis=0), x[:, :size]
        points = _posed_frames(_with_shape(self._surface.rig, shape), moving)
        for steps in self._rounds():
            vertices = np.asarray(points)[:, :-LANDMARKS]
            near = np.stack(
                [nearest_vertices(*pair) for pair in zip(vertices, clouds.points, strict=True)]
            )
            shape, moving, points = solve_identity(
                self._surface,
                Observed(clouds, near, landmarks),
                (shape, moving),
                (self._shape_prior, calm),
                steps,
                self.settings.noise,
            )
        return np.asarray(shape), np.asarray(moving)[:real]

    def _track(
        self,
        own: Surface,
        started: Sequence[Started],
        sequence: Sequence[int],
        shape: Float[np.ndarray, " S"],
    ) -> Float[np.ndarray, "T M"]:
        """Every frame that can be searched, at the surface's identity.

        Frames that the gate turns down after the first sweep tie no others, and the second sweep
        searches them anew from their neighbours.
        """
        rounds, x = list(self._rounds()), np.stack([frame.x for frame in started])
        last = rounds[len(rounds) - self.settings.last_rounds :]
        trusted = np.zeros(len(x), bool)
        able = [t for t, frame in enumerate(started) if not frame.fault]
        for sides in ((-1,), (-1, 1)):
            for t in able:
                near = [t + side for side in sides if 0 <= t + side < len(x)]
                near = [n for n in near if trusted[n] and sequence[n] == sequence[t]]
                prior = self._tied(x[near])
                anew = sides == (-1,) or not trusted[t]
                if near and anew and sides != (-1,):
                    x[t, POSE], x[t, CAMERA] = started[t].x[POSE], started[t].x[CAMERA]
                    x[t, JAW.start :] = x[near, JAW.start :].mean(axis=0)
                x[t] = self._searched(own, started[t], x[t], prior, rounds if anew else last)
                trusted[t] = not self._judge(own, started[t], x[t], shape)[1]
        return x

    def _searched(self, surface, frame, x, prior, rounds) -> Float[np.ndarray, " M"]:
        """One frame after some rounds."""
        points = _posed(surface.rig, x)
        for steps in rounds:
            near = nearest_vertices(np.asarray(points)[:-LANDMARKS], frame.cloud.points)
            observed = Observed(frame.cloud, near, frame.landmarks)
            x, points = solve_frame(surface, observed, x, prior, steps, self.settings.noise)
        return np.asarray(x)

    def _judge(
        self,
        own: Surface,
        frame: Started,
        x: Float[np.ndarray, " M"],
        shape: Float[np.ndarray, " S"],
    ) -> tuple[dict[str, float], str]:
        """What the gate measures of a frame, and what is wrong with it."""
        points, settings = np.asarray(_posed(own.rig, x)), self.settings
        row = scan_gate.measure(
            self._tables, points, frame.cloud, frame.landmarks, settings.reach_mm
        )
        return row, frame.fault or scan_gate.faults(
            row, self._in_deviations(x[COEFFICIENTS], shape), settings.gate
        )

    def _judged(
        self,
        own: Surface,
        started: Sequence[Started],
        x: Float[np.ndarray, "T M"],
        shape: Float[np.ndarray, " S"],
        neutral: np.ndarray,
    ) -> SequenceFit:
        judged = [self._judge(own, *pair, shape) for pair in zip(started, x, strict=True)]
        rows = [row for row, _ in judged]
        reasons = tuple(reason for _, reason in judged)
        count = len(x)
        coefficients = FlameCoefficients(
            shape=np.tile(shape, (count, 1)),
            expression=x[:, COEFFICIENTS],
            jaw=x[:, JAW],
            eyelid=x[:, EYELID],
            pose=np.zeros((count, 3), np.float32),
            camera=np.tile(np.float32([1, 0, 0]), (count, 1)),
        )
        return SequenceFit(
            coefficients=coefficients,
            rotation=x[:, POSE],
            translation=x[:, CAMERA],
            neutral=neutral,
            accepted=np.array([not reason for reason in reasons]),
            reasons=reasons,
            **{name: np.array([row[name] for row in rows]) for name in rows[0]},
        )

    def _in_deviations(self, *groups: Float[np.ndarray, " _"]) -> list[np.ndarray]:
        """Expression and shape in the standard deviations of the head's priors."""
        pairs = zip(groups, self._deviations, strict=True)
        return [values / spread[: len(values)] for values, spread in pairs]

    def _tied(self, neighbours: Float[np.ndarray, "N M"]) -> Prior:
        """The prior of a frame given its neighbours in time: a product of Gaussians, again one."""
        prior, settings = self._prior, self.settings
        change = np.full(prior.mean.size, np.inf)
        spread = self._deviations[0][: self.layout.n_expression]
        change[COEFFICIENTS] = settings.expression_change * spread
        change[JAW], change[EYELID] = settings.jaw_change, settings.eyelid_change
        tie = change**-2
        alone = np.asarray(prior.precision)
        total = alone + len(neighbours) * tie
        weighted = alone * np.asarray(prior.mean) + tie * neighbours.sum(axis=0)
        mean = np.where(total > 0, weighted / np.maximum(total, 1e-12), 0.0)
        return prior.replace(mean=np.float32(mean), precision=np.float32(total))
