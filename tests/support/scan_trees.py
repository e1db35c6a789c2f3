"""Small BP4D trees of scans of the embedded head, whose truth is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.scans import Faults, Known, frontal_area, movement, scanned, visible_faces
from data_pipelines.bp4d.points_83 import _along, _arcs

_MM = 1e3


def known_sequence(head, subject: int, sequence: int, frames: int = 3) -> Known:
    """Frames of one subject; sequences differ in expression."""
    truth = movement(np.random.default_rng(subject), frames, 0.6, sequence, shapes=60)
    return scanned(head, truth, np.random.default_rng((subject, sequence)), Faults())


def write_sequence(folder: Path, head, subject: str, task: str, known: Known) -> None:
    """Meshes of the face's front in mm with 83 points and a picture beside each."""
    rng = np.random.default_rng(len(task))
    faces = visible_faces(head)
    for frame, (vertices, marks) in enumerate(zip(known.vertices, known.landmarks, strict=True)):
        path = folder / "2D+3D" / subject / task / f"{frame:04d}.obj"
        path.parent.mkdir(parents=True, exist_ok=True)
        noisy = _MM * vertices + 0.2 * rng.normal(size=vertices.shape)
        write_mesh(path, noisy, faces[frontal_area(noisy, faces) > 0])
        write_points(path.with_suffix(".bndplus"), _MM * points_83(marks[:51]))
        Image.new("RGB", (120, 100), (frame, 99, 99)).save(path.with_suffix(".jpg"))


def write_mesh(path: Path, vertices: np.ndarray, faces: np.ndarray) -> None:
    """An .obj with a texture of one corner."""
    lines = ["mtllib face.mtl", *(f"v {x:.4f} {y:.4f} {z:.4f}" for x, y, z in vertices.tolist())]
    lines += ["vt 0.5 0.5", "usemtl face"]
    lines += [f"f {a}/1 {b}/1 {c}/1" for a, b, c in (faces + 1).tolist()]
    path.write_text("\n".join(lines) + "\n")


def write_points(path: Path, points: np.ndarray) -> None:
    rows = enumerate(points.tolist())
    path.write_text("".join(f"{i}\t\t{x:.5f}\t{y:.5f}\t{z:.5f}\n" for i, (x, y, z) in rows))


def points_83(inner: np.ndarray, start: int = 0, backwards: bool = False) -> np.ndarray:
    """83 points in BP4D's order from the 51; loops may start elsewhere and go the other way."""
    right = inner[25:31].mean(axis=0) - inner[19:25].mean(axis=0)
    up = inner[19:31].mean(axis=0) - inner[31:43].mean(axis=0)
    right, up = right / np.linalg.norm(right), up / np.linalg.norm(up)
    groups = []
    for brow in (inner[:5], inner[5:10]):
        groups.append(np.concatenate([brow + 0.002 * up, (brow - 0.002 * up)[::-1]]))
    for eye in (inner[19:25], inner[25:31]):
        upper, lower = _arcs(eye, right, up)
        share = np.linspace(0, 1, 5)
        groups.append(np.concatenate([_along(upper, share), _along(lower, share)[3:0:-1]]))
    groups.append(np.tile(inner[13], (12, 1)) + np.linspace(-0.015, 0.015, 12)[:, None] * right)
    groups += [inner[31:43], inner[43:51]]
    order = -1 if backwards else 1
    groups = [np.roll(group, start, axis=0)[::order] for group in groups]
    contour = inner[40] + np.linspace(-0.05, 0.05, 15)[:, None] * right - 0.03 * up
    return np.concatenate([*groups, contour])
