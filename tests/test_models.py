"""The networks: sizes against the reference, forms and layers by hand, modes, routing, errors."""

from __future__ import annotations

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax.test_util import check_grads

from configs.common import base_config
from fields_jax.models import layers, mobilenet
from fields_jax.models.emotion import EmotionHead
from fields_jax.models.encoders import (
    ExpressionEncoder,
    PoseEncoder,
    ShapeEncoder,
    TokenEncoder,
    bounded,
)
from fields_jax.models.fields import NETWORKS, build_model, init_variables, variable_shapes
from fields_jax.models.perceptual import DEVIATION, MEAN, VGG16Features
from fields_jax.models.synthesizer import AdaptiveInstanceNorm, Synthesizer

KEY = jax.random.key(0)
FACE_224 = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)


def quick_jit(function, **kwargs):
    """Compiles without optimisation: these programs run once or twice."""
    return jax.jit(function, compiler_options={"xla_backend_optimization_level": 0}, **kwargs)


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def size(tree) -> int:
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


def shapes(module: nn.Module, *args):
    return jax.eval_shape(module.init, KEY, *args)


# --- sizes against the reference (numbers counted on the published classes) --------------------


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


def test_names_and_shapes_are_the_reference_split_at_dots():
    """A converter only splits names, swaps leaves and transposes; a few keys of each kind."""
    model = build_model(base_config("full"))
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


# --- operations with two forms -----------------------------------------------------------------


def assert_same_value_and_gradients(one, other, *args):
    weight = normal(9, *jax.eval_shape(one, *args).shape)
    for form in (one, other):
        assert jax.eval_shape(form, *args).shape == weight.shape

    def graded(form):
        loss = lambda *args: jnp.vdot(form(*args), weight)  # noqa: E731
        return form(*args), jax.grad(loss, argnums=tuple(range(len(args))))(*args)

    found, expected = quick_jit(lambda: (graded(one), graded(other)))()
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=3e-6 * float(jnp.abs(b).max()))


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("image", [(6, 8), (7, 5), (5, 6), (1, 3)])
def test_depthwise_forms_agree(stride, image):
    x, kernel = normal(0, 2, *image, 3), normal(1, 3, 3, 1, 3)
    assert_same_value_and_gradients(
        lambda x, k: layers.depthwise_conv_by_shifts(x, k, stride=stride),
        lambda x, k: layers.depthwise_conv_by_groups(x, k, stride=stride),
        *(x, kernel),
    )


@pytest.mark.parametrize(("stride", "rows"), [(1, 5), (2, 5), (1, 6), (2, 6)])
def test_depthwise_is_same_padded(stride, rows):
    """Against loops: total padding as needed, the odd row at the bottom and right."""
    x, kernel = normal(0, 1, rows, rows, 2), normal(1, 3, 3, 1, 2)
    count = -(-rows // stride)
    before = max((count - 1) * stride + 3 - rows, 0) // 2
    expected = np.zeros((count, count, 2))
    for i, j, a, b in np.ndindex(count, count, 3, 3):
        r, c = i * stride + a - before, j * stride + b - before
        if 0 <= r < rows and 0 <= c < rows:
            expected[i, j] += x[0, r, c].astype(float) * kernel[a, b, 0]
    found = layers.depthwise_conv(x, kernel, stride)[0]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_strided_same_padding_by_hand():
    """4x4 counts, ones kernel, stride 2: no padding at the top and left, one at the others."""
    x = np.arange(16, dtype=np.float32).reshape(1, 4, 4, 1)
    expected = [[0 + 1 + 2 + 4 + 5 + 6 + 8 + 9 + 10, 2 + 3 + 6 + 7 + 10 + 11],
                [8 + 9 + 10 + 12 + 13 + 14, 10 + 11 + 14 + 15]]  # fmt: skip
    ones = np.ones((3, 3, 1, 1), np.float32)
    np.testing.assert_array_equal(layers.depthwise_conv(x, ones, 2)[0, ..., 0], expected)
    stem = nn.Conv(1, (3, 3), (2, 2), use_bias=False)
    found = stem.apply({"params": {"kernel": ones}}, x)
    np.testing.assert_array_equal(found[0, ..., 0], expected)


def test_up_conv_forms_agree_and_follow_the_definition():
    x, kernel = normal(0, 2, 3, 4, 5), normal(1, 2, 2, 5, 6)
    assert_same_value_and_gradients(layers.up_conv_by_matmul, layers.up_conv_by_conv, x, kernel)
    expected = np.zeros((2, 6, 8, 6))
    for h, w, i, j in np.ndindex(3, 4, 2, 2):
        expected[:, 2 * h + i, 2 * w + j] = x[:, h, w].astype(float) @ kernel[i, j]
    np.testing.assert_allclose(layers.up_conv(x, kernel), expected, atol=1e-5)


@pytest.mark.parametrize("image", [(4, 6), (5, 7)])
def test_max_pool_forms_agree_without_ties(image):
    x = np.random.default_rng(0).permutation(2 * 3 * math.prod(image)).astype(np.float32)
    x = x.reshape(2, *image, 3)
    assert_same_value_and_gradients(layers.max_pool_by_pairs, layers.max_pool_by_window, x)
    found = layers.max_pool(x)
    assert found[1, 1, 2, 0] == x[1, 2:4, 4:6, 0].max()


def test_max_pool_shares_the_gradient_of_ties_on_cpu():
    x = jnp.array([[1.0, 3.0], [3.0, 2.0]]).reshape(1, 2, 2, 1)
    share = jax.grad(lambda x: layers.max_pool_by_pairs(x).sum())(x)
    first = jax.grad(lambda x: layers.max_pool_by_window(x).sum())(x)
    np.testing.assert_array_equal(share[0, ..., 0], [[0, 0.5], [0.5, 0]])
    np.testing.assert_array_equal(first[0, ..., 0], [[0, 1], [0, 0]])


@pytest.mark.parametrize(("platform", "grouped"), [("cpu", False), ("cuda", True), ("tpu", True)])
def test_each_platform_gets_its_form_in_both_directions(platform, grouped):
    loss = lambda x, k: layers.depthwise_conv(x, k, 2).sum()  # noqa: E731
    args = normal(0, 1, 4, 4, 3), normal(1, 3, 3, 1, 3)
    traced = jax.jit(jax.value_and_grad(loss, argnums=(0, 1))).trace(*args)
    text = traced.lower(lowering_platforms=(platform,)).as_text()
    assert ("stablehlo.convolution" in text) == grouped
    if platform == "cpu":  # decided now, not at run time
        assert "conditional" not in traced.lower().compile().as_text()


def test_upsample_is_bilinear_between_pixel_centres():
    x = normal(0, 2, 3, 5, 2)
    expected = jax.image.resize(x, (2, 6, 10, 2), "bilinear")
    np.testing.assert_allclose(layers.upsample(x), expected, atol=1e-6)


def test_average_pool_by_hand():
    x = normal(0, 2, 4, 4, 3)
    np.testing.assert_allclose(
        layers.average_pool(x, 2)[1, 0, 1], x[1, :2, 2:].mean((0, 1)), atol=1e-6
    )


def test_gradients_in_float64():
    with jax.enable_x64(True):
        x, kernel, token = (jnp.asarray(normal(k, *s), jnp.float64) for k, s in enumerate(
            [(2, 4, 4, 3), (3, 3, 1, 3), (2, 5)]
        ))  # fmt: skip
        check = dict(order=1, modes=("rev",), rtol=1e-6, atol=1e-6)
        check_grads(lambda x, k: layers.depthwise_conv(x, k, 2), (x, kernel), **check)
        adain = AdaptiveInstanceNorm(hidden=4)
        params = adain.init(KEY, x, token)
        assert adain.apply(params, x, token).dtype == jnp.float64
        check_grads(lambda x, t: adain.apply(params, x, t), (x, token), **check)


# --- normalisation -----------------------------------------------------------------------------


def test_adaptive_instance_norm_by_hand():
    x, token = 5 + 3 * normal(0, 2, 4, 6, 3), normal(1, 2, 5)
    adain = AdaptiveInstanceNorm(hidden=4)
    variables = adain.init(KEY, x, token)
    found = adain.apply(variables, x, token)

    p = jax.tree.map(lambda leaf: np.asarray(leaf, float), variables["params"])
    affine = lambda name, x: x @ p[name]["kernel"] + p[name]["bias"]  # noqa: E731
    hidden = np.maximum(affine("mlp_shared_0", token), 0)
    gamma, beta = affine("mlp_gamma", hidden), affine("mlp_beta", hidden)
    for b, c in np.ndindex(2, 3):
        channel = x[b, ..., c].astype(float)
        normed = (channel - channel.mean()) / np.sqrt(channel.var() + 1e-5)
        expected = normed * (1 + gamma[b, c]) + beta[b, c]
        np.testing.assert_allclose(found[b, ..., c], expected, atol=1e-5)


def test_batch_statistics_by_hand_and_over_a_mapped_axis():
    x = normal(0, 4, 2, 2, 8)
    row = mobilenet.Row(0, 8, 1)
    alone, mapped = mobilenet.Block(row), mobilenet.Block(row, axis_name="devices")
    variables = alone.init(KEY, x, True)
    run = dict(train=True, mutable=["batch_stats"])
    y, new = alone.apply(variables, x, **run)

    depthwise = layers.depthwise_conv(x, variables["params"]["conv_dw"]["kernel"], 1)
    stats = new["batch_stats"]["bn1"]
    np.testing.assert_allclose(stats["mean"], 0.1 * depthwise.mean((0, 1, 2)), atol=1e-6)
    np.testing.assert_allclose(stats["var"], 0.9 + 0.1 * depthwise.var((0, 1, 2)), atol=1e-6)

    shards = x.reshape(2, 2, *x.shape[1:])
    apply = lambda x: mapped.apply(variables, x, **run)  # noqa: E731
    both, news = jax.vmap(apply, axis_name="devices")(shards)
    np.testing.assert_allclose(both.reshape(y.shape), y, atol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a[1], b, atol=1e-6), news, new)
    # Eval mode needs no axis.
    mapped.apply(variables, x, train=False)


# --- the assembly ------------------------------------------------------------------------------


def tiny_config():
    config = base_config("synthetic")
    config.image_size = 32
    config.model.update(
        n_shape=7,
        n_expression=6,
        encoder_width=0.25,
        encoder_depth=0.1,
        synthesizer_width=4,
        token_dim=8,
        adain_hidden=4,
        emotion_hidden=(8,),
    )
    return config


@pytest.fixture(scope="module")
def tiny():
    """(model, variables, images) at the smallest size."""
    model = build_model(tiny_config())
    variables = init_variables(model, KEY)
    images = np.random.default_rng(0).random((3, 32, 32, 3), np.float32)
    return model, variables, images


@pytest.fixture(scope="module")
def tiny_output(tiny):
    model, variables, images = tiny
    return quick_jit(model.apply)(variables, images)


def test_outputs_at_the_start(tiny, tiny_output):
    c = tiny_output.coefficients
    assert {name: value.shape for name, value in vars(c).items() if value is not None} == {
        "shape": (3, 7), "expression": (3, 6), "jaw": (3, 3),
        "eyelid": (3, 2), "pose": (3, 3), "camera": (3, 3),
    }  # fmt: skip
    np.testing.assert_array_equal(c.shape, 0)
    np.testing.assert_array_equal(c.camera[:, 0], 7)
    assert 0 < jnp.abs(c.camera[:, 1:]).max() < 0.01
    assert 0 < jnp.abs(c.pose).max() < 0.01
    assert 0 < jnp.abs(c.expression).max() < 0.5
    # Open by a little, so that their gradient is not zero.
    assert (c.eyelid > 0).all() and (c.jaw[:, 0] > 0).all() and c.eyelid.max() < 0.2
    assert tiny_output.tokens.shape == (3, 4, 8)
    assert tiny_output.logits.shape == (3, 8)
    assert tiny_output.valence.shape == tiny_output.arousal.shape == (3,)
    leaves = jax.tree.leaves(tiny_output)
    assert all(x.dtype == jnp.float32 and bool(jnp.isfinite(x).all()) for x in leaves)


def test_eyelids_and_jaw_stay_in_range():
    encoder = ExpressionEncoder(0.25, 0.1, n_expression=2)
    image = np.zeros((1, 32, 32, 3), np.float32)
    variables = quick_jit(encoder.init)(KEY, image)
    head = variables["params"]["expression_layers_0"]

    def read(*values):
        bias = jnp.array([-9.0, 9.0, *values])
        new = {"kernel": jnp.zeros_like(head["kernel"]), "bias": bias}
        params = {**variables["params"], "expression_layers_0": new}
        return [list(x[0]) for x in apply({**variables, "params": params}, image)]

    apply = quick_jit(encoder.apply)
    sway = float(np.float32(0.2))
    assert read(2, -1, -3, 1, -1) == [[-9, 9], [1, 0], [0, sway, -sway]]
    assert read(0.5, 0.25, 3, 0.125, -0.125) == [[-9, 9], [0.5, 0.25], [3, 0.125, -0.125]]


def test_only_networks_in_training_mode_move_their_statistics(tiny, tiny_output):
    model, variables, images = tiny
    apply = quick_jit(model.apply, static_argnames=("train", "mutable"))
    output, new = apply(variables, images, train=("shape_encoder",), mutable=("batch_stats",))
    before, after = variables["batch_stats"], new["batch_stats"]
    assert before.keys() == after.keys() == set(NETWORKS) - {"emotion_head"}
    for name in before:
        same = jax.tree.map(lambda a, b: bool((a == b).all()), before[name], after[name])
        assert all(jax.tree.leaves(same)) == (name != "shape_encoder"), name
        assert any(jax.tree.leaves(same)) == (name != "shape_encoder"), name
    # The head starts at zero, so the shape cannot tell; the others ran in eval mode.
    np.testing.assert_allclose(output.tokens, tiny_output.tokens, atol=1e-6)
    np.testing.assert_allclose(
        output.coefficients.expression, tiny_output.coefficients.expression, atol=1e-6
    )


def test_methods_need_only_their_own_parameters(tiny, tiny_output):
    model, variables, images = tiny
    part = lambda *names: {  # noqa: E731
        kind: {name: tree[name] for name in names if name in tree}
        for kind, tree in variables.items()
    }
    face = quick_jit(lambda v, x: model.apply(v, x, method="encode_face"))(
        part("shape_encoder", "expression_encoder"), images
    )
    c = tiny_output.coefficients
    for found, expected in zip(face, (c.shape, c.expression, c.eyelid, c.jaw), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-6)
    tokens = quick_jit(lambda v, x: model.apply(v, x, method="encode_tokens"))(
        part("token_encoder"), images
    )
    np.testing.assert_allclose(tokens, tiny_output.tokens, atol=1e-6)
    logits, valence, _ = model.apply(
        part("emotion_head"), c.expression, c.shape, method="read_emotion"
    )
    np.testing.assert_allclose(logits, tiny_output.logits, atol=1e-6)
    np.testing.assert_allclose(valence, tiny_output.valence, atol=1e-6)


def synthesize_and_record(variables, model, images, tokens):
    """The painted image and, for each submodule of the synthesiser, (arguments, output)."""
    seen = {}

    def record(function, args, kwargs, context):
        output = function(*args, **kwargs)
        seen["/".join(context.module.path[1:])] = args, output
        return output

    with nn.intercept_methods(record):
        image = model.apply(variables, images[..., :1], images, tokens, method="synthesize")
    wanted = [name for name in seen if name.count("/") == 0 or name.endswith("decoder_1_0")]
    return image, {name: seen[name] for name in wanted if name}


def test_each_block_is_guided_by_its_token(tiny):
    model, variables, images = tiny
    tokens = normal(0, 3, 4, 8)
    run = quick_jit(lambda v, x, t: synthesize_and_record(v, model, x, t))
    image, seen = run(variables, images, tokens)
    assert image.shape == images.shape and image.dtype == jnp.float32
    assert image.min() > 0 and image.max() < 1
    levels = {"bottleneck": 0, **{f"{side}{k}": 4 - k for side in ("encoder", "decoder")
                                  for k in (1, 2, 3, 4)}}  # fmt: skip
    assert {name: levels[name] for name in ("encoder1", "encoder4", "decoder1")} == {
        "encoder1": 3, "encoder4": 0, "decoder1": 3,
    }  # fmt: skip
    for name, level in levels.items():
        np.testing.assert_array_equal(seen[name][0][1], tokens[:, level], err_msg=name)
    # The token decoder reads the finest token first, and its maps fit the decoders'.
    np.testing.assert_array_equal(
        seen["token_decoder/decoder_1_0"][0][0], tokens[:, ::-1].reshape(3, -1)
    )
    maps = seen["token_decoder"][1]
    assert [x.shape[1:] for x in maps] == [(4, 4, 32), (8, 8, 16), (16, 16, 8), (32, 32, 4)]
    # Geometry is repeated to three channels before the masked image.
    entered = seen["encoder1"][0][0]
    np.testing.assert_array_equal(entered, np.concatenate([images[..., [0] * 3], images], -1))
    # The zero convolutions leave the maps out at the start.
    changed = jax.tree.map(lambda x: x, variables)
    changed["params"]["synthesizer"] = dict(
        changed["params"]["synthesizer"],
        token_decoder=jax.tree.map(
            lambda x: x + 1, changed["params"]["synthesizer"]["token_decoder"]
        ),
    )
    again, seen_again = run(changed, images, tokens)
    np.testing.assert_array_equal(image, again)
    assert float(jnp.abs(seen_again["token_decoder"][1][0] - maps[0]).max()) > 0.1
    # A finer token cannot reach what is computed before it.
    for level, untouched in ((3, []), (2, ["encoder1"]), (0, ["encoder1", "encoder2", "encoder3"])):
        moved = tokens.copy()
        moved[:, level] += 1
        other = run(variables, images, moved)[1]
        for k in (1, 2, 3, 4):
            name = f"encoder{k}"
            same = bool((other[name][1] == seen[name][1]).all())
            assert same == (name in untouched), (level, name)


def test_plain_synthesizer_takes_no_tokens():
    images = np.random.default_rng(0).random((1, 32, 32, 3), np.float32)
    network = Synthesizer(width=4, residual_blocks=1, token_guided=False)
    image, variables = quick_jit(
        lambda: network.init_with_output(KEY, images[..., :1], images, None)
    )()
    assert image.shape == images.shape
    assert not [name for name in variables["params"] if name.startswith("token")]
    assert sorted(variables["params"]["encoder1"]) == ["conv1", "conv2", "norm1", "norm2"]


def test_bfloat16_computes_in_half_and_returns_float32():
    config = tiny_config()
    config.model.dtype = "bfloat16"
    model = build_model(config)
    variables = variable_shapes(model)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    image = jax.ShapeDtypeStruct((2, 32, 32, 3), jnp.float32)
    output = jax.eval_shape(model.apply, variables, image)
    assert {leaf.dtype for leaf in jax.tree.leaves(output)} == {jnp.dtype("float32")}
    painted, seen = jax.eval_shape(
        lambda v, x, t: synthesize_and_record(v, model, x, t), variables, image, output.tokens
    )
    assert painted.dtype == jnp.float32
    assert seen["encoder1"][1].dtype == seen["upconv1"][1].dtype == jnp.bfloat16


def test_initialisation_is_repeatable_and_random(tiny):
    model, variables, _ = tiny
    again = init_variables(model, KEY)
    other = init_variables(model, jax.random.key(1))
    jax.tree.map(np.testing.assert_array_equal, variables, again)
    made = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), variables)
    assert made == variable_shapes(model)
    kernels = [
        (np.asarray(a).ravel(), np.asarray(b).ravel())
        for (path, a), b in zip(
            jax.tree_util.tree_leaves_with_path(variables["params"]),
            jax.tree.leaves(other["params"]),
            strict=True,
        )
        if path[-1].key == "kernel" and a.size >= 256 and bool((a != 0).all())
    ]
    assert len(kernels) > 40
    z = [(a / a.std(), b / b.std()) for a, b in kernels]
    for a, b in z:  # five standard errors of each statistic
        error = 5 / math.sqrt(len(a))
        assert abs(a.mean()) < error
        assert abs((a * b).mean()) < error
        assert abs((a[1:] * a[:-1]).mean()) < error
        assert abs((a**4).mean() - 1.8) < 2 * error  # of a uniform distribution
    for (a, _), (b, _) in itertools.pairwise(z):
        n = min(len(a), len(b))
        assert abs((a[:n] * b[:n]).mean()) < 5 / math.sqrt(n)
    bound = 1 / math.sqrt(9 * 16)  # encoder2.conv2 has 8 channels, encoder3.conv2 has 16
    kernel = variables["params"]["synthesizer"]["encoder3"]["conv2"]["kernel"]
    assert 0.98 * bound < float(jnp.abs(kernel).max()) <= bound
    depthwise = variables["params"]["token_encoder"]["encoder"]["blocks_4_0"]["conv_dw"]["kernel"]
    assert float(depthwise.std()) == pytest.approx(math.sqrt(2 / 9), rel=0.1)


# --- the other networks ------------------------------------------------------------------------


def test_emotion_head_by_hand_and_detached():
    expression, shape = normal(0, 2, 3), normal(1, 2, 4)
    head = EmotionHead(hidden=(5, 6))
    variables = head.init(KEY, expression, shape)
    x = np.concatenate([expression, shape], -1).astype(float)
    p = jax.tree.map(lambda leaf: np.asarray(leaf, float), variables["params"])
    for name in ("hidden_0", "hidden_1"):
        x = x @ p[name]["kernel"] + p[name]["bias"]
        x = np.where(x > 0, x, 0.2 * x)
    logits, valence, arousal = head.apply(variables, expression, shape)
    np.testing.assert_allclose(logits, x @ p["logits"]["kernel"], atol=1e-5)
    affect = x @ p["affect"]["kernel"]
    np.testing.assert_allclose(np.stack([valence, arousal], -1), affect, atol=1e-5)

    for detach in (False, True):
        head = EmotionHead(hidden=(5, 6), detach_shape=detach)
        loss = lambda e, s: sum(x.sum() for x in head.apply(variables, e, s))  # noqa: B023, E731
        by_expression, by_shape = jax.grad(loss, argnums=(0, 1))(expression, shape)
        assert float(jnp.abs(by_expression).min()) > 0
        assert (float(jnp.abs(by_shape).max()) == 0) == detach


def test_vgg_normalises_like_the_reference():
    """Identity kernels in the first stage let the normalised channels through."""
    network = VGG16Features()
    image = np.random.default_rng(0).random((1, 8, 8, 3), np.float32)
    params = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes(network, image)["params"])
    for name in ("features_0", "features_2"):
        for channel in range(3):
            params[name]["kernel"][1, 1, channel, channel] = 1
    first = network.apply({"params": params}, image)[0]
    expected = (0.5 * image.astype(float) + 0.5 - np.array(MEAN)) / np.array(DEVIATION)
    np.testing.assert_allclose(first[..., :3], np.maximum(expected, 0), atol=1e-5)
    assert expected.min() > 0 and float(jnp.abs(first[..., 3:]).max()) == 0


# --- mistakes ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(image_size=48), "image_size=48 is not a multiple of 32"),
        (dict(synthesizer="gan"), "unknown config.model.synthesizer 'gan'; known: teaser"),
        (dict(dtype="float16"), "unknown config.model.dtype 'float16'"),
        (dict(wdith=1), "unknown key config.model.wdith"),
    ],
)
def test_build_model_refuses(change, message):
    config = tiny_config().unlock()
    if "image_size" in change:
        config.update(change)
    else:
        config.model.update(change)
    with pytest.raises(ValueError, match=message):
        build_model(config)


def test_wrong_images_and_names_are_refused(tiny):
    model, variables, images = tiny
    with pytest.raises(ValueError, match=r"this model reads \[B, 32, 32, 3\]"):
        model.apply(variables, images[:, :16])
    with pytest.raises(ValueError, match="unknown network 'encoder' in train"):
        model.apply(variables, images, train=("encoder",))


def test_bounded_clips_and_lets_gradients_lead_back_inside():
    x = jnp.asarray([-1.0, -1.0, 0.5, 0.5, 2.0, 2.0])
    pull = jnp.asarray([1.0, -1.0, 1.0, -1.0, 1.0, -1.0])
    value, vjp = jax.vjp(lambda x: bounded(x, 0.0, 1.0), x)
    np.testing.assert_array_equal(value, [0, 0, 0.5, 0.5, 1, 1])
    # Descent goes against the pull: from below only a negative one leads back, from above only a
    # positive one.
    np.testing.assert_array_equal(vjp(pull)[0], [0, -1, 1, -1, 1, 0])
