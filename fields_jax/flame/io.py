"""Heads on disk: one .npz of plain arrays in FLAME's schema, read without pickle."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from etils import epath

from fields_jax.errors import MissingFile, UserError, quoted
from fields_jax.files import parse_json, read_npz, write_npz
from fields_jax.flame.priors import GROUPS, standard_priors
from fields_jax.flame.procedural import procedural_head
from fields_jax.types import JOINTS, PARTS, CoefficientPrior, FlameModel, LandmarkEmbedding

_FORMAT = 1
_EMBEDDINGS = ("static_51", "contour", "static_68", "landmarks_105", "landmarks_203")
_NAMES = ("joint_names", "expression_names", "material_names")
_STATIC = ("parents", *_NAMES, "name", "version", "sha256")
# What heads of before this version, and FLAME's files, leave unsaid: they are FLAME's.
_UNSAID = {"joint_names": JOINTS, "material_names": ()}
# Each array's shape, with letters for sizes that differ between heads, and the kind of its values:
# "real", "mask", or for indices the size they stay below. Checked on load: a wrong file is named.
_ARRAYS = {
    "template": (("V", 3), "real"),
    "shape_basis": (("V", 3, "S"), "real"),
    "expression_basis": (("V", 3, "E"), "real"),
    "pose_basis": (("V", 3, "P"), "real"),
    "joint_regressor": (("J", "V"), "real"),
    "skin_weights": (("V", "J"), "real"),
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
# Those that a head may lack; `_completed` says what then holds.
_OPTIONAL = {
    "face_parts": (("F",), len(PARTS)),
    "materials": (("F",), "M"),
    "expression_templates": (("N", "E"), "real"),
    "arkit_basis": (("V", 3, 52), "real"),
}
for _name, _size in (("shape", "S"), ("expression", "E"), ("jaw", 3), ("eyelid", 2)):
    for _field in ("mean", "deviation", "lower", "upper"):
        _OPTIONAL[f"priors.{_name}.{_field}"] = ((_size,), "bound")
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
        elif field.name == "priors":
            for name, prior in value.items():
                arrays |= {f"priors.{name}.{key}": each for key, each in vars(prior).items()}
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
            "`python -m fields_jax.convert flame generic_model.pkl HEAD.npz` or "
            "`... convert ict ICT-FaceKit HEAD.npz`, or leave the head empty for the procedural one"
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
    meta = _UNSAID | meta
    fields = {
        name: LandmarkEmbedding(
            face_index=arrays.pop(f"{name}.face_index"),
            barycentric=arrays.pop(f"{name}.barycentric"),
        )
        for name in _EMBEDDINGS
    }
    regions = {key: arrays.pop(key) for key in list(arrays) if key.startswith("regions.")}
    fields["priors"] = _priors(arrays)
    fields |= arrays
    fields["regions"] = {key.removeprefix("regions."): value for key, value in regions.items()}
    fields.setdefault("expression_templates", None)
    fields.setdefault("face_parts", _parts(fields["faces"], fields["regions"]))
    static = {name: meta[name] for name in _STATIC}
    static |= {name: tuple(meta[name]) for name in ("parents", *_NAMES)}
    return FlameModel(**jax.device_put(fields), **static)


def _priors(arrays: dict[str, np.ndarray]) -> dict[str, CoefficientPrior]:
    """Takes the priors out of a file's arrays; FLAME's for a group that the file does not tell."""
    found = standard_priors(arrays["shape_basis"].shape[-1], arrays["expression_basis"].shape[-1])
    for name in GROUPS:
        fields = [f"priors.{name}.{key}" for key in vars(found[name])]
        if fields[0] in arrays:
            found[name] = CoefficientPrior(*(arrays.pop(field) for field in fields))
    return found


def _parts(faces: np.ndarray, regions: Mapping[str, np.ndarray]) -> np.ndarray:
    """Parts of a head that does not tell them: eyeballs by their regions, skin for the rest."""
    parts = np.zeros(len(faces), np.int32)
    for name in ("left_eyeball", "right_eyeball"):
        inside = np.isin(faces, regions.get(name, np.zeros(0, np.int32))).all(axis=1)
        parts[inside] = PARTS.index("eyes")
    return parts


def check_arrays(path: str, arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> None:
    """Refuses arrays and static fields that make no head.

    Args:
      path: what to call the head in messages.
      arrays: by their names in the file.
      meta: the static fields.

    Raises:
      UserError: an array that is missing, unknown, misshapen, not finite or out of range.
    """
    materials = meta.get("material_names")
    sizes = _sizes(path, arrays)
    sizes["M"] = len(materials) if isinstance(materials, list | tuple) else 0
    known = _ARRAYS | _OPTIONAL
    for key, value in arrays.items():
        if key not in known and not key.startswith("regions."):
            raise UserError(f"{path} holds an array {quoted(key)}, which no head has")
        if key not in known and value.ndim != 1:
            raise UserError(f"{path}: array {key!r} has shape {value.shape}, expected one axis")
        kind = known[key][1] if key in known else "V"
        _check_values(path, key, value, sizes.get(kind, kind))
    _check_priors(path, arrays)
    for key in ("skin_weights", *(f"{name}.barycentric" for name in _EMBEDDINGS)):
        if not np.allclose(arrays[key].sum(-1), 1, atol=1e-3):
            raise UserError(f"{path}: rows of {key!r} do not sum to 1")
    _check_static(path, meta, sizes["J"])
    if sizes["P"] not in (0, 9 * (sizes["J"] - 1)):
        raise UserError(f"{path}: pose_basis has {sizes['P']} entries for {sizes['J']} joints")


def _sizes(path: str, arrays: Mapping[str, np.ndarray]) -> dict[str, int]:
    """What the letters of the shapes stand for in this head."""
    sizes: dict[str, int] = {}
    for key, (shape, _) in (_ARRAYS | _OPTIONAL).items():
        if key in _OPTIONAL and key not in arrays:
            continue
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
        if not fits or not (arrays[key].size or key == "pose_basis"):
            raise UserError(f"{path}: array {key!r} has shape {found}, expected {shape}")
    return sizes


def _check_values(path: str, key: str, value: np.ndarray, kind: str | int) -> None:
    """Reals must be finite and no larger than any head's; indices whole and below `kind`.

    Bounds may be infinite, not NaN.
    """
    if kind == "mask":
        if value.dtype != bool:
            raise UserError(f"{path}: array {key!r} is of {value.dtype}, expected true and false")
    elif kind == "bound":
        if value.dtype.kind != "f" or np.isnan(value).any():
            raise UserError(f"{path}: array {key!r} holds values that are no numbers")
    elif kind == "real":
        if value.dtype.kind != "f":
            raise UserError(f"{path}: array {key!r} is of {value.dtype}, expected real numbers")
        if not np.isfinite(value).all():
            raise UserError(f"{path}: array {key!r} holds values that are not finite")
        if abs(value).max(initial=0) > LARGEST:
            raise UserError(f"{path}: array {key!r} holds {abs(value).max():.3g}, out of range")
    elif value.dtype.kind not in "iu" or (
        value.size and not 0 <= value.min() <= value.max() < kind
    ):
        raise UserError(f"{path}: {key!r} refers to numbers outside 0..{kind - 1}")


def _check_priors(path: str, arrays: Mapping[str, np.ndarray]) -> None:
    """Each group is told whole, in order, and with a spread."""
    for name in GROUPS:
        keys = [f"priors.{name}.{field}" for field in ("mean", "deviation", "lower", "upper")]
        missing = [key for key in keys if key not in arrays]
        if len(missing) == len(keys):
            continue
        if missing:
            raise UserError(f"{path} lacks the array {missing[0]!r}, but holds others of its group")
        mean, deviation, lower, upper = (arrays[key] for key in keys)
        if not (np.isfinite(mean).all() and (deviation > 0).all() and (lower <= upper).all()):
            raise UserError(
                f"{path}: 'priors.{name}' needs finite means, deviations above 0 and lower bounds "
                "up to the upper ones"
            )


def _check_static(path: str, meta: Mapping[str, Any], joints: int) -> None:
    for key in ("name", "version", "sha256"):
        if not isinstance(meta.get(key), str):
            raise UserError(f"{path}: its meta has {quoted(meta.get(key))} for {key}, no text")
    for key in _NAMES:
        names = meta.get(key, _UNSAID.get(key))
        if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
            raise UserError(f"{path}: its meta has no list of names in {key}")
    names, parents = meta.get("joint_names", JOINTS), meta.get("parents")
    tree = isinstance(parents, list | tuple) and all(
        isinstance(parent, int) and (parent == -1 if not i else 0 <= parent < i)
        for i, parent in enumerate(parents)
    )
    if not tree or len(parents) != joints:
        raise UserError(
            f"{path}: joint parents {quoted(parents)} are no tree of {joints} joints whose first "
            "is the root"
        )
    fits = set(names) <= set(JOINTS) and len(names) == len(set(names)) == joints
    if not fits or names[0] != JOINTS[0]:
        raise UserError(
            f"{path}: joints {quoted(names)}: each of the {joints} must be one of "
            f"{', '.join(JOINTS)}, the root first"
        )
