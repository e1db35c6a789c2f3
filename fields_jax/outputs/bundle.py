"""What is written of one face: arrays, meshes, pictures and the reading of its emotion."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from etils import epath
from jaxtyping import Float

from fields_jax.errors import UserError, printable
from fields_jax.files import parse_json, read_npz, write_npz, write_whole
from fields_jax.outputs import meshes
from fields_jax.outputs.overlays import paste_face, to_photograph
from fields_jax.photos.faces import Face
from fields_jax.render import project
from fields_jax.render.draw import grid, save_png, to_uint8
from fields_jax.synthesis import draw_head
from fields_jax.types import FlameCoefficients, FlameModel

_PICTURE = 320  # pixels of the crop and of its geometry map in geometry.png
_COEFFICIENTS = tuple(field.name for field in dataclasses.fields(FlameCoefficients))

CONVENTIONS = {
    "shape": "[S] identity, in standard deviations of the head's shape components",
    "expression": "[E] expression, in standard deviations of the head's expression components",
    "jaw": "[3] axis-angle, radians; positive x opens the mouth",
    "eyelid": "[2] left and right of the subject; 0 open, 1 shut",
    "pose": "[3] rotation of the head about its root, axis-angle, radians",
    "neck": "[3] axis-angle, radians; present only where it was fitted",
    "eyes": "[6] axis-angle of the left, then the right eye, radians; only where fitted",
    "camera": "[3] (s, tx, ty) of the crop: X = s (x + tx), Y = -s (y + ty), depth = -s z; X right "
    "and Y down in [-1, 1] over the crop; tx and ty in metres",
    "crop_matrix": "[3, 3] from pixels of the photograph to pixels of the crop, column vectors "
    "(x, y, 1); pixel (row i, column j) covers [j, j+1) x [i, i+1)",
    "crop_size": "side of the crop in pixels; crop pixel = (X + 1) crop_size / 2",
    "image_size": "[2] height and width of the upright photograph in pixels",
    "box": "[4] x0, y0, x1, y1 of the face in pixels of the photograph",
    "points": "[N, 2] landmarks the face was found or fitted by, pixels of the photograph",
    "vertices": "[V, 3] metres, posed, before the camera; x to the subject's left, y up, z out of "
    "the face",
    "vertices_image": "[V, 2] the vertices in pixels of the photograph",
    "landmarks_68": "[68, 3] metres, of the posed head; the contour follows the head's yaw",
    "landmarks_68_image": "[68, 2] in pixels of the photograph",
    "residual": "mean distance of fitted from given landmarks, share of the inter-ocular distance",
    "meta": "JSON: head, weights, photograph, how the face was found, version",
}


@dataclasses.dataclass(frozen=True)
class Result:
    """What was found of one face.

    Attributes:
      coefficients: by the names of FlameCoefficients, without those that are absent.
      vertices: [V, 3] metres, posed.
      landmarks_68: [68, 3] metres, posed.
      vertices_ndc: [V, 3] as `render.project` returns them.
      landmarks_ndc: [68, 3].
      geometry: [P, P, 1] geometry map of the crop, P = 320.
      emotion: the network's reading, or None.
      residual: of a fit, or None.
    """

    coefficients: dict[str, np.ndarray]
    vertices: Float[np.ndarray, "V 3"]
    landmarks_68: Float[np.ndarray, "68 3"]
    vertices_ndc: Float[np.ndarray, "V 3"]
    landmarks_ndc: Float[np.ndarray, "68 3"]
    geometry: Float[np.ndarray, "P P 1"]
    emotion: Mapping[str, Any] | None = None
    residual: float | None = None

    def is_finite(self) -> bool:
        """Whether every number is one."""
        residual = () if self.residual is None else (np.float64(self.residual),)
        arrays = (*self.coefficients.values(), self.vertices_ndc, *residual)
        return all(np.isfinite(array).all() for array in arrays)


def pose_heads(model: FlameModel, coefficients: FlameCoefficients, batch_size: int) -> list[Result]:
    """Poses and draws at most `batch_size` heads; fewer are filled up, so that one program is
    compiled.
    """
    count = len(coefficients.camera)
    rows = np.minimum(np.arange(batch_size), count - 1)
    coefficients = jax.tree.map(lambda column: np.asarray(column)[rows], coefficients)
    present = {name: getattr(coefficients, name) for name in _COEFFICIENTS}
    present = {name: value for name, value in present.items() if value is not None}
    columns = jax.device_get((present, *_pose_heads(model, coefficients)))
    return [Result(*jax.tree.map(lambda a, i=i: np.asarray(a[i]), columns)) for i in range(count)]


@jax.jit
def _pose_heads(model: FlameModel, coefficients: FlameCoefficients) -> tuple[jax.Array, ...]:
    face, geometry, _ = draw_head(model, coefficients, _PICTURE)
    points = face.vertices, face.landmarks_68
    return *points, *(project(each, coefficients.camera) for each in points), geometry


def write_bundle(
    folder: epath.PathLike,
    face: Face,
    model: FlameModel,
    result: Result,
    *,
    size: int,
    meta: Mapping[str, Any],
) -> None:
    """Writes the folder of one face.

    params.npz, mesh.obj, mesh.ply, overlay.png, geometry.png and, with a reading, emotion.json;
    each appears whole or not at all.

    Args:
      folder: made where it is absent.
      face: of the photograph.
      model: the head.
      result: what was found of the face.
      size: side in pixels of the crop that the result's camera belongs to.
      meta: JSON: "version" of fields_jax, "head", and "weights" where networks were used.

    Raises:
      OSError: a file cannot be written.
    """
    folder, matrix = epath.Path(folder), face.matrix(size)
    known = {"image": face.path, "face": face.name, "found": face.origin}
    about = dict(meta) | {key: printable(value) for key, value in known.items()}
    arrays = result.coefficients | {
        "crop_matrix": matrix,
        "crop_size": np.int32(size),
        "image_size": np.array(face.image.shape[:2], np.int32),
        "box": face.box,
        "vertices": result.vertices,
        "vertices_image": to_photograph(result.vertices_ndc, matrix, size),
        "landmarks_68": result.landmarks_68,
        "landmarks_68_image": to_photograph(result.landmarks_ndc, matrix, size),
    }
    if face.points is not None:
        arrays["points"] = face.points
    if result.residual is not None:
        arrays["residual"] = np.float32(result.residual)
    _write_arrays(folder / "params.npz", arrays, about)

    comment = f"FLAME mesh in metres by fields_jax {meta['version']}; {_origin(about)}"
    faces = np.asarray(model.faces)
    uv, uv_faces = np.asarray(model.uv), np.asarray(model.uv_faces)
    write_whole(folder / "mesh.obj", meshes.obj(result.vertices, faces, uv, uv_faces, comment))
    write_whole(folder / "mesh.ply", meshes.ply(result.vertices, faces, comment))
    camera = result.coefficients["camera"]
    pasted = paste_face(face.image, model, result.vertices, camera, matrix, size)
    save_png(folder / "overlay.png", pasted)
    crop, shade = to_uint8(face.crop(_PICTURE)), to_uint8(result.geometry)
    save_png(folder / "geometry.png", grid([crop[None], shade[None]]))
    if result.emotion is not None:
        write_whole(folder / "emotion.json", json.dumps(result.emotion, indent=1) + "\n")


def load_params(path: epath.PathLike) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The arrays of a params.npz and its meta.

    Raises:
      FileNotFoundError: there is no such file.
      UserError: it is damaged, or no params.npz.
    """
    arrays = read_npz(path)
    if missing := {"conventions", "meta"} - set(arrays):
        raise UserError(f"{path} is no params.npz of this program: no {min(missing)} in it")
    del arrays["conventions"]
    return arrays, parse_json(str(arrays.pop("meta")), f"{path}: meta")


def _write_arrays(file: epath.Path, arrays: dict[str, Any], meta: Mapping[str, Any]) -> None:
    said = {name: CONVENTIONS[name] for name in (*arrays, "meta")}
    write_npz(file, arrays | {"meta": json.dumps(meta), "conventions": json.dumps(said)})


def _origin(about: Mapping[str, Any]) -> str:
    head = about["head"]
    weights = about.get("weights")
    by = (
        f"weights {weights['workdir']} step {weights['step']}" if weights else "fitted to landmarks"
    )
    return printable(f"head {head['name']} {head['version']} sha256 {head['sha256'][:12]}; {by}")
