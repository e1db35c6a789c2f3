"""Checkpoints with the keys and shapes of published networks, and other numbers."""

from __future__ import annotations

import functools
import re

import jax
import numpy as np
from flax import traverse_util

from configs import stage2
from fields_jax.models.fields import build_model, variable_shapes
from fields_jax.models.resnet import ResNet50Features
from tests.support.published_files import pretended, torch_zip

# Where the reference's modules are lists: our name, and the key it has there.
LISTS = {
    r"blocks_(\d)_(\d)": r"blocks.\1.\2",
    r"(pose_cam|shape|expression)_layers_0": r"\1_layers.0",
    r"token_layers_(\d)_0": r"token_layers.\1.0",
    r"mlp_shared_0": r"mlp_shared.0",
    r"resnet_blocks_(\d)": r"resnet_blocks.\1",
    r"conv_block_(\d)": r"conv_block.\1",
    r"decoder_(\d)_(\d)": r"decoder_\1.\2",
}


def torch_key(system: str, path: tuple[str, ...]) -> str:
    """The reference's key of one of our leaves, by the table above and not by the converter."""
    network, *modules, leaf = path[1:]
    generator = network == "synthesizer"
    prefix = f"{system}_generator" if generator else f"{system}_encoder.{network}"
    if generator and system == "smirk" and re.match(r"encoder|decoder|bottleneck", modules[0]):
        short = {"e": "enc", "d": "dec"}.get(modules[0][0], "") + modules[0][-1]
        modules[1] = (short if modules[0] != "bottleneck" else modules[0]) + modules[1]
    for ours, theirs in LISTS.items():
        modules = [re.sub(rf"^{ours}$", theirs, module) for module in modules]
    return ".".join([prefix, *modules, LEAVES.get(leaf, leaf)])


LEAVES = {"kernel": "weight", "scale": "weight", "mean": "running_mean", "var": "running_var"}
State = dict[str, np.ndarray]


def foreign_state(flat: dict, key_of) -> tuple[State, dict[tuple[str, ...], np.ndarray]]:
    """A state dict of torch's shapes and keys, and the arrays of ours it must become."""
    state, expected = {}, {}
    for path, leaf in flat.items():
        array = np.zeros(leaf.shape, np.float32)
        array.reshape(-1)[:: max(array.size // 7, 1)] = len(state) + 1
        expected[path] = array
        if array.ndim == 4:
            array = array.transpose((2, 3, 0, 1) if "upconv" in path[-2] else (3, 2, 0, 1))
        state[key_of(path)] = np.ascontiguousarray(array.T if array.ndim == 2 else array)
        if path[-1] == "var":
            counter = key_of(path).replace("running_var", "num_batches_tracked")
            state[counter] = np.array([3], np.int64).reshape(())
    return state, expected


@functools.cache
def published(system: str) -> tuple[State, dict[tuple[str, ...], np.ndarray]]:
    """TEASER's or SMIRK's checkpoint with other numbers."""
    config = stage2.get_config("full")
    config.model.synthesizer = system
    flat = traverse_util.flatten_dict(variable_shapes(build_model(config)))
    flat = {path: leaf for path, leaf in flat.items() if path[1] != "emotion_head"}
    return foreign_state(flat, functools.partial(torch_key, system))


def resnet50() -> tuple[State, dict[tuple[str, ...], np.ndarray]]:
    """EMOCA's network of emotion features."""
    network = ResNet50Features()
    shapes = jax.eval_shape(network.init, jax.random.key(0), np.zeros((1, 32, 32, 3), np.float32))

    def key_of(path):
        modules = [re.sub(r"_(\d)$", r".\1", module) for module in path[1:-1]]
        return ".".join(["backbone", *modules, LEAVES.get(path[-1], path[-1])])

    return foreign_state(traverse_util.flatten_dict(shapes), key_of)


def lightning_checkpoint(state: State) -> bytes:
    """A checkpoint of EMOCA's trainer: a last layer and objects of other packages beside it."""
    state = state | {"linear.weight": np.zeros((10, 2048), np.float32)}
    with pretended("pytorch_lightning.callbacks.ModelCheckpoint", "omegaconf.DictConfig") as kinds:
        made = kinds[1]()
        made.content = {"lr": 1}
        return torch_zip(state, under="state_dict", callbacks={kinds[0]: made})


def vgg16() -> State:
    """The VGG16 of torchvision as far as its ninth activation, with an entry of the classifier."""
    widths = [3, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512]
    places = [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28]
    rng = np.random.default_rng(0)
    state = {"classifier.0.weight": np.zeros((2, 2), np.float32)}
    for place, inputs, outputs in zip(places, widths[:-1], widths[1:], strict=True):
        state[f"features.{place}.weight"] = rng.random((outputs, inputs, 3, 3), np.float32)
        state[f"features.{place}.bias"] = rng.random(outputs, np.float32)
    return state
