"""Sizes and names of the networks against the reference, counted on its published classes."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import pytest

from configs import stage2
from fields_jax.models import mobilenet
from fields_jax.models.encoders import (
    ExpressionEncoder,
    PoseEncoder,
    ShapeEncoder,
    TokenEncoder,
)
from fields_jax.models.fields import build_model
from fields_jax.models.perceptual import VGG16Features
from fields_jax.models.resnet import ResNet50Features
from fields_jax.models.synthesizer import Synthesizer
from tests.support.networks import FACE_224, KEY, shapes, size


@pytest.mark.parametrize(
    ("encoder", "count", "norms"),
    [
        (PoseEncoder, 432_350, 34),
        (ShapeEncoder, 1_701_508, 46),
        (ExpressionEncoder, 1_466_063, 46),
        (TokenEncoder, 986_968, 34),
    ],
)
def test_encoders_have_the_parameters_of_the_reference(encoder, count, norms):
    variables = shapes(encoder(), FACE_224)
    assert size(variables["params"]) == count
    assert len(jax.tree.leaves(variables["batch_stats"])) == 2 * norms


@pytest.mark.parametrize(
    ("variant", "count", "features"),
    [
        ("small", 428_888, [(112, 16), (56, 16), (28, 24), (14, 48), (7, 576)]),
        ("large", 1_413_208, [(112, 16), (56, 24), (28, 40), (14, 112), (7, 960)]),
    ],
)
def test_backbones_have_the_features_of_the_reference(variant, count, features):
    backbone = mobilenet.MobileNetV3(variant)
    found, variables = jax.eval_shape(backbone.init_with_output, KEY, FACE_224)
    assert size(variables["params"]) == count
    assert [x.shape for x in found] == [(1, s, s, c) for s, c in features]


SMIRK_PARTS = {
    "encoder1": 11_072,
    "encoder2": 55_552,
    "encoder3": 221_696,
    "encoder4": 885_760,
    "bottleneck": 3_540_992,
    "decoder4": 1_770_496,
    "decoder3": 442_880,
    "decoder2": 110_848,
    "decoder1": 27_776,
}
TEASER_PARTS = {
    "encoder1": 93_376,
    "encoder2": 154_368,
    "encoder3": 353_536,
    "encoder4": 1_083_648,
    "bottleneck": 3_870_976,
    "decoder4": 1_968_384,
    "decoder3": 574_720,
    "decoder2": 209_664,
    "decoder1": 110_080,
    "token_decoder": 52_020_992 + 295_296 + 73_920 + 27_776,
    "token_zero_conv_4": 65_792,
    "token_zero_conv_3": 16_512,
    "token_zero_conv_2": 4_160,
    "token_zero_conv_1": 1_056,
}
SHARED_PARTS = {
    "upconv4": 524_544,
    "upconv3": 131_200,
    "upconv2": 32_832,
    "upconv1": 8_224,
    "conv": 99,
    **{f"resnet_blocks_{k}": 23_603_200 // 5 for k in range(5)},
}


@pytest.mark.parametrize(
    ("guided", "total", "parts"),
    [(True, 85_224_355, TEASER_PARTS), (False, 31_367_171, SMIRK_PARTS)],
)
def test_synthesizer_has_the_parameters_of_the_reference(guided, total, parts):
    geometry = jax.ShapeDtypeStruct((1, 224, 224, 1), jnp.float32)
    tokens = jax.ShapeDtypeStruct((1, 4, 256), jnp.float32) if guided else None
    network = Synthesizer(token_guided=guided)
    params = shapes(network, geometry, FACE_224, tokens)["params"]
    assert {name: size(tree) for name, tree in params.items()} == parts | SHARED_PARTS
    assert size(params) == total


def test_vgg_has_the_parameters_and_features_of_the_reference():
    taps, variables = jax.eval_shape(VGG16Features().init_with_output, KEY, FACE_224)
    # 3x3 convolutions with bias: 3-64-64, 128-128, 256-256-256, 512-512-512.
    widths = [3, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512]
    expected = sum(9 * i * o + o for i, o in itertools.pairwise(widths))
    assert size(variables["params"]) == expected == 7_635_264
    assert [x.shape[1:] for x in taps] == [
        (224, 224, 64), (112, 112, 128), (56, 56, 256), (28, 28, 512),
    ]  # fmt: skip
    names = [f"features_{k}" for k in (0, 2, 5, 7, 10, 12, 14, 17, 19, 21)]
    assert sorted(variables["params"]) == sorted(names)


def test_resnet_has_the_parameters_and_features_of_the_reference():
    features, variables = jax.eval_shape(ResNet50Features().init_with_output, KEY, FACE_224)
    assert features.shape == (1, 2048)
    # torchvision's 25,557,032 without the last layer's 2048 x 1000 + 1000.
    assert size(variables["params"]) == 25_557_032 - 2_049_000
    assert len(jax.tree.leaves(variables["batch_stats"])) == 2 * 53
    names = {"conv1", "bn1"}
    names |= {f"layer{i}_{k}" for i, n in enumerate((3, 4, 6, 3), start=1) for k in range(n)}
    assert variables["params"].keys() == names
    assert variables["params"]["layer3_0"]["conv2"]["kernel"].shape == (3, 3, 256, 256)
    assert variables["params"]["layer3_0"]["downsample_0"]["kernel"].shape == (1, 1, 512, 1024)
    assert "downsample_0" not in variables["params"]["layer3_1"]


def test_names_and_shapes_are_the_reference_split_at_dots():
    """A converter only splits names, swaps leaves and transposes; a few keys of each kind."""
    model = build_model(stage2.get_config("full"))
    image = jnp.zeros((1, 224, 224, 3))
    found = jax.eval_shape(lambda key: model.init(key, image, method="run_all"), KEY)["params"]
    for name, shape in {
        "pose_encoder.encoder.conv_stem.kernel": (3, 3, 3, 16),
        "pose_encoder.encoder.blocks_0_0.conv_dw.kernel": (3, 3, 1, 16),
        "pose_encoder.encoder.blocks_0_0.conv_pw.kernel": (1, 1, 16, 16),
        "pose_encoder.pose_cam_layers_0.kernel": (576, 6),
        "shape_encoder.encoder.blocks_3_1.conv_dw.kernel": (3, 3, 1, 200),
        "shape_encoder.encoder.blocks_6_0.conv.kernel": (1, 1, 160, 960),
        "shape_encoder.shape_layers_0.bias": (300,),
        "expression_encoder.encoder.blocks_5_2.bn3.scale": (160,),
        "expression_encoder.expression_layers_0.kernel": (960, 55),
        "token_encoder.token_layers_3_0.kernel": (1024, 256),
        "synthesizer.bottleneck.adain2.mlp_shared_0.kernel": (256, 128),
        "synthesizer.decoder1.adain1.mlp_gamma.kernel": (128, 32),
        "synthesizer.resnet_blocks_4.conv_block_6.scale": (512,),
        "synthesizer.upconv4.kernel": (2, 2, 512, 256),
        "synthesizer.token_decoder.decoder_1_0.kernel": (1024, 50_176),
        "synthesizer.token_decoder.decoder_4_4.kernel": (3, 3, 32, 32),
        "synthesizer.token_zero_conv_2.kernel": (1, 1, 64, 64),
        "synthesizer.conv.kernel": (1, 1, 32, 3),
    }.items():
        leaf = found
        for part in name.split("."):
            leaf = leaf[part]
        assert leaf.shape == shape, name


def test_width_and_depth_scale_channels_and_blocks():
    assert [mobilenet.scale_channels(c, 0.5) for c in (16, 24, 40, 88, 960)] == [8, 16, 24, 48, 480]
    assert mobilenet.scale_channels(16, 0.1) == 8
    stages = mobilenet.VARIANTS["large"].stages
    assert [len(mobilenet.scale_stage(rows, 0.5)) for rows in stages] == [1, 1, 2, 2, 1, 2]
    assert mobilenet.scale_stage(stages[1], 2.0) == (*stages[1], *[(72, 24, 1)] * 2)
    image = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    backbone = mobilenet.MobileNetV3("large", width=0.5, depth=0.5)
    taps = jax.eval_shape(backbone.init_with_output, KEY, image)[0]
    assert [x.shape[1:] for x in taps] == [
        (32, 32, 8), (16, 16, 16), (8, 8, 24), (4, 4, 56), (2, 2, 480),
    ]  # fmt: skip
