"""Reconstructions in the layout that the NoW challenge takes: neutral meshes and seven landmarks.

A folder of `reconstruct` or `fit` holds posed heads with an expression. NoW compares with scans of
neutral faces, so a face is made anew from its shape alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from etils import epath
from jaxtyping import Float

from fields_jax.errors import UserError, printable
from fields_jax.files import npy_bytes, write_whole
from fields_jax.landmark_schemes import NOW_68
from fields_jax.outputs import meshes
from fields_jax.outputs.bundle import PARAMS, load_params, params_within, require_head
from fields_jax.types import FlameModel


class Written(NamedTuple):
    """What a submission holds.

    Attributes:
      faces: the places written, such as SUBJECT/CHALLENGE/IMAGE.
      others: files of parameters whose photograph has no place in the challenge.
      smaller: files of parameters of a smaller face in a photograph that shows several.
    """

    faces: list[str]
    others: list[str]
    smaller: list[str]


def neutral_head(
    head: FlameModel, shape: Float[np.ndarray, " S"]
) -> tuple[Float[np.ndarray, "V 3"], Float[np.ndarray, "7 3"]]:
    """The head of a person at rest: vertices and NoW's seven points, metres.

    Without expression, jaw and pose FLAME's joints move nothing, and the shaped template is all.

    Args:
      head: the model.
      shape: [S] identity, S at most what the head has.
    """
    basis = np.asarray(head.shape_basis, np.float64)[..., : len(shape)]
    vertices = np.asarray(head.template, np.float64) + basis @ np.asarray(shape, np.float64)
    points = head.static_68
    rows = np.asarray(head.faces)[np.asarray(points.face_index)[list(NOW_68)]]
    weights = np.asarray(points.barycentric, np.float64)[list(NOW_68)]
    return vertices, np.einsum("nk,nkd->nd", weights, vertices[rows])


def write_submission(
    faces: str, out: str, head: FlameModel, place: Callable[[str], str | None]
) -> Written:
    """Writes PLACE.obj and PLACE.npy, [7, 3] float64, for each photograph in a folder of faces.

    Args:
      faces: folder of `reconstruct` or `fit`.
      out: folder to write to.
      head: that the faces are of.
      place: from the path of a photograph, as params.npz has it, to its place in the challenge
        without a suffix; None for a photograph that is not of the challenge.

    Raises:
      UserError: no faces, damaged ones, or ones of another head.
      OSError: a file cannot be written.
    """
    best: dict[str, tuple[float, epath.Path, np.ndarray]] = {}
    others, smaller = [], []
    if not epath.Path(faces).is_dir():
        raise UserError(f"{faces} is no folder of reconstructions")
    for file in params_within(epath.Path(faces)):
        shape, area, photograph = _read(file, head)
        target = place(photograph)
        if target is None:
            others.append(str(file))
            continue
        if target in best:
            loser = min((area, file), best[target][:2], key=lambda each: each[0])[1]
            smaller.append(str(loser))
        if target not in best or area > best[target][0]:
            best[target] = area, file, shape
    if not best:
        raise UserError(
            f"{faces} has no {PARAMS} of a photograph in SUBJECT/CHALLENGE/: name a folder that "
            "reconstruct made of the challenge's photographs"
        )
    triangles, uv, uv_faces = (np.asarray(a) for a in (head.faces, head.uv, head.uv_faces))
    comment = printable(f"neutral head in metres; {head.name} {head.version} {head.sha256[:12]}")
    for target, (_, _, shape) in best.items():
        vertices, points = neutral_head(head, shape)
        text = meshes.obj(vertices, triangles, uv, uv_faces, comment)
        write_whole(epath.Path(out) / f"{target}.obj", text)
        write_whole(epath.Path(out) / f"{target}.npy", npy_bytes(points))
    return Written(list(best), others, smaller)


def _read(file: epath.Path, head: FlameModel) -> tuple[np.ndarray, float, str]:
    """Shape, area of the face's box in pixels, and path of the photograph."""
    arrays, meta = load_params(file)
    require_head(str(file), meta.get("head"), head, "name its head with --head=HEAD.npz")
    shape, box = (np.asarray(arrays.get(name, ())) for name in ("shape", "box"))
    most = head.shape_basis.shape[-1]
    if shape.ndim != 1 or not 0 < len(shape) <= most or not np.isfinite(shape).all():
        raise UserError(f"{file} holds no finite shape of at most {most} numbers")
    if box.shape != (4,):
        raise UserError(f"{file} holds no box of the face")
    x0, y0, x1, y1 = (float(side) for side in box)
    return shape, (x1 - x0) * (y1 - y0), str(meta.get("image", ""))
