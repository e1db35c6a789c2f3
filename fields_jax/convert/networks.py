"""Torch checkpoints of TEASER and VGG16 to Orbax checkpoints that the commands take.

Our submodules are named after the reference's, so that a key is only split at its dots, its leaf
renamed and its array transposed. Every entry is used or named; nothing is guessed.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from flax import traverse_util

from configs import stage2
from fields_jax.cli import UserError
from fields_jax.convert.torch_files import read_torch
from fields_jax.models.fields import NETWORKS, build_model, variable_shapes
from fields_jax.models.perceptual import VGG16Features
from fields_jax.training import checkpoint

Leaves = dict[tuple[str, ...], np.ndarray]

# Entries that torchvision's VGG16 has beyond relu4_3, which the perceptual loss does not read.
_VGG_UNUSED = re.compile(r"features\.(24|26|28)\.\w+|classifier\..*")


def convert_teaser(source: str, target: str) -> int:
    """Writes a workdir with TEASER's published networks, the emotion head all zero.

    Args:
      source: TEASER.pt, a flat state dict of `teaser_encoder.*` and `teaser_generator.*`.
      target: the workdir to make; usable as --config.init_from and as --workdir.

    Returns:
      How many entries were used.

    Raises:
      FileNotFoundError: no such file.
      UserError: another file, a key missing, surplus or misshapen; nothing is written then.
    """
    _check_free(target)
    config = stage2.get_config("full")
    model = build_model(config)
    shapes = variable_shapes(model)
    state = _state_dict(source)
    converted = [name for name in NETWORKS if name != "emotion_head"]
    expected = _flatten(shapes, lambda path: path[1] in converted)
    leaves = _match(source, state, expected, _teaser_path)
    variables = traverse_util.unflatten_dict(leaves)
    head = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes["params"]["emotion_head"])
    variables["params"]["emotion_head"] = head
    meta = dict(step=0, trained=sorted(converted), source=_origin("TEASER", source))
    checkpoint.write_networks(target, variables, meta)
    checkpoint.claim_workdir(target, config)
    return len(state)


def convert_vgg16(source: str, target: str) -> int:
    """Writes torchvision's VGG16 for `config.losses.perceptual_weights`.

    Args:
      source: vgg16-*.pth, a state dict of `features.*` and `classifier.*`; what lies beyond
        relu4_3 is left out.
      target: the folder to make.

    Returns:
      How many entries were used.

    Raises:
      FileNotFoundError: no such file.
      UserError: another file, a key missing, surplus or misshapen; nothing is written then.
    """
    _check_free(target)
    state = _state_dict(source)
    state = {key: value for key, value in state.items() if not _VGG_UNUSED.fullmatch(key)}
    image = jnp.zeros((1, 32, 32, 3))
    shapes = jax.eval_shape(VGG16Features().init, jax.random.key(0), image)
    leaves = _match(source, state, _flatten(shapes), _path)
    meta = dict(step=0, trained=[], source=_origin("VGG16", source))
    checkpoint.write_networks(target, traverse_util.unflatten_dict(leaves), meta)
    return len(state)


def _check_free(target: str) -> None:
    if epath.Path(target).exists():
        raise UserError(f"{target} exists already: name a new folder")


def _origin(name: str, source: str) -> dict[str, str]:
    content = epath.Path(source).read_bytes()
    return dict(name=name, sha256=hashlib.sha256(content).hexdigest())


def _state_dict(source: str) -> dict[str, np.ndarray]:
    found = read_torch(source)
    if not isinstance(found, Mapping):
        raise UserError(f"{source} holds no state dict")
    other = [key for key, value in found.items() if not isinstance(value, np.ndarray)]
    if other:
        raise UserError(f"{source} is no flat state dict: {other[0]!r} is no tensor")
    counters = ".num_batches_tracked"  # torch counts batches for a momentum that nobody uses
    return {key: value for key, value in found.items() if not key.endswith(counters)}


def _flatten(shapes: Any, keep: Callable[[tuple[str, ...]], bool] = lambda path: True) -> dict:
    flat = traverse_util.flatten_dict(dict(shapes))
    return {path: leaf for path, leaf in flat.items() if keep(path)}


def _match(
    source: str,
    state: Mapping[str, np.ndarray],
    expected: Mapping[tuple[str, ...], jax.ShapeDtypeStruct],
    place: Callable[[str, np.ndarray], tuple[str, ...]],
) -> Leaves:
    """Every entry at its place, checked to be all that is expected and nothing else."""
    leaves: Leaves = {}
    for key, value in state.items():
        path = place(key, value)
        if path not in expected:
            raise UserError(f"{source} has an entry {key!r} that no network of ours takes")
        turned = _turn(path, value)
        if turned.shape != expected[path].shape:
            raise UserError(
                f"{source}: {key!r} of shape {value.shape} does not give {'/'.join(path)} its "
                f"shape {expected[path].shape}"
            )
        if not np.isfinite(turned).all():
            raise UserError(f"{source}: {key!r} holds values that are not finite")
        leaves[path] = turned
    missing = sorted(expected.keys() - leaves.keys())
    if missing:
        raise UserError(
            f"{source} lacks {len(missing)} of {len(expected)} arrays, first that of "
            f"{'/'.join(missing[0])}"
        )
    return leaves


def _teaser_path(key: str, value: np.ndarray) -> tuple[str, ...]:
    for prefix, replacement in (("teaser_encoder.", ""), ("teaser_generator.", "synthesizer.")):
        if key.startswith(prefix):
            return _path(replacement + key.removeprefix(prefix), value)
    return (key,)


def _path(key: str, value: np.ndarray) -> tuple[str, ...]:
    """`blocks.0.1.bn1.weight` to (`params`, `blocks_0_1`, `bn1`, `scale`)."""
    *modules, leaf = re.sub(r"\.(\d+)(?=\.)", r"_\1", key).split(".")
    kind, name = {
        "weight": ("params", "kernel" if value.ndim > 1 else "scale"),
        "bias": ("params", "bias"),
        "running_mean": ("batch_stats", "mean"),
        "running_var": ("batch_stats", "var"),
    }.get(leaf, ("params", leaf))
    return kind, *modules, name


def _turn(path: tuple[str, ...], value: np.ndarray) -> np.ndarray:
    """Torch's order of axes to ours: NHWC, HWIO, features last."""
    if value.ndim == 4:
        # A transposed convolution has its inputs first.
        value = value.transpose((2, 3, 0, 1) if "upconv" in path[-2] else (2, 3, 1, 0))
    elif value.ndim == 2:
        value = value.T
    return np.ascontiguousarray(value, np.float32)
