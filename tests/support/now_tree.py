"""A NoW data set of one small face, a bump on a plate, and predictions for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from fields_jax.files import npy_bytes
from fields_jax.geometry.mesh_files import Surface
from fields_jax.outputs.meshes import ply

SUBJECT, CHALLENGE = "FaMoS_1", "multiview_neutral"
# NoW's seven points over the plate, metres; x to the subject's left.
_EYES_NOSE_MOUTH = np.array(
    [[-45, 35], [-17, 35], [17, 35], [45, 35], [0, -5], [-25, -35], [25, -35]]
)
LANDMARKS_XY = 1e-3 * _EYES_NOSE_MOUTH


def height(xy: np.ndarray) -> np.ndarray:
    """Of the face over the plate, metres: a round head, a nose, and no symmetry."""
    x, y = xy.T
    nose = 0.02 * np.exp(-(x**2 + (y + 0.002) ** 2) / 0.012**2)
    brow = 0.006 * np.exp(-((x - 0.02) ** 2 + (y - 0.05) ** 2) / 0.015**2)
    return nose + brow - 4 * x**2 - 2.5 * y**2


def face(side: int = 41, offset: float = 0.0) -> tuple[Surface, np.ndarray]:
    """The face as a mesh and its landmarks [7, 3], metres; moved outward by `offset` metres."""
    line = np.linspace(-0.1, 0.1, side)
    xy = np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)
    row, column = np.mgrid[: side - 1, : side - 1].reshape(2, -1)
    a = row * side + column
    faces = np.concatenate(
        [np.stack([a, a + 1, a + side], 1), np.stack([a + 1, a + side + 1, a + side], 1)]
    )
    vertices = np.column_stack([xy, height(xy)])
    corners = vertices[faces]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    summed = np.zeros_like(vertices)
    np.add.at(summed, faces.ravel(), np.repeat(normal, 3, axis=0))
    summed /= np.linalg.norm(summed, axis=1, keepdims=True)
    landmarks = np.column_stack([LANDMARKS_XY, height(LANDMARKS_XY)])
    return Surface(vertices + offset * summed, faces), landmarks


def moved(points: np.ndarray, scale: float = 1.0) -> np.ndarray:
    """The points after a turn, a shift and a change of size."""
    turn = Rotation.from_rotvec([0.4, -0.7, 0.2]).as_matrix()
    return scale * points @ turn.T + [0.1, 0.5, -0.3]


def write_scan(folder: Path, subject: str = SUBJECT, points: np.ndarray | None = None) -> None:
    """The scan of a subject, in mm: the face's vertices or other points, metres."""
    surface, landmarks = face()
    points = 1e3 * (surface.vertices if points is None else points)
    lines = "".join("v {:.9f} {:.9f} {:.9f} 200 180 170\n".format(*point) for point in points)
    scan = folder / "scans" / subject / "natural.obj"
    scan.parent.mkdir(parents=True)
    scan.write_text("# a scan\n" + lines)
    picked = "".join(
        f'    <point x="{x:.9f}" y="{y:.9f}" z="{z:.9f}" active="1" name="{i}"/>\n'
        for i, (x, y, z) in enumerate(1e3 * landmarks)
    )
    file = folder / "scans_lmks_onlypp" / subject / "natural_picked_points.pp"
    file.parent.mkdir(parents=True)
    file.write_text(f"<!DOCTYPE PickedPoints>\n<PickedPoints>\n{picked}</PickedPoints>\n")


def write_images(folder: Path, *lines: str) -> None:
    """The list of images."""
    (folder / "imagepathsvalidation.txt").write_text("\n".join(lines) + "\n")


def write_prediction(
    folder: Path, image: str, mesh: Surface, landmarks: np.ndarray, subject: str = SUBJECT
) -> None:
    """Mesh and landmarks of one photograph; the mesh rounds to float32."""
    place = folder / subject / CHALLENGE
    place.mkdir(parents=True, exist_ok=True)
    (place / f"{image}.ply").write_bytes(ply(mesh.vertices, mesh.faces, "predicted"))
    (place / f"{image}.npy").write_bytes(npy_bytes(landmarks))
