"""Heads on disk: one .npz of plain arrays in FLAME's schema, read without pickle."""

from __future__ import annotations

import dataclasses
import io
import json
import zipfile
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

from fields_jax.files import write_whole
from fields_jax.flame.procedural import procedural_head
from fields_jax.types import FlameModel, LandmarkEmbedding

_FORMAT = 1
_EMBEDDINGS = ("static_51", "contour", "static_68", "landmarks_105", "landmarks_203")
_STATIC = ("parents", "expression_names", "name", "version", "sha256")
# Shapes by letter; a number is that number. Checked on load so that a wrong file is named at once.
_SHAPES = {
    "template": ("V", 3),
    "shape_basis": ("V", 3, "S"),
    "expression_basis": ("V", 3, "E"),
    "pose_basis": ("V", 3, 36),
    "joint_regressor": (5, "V"),
    "skin_weights": ("V", 5),
    "eyelid_basis": (2, "V", 3),
    "faces": ("F", 3),
    "static_51.face_index": (51,),
    "contour.face_index": (79, 17),
    "static_68.face_index": (68,),
    "landmarks_105.face_index": (105,),
    "landmarks_203.face_index": (203,),
    "mediapipe_index": (105,),
    "front_203": (203,),
    "left_203": (203,),
    "right_203": (203,),
    "face_vertices": ("K",),
    "face_triangles": ("T", 3),
    "uv": ("U", 2),
    "uv_faces": ("F", 3),
}


def resolve_head(path: str) -> FlameModel:
    """The head a command or config names: a .npz of ours, or the procedural head for ""."""
    return load_flame(path) if path else procedural_head()


def save_flame(path: str, model: FlameModel) -> None:
    """Writes a head as .npz; the static fields go into one JSON entry."""
    arrays = {}
    for field in dataclasses.fields(FlameModel):
        value = getattr(model, field.name)
        if field.name in _STATIC or value is None:
            continue
        if field.name == "regions":
            arrays |= {f"regions.{name}": index for name, index in value.items()}
        elif field.name in _EMBEDDINGS:
            arrays[f"{field.name}.face_index"] = value.face_index
            arrays[f"{field.name}.barycentric"] = value.barycentric
        else:
            arrays[field.name] = value
    write_arrays(path, arrays, {name: getattr(model, name) for name in _STATIC})


def write_arrays(path: str, arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> None:
    """Writes the named arrays of a head and its static fields; the file appears whole or not."""
    stored = {key: np.asarray(value) for key, value in arrays.items()}
    meta = dict(meta) | {"format": _FORMAT}
    stored["meta"] = np.frombuffer(json.dumps(meta).encode(), np.uint8)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **stored)
    write_whole(path, buffer.getvalue())


def read_arrays(path: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The arrays and static fields of a head file, which may be incomplete.

    Raises:
      FileNotFoundError: no such file.
      ValueError: not a head file of ours.
    """
    file = epath.Path(path)
    if not file.exists():
        raise FileNotFoundError(
            f"head file {path} does not exist; make it with "
            "`python -m fields_jax.convert flame generic_model.pkl HEAD.npz` "
            "or leave the head empty for the procedural one"
        )
    try:
        with np.load(io.BytesIO(file.read_bytes()), allow_pickle=False) as stored:
            arrays = {key: stored[key] for key in stored.files}
        meta = json.loads(bytes(arrays.pop("meta")))
    except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is not a head file of fields_jax ({error})") from error
    if meta.get("format") != _FORMAT:
        raise ValueError(f"{path} has head format {meta.get('format')}, this version reads 1")
    return arrays, meta


def load_flame(path: str) -> FlameModel:
    """Reads a head written by `save_flame` or by the converter.

    Raises:
      FileNotFoundError: no such file.
      ValueError: not a head of ours, an array missing, misshapen or not finite.
    """
    arrays, meta = read_arrays(path)
    _check(path, arrays, meta)
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


def _check(path: str, arrays: dict[str, np.ndarray], meta: dict) -> None:
    sizes: dict[str, int] = {}
    for key, shape in _SHAPES.items():
        if key not in arrays:
            raise ValueError(
                f"{path} lacks the array {key!r}: complete it with "
                f"`python -m fields_jax.convert embeddings DIR {path}`"
            )
        found = arrays[key].shape
        letters = zip(shape, found, strict=False)
        fits = len(shape) == len(found) and all(
            size == (expected if isinstance(expected, int) else sizes.setdefault(expected, size))
            for expected, size in letters
        )
        if not fits:
            raise ValueError(f"{path}: array {key!r} has shape {found}, expected {shape}")
    for key, value in arrays.items():
        if np.issubdtype(value.dtype, np.floating) and not np.isfinite(value).all():
            raise ValueError(f"{path}: array {key!r} holds values that are not finite")
    if not np.allclose(arrays["skin_weights"].sum(1), 1, atol=1e-3):
        raise ValueError(f"{path}: rows of 'skin_weights' do not sum to 1")
    for key in ("faces", "face_vertices"):
        if arrays[key].min() < 0 or arrays[key].max() >= sizes["V"]:
            raise ValueError(f"{path}: {key!r} refers to vertices outside 0..{sizes['V'] - 1}")
    if tuple(meta.get("parents", ())) != (-1, 0, 1, 1, 1):
        raise ValueError(f"{path}: joint parents {meta.get('parents')} are not FLAME's")
