"""The files of faces that were transferred to another head: params.npz and mesh.obj."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

from fields_jax.errors import printable
from fields_jax.files import npz_bytes
from fields_jax.flame.model import flame
from fields_jax.outputs.bundle import CONVENTIONS
from fields_jax.outputs.meshes import obj
from fields_jax.photos.crops import to_photograph
from fields_jax.render import project
from fields_jax.types import FlameCoefficients, FlameModel

# Of the photograph, which the transfer leaves as they were.
KEPT = ("crop_matrix", "crop_size", "image_size", "box", "points")
_ERROR = (
    "[2] distance of the points of this face from those of the face it was transferred from, mean "
    "and 95th percentile, mm"
)


def transferred_files(
    head: FlameModel,
    coefficients: FlameCoefficients,
    error_mm: Float[np.ndarray, "T 2"],
    before: Mapping[str, np.ndarray],
    meta: Mapping[str, Any],
    single: bool,
) -> dict[str, bytes | str]:
    """By their names: the T faces of a file on their new head, and the mesh where it is one face.

    params.npz is what `outputs.bundle` says, with the error of the transfer.

    Args:
      head: the new one.
      coefficients: of it.
      error_mm: of the transfer.
      before: the arrays that the file had; those of the photograph are KEPT.
      meta: JSON, see `bundle.load_params`.
      single: whether to store one face without a leading axis.
    """
    face = flame(head, coefficients)
    arrays = {name: value for name, value in vars(coefficients).items() if value is not None}
    arrays |= {"vertices": face.vertices, "landmarks_68": face.landmarks_68, "error_mm": error_mm}
    arrays = {name: np.asarray(value) for name, value in arrays.items()}
    kept = {name: before[name] for name in KEPT if name in before}
    if single:
        arrays = {name: value[0] for name, value in arrays.items()}
        if {"crop_matrix", "crop_size"} <= set(kept):
            for name in ("vertices", "landmarks_68"):
                ndc = np.asarray(project(arrays[name][None], arrays["camera"][None]))[0]
                seen = to_photograph(ndc, kept["crop_matrix"], int(kept["crop_size"]))
                arrays[f"{name}_image"] = seen
    said = CONVENTIONS | {"error_mm": _ERROR}
    said = {name: said[name] for name in (*arrays, *kept, "meta")}
    if not single:
        said["rows"] = "every array has a leading axis of faces"
    texts = {"meta": json.dumps(meta), "conventions": json.dumps(said)}
    files = {"params.npz": npz_bytes(arrays | kept | texts)}
    if single:
        tables = (np.asarray(each) for each in (head.faces, head.uv, head.uv_faces))
        comment = f"head {head.name} {head.version} in metres by fields_jax {meta['version']}"
        files["mesh.obj"] = obj(arrays["vertices"], *tables, printable(comment))
    return files
