"""Which frames of a scan fit can be trusted."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from fields_jax.fitting.correspondence import covered, match
from fields_jax.fitting.parameters import CAMERA, COEFFICIENTS, EYELID, JAW, POSE
from fields_jax.fitting.scan_types import Cloud, Gate, ScanSettings, SequenceFit
from fields_jax.fitting.surface import LANDMARKS, Surface, posed
from fields_jax.types import FlameCoefficients

_MM = 1e3
_COVERING = 5e-3  # metres from a vertex to a scan point that covers it; scans are finer


def judge(
    surface: Surface,
    clouds: list[Cloud],
    landmarks: Float[np.ndarray, "T L 3"],
    x: Float[np.ndarray, "T M"],
    shape: Float[np.ndarray, " S"],
    neutral: Int[np.ndarray, " K"],
    settings: ScanSettings,
) -> SequenceFit:
    """Measures each frame at its solution and says what is wrong with it.

    Args:
      surface: of the identity.
      clouds: scan points of each frame.
      landmarks: metres, not finite where missing.
      x: motion and expression of each frame.
      shape: the identity.
      neutral: frames that decided it.
      settings: with the gate.
    """
    posed_rig = np.asarray(jax.vmap(posed, in_axes=(None, 0))(surface.rig, x), np.float64)
    rows = [
        _measure(surface, points, cloud, seen, settings.reach_mm / _MM)
        for points, cloud, seen in zip(posed_rig, clouds, landmarks, strict=True)
    ]
    measured = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    largest = np.abs(x[:, COEFFICIENTS]).max(axis=1, initial=0)
    reasons = tuple(
        _reason(row, extreme, settings.gate) for row, extreme in zip(rows, largest, strict=True)
    )
    count = len(x)
    return SequenceFit(
        coefficients=FlameCoefficients(
            shape=jnp.asarray(np.tile(shape, (count, 1))),
            expression=jnp.asarray(x[:, COEFFICIENTS]),
            jaw=jnp.asarray(x[:, JAW]),
            eyelid=jnp.asarray(x[:, EYELID]),
            pose=jnp.zeros((count, 3)),
            camera=jnp.tile(jnp.array([1.0, 0.0, 0.0]), (count, 1)),
        ),
        rotation=x[:, POSE],
        translation=x[:, CAMERA],
        neutral=neutral,
        accepted=np.array([not reason for reason in reasons]),
        reasons=reasons,
        **measured,
    )


def _measure(
    surface: Surface,
    points: Float[np.ndarray, "V 3"],
    cloud: Cloud,
    landmarks: Float[np.ndarray, "L 3"],
    reach: float,
) -> dict[str, float]:
    vertices = points[:-LANDMARKS]
    matches, distance = match(vertices, surface.triangles, surface.border, *cloud, reach)
    matched, judged = matches.weight > 0, np.isfinite(distance)
    off = np.linalg.norm(points[-LANDMARKS:] - landmarks, axis=-1)
    off = off[np.isfinite(off)]
    real = np.isfinite(cloud.points).all(axis=1)
    return dict(
        median_mm=_MM * np.median(distance[matched]) if matched.any() else np.nan,
        p95_mm=_MM * np.percentile(distance[matched], 95) if matched.any() else np.nan,
        landmark_mm=_MM * off.mean() if len(off) else np.nan,
        kept=matched.sum() / judged.sum() if judged.any() else 0.0,
        coverage=covered(vertices, cloud.points[real], _COVERING) if real.any() else 0.0,
    )


def _reason(row: dict[str, float], largest: float, gate: Gate) -> str:
    """Every bound of the gate that a frame breaks; landmarks may be absent, distances may not."""
    faults = [
        f"{name} {row[name]:.2f} > {getattr(gate, name):g}"
        for name in ("median_mm", "p95_mm", "landmark_mm")
        if not row[name] <= getattr(gate, name)
        and not (name == "landmark_mm" and np.isnan(row[name]))
    ]
    faults += [
        f"{name} {row[name]:.2f} < {getattr(gate, name):g}"
        for name in ("kept", "coverage")
        if row[name] < getattr(gate, name)
    ]
    if not largest <= gate.expression:
        faults.append(f"expression {largest:.1f} > {gate.expression:g}")
    return "; ".join(faults)
