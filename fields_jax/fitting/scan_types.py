"""What goes into a scan fit and what comes out."""

from __future__ import annotations

import dataclasses

import numpy as np
from jaxtyping import Bool, Float

from fields_jax.types import FlameCoefficients


@dataclasses.dataclass(frozen=True)
class Scan:
    """One frame, metres, in any frame of reference.

    Attributes:
      points: [P, 3] of the scan; those that are not finite are dropped.
      landmarks_51: [51, 3] the inner points of the 68, or None; not finite where missing.
      landmarks_105: [105, 3] mediapipe's points, or None; the same.
      normals: [P, 3] outward, or None.
      sequence: frames that follow each other with the same number are neighbours in time.
      name: for messages.
    """

    points: Float[np.ndarray, "P 3"]
    landmarks_51: Float[np.ndarray, "51 3"] | None = None
    landmarks_105: Float[np.ndarray, "105 3"] | None = None
    normals: Float[np.ndarray, "P 3"] | None = None
    sequence: int = 0
    name: str = ""


@dataclasses.dataclass(frozen=True)
class Noise:
    """Standard deviations in mm, ours.

    Attributes:
      point: of a scan point across the surface.
      landmark: of a landmark in space.
    """

    point: float = 0.3
    landmark: float = 2.0


@dataclasses.dataclass(frozen=True)
class Gate:
    """Bounds for an accepted frame; ours, chosen for the scans of a clean scanner.

    Attributes:
      median_mm, p95_mm: of the distances of scan points to the surface.
      landmark_mm: mean distance of the landmarks, whose schemes differ by some mm.
      kept: fraction of the scan points about the face that lie within `ScanSettings.reach_mm`.
      coverage: fraction of the face's vertices with a scan point within 5 mm.
      expression, shape: largest coefficient, in standard deviations.
    """

    median_mm: float = 1.0
    p95_mm: float = 3.0
    landmark_mm: float = 6.0
    kept: float = 0.7
    coverage: float = 0.6
    expression: float = 5.0
    shape: float = 6.0


@dataclasses.dataclass(frozen=True)
class ScanSettings:
    """How to search; all values are ours.

    Attributes:
      points: scan points a frame is fitted to, drawn at random from those about the face.
      neutral_frames: frames with the least movement that decide the identity.
      neutral_sd: prior of expression there, in standard deviations of the components.
      noise: standard deviations in mm.
      expression_change, jaw_change, eyelid_change: prior of the change between neighbours in time,
        in standard deviations, radians and closures. A blink takes two or three frames.
      rounds: rounds of matching in the first sweep over the frames and for the identity.
      last_rounds: how many of these rounds the second sweep repeats.
      steps: of the search after each matching.
      first_reach_mm, reach_mm: points farther from the surface are not matched, in the first and
        the last round.
      first_outlier_mm, last_outlier_mm: distances beyond which scan points cease to count; for
        landmarks they are larger by the ratio of the noises.
      gate: what makes a frame good.
      seed: of the draw of points.
    """

    points: int = 3000
    neutral_frames: int = 5
    neutral_sd: float = 0.5
    noise: Noise = Noise()
    expression_change: float = 0.5
    jaw_change: float = 0.1
    eyelid_change: float = 0.6
    rounds: int = 6
    last_rounds: int = 2
    steps: int = 2
    first_reach_mm: float = 12.0
    reach_mm: float = 8.0
    first_outlier_mm: float = 5.0
    last_outlier_mm: float = 2.0
    gate: Gate = Gate()
    seed: int = 0

    def outliers(self, count: int) -> Float[np.ndarray, " K"]:
        """Thresholds from first to last, in `noise.point`."""
        ends = (self.first_outlier_mm, self.last_outlier_mm)
        return np.geomspace(*ends, count, dtype=np.float32) / np.float32(self.noise.point)


@dataclasses.dataclass(frozen=True)
class SequenceFit:
    """T fitted frames of one identity.

    Attributes:
      coefficients: [T, ...], `shape` the same in all; pose zero and a unit camera.
      rotation, translation: [T, 3] axis-angle and metres, from the head's frame to the scan's.
      neutral: [K] the frames that decided the identity.
      median_mm, p95_mm, landmark_mm, kept, coverage: [T] as in `Gate`.
      accepted: [T].
      reasons: of each frame that is not accepted; "" for the others.
    """

    coefficients: FlameCoefficients
    rotation: Float[np.ndarray, "T 3"]
    translation: Float[np.ndarray, "T 3"]
    neutral: np.ndarray
    median_mm: Float[np.ndarray, " T"]
    p95_mm: Float[np.ndarray, " T"]
    landmark_mm: Float[np.ndarray, " T"]
    kept: Float[np.ndarray, " T"]
    coverage: Float[np.ndarray, " T"]
    accepted: Bool[np.ndarray, " T"]
    reasons: tuple[str, ...]
