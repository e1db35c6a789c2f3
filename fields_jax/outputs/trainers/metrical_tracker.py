"""The layout of metrical-tracker's output, from which INSTA and others make their training sets.

By the public sources (github.com/Zielon/metrical-tracker, tracker.py, and github.com/Zielon/INSTA,
scripts/transforms.py): a checkpoint, a mesh and the picture of each frame, and the canonical mesh.
The head stands still and does not turn; each frame has its own camera. `opencv` in a checkpoint is
world to camera with x right, y down, z forward; `camera` is the same in PyTorch3D's terms: rows
(points times R), x left, y up, lengths in half smaller sides of the picture.

`transforms.json` beside them is what INSTA's script makes of the checkpoints, with the paths of
this folder; its matrices are camera to world in OpenCV's axes, as the script leaves them. Texture
and light of a checkpoint are zero, for they are not estimated; there is no depth, and no neck.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from etils import epath
from jaxtyping import Float

from fields_jax.errors import UserError
from fields_jax.files import write_whole
from fields_jax.flame.model import flame
from fields_jax.geometry.rotations import matrix_of
from fields_jax.outputs.meshes import obj, ply
from fields_jax.outputs.trainers.layout import json_text, parted, six
from fields_jax.outputs.trainers.shots import Job, Placed, Shot, filled, mask_of, off_by, placed
from fields_jax.outputs.trainers.torch_save import torch_bytes
from fields_jax.render.draw import png_bytes
from fields_jax.types import FlameCoefficients, FlameModel

DROPPED = ("pose", "neck")  # the pose is the camera's
_TEXTURE, _LIGHT = 140, (9, 3)  # components of its texture; spherical harmonics of its light
_CANONICAL_JAW = math.radians(12)  # the tracker's: the mouth open, so that its inside is seen
# From OpenGL's camera (x right, y up, back along z) to OpenCV's and to PyTorch3D's.
_OPENCV, _PYTORCH3D = np.diag([1.0, -1.0, -1.0]), np.diag([-1.0, 1.0, -1.0])


def write_metrical_tracker(
    folder: epath.Path, shots: Iterable[Shot], job: Job
) -> Float[np.ndarray, "T 2"]:
    """Writes the shots of one person; see `shots.Trainer`.

    Raises:
      UserError: the pictures are of several sizes.
    """
    head, frames, off = job.head, [], []
    comment = f"head {head.name} {head.version} in metres"
    for step, (shot, one) in enumerate(placed(shots, job, DROPPED)):
        name = f"{step:05d}"
        write_whole(folder / f"checkpoint/{name}.frame", torch_bytes(_checkpoint(head, name, one)))
        write_whole(folder / f"input/{name}.png", png_bytes(shot.image))
        write_whole(folder / f"seg_mask/{name}.png", png_bytes(mask_of(shot, head)))
        write_whole(folder / f"mesh/{name}.ply", ply(one.vertices, np.asarray(head.faces), comment))
        codes = filled(one.coefficients["expression"], head.expression_basis.shape[-1])
        lines = "".join(f"{value:.8f}\n" for value in codes)
        write_whole(folder / f"flame/exp/{name}.txt", lines)
        frames.append(_frame(name, one))
        off.append(off_by(head, one))
        if step == 0:
            shared = _intrinsics(one)
            write_whole(folder / "canonical.obj", _canonical(head, one, comment))
        elif _intrinsics(one) != shared:  # which the layout has once
            raise UserError(
                "the pictures are of several sizes, and this layout has one camera for all: bring "
                "them to one size"
            )
    for part, rows in parted(len(frames)).items():
        table = shared | {"frames": [frames[row] for row in rows]}
        write_whole(folder / f"transforms{part}.json", json_text(table))
    return np.array(off)


def _checkpoint(head: FlameModel, name: str, one: Placed) -> dict[str, Any]:
    """What the tracker stores of a frame; arrays lead with a batch of one."""
    height, width = one.shape
    known, (focal, center) = one.coefficients, one.lens
    eyes = known.get("eyes", np.zeros(6))
    rotation, place = _OPENCV @ one.seen.rotation, _OPENCV @ one.seen.place
    matrix = [[focal, 0, center[0]], [0, focal, center[1]], [0, 0, 1]]
    other = _PYTORCH3D @ one.seen.rotation
    half = min(height, width) / 2
    flame_codes = {
        "exp": filled(known["expression"], head.expression_basis.shape[-1]),
        "shape": filled(known["shape"], head.shape_basis.shape[-1]),
        "tex": np.zeros(_TEXTURE),
        "sh": np.zeros(_LIGHT),
        "eyes": np.concatenate([six(matrix_of(eyes[:3])), six(matrix_of(eyes[3:]))]),
        "eyelids": known["eyelid"],
        "jaw": six(matrix_of(known["jaw"])),
    }
    camera = {
        "R": six(other.T),
        "t": _PYTORCH3D @ one.seen.place,
        "fl": np.array([focal / half]),
        "pp": np.zeros(2),
    }
    opencv = {"R": rotation, "t": place, "K": np.array(matrix)}
    groups = {"flame": flame_codes, "camera": camera, "opencv": opencv}
    batched = {
        group: {key: np.asarray(value, np.float32)[None] for key, value in values.items()}
        for group, values in groups.items()
    }
    size = np.array([height, width], np.int64)
    return {**batched, "img_size": size, "frame_id": name, "global_step": 0}


def _frame(name: str, one: Placed) -> dict[str, Any]:
    camera = np.eye(4)
    camera[:3, :3], camera[:3, 3] = _OPENCV @ one.seen.rotation, _OPENCV @ one.seen.place
    return {
        "transform_matrix": np.linalg.inv(camera).tolist(),
        "file_path": f"input/{name}.png",
        "mesh_path": f"mesh/{name}.ply",
        "exp_path": f"flame/exp/{name}.txt",
        "seg_mask_path": f"seg_mask/{name}.png",
    }


def _intrinsics(one: Placed) -> dict[str, float]:
    height, width = one.shape
    focal, (x, y) = one.lens.focal, one.lens.center.tolist()
    angles = [2 * math.atan(side / (2 * focal)) for side in (width, height)]
    return {
        **dict(w=width, h=height, cx=x, cy=y, fl_x=focal, fl_y=focal),
        **dict(camera_angle_x=angles[0], camera_angle_y=angles[1]),
        **dict(x_fov=math.degrees(angles[0]), y_fov=math.degrees(angles[1])),
        "integer_depth_scale": 1 / 1000,
    }


def _canonical(head: FlameModel, one: Placed, comment: str) -> str:
    """The person at rest with an open mouth."""
    known = one.coefficients
    still = {name: np.zeros_like(value)[None] for name, value in known.items()}
    still["shape"] = known["shape"][None]
    still["jaw"] = np.float32([[_CANONICAL_JAW, 0, 0]])
    vertices = np.asarray(flame(head, FlameCoefficients(**still)).vertices[0])
    tables = (np.asarray(each) for each in (head.faces, head.uv, head.uv_faces))
    return obj(vertices, *tables, comment)
