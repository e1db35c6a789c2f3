"""Which frames of a scan fit can be trusted."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from fields_jax.fitting.correspondence import Cloud, covered
from fields_jax.fitting.scan_types import Gate
from fields_jax.fitting.surface import LANDMARKS, Surface
from fields_jax.geometry.closest_points import closest_points

_MM = 1e3
_JUDGED = 600  # scan points of a frame
_COVERING = 5e-3  # metres from a vertex to a scan point that covers it; scans are finer
_ON_BORDER = 1e-5  # weight below which a corner does not carry a point


def measure(
    surface: Surface,
    posed_rig: Float[np.ndarray, "V 3"],
    cloud: Cloud,
    landmarks: Float[np.ndarray, "L 3"],
    reach_mm: float,
) -> dict[str, float]:
    """The numbers of one frame that the gate judges, independent of how it was searched.

    Args:
      surface: its tables.
      posed_rig: vertices and landmarks at the solution, metres.
      cloud: the scan.
      landmarks: metres, not finite where missing.
      reach_mm: points farther away do not belong to the face.

    Returns:
      `median_mm`, `p95_mm` of the kept points, `landmark_mm`, `kept` and `coverage`; NaN if there
      is nothing to measure.
    """
    vertices = np.asarray(posed_rig[:-LANDMARKS], np.float64)
    points = cloud.points[cloud.real > 0]
    judged = points[np.linspace(0, len(points) - 1, min(_JUDGED, len(points))).astype(int)]
    closest = closest_points(vertices, surface.triangles, judged)
    on_border = surface.border[surface.triangles[closest.face]]
    inside = ((closest.barycentric > _ON_BORDER) & ~on_border).any(axis=1)
    distance = _MM * closest.distance[inside]
    kept = distance[distance < reach_mm]
    off = np.linalg.norm(posed_rig[-LANDMARKS:] - landmarks, axis=-1)
    off = off[np.isfinite(off)]
    return dict(
        median_mm=float(np.median(kept)) if len(kept) else np.nan,
        p95_mm=float(np.percentile(kept, 95)) if len(kept) else np.nan,
        landmark_mm=float(_MM * off.mean()) if len(off) else np.nan,
        kept=len(kept) / max(len(distance), 1),
        coverage=covered(vertices, points, _COVERING) if len(points) else 0.0,
    )


def faults(
    measured: dict[str, float],
    coefficients: Sequence[Float[np.ndarray, " _"]],
    gate: Gate,
) -> str:
    """Every bound of the gate that a frame breaks; landmarks may be absent, distances may not.

    Args:
      measured: see `measure`.
      coefficients: expression and shape, in standard deviations.
      gate: the bounds.
    """
    found = [
        f"{name} {measured[name]:.2f} > {getattr(gate, name):g}"
        for name in ("median_mm", "p95_mm", "landmark_mm")
        if not measured[name] <= getattr(gate, name)
        and not (name == "landmark_mm" and np.isnan(measured[name]))
    ]
    found += [
        f"{name} {measured[name]:.2f} < {getattr(gate, name):g}"
        for name in ("kept", "coverage")
        if measured[name] < getattr(gate, name)
    ]
    for name, values in zip(("expression", "shape"), coefficients, strict=True):
        largest = np.abs(values).max(initial=0)
        if not largest <= getattr(gate, name):
            found.append(f"{name} {largest:.1f} > {getattr(gate, name):g}")
    return "; ".join(found)
