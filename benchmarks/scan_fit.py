"""Scan fits of generated sequences: speed, vertex errors, and which frames the gate accepts.

    python -m benchmarks.scan_fit --json OUT
    python -m benchmarks.scan_fit --subjects=4 --frames=24 --head=FLAME.npz

Every subject's sequence is scanned with noise, holes and outliers; a share of its frames is spoiled
in one of several ways that the gate must notice. Identities differ in all shape components, of
which only the leading ones are fitted. Times leave out the first subject, which compiles; `frames`
is the time of a sequence at a known identity, `identity` that of finding one.
"""

from __future__ import annotations

import dataclasses
import json
import os
import time

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from benchmarks.results import save
from benchmarks.scans import Faults, Known, movement, scanned
from fields_jax.cli import run
from fields_jax.fitting.scan import ScanFitter
from fields_jax.fitting.scan_types import Scan, SequenceFit
from fields_jax.flame import flame
from fields_jax.flame.io import resolve_head
from fields_jax.types import FlameModel


def define_flags() -> None:
    """The flags of the command."""
    flags.DEFINE_string("json", "", "file for the results")
    flags.DEFINE_string("head", "", "head .npz (default: the procedural one)")
    flags.DEFINE_integer("subjects", 4, "sequences, one of each subject", 2)
    flags.DEFINE_integer("frames", 24, "of each sequence", 4)
    flags.DEFINE_float("spoiled", 0.25, "share of the frames that are no faces", 0, 0.5)
    flags.DEFINE_integer("n_shape", 100, "shape components that are fitted", 1)
    flags.DEFINE_bool("dense", True, "landmarks are 51 and 105, not 51 alone")


def main(_: list[str]) -> None:
    """The command."""
    chosen = flags.FLAGS
    fitter = ScanFitter(resolve_head(chosen.head), n_shape=chosen.n_shape)
    faults = Faults(dense=chosen.dense)
    report = measure(
        resolve_head(chosen.head), fitter, chosen.subjects, chosen.frames, chosen.spoiled, faults
    )
    print(json.dumps(report, indent=2))
    save(chosen.json, report)


def measure(
    head: FlameModel,
    fitter: ScanFitter,
    subjects: int,
    frames: int,
    share: float,
    faults: Faults | None = None,
) -> dict:
    """Speed, errors in mm and rates of rejection, ready for JSON.

    Args:
      head: to scan and fit.
      fitter: of the same head.
      subjects: sequences.
      frames: of each.
      share: of the frames that are spoiled.
      faults: of the scans.
    """
    before, errors, seconds = os.getloadavg(), [], []
    counts = dict(good=0, good_rejected=0, spoiled=0, spoiled_rejected=0)
    missed: list[str] = []
    for subject in range(subjects):
        rng = np.random.default_rng(subject)
        known = scanned(head, movement(rng, frames, strength=0.8), rng, faults)
        scans, how = spoil(known.scans, share, rng)
        started = time.perf_counter()
        shape = fitter.identity(scans)
        found = time.perf_counter()
        fit = fitter.fit(scans, shape)
        seconds.append((found - started, time.perf_counter() - found))
        own = vertex_errors(head, fit, known)
        for frame, name in enumerate(how):
            kind = "spoiled" if name else "good"
            counts[kind] += 1
            counts[f"{kind}_rejected"] += not fit.accepted[frame]
            if name and fit.accepted[frame]:
                missed.append(f"{name}: {np.median(own[frame]):.2f} mm")
            if not name:
                errors.append(own[frame])
    identity, tracking = np.median(seconds[1:], axis=0)
    medians = np.median(errors, axis=1)
    return {
        "scans_per_second": round(frames / tracking, 2),
        "scans_per_second_with_identity": round(frames / (tracking + identity), 2),
        "identity_seconds": round(float(identity), 2),
        "first_subject_seconds": round(sum(seconds[0]), 1),
        "vertex_error_mm": {
            "median": round(float(np.median(errors)), 3),
            "p95": round(float(np.percentile(errors, 95)), 3),
            "worst_frame_median": round(float(medians.max()), 3),
        },
        **counts,
        "missed": missed,
        "subjects": subjects,
        "frames": frames,
        "load": [round(load, 1) for load in (before[0], os.getloadavg()[0])],
        "cores": os.cpu_count(),
        "device": jax.devices()[0].device_kind,
    }


def vertex_errors(head: FlameModel, fit: SequenceFit, known: Known) -> Float[np.ndarray, "T K"]:
    """Distances in mm over the face mask, in the scan's frame."""
    coefficients = jax.tree.map(jnp.asarray, fit.coefficients)
    mask = np.asarray(head.face_vertices)
    vertices = np.asarray(jax.jit(flame)(head, coefficients).vertices, np.float64)[:, mask]
    turn = Rotation.from_rotvec(fit.rotation).as_matrix()
    placed = np.einsum("tij,tnj->tni", turn, vertices) + fit.translation[:, None]
    return 1e3 * np.linalg.norm(placed - known.vertices[:, mask], axis=-1)


def spoil(
    scans: list[Scan], share: float, rng: np.random.Generator
) -> tuple[list[Scan], list[str]]:
    """The scans with some made unusable, and in which way; "" for the others."""
    scans, how = list(scans), [""] * len(scans)
    ways = list(SPOILERS.items())
    for place, row in enumerate(rng.permutation(len(scans))[: round(share * len(scans))]):
        name, change = ways[place % len(ways)]
        scans[row], how[row] = change(scans[row]), name
    return scans, how


def _ball(scan: Scan) -> Scan:
    turn = np.random.default_rng(0).normal(size=(20000, 3))
    turn *= 0.08 / np.linalg.norm(turn, axis=1, keepdims=True)
    return dataclasses.replace(scan, points=turn + scan.landmarks_51.mean(axis=0) - (0, 0, 0.07))


def _half(scan: Scan) -> Scan:
    kept = scan.points[:, 0] > scan.landmarks_51[13, 0]
    return dataclasses.replace(scan, points=scan.points[kept])


def _moved(scan: Scan, change) -> Scan:
    dense = scan.landmarks_105
    return dataclasses.replace(
        scan,
        landmarks_51=change(scan.landmarks_51),
        landmarks_105=None if dense is None else change(dense),
    )


def _elsewhere(scan: Scan) -> Scan:
    return _moved(scan, lambda marks: marks + np.array([0.02, 0, 0]))


def _scaled(scan: Scan) -> Scan:
    return dataclasses.replace(_moved(scan, lambda marks: 1e3 * marks), points=1e3 * scan.points)


def _noisy(scan: Scan) -> Scan:
    noise = np.random.default_rng(0).normal(0, 5e-3, scan.points.shape)
    return dataclasses.replace(scan, points=scan.points + noise)


def _shuffled(scan: Scan) -> Scan:
    return _moved(scan, lambda marks: marks[::-1])


SPOILERS = {
    "a ball": _ball,
    "half the face": _half,
    "landmarks 20 mm aside": _elsewhere,
    "millimetres": _scaled,
    "noise of 5 mm": _noisy,
    "landmarks in another order": _shuffled,
}


if __name__ == "__main__":
    define_flags()
    run(main)
