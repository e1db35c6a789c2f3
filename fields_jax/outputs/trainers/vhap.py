"""The layout that VHAP exports and GaussianAvatars reads.

By the public sources of both (github.com/ShenhanQian/VHAP, vhap/export_as_nerf_dataset.py, and
github.com/ShenhanQian/GaussianAvatars, scene/dataset_readers.py): pictures and masks by time step
and camera, FLAME's parameters by time step, `transforms*.json` with camera-to-world matrices of
OpenGL's axes (x right, y up, looking along -z). One camera stands still; the head turns and moves.
The heads are moved together so that they are about the origin on average, as VHAP moves them.

VHAP's FLAME has no eyelids of its own: lids are left out.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from etils import epath
from jaxtyping import Float

from fields_jax.files import npz_bytes, write_whole
from fields_jax.geometry.rotations import matrix_of, vector_of
from fields_jax.outputs.trainers.layout import json_text, parted
from fields_jax.outputs.trainers.shots import Job, Placed, Shot, filled, mask_of, off_by, placed
from fields_jax.render.draw import png_bytes
from fields_jax.types import FlameModel

DROPPED = ("eyelid",)
_CANONICAL_JAW = (0.3, 0.0, 0.0)  # VHAP's: the mouth open, so that its inside is seen


def write_vhap(folder: epath.Path, shots: Iterable[Shot], job: Job) -> Float[np.ndarray, "T 2"]:
    """Writes the shots of one person; see `shots.Trainer`."""
    head, frames, codes, off = job.head, [], [], []
    for step, (shot, one) in enumerate(placed(shots, job, DROPPED)):
        name = f"{step:05d}_00.png"
        write_whole(folder / "images" / name, png_bytes(shot.image))
        write_whole(folder / "fg_masks" / name, png_bytes(mask_of(shot, head)))
        frames.append(_frame(step, name, one))
        codes.append(_codes(head, one))
        off.append(off_by(head, one))
    middle = np.mean([each["translation"][0] for each in codes], axis=0)
    shape = codes[0]["shape"]
    for step, each in enumerate(codes):
        each["translation"] = np.float32(each["translation"] - middle)
        each["shape"] = shape
        write_whole(folder / f"flame_param/{step:05d}.npz", npz_bytes(each))
    rest = {name: np.zeros_like(value) for name, value in codes[0].items()}
    rest |= {"shape": shape, "jaw_pose": np.float32([_CANONICAL_JAW])}
    write_whole(folder / "canonical_flame_param.npz", npz_bytes(rest))
    camera = np.eye(4)
    camera[:3, 3] = -middle
    for frame in frames:
        frame["transform_matrix"] = camera.tolist()
    shared = {name: value for name, value in frames[0].items() if name in _SHARED}
    for part, rows in parted(len(frames)).items():
        steps = dict(timestep_indices=list(rows), camera_indices=[0])
        table = dict(frames=[frames[row] for row in rows], **shared, **steps)
        write_whole(folder / f"transforms{part}.json", json_text(table))
    return np.array(off)


_SHARED = ("cx", "cy", "fl_x", "fl_y", "h", "w", "camera_angle_x", "camera_angle_y")


def _frame(step: int, name: str, one: Placed) -> dict[str, Any]:
    height, width = one.shape
    focal, center = one.lens
    return {
        "timestep_index": step,
        "timestep_index_original": step,
        "timestep_id": f"{step:05d}",
        "camera_index": 0,
        "camera_id": "0",
        "cx": float(center[0]),
        "cy": float(center[1]),
        "fl_x": focal,
        "fl_y": focal,
        "h": height,
        "w": width,
        "camera_angle_x": 2 * math.atan(width / (2 * focal)),
        "camera_angle_y": 2 * math.atan(height / (2 * focal)),
        "file_path": f"images/{name}",
        "fg_mask_path": f"fg_masks/{name}",
        "flame_param_path": f"flame_param/{step:05d}.npz",
    }


def _codes(head: FlameModel, one: Placed) -> dict[str, np.ndarray]:
    """FLAME's parameters, with the head's turn and place before the lens in them."""
    known = one.coefficients
    rotation, place = one.seen.rotation, one.seen.place
    root = np.asarray(head.joint_regressor)[0] @ _shaped(head, known)
    still = {"neck": np.zeros(3, np.float32), "eyes": np.zeros(6, np.float32)}
    neck, eyes = (known.get(name, rest) for name, rest in still.items())
    return {
        # A global rotation of FLAME turns the head about its root.
        "translation": (rotation @ root - root + place)[None],
        "rotation": np.float32(vector_of(rotation @ matrix_of(known["pose"])))[None],
        "neck_pose": np.float32(neck)[None],
        "jaw_pose": np.float32(known["jaw"])[None],
        "eyes_pose": np.float32(eyes)[None],
        "shape": filled(known["shape"], head.shape_basis.shape[-1]),
        "expr": filled(known["expression"], head.expression_basis.shape[-1])[None],
        "static_offset": np.zeros((1, *head.template.shape), np.float32),
    }


def _shaped(head: FlameModel, known: Any) -> np.ndarray:
    """The head at rest, whose joints FLAME turns; expression moves them too."""
    points = np.asarray(head.template, np.float64)
    for name in ("shape", "expression"):
        basis = np.asarray(getattr(head, f"{name}_basis"), np.float64)[..., : len(known[name])]
        points = points + basis @ np.asarray(known[name], np.float64)
    return points
