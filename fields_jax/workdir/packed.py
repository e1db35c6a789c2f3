"""Networks as three small files: what the package ships, and what anybody may hand on.

FOLDER/model.npz holds the encoders and the emotion head, parameters as float16, batch statistics
as float32; model.json the config that they are built by, the meta item of their checkpoint and the
checksums of both; MODEL_CARD.md says to people what the model is. The synthesiser and the token
encoder are left out: coefficients and emotion need neither.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import jax
import numpy as np
from etils import epath
from flax.traverse_util import flatten_dict, unflatten_dict
from ml_collections import ConfigDict

from fields_jax.errors import UserError, quoted
from fields_jax.files import (
    LARGEST_ARRAYS,
    damage_named,
    npz_bytes,
    parse_npz,
    read_bytes,
    read_json,
    write_whole,
)
from fields_jax.workdir import schema
from fields_jax.workdir.config import absolute
from fields_jax.workdir.integrity import json_checksum

PyTree = Any

EMBEDDED = "embedded"  # names the model in the package where a workdir is asked for
PACKAGED = Path(__file__).parents[1] / "assets" / "embedded"
MODEL, ARRAYS, CARD = "model.json", "model.npz", "MODEL_CARD.md"
LARGEST_PACKAGED = 12_000_000  # bytes of all files of the model in the package
NETWORKS = ("pose_encoder", "shape_encoder", "expression_encoder", "emotion_head")
_FORMAT = 1
_KINDS = ("params", "batch_stats")
# Config keys that name places of the machine that trained; only their last parts are kept.
_PLACES = ("data.root", "init_from")
_WEIGHTS = ("losses.perceptual_weights", "losses.emotion_feature_weights")


@dataclasses.dataclass(frozen=True)
class Packed:
    """What a folder of packed networks holds.

    Attributes:
      config: that the networks are built by.
      variables: {"params": {network: tree}, "batch_stats": {...}}, float32.
      meta: the meta item of their checkpoint, with "made" (date), "version" (of fields_jax that
        wrote them) and "sha256" of the arrays.
    """

    config: ConfigDict
    variables: dict[str, PyTree]
    meta: dict[str, Any]


def place(workdir: str) -> epath.Path:
    """The folder that a command's --workdir names; the word `EMBEDDED` is the package's own."""
    return epath.Path(PACKAGED) if str(workdir) == EMBEDDED else absolute(str(workdir))


def is_packed(workdir: str) -> bool:
    """Whether a workdir holds packed networks, or is the word for those of the package."""
    return str(workdir) == EMBEDDED or (place(workdir) / MODEL).exists()


def write_packed(
    folder: epath.PathLike,
    config: ConfigDict,
    variables: Mapping[str, PyTree],
    meta: Mapping[str, Any],
) -> int:
    """Writes model.npz and model.json; the card is the caller's.

    Args:
      folder: made where it is absent.
      config: of the training; places of its machine are left out.
      variables: of which those of `NETWORKS` are taken.
      meta: the checkpoint's meta item, with "step", "made" and "version" added.

    Returns:
      Bytes written.

    Raises:
      OSError: a file cannot be written.
    """
    arrays = {
        f"{kind}/{path}": _stored(kind, np.asarray(value))
        for kind in _KINDS
        for path, value in flatten_dict(
            {name: variables[kind][name] for name in NETWORKS if name in variables[kind]}, sep="/"
        ).items()
    }
    content = npz_bytes(arrays)
    kept = {key: value for key, value in meta.items() if key not in ("config", "sha256")}
    kept["trained"] = [name for name in meta["trained"] if name in NETWORKS]
    told = {
        "format": _FORMAT,
        "config": json.loads(_without_places(config).to_json()),
        "meta": kept,
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    told["checksum"] = json_checksum(told)
    text = json.dumps(told, indent=1, sort_keys=True) + "\n"
    write_whole(epath.Path(folder) / ARRAYS, content)
    write_whole(epath.Path(folder) / MODEL, text)
    return len(content) + len(text)


def read_packed(workdir: str) -> Packed:
    """Reads packed networks.

    Raises:
      UserError: the package holds no model; or model.json is of another format, or a file is
        missing or not what was written.
    """
    folder = place(workdir)
    remedy = _remedy(workdir)
    told = read_model(workdir)
    file = folder / ARRAYS
    if not file.exists():
        raise UserError(f"{file} is missing; {remedy}")
    content = read_bytes(file, largest=LARGEST_ARRAYS)
    if hashlib.sha256(content).hexdigest() != told["sha256"]:
        raise UserError(f"{file} is damaged: its checksum differs from {MODEL}'s; {remedy}")
    arrays = parse_npz(content, str(file))
    with damage_named(f"{file} holds other arrays than {MODEL} says; {remedy}"):
        # A stored scale is float16 and would make the networks compute so.
        trees = {
            tuple(name.split("/")): np.asarray(array, np.float32) for name, array in arrays.items()
        }
        found = unflatten_dict(trees)
        if sorted(found) != sorted(_KINDS) or set(found["params"]) != set(NETWORKS):
            raise ValueError(f"it holds {', '.join(sorted(found))}")
    meta = told["meta"] | {"sha256": told["sha256"]}
    return Packed(ConfigDict(told["config"]), jax.device_put(found), meta)


def check_shapes(workdir: str, found: Packed, shapes: Mapping[str, PyTree]) -> None:
    """Refuses arrays that the networks of the config cannot take.

    Args:
      workdir: as it was named.
      found: what it holds.
      shapes: of all variables that the networks have, those of `NETWORKS` and others.

    Raises:
      UserError: naming the first array that is missing, of another shape, or of no network.
    """
    held, needed = _shapes(found.variables), _shapes(shapes)
    for name in sorted(held.keys() | needed.keys()):
        if held.get(name) == needed.get(name):
            continue
        says = f"{MODEL}'s config asks for {needed.get(name, 'no such array')}"
        raise UserError(
            f"{place(workdir) / ARRAYS}: {name} is {held.get(name, 'missing')}, where {says}; "
            f"{_remedy(workdir)}"
        )


def _shapes(variables: Mapping[str, PyTree]) -> dict[str, tuple[int, ...]]:
    return {
        f"{kind}/{path}": tuple(leaf.shape)
        for kind in _KINDS
        for path, leaf in flatten_dict(dict(variables[kind]), sep="/").items()
        if path.split("/")[0] in NETWORKS
    }


def read_model(workdir: str) -> dict[str, Any]:
    """The checked content of model.json.

    Raises:
      UserError: see `read_packed`.
    """
    file = place(workdir) / MODEL
    if not file.exists():
        if str(workdir) == EMBEDDED:
            raise UserError(
                "this fields_jax holds no model: name a trained one with --workdir=DIR, as "
                "`make demo` leaves one"
            )
        raise UserError(f"{file} is missing; {_remedy(workdir)}")
    told = read_json(file)
    if told.get("format") != _FORMAT:
        raise UserError(
            f"{file} is of format {quoted(told.get('format'))}, this fields_jax reads {_FORMAT}: "
            "write it with the same version, or update this one"
        )
    checksum = told.pop("checksum", None)
    if checksum != json_checksum(told):
        raise UserError(f"{file} is damaged: its checksum differs; {_remedy(workdir)}")
    kinds = {"config": dict, "meta": dict, "sha256": str}
    wrong = [key for key, kind in kinds.items() if not isinstance(told.get(key), kind)]
    meta = told["meta"] if "meta" not in wrong else {}
    if wrong or not isinstance(meta.get("trained"), list) or not isinstance(meta.get("step"), int):
        raise UserError(f"{file} lacks {wrong[0] if wrong else 'meta.trained or meta.step'}")
    schema.check_trained(told["config"], str(file))
    return told


def _remedy(workdir: str) -> str:
    if str(workdir) == EMBEDDED:
        return "install fields_jax again"
    return "bring it back whole, or write it anew with `python -m fields_jax.export --weights`"


def _stored(kind: str, array: np.ndarray) -> np.ndarray:
    """Parameters as float16 where they fit; statistics, whose range is wide, as they are."""
    if kind != "params" or array.dtype != np.float32:
        return array
    with np.errstate(over="ignore"):
        half = array.astype(np.float16)
    return half if np.isfinite(half).all() else array


def _without_places(config: ConfigDict) -> ConfigDict:
    """The config without paths of the machine that trained, the head's among them.

    What the head is the meta item tells; another one is refused by `inference.check_head`.
    """
    config = config.copy_and_resolve_references()
    with config.unlocked():
        config.head, config.ema, config.compilation_cache = "", 0, ""
        for key in (*_PLACES, *_WEIGHTS):
            group, _, name = key.rpartition(".")
            holder = config.get(group, {}) if group else config
            if str(holder.get(name, "")).startswith(("/", "~")) or "://" in str(holder.get(name)):
                holder[name] = PurePosixPath(holder[name]).name
    return config
