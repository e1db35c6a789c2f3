"""Torch checkpoints of TEASER, SMIRK, VGG16 and ResNet-50 to Orbax ones that the commands take.

Our submodules are named after the reference's, so that a key is only split at its dots, its leaf
renamed and its array transposed. Every entry is used or named; nothing is guessed.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from flax import traverse_util

from configs import stage2
from fields_jax.convert.stored_arrays import StoredArray
from fields_jax.convert.torch_files import LIGHTNING, read_torch
from fields_jax.disk import writing
from fields_jax.errors import UserError, quoted
from fields_jax.files import read_bytes, whole_folder
from fields_jax.models.fields import build_model, variable_shapes
from fields_jax.models.perceptual import VGG16Features
from fields_jax.models.resnet import ResNet50Features
from fields_jax.workdir.config import claim_workdir
from fields_jax.workdir.store import write_networks

Leaves = dict[tuple[str, ...], np.ndarray]
Place = Callable[[str, StoredArray], tuple[str, ...]]  # of an entry among our variables

_PARALLEL = "module."  # before every key of a network that torch spread over devices
# Entries that torchvision's VGG16 has beyond relu4_3, which the perceptual loss does not read.
_VGG_UNUSED = re.compile(r"features\.(24|26|28)\.\w+|classifier\..*")
# Layers that EMOCA's network has behind the features.
_RESNET_UNUSED = re.compile(r"(backbone\.fc|linear|linear\.0)\.(weight|bias)")


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
    return _convert_networks("TEASER", source, target, _teaser_path)


def convert_smirk(source: str, target: str) -> int:
    """Writes a workdir with SMIRK's published networks, the emotion head all zero.

    Args:
      source: SMIRK_em1.pt, a flat state dict of `smirk_encoder.*` and `smirk_generator.*`.
      target: the workdir to make; usable as --workdir, and as --config.init_from where
        config.model.synthesizer is smirk.

    Returns:
      How many entries were used.

    Raises:
      FileNotFoundError: no such file.
      UserError: another file, a key missing, surplus or misshapen; nothing is written then.
    """
    return _convert_networks("SMIRK", source, target, _smirk_path)


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
    return _convert_frozen("VGG16", VGG16Features(), source, target, _path, _VGG_UNUSED)


def convert_emotion_resnet50(source: str, target: str) -> int:
    """Writes EMOCA's emotion network for `config.losses.emotion_feature_weights`.

    Args:
      source: EMOCA's checkpoint of its AffectNet ResNet-50, whose entry `state_dict` holds
        `backbone.*` and the layers that read classes, valence and arousal; these are left out.
      target: the folder to make.

    Returns:
      How many entries were used.

    Raises:
      FileNotFoundError: no such file.
      UserError: another file, a key missing, surplus or misshapen; nothing is written then.
    """
    network = ResNet50Features()
    return _convert_frozen("ResNet-50", network, source, target, _resnet_path, _RESNET_UNUSED)


def _convert_networks(name: str, source: str, target: str, place: Place) -> int:
    _check_free(target)
    config = stage2.get_config("full")
    config.model.synthesizer = name.lower()
    shapes = variable_shapes(build_model(config))
    state = _state_dict(source)
    converted = [network for network in shapes["params"] if network != "emotion_head"]
    expected = _flatten(shapes, lambda path: path[1] in converted)
    leaves = _match(source, state, expected, place)
    variables = traverse_util.unflatten_dict(leaves)
    head = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes["params"]["emotion_head"])
    variables["params"]["emotion_head"] = head
    meta = dict(trained=sorted(converted), source=_origin(name, source))
    with writing(target, instead="another target"), whole_folder(target) as folder:
        write_networks(str(folder), variables, meta)
        claim_workdir(str(folder), config)
    return len(state)


def _convert_frozen(
    name: str, network: Any, source: str, target: str, place: Place, unused: re.Pattern
) -> int:
    _check_free(target)
    state = _state_dict(source, LIGHTNING)
    state = {key: value for key, value in state.items() if not unused.fullmatch(key)}
    shapes = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    leaves = _match(source, state, _flatten(shapes), place)
    meta = dict(trained=[], source=_origin(name, source))
    with writing(target, instead="another target"), whole_folder(target) as folder:
        write_networks(str(folder), traverse_util.unflatten_dict(leaves), meta)
    return len(state)


def _check_free(target: str) -> None:
    if epath.Path(target).exists():
        raise UserError(f"{target} exists already: name a new folder")


def _origin(name: str, source: str) -> dict[str, str]:
    return dict(name=name, sha256=hashlib.sha256(read_bytes(source)).hexdigest())


def _state_dict(source: str, ignored: Collection[str] = ()) -> dict[str, StoredArray]:
    found = read_torch(source, ignored)
    found = found.get("state_dict", found)  # Lightning's checkpoints hold other things beside it
    if not isinstance(found, Mapping) or not found:
        raise UserError(f"{source} holds no state dict")
    other = [key for key, value in found.items() if not isinstance(value, StoredArray)]
    if other:
        raise UserError(f"{source} is no flat state dict: {quoted(other[0])} is no tensor")
    if all(key.startswith(_PARALLEL) for key in found):
        found = {key.removeprefix(_PARALLEL): value for key, value in found.items()}
    # Torch's batch norms count batches, for a kind of momentum that these networks do not use.
    norms = [key.removesuffix("running_mean") for key in found if key.endswith(".running_mean")]
    counters = {f"{norm}num_batches_tracked" for norm in norms}
    return {key: value for key, value in found.items() if key not in counters}


def _flatten(shapes: Any, keep: Callable[[tuple[str, ...]], bool] = lambda path: True) -> dict:
    flat = traverse_util.flatten_dict(dict(shapes))
    return {path: leaf for path, leaf in flat.items() if keep(path)}


def _match(
    source: str,
    state: Mapping[str, StoredArray],
    expected: Mapping[tuple[str, ...], jax.ShapeDtypeStruct],
    place: Place,
) -> Leaves:
    """Every entry at its place, checked to be all that is expected and nothing else."""
    leaves: Leaves = {}
    for key, value in state.items():
        path = place(key, value)
        if path not in expected:
            raise UserError(f"{source} has an entry {quoted(key)} that no network of ours takes")
        if path in leaves:
            raise UserError(f"{source} has a second entry for {'/'.join(path)}: {quoted(key)}")
        axes = _axes(path, value)
        if tuple(value.shape[axis] for axis in axes) != expected[path].shape:
            raise UserError(
                f"{source}: {quoted(key)} of shape {value.shape} does not give {'/'.join(path)} "
                f"its shape {expected[path].shape}"
            )
        with np.errstate(over="ignore"):
            turned = np.ascontiguousarray(value.read().transpose(axes), np.float32)
        if not np.isfinite(turned).all():
            raise UserError(f"{source}: {quoted(key)} holds values that are not finite")
        leaves[path] = turned
    missing = sorted(expected.keys() - leaves.keys())
    if missing:
        raise UserError(
            f"{source} lacks {len(missing)} of {len(expected)} arrays, first that of "
            f"{'/'.join(missing[0])}"
        )
    return leaves


def _teaser_path(key: str, value: StoredArray) -> tuple[str, ...]:
    for prefix, replacement in (("teaser_encoder.", ""), ("teaser_generator.", "synthesizer.")):
        if key.startswith(prefix):
            return _path(replacement + key.removeprefix(prefix), value)
    return (key,)


def _smirk_path(key: str, value: StoredArray) -> tuple[str, ...]:
    """Like TEASER's, except that layers of blocks repeat the block's name: encoder1.enc1conv1."""
    encoder, generator = "smirk_encoder.", "smirk_generator."
    if key.startswith(encoder):
        return _path(key.removeprefix(encoder), value)
    if not key.startswith(generator):
        return (key,)
    key = key.removeprefix(generator)
    if match := re.match(r"((enc|dec)oder(\d)|bottleneck)\.", key):
        short = f"{match[2]}{match[3]}" if match[2] else "bottleneck"
        layer = key.removeprefix(match[0])
        if not layer.startswith(short):
            return (key,)
        key = match[0] + layer.removeprefix(short)
    return _path(f"synthesizer.{key}", value)


def _resnet_path(key: str, value: StoredArray) -> tuple[str, ...]:
    prefix = "backbone."
    return _path(key.removeprefix(prefix), value) if key.startswith(prefix) else (key,)


def _path(key: str, value: StoredArray) -> tuple[str, ...]:
    """`blocks.0.1.bn1.weight` to (`params`, `blocks_0_1`, `bn1`, `scale`)."""
    *modules, leaf = re.sub(r"\.(\d+)(?=\.)", r"_\1", key).split(".")
    kind, name = {
        "weight": ("params", "kernel" if len(value.shape) > 1 else "scale"),
        "bias": ("params", "bias"),
        "running_mean": ("batch_stats", "mean"),
        "running_var": ("batch_stats", "var"),
    }.get(leaf, ("params", leaf))
    return kind, *modules, name


def _axes(path: tuple[str, ...], value: StoredArray) -> tuple[int, ...]:
    """Torch's axes in our order: NHWC, HWIO, features last."""
    if len(value.shape) == 4:
        # A transposed convolution has its inputs first.
        return (2, 3, 0, 1) if "upconv" in path[-2] else (2, 3, 1, 0)
    return (1, 0) if len(value.shape) == 2 else tuple(range(len(value.shape)))
