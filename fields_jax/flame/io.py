"""Heads on disk: one .npz of plain arrays in FLAME's schema, read without pickle."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

from fields_jax.errors import MissingFile, UserError, quoted
from fields_jax.files import parse_json, read_npz, write_npz
from fields_jax.flame.procedural import procedural_head
from fields_jax.types import FlameModel, LandmarkEmbedding

_FORMAT = 1
_EMBEDDINGS = ("static_51", "contour", "static_68", "landmarks_105", "landmarks_203")
_STATIC = ("parents", "expression_names", "name", "version", "sha256")
# Each array's shape, with letters for sizes that differ between heads, and the kind of its values:
# "real", "mask", or for indices the size they stay below. Checked on load: a wrong file is named.
_ARRAYS = {
    "template": (("V", 3), "real"),
    "shape_basis": (("V", 3, "S"), "real"),
    "expression_basis": (("V", 3, "E"), "real"),
    "pose_basis": (("V", 3, 36), "real"),
    "joint_regressor": ((5, "V"), "real"),
    "skin_weights": (("V", 5), "real"),
    "eyelid_basis": ((2, "V", 3), "real"),
    "faces": (("F", 3), "V"),
    "mediapipe_index": ((105,), 478),
    "front_203": ((203,), "mask"),
    "left_203": ((203,), "mask"),
    "right_203": ((203,), "mask"),
    "face_vertices": (("K",), "V"),
    "face_triangles": (("T", 3), "K"),
    "uv": (("U", 2), "real"),
    "uv_faces": (("F", 3), "U"),
}
for _name, _shape in (
    ("static_51", (51,)),
    ("contour", (79, 17)),
    ("static_68", (68,)),
    ("landmarks_105", (105,)),
    ("landmarks_203", (203,)),
):
    _ARRAYS[f"{_name}.face_index"] = (_shape, "F")
    _ARRAYS[f"{_name}.barycentric"] = ((*_shape, 3), "real")
LARGEST = 10.0  # of real values: metres, weights, texture coordinates; far beyond any head's


def resolve_head(path: str) -> FlameModel:
    """The head a command or config names: a .npz of ours, or the procedural head for ""."""
    return load_flame(path) if path else procedural_head()


def save_flame(path: str, head: FlameModel) -> None:
    """Writes a head as .npz; the static fields go into one JSON entry."""
    arrays = {}
    for field in dataclasses.fields(FlameModel):
        value = getattr(head, field.name)
        if field.name in _STATIC or value is None:
            continue
        if field.name == "regions":
            arrays |= {f"regions.{name}": index for name, index in value.items()}
        elif field.name in _EMBEDDINGS:
            arrays[f"{field.name}.face_index"] = value.face_index
            arrays[f"{field.name}.barycentric"] = value.barycentric
        else:
            arrays[field.name] = value
    write_arrays(path, arrays, {name: getattr(head, name) for name in _STATIC})


def write_arrays(path: str, arrays: Mapping[str, Any], meta: Mapping[str, Any]) -> None:
    """Writes the named arrays of a head and its static fields; the file appears whole or not."""
    stored = {key: np.asarray(value) for key, value in arrays.items()}
    meta = dict(meta) | {"format": _FORMAT}
    stored["meta"] = np.frombuffer(json.dumps(meta).encode(), np.uint8)
    write_npz(path, stored)


def read_arrays(path: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The arrays and static fields of a head file, which may be incomplete.

    Raises:
      MissingFile: no such file.
      UserError: not a head file of ours.
    """
    file = epath.Path(path)
    if not file.exists():
        raise MissingFile(
            f"head file {path} does not exist; make it with "
            "`python -m fields_jax.convert flame generic_model.pkl HEAD.npz` "
            "or leave the head empty for the procedural one"
        )
    if file.suffix.lower() == ".pkl":
        raise UserError(
            f"{path} is a model as it is published: make a head of it with "
            f"`python -m fields_jax.convert flame {path} HEAD.npz`"
        )
    arrays = read_npz(path, what="a head file of fields_jax")
    stored = arrays.pop("meta", None)
    if stored is None or stored.dtype != np.uint8:
        raise UserError(f"{path} is not a head file of fields_jax: it has no meta")
    meta = parse_json(stored.tobytes(), f"{path}: its meta")
    if meta.get("format") != _FORMAT:
        raise UserError(
            f"{path} has head format {quoted(meta.get('format'))}, this version reads {_FORMAT}"
        )
    return arrays, meta


def load_flame(path: str) -> FlameModel:
    """Reads a head written by `save_flame` or by the converter.

    Raises:
      MissingFile: no such file.
      UserError: not a head of ours, an array missing, misshapen, not finite or out of range.
    """
    arrays, meta = read_arrays(path)
    check_arrays(path, arrays, meta)
    fields = {
        name: LandmarkEmbedding(
            face_index=arrays.pop(f"{name}.face_index"),
            barycentric=arrays.pop(f"{name}.barycentric"),
        )
        for name in _EMBEDDINGS
    }
    regions = {key: arrays.pop(key) for key in list(arrays) if key.startswith("regions.")}
    fields |= arrays
    fields["regions"] = {key.removeprefix("regions."): value for key, value in regions.items()}
    fields.setdefault("expression_templates", None)
    static = {name: meta[name] for name in _STATIC}
    static |= {name: tuple(meta[name]) for name in ("parents", "expression_names")}
    return FlameModel(**jax.tree.map(jnp.asarray, fields), **static)


def check_arrays(path: str, arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> None:
    """Refuses arrays and static fields that make no head.

    Args:
      path: what to call the head in messages.
      arrays: by their names in the file.
      meta: the static fields.

    Raises:
      UserError: an array that is missing, unknown, misshapen, not finite or out of range.
    """
    sizes = _sizes(path, arrays)
    templates = arrays.get("expression_templates")
    if templates is not None and templates.shape[1:] != (sizes["E"],):
        raise UserError(f"{path}: array 'expression_templates' has shape {templates.shape}")
    known = {field.name for field in dataclasses.fields(FlameModel)}
    for key, value in arrays.items():
        if key not in _ARRAYS and not key.startswith("regions.") and key not in known:
            raise UserError(f"{path} holds an array {quoted(key)}, which no head has")
        kind = _ARRAYS[key][1] if key in _ARRAYS else "real"
        below = "V" if key.startswith("regions.") else kind
        _check_values(path, key, value, sizes.get(below, below))
    for key in ("skin_weights", *(f"{name}.barycentric" for name in _EMBEDDINGS)):
        if not np.allclose(arrays[key].sum(-1), 1, atol=1e-3):
            raise UserError(f"{path}: rows of {key!r} do not sum to 1")
    _check_static(path, meta)


def _sizes(path: str, arrays: Mapping[str, np.ndarray]) -> dict[str, int]:
    """What the letters of the shapes stand for in this head."""
    sizes: dict[str, int] = {}
    for key, (shape, _) in _ARRAYS.items():
        if key not in arrays:
            raise UserError(
                f"{path} lacks the array {key!r}: complete it with "
                f"`python -m fields_jax.convert embeddings DIR {path}`"
            )
        found = arrays[key].shape
        letters = zip(shape, found, strict=False)
        fits = len(shape) == len(found) and all(
            size == (expected if isinstance(expected, int) else sizes.setdefault(expected, size))
            for expected, size in letters
        )
        if not fits or not arrays[key].size:
            raise UserError(f"{path}: array {key!r} has shape {found}, expected {shape}")
    return sizes


def _check_values(path: str, key: str, value: np.ndarray, kind: str | int) -> None:
    """Reals must be finite and no larger than any head's; indices whole and below `kind`."""
    if kind == "mask":
        if value.dtype != bool:
            raise UserError(f"{path}: array {key!r} is of {value.dtype}, expected true and false")
    elif kind == "real":
        if value.dtype.kind != "f":
            raise UserError(f"{path}: array {key!r} is of {value.dtype}, expected real numbers")
        if not np.isfinite(value).all():
            raise UserError(f"{path}: array {key!r} holds values that are not finite")
        if abs(value).max(initial=0) > LARGEST:
            raise UserError(f"{path}: array {key!r} holds {abs(value).max():.3g}, out of range")
    elif value.dtype.kind not in "iu" or (value.size and value.min() < 0) or value.max() >= kind:
        raise UserError(f"{path}: {key!r} refers to numbers outside 0..{kind - 1}")


def _check_static(path: str, meta: Mapping[str, Any]) -> None:
    for key in ("name", "version", "sha256"):
        if not isinstance(meta.get(key), str):
            raise UserError(f"{path}: its meta has {quoted(meta.get(key))} for {key}, no text")
    names = meta.get("expression_names")
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise UserError(f"{path}: its meta has no list of names in expression_names")
    parents = meta.get("parents")
    if not isinstance(parents, list | tuple) or tuple(parents) != (-1, 0, 1, 1, 1):
        raise UserError(f"{path}: joint parents {quoted(parents)} are not FLAME's")
