"""Published networks: every entry is used or named, and nothing is written in part."""

from __future__ import annotations

import numpy as np
import pytest
from flax import traverse_util

from fields_jax.convert import networks
from fields_jax.convert.stored_arrays import StoredArray
from fields_jax.errors import UserError
from fields_jax.training import setup
from fields_jax.workdir.inference import read_frozen, read_networks
from tests.support.heads import random_head
from tests.support.published_files import torch_sequence, torch_zip
from tests.support.published_networks import lightning_checkpoint, published, resnet50, vgg16
from tests.support.tiny_training import tiny_config

# Keys of the published files, one of each kind.
KEYS = {
    "teaser": (
        "teaser_encoder.shape_encoder.encoder.blocks.3.1.conv_dw.weight",
        "teaser_encoder.token_encoder.token_layers.2.0.bias",
        "teaser_generator.encoder1.adain2.mlp_shared.0.weight",
        "teaser_generator.resnet_blocks.4.conv_block.6.running_mean",
        "teaser_generator.token_decoder.decoder_1.0.weight",
        "teaser_generator.token_decoder.decoder_4.4.bias",
        "teaser_generator.token_zero_conv_2.weight",
        "teaser_generator.upconv3.bias",
    ),
    "smirk": (
        "smirk_encoder.pose_encoder.pose_cam_layers.0.weight",
        "smirk_encoder.expression_encoder.encoder.blocks.6.0.bn1.running_var",
        "smirk_generator.encoder1.enc1conv1.weight",
        "smirk_generator.encoder4.enc4norm2.num_batches_tracked",
        "smirk_generator.bottleneck.bottleneckconv2.weight",
        "smirk_generator.bottleneck.bottlenecknorm1.running_mean",
        "smirk_generator.resnet_blocks.0.conv_block.5.weight",
        "smirk_generator.decoder2.dec2norm1.bias",
        "smirk_generator.upconv4.weight",
        "smirk_generator.conv.bias",
    ),
}


@pytest.mark.parametrize(
    ("system", "entries", "norms"), [("teaser", 1300, 192), ("smirk", 940, 154)]
)
def test_published_checkpoints_are_converted_and_read_back(system, entries, norms, tmp_path):
    state, expected = published(system)
    assert len(state) == entries and sum("num_batches" in key for key in state) == norms
    assert set(KEYS[system]) <= state.keys()
    path = tmp_path / "published.pt"
    path.write_bytes(torch_zip(state))
    convert = getattr(networks, f"convert_{system}")
    assert convert(str(path), str(tmp_path / "out")) == entries - norms
    found, meta = read_networks(str(tmp_path / "out"))
    assert meta["source"]["name"] == system.upper() and "emotion_head" not in found["params"]
    flat = traverse_util.flatten_dict(found)
    assert flat.keys() == expected.keys()
    for place, array in expected.items():
        np.testing.assert_array_equal(flat[place], array, err_msg="/".join(place))
    with pytest.raises(UserError, match="exists already"):
        convert(str(path), str(tmp_path / "out"))


def bias(size: int, value: float = 0.0) -> dict[str, np.ndarray]:
    return {"smirk_generator.conv.bias": np.full(size, value, np.float32)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("smirk_generator.conv.bias"), "lacks 1 of 786 arrays, first that of"),
        (lambda s: s.update(other=np.zeros(3, np.float32)), "has an entry 'other'"),
        (
            lambda s: s.update(bias(4)),
            r"'smirk_generator.conv.bias' of shape \(4,\) does not give .*synthesizer/conv/bias",
        ),
        (
            lambda s: s.update(bias(3, np.nan)),
            "'smirk_generator.conv.bias' holds values that are not finite",
        ),
        # Another block's name before the layer's, TEASER's names, a counter of no norm, ours.
        *(
            (lambda s, key=key, old=old: s.update({key: s[old]}), message)
            for key, old, message in (
                (
                    "smirk_generator.encoder1.enc2norm1.bias",
                    "smirk_generator.encoder1.enc1norm1.bias",
                    "has an entry 'smirk_generator.encoder1.enc2norm1.bias'",
                ),
                (
                    "smirk_generator.decoder1.norm1.bias",
                    "smirk_generator.decoder1.dec1norm1.bias",
                    "has an entry 'smirk_generator.decoder1.norm1.bias'",
                ),
                (
                    "smirk_generator.conv.num_batches_tracked",
                    "smirk_generator.encoder1.enc1norm1.num_batches_tracked",
                    "has an entry 'smirk_generator.conv.num_batches_tracked'",
                ),
                (
                    "smirk_generator.resnet_blocks_0.conv_block_2.bias",
                    "smirk_generator.resnet_blocks.0.conv_block.2.bias",
                    "has a second entry for params/synthesizer/resnet_blocks_0/conv_block_2/bias",
                ),
            )
        ),
    ],
)
def test_a_wrong_entry_is_named_and_nothing_written(tmp_path, monkeypatch, change, message):
    state = dict(published("smirk")[0])
    change(state)
    stored = {k: StoredArray(a.dtype, a.shape, lambda a=a: a) for k, a in state.items()}
    monkeypatch.setattr(networks, "read_torch", lambda *_: stored)
    with pytest.raises(UserError, match=message):
        networks.convert_smirk("SMIRK.pt", str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_emocas_network_is_read_out_of_a_lightning_checkpoint(tmp_path):
    state, expected = resnet50()
    # torchvision's ResNet-50 without its last layer: 53 convolutions and norms.
    assert len(state) == 53 * 6 and "backbone.layer3.5.conv2.weight" in state
    assert "backbone.layer4.0.downsample.1.running_var" in state
    path = tmp_path / "emotion.ckpt"
    path.write_bytes(lightning_checkpoint(state))
    target = str(tmp_path / "emotion")
    assert networks.convert_emotion_resnet50(str(path), target) == 53 * 5
    found = read_frozen(target, "ResNet-50", ("params", "batch_stats"))
    flat = traverse_util.flatten_dict(found)
    assert flat.keys() == expected.keys()
    for place, array in expected.items():
        np.testing.assert_array_equal(flat[place], array, err_msg="/".join(place))

    config = tiny_config()
    config.losses.emotion_feature_weights = target
    plan = setup.plan(config, random_head())
    assert plan.phases[1].weights["emotion_feature"] == 1
    assert plan.recipe.emotion_features is not None and plan.recipe.perceptual is None
    np.testing.assert_array_equal(
        plan.assets.emotion_features["batch_stats"]["bn1"]["var"], state["backbone.bn1.running_var"]
    )

    with pytest.raises(UserError, match="holds ResNet-50, not VGG16"):
        read_frozen(target, "VGG16")
    with pytest.raises(UserError, match=r"none holds no checkpoint; it should hold VGG16"):
        read_frozen(str(tmp_path / "none"), "VGG16")
    with pytest.raises(UserError, match=r"names omegaconf\.DictConfig, pytorch_l"):
        networks.convert_smirk(str(path), str(tmp_path / "smirk"))


def test_vgg16_of_torchvision_serves_the_perceptual_loss(tmp_path):
    state = vgg16()
    path = tmp_path / "vgg16.pth"
    path.write_bytes(torch_sequence(state))
    assert networks.convert_vgg16(str(path), str(tmp_path / "vgg")) == 20
    found = read_frozen(str(tmp_path / "vgg"), "VGG16")
    kernel = found["params"]["features_21"]["kernel"]
    np.testing.assert_array_equal(kernel, state["features.21.weight"].transpose(2, 3, 1, 0))
