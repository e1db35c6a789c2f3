"""The NoW challenge on generated scans: what known faults of a mesh cost, and how fast it goes.

    python -m benchmarks.now --json OUT
    python -m benchmarks.now --head=FLAME.npz --scans=4 --points=50000

Scans are points on random neutral heads; predictions are the same head, the same as a similar one,
1 mm outward along its normals, the mean head, and the head with noise in the scan. `closest` times
the closest points of one scan to the head's triangles against a loop of numpy over the points
that tries every triangle, which is timed on a few points and extrapolated: `brute_seconds` is
seconds a point times the points, not a measurement of all.
"""

from __future__ import annotations

import json
import os
import time

import numpy as np
from absl import flags
from jaxtyping import Float

from benchmarks.results import save
from benchmarks.scans import frontal_area, visible_faces
from fields_jax.cli import run
from fields_jax.evaluation import now, scan_distance
from fields_jax.flame.io import resolve_head
from fields_jax.geometry.closest_points import closest_points, closest_weights
from fields_jax.geometry.mesh_files import Surface
from fields_jax.geometry.normals import summed_normals
from fields_jax.outputs.submission import neutral_head
from fields_jax.types import FlameModel

_ALL_SCANS = 100  # that the times are extrapolated to


def define_flags() -> None:
    """The flags of the command."""
    flags.DEFINE_string("json", "", "file for the results")
    flags.DEFINE_string("head", "", "head .npz (default: the procedural one)")
    flags.DEFINE_integer("scans", 2, "scans that are scored", 1)
    flags.DEFINE_integer("points", 50000, "of each scan's face", 1000)
    flags.DEFINE_integer("brute", 100, "points that the loop is timed on", 10)


def main(_: list[str]) -> None:
    """The command."""
    chosen = flags.FLAGS
    head = resolve_head(chosen.head)
    report = measure(head, chosen.scans, chosen.points, chosen.brute)
    print(json.dumps(report, indent=2))
    save(chosen.json, report)


def measure(head: FlameModel, scans: int, points: int, brute: int) -> dict:
    """Scores of the known predictions and times, ready for JSON."""
    before, faces = os.getloadavg()[0], np.asarray(head.faces)
    found: dict[str, list[np.ndarray]] = {}
    seconds: list[float] = []
    speed: dict = {}
    for seed in range(scans):
        rng = np.random.default_rng(seed)
        vertices, landmarks = neutral_head(head, rng.normal(size=head.shape_basis.shape[-1]))
        scan = sample(head, vertices, landmarks, points, rng)
        noisy = scan._replace(points=scan.points + 3e-4 * rng.normal(size=scan.points.shape))
        if not speed:
            speed = race(vertices, faces, noisy.points, brute)
        for name, (target, mesh, own, metrical) in cases(head, scan, noisy, vertices).items():
            started = time.process_time()
            distance, _ = now.score(target, Surface(mesh, faces), own, metrical=metrical)
            seconds.append(time.process_time() - started)
            found.setdefault(name, []).append(distance)
    return {
        "distance_mm": {
            name: scan_distance.distance_scores(np.concatenate(each))
            for name, each in found.items()
        },
        "scans": scans,
        "cpu_seconds_of_a_score": round(float(np.median(seconds)), 2),
        "closest": speed,
        "head": f"{head.name} {head.version}",
        "load": [round(load, 1) for load in (before, os.getloadavg()[0])],
        "cores": os.cpu_count(),
    }


def cases(
    head: FlameModel, scan: now.Scan, noisy: now.Scan, vertices: Float[np.ndarray, "V 3"]
) -> dict[str, tuple[now.Scan, np.ndarray, np.ndarray, bool]]:
    """Scan, predicted vertices, their landmarks, and whether the size counts, by name."""
    normals = summed_normals(vertices, np.asarray(head.faces))
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    turn *= np.sign(np.linalg.det(turn))
    mean, mean_landmarks = neutral_head(head, np.zeros(1))
    marks = scan.landmarks
    return {
        "same": (scan, vertices, marks, False),
        "similar": (scan, 0.7 * vertices @ turn + 1, 0.7 * marks @ turn + 1, False),
        "outward_1mm": (scan, vertices + 1e-3 * normals, marks, False),
        "outward_1mm_metrical": (scan, vertices + 1e-3 * normals, marks, True),
        "noise_0.3mm": (noisy, vertices, marks, False),
        "mean_head": (scan, mean, mean_landmarks, False),
        "mean_head_metrical": (scan, mean, mean_landmarks, True),
    }


def sample(
    head: FlameModel,
    vertices: Float[np.ndarray, "V 3"],
    landmarks: Float[np.ndarray, "7 3"],
    points: int,
    rng: np.random.Generator,
) -> now.Scan:
    """Points of the face's skin that a scanner in front sees, uniform by area."""
    faces = visible_faces(head)
    corners = vertices[faces]
    near = scan_distance.face_region(corners.mean(axis=1), landmarks)
    area = np.where(near, frontal_area(vertices, faces), 0)
    chosen = rng.choice(len(faces), points, p=area / area.sum())
    weights = rng.dirichlet(np.ones(3), points)
    return now.Scan(np.einsum("pk,pkd->pd", weights, corners[chosen]), landmarks)


def race(
    vertices: Float[np.ndarray, "V 3"], faces: np.ndarray, points: np.ndarray, brute: int
) -> dict:
    """Processor time of the closest points, and of a loop over points and all triangles."""
    started = time.process_time()
    found = closest_points(vertices, faces, points)
    ours = time.process_time() - started
    corners, some = vertices[faces], points[:: max(len(points) // brute, 1)][:brute]
    started, slow = time.process_time(), []
    for point in some:
        weights = closest_weights(corners, point[None])
        landed = np.einsum("fk,fkd->fd", weights, corners)
        slow.append(np.sqrt(((landed - point) ** 2).sum(axis=1).min()))
    each = (time.process_time() - started) / len(some)
    own = found.distance[:: max(len(points) // brute, 1)][:brute]
    return {
        "points": len(points),
        "triangles": len(faces),
        "cpu_seconds": round(ours, 3),
        "brute_points": len(some),
        "brute_seconds": round(each * len(points), 1),
        "faster": round(each * len(points) / ours, 1),
        "largest_difference_m": float(np.abs(own - slow).max()),
        f"minutes_of_{_ALL_SCANS}_scans": round(_ALL_SCANS * ours / 60, 2),
    }


if __name__ == "__main__":
    define_flags()
    run(main)
