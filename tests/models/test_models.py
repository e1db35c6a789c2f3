"""The assembled networks: what they give at the start, what trains, and what is refused."""

from __future__ import annotations

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from configs import stage2
from fields_jax.models.emotion import EmotionHead
from fields_jax.models.encoders import (
    ExpressionEncoder,
    bounded,
)
from fields_jax.models.fields import NETWORKS, build_model, init_variables, variable_shapes
from fields_jax.models.perceptual import DEVIATION, MEAN, VGG16Features
from fields_jax.models.synthesizer import Synthesizer
from tests.support.networks import KEY, normal, quick_jit, shapes
from tests.support.sizes import SMALLEST


def tiny_config():
    config = stage2.get_config("synthetic")
    config.image_size = 32
    config.model.update(SMALLEST | dict(n_shape=7, n_expression=6, encoder_depth=0.1))
    config.model.update(backbone="mobilenet_v3", camera_aim="origin")
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


def test_smirks_networks_have_no_tokens():
    config = tiny_config()
    config.model.synthesizer = "smirk"
    model = build_model(config)
    variables = variable_shapes(model)
    assert variables["params"].keys() == set(NETWORKS) - {"token_encoder"}
    image = jax.ShapeDtypeStruct((2, 32, 32, 3), jnp.float32)
    output = jax.eval_shape(model.apply, variables, image)
    assert output.tokens is None and output.logits.shape == (2, 8)
    geometry = jax.ShapeDtypeStruct((2, 32, 32, 1), jnp.float32)
    paint = lambda *a: model.apply(*a, None, method="synthesize")  # noqa: E731
    assert jax.eval_shape(paint, variables, geometry, image).shape == (2, 32, 32, 3)


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


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(image_size=48), "image_size=48 is not a multiple of 32"),
        (dict(synthesizer="gan"), "unknown config.model.synthesizer 'gan'; known: teaser, smirk"),
        (dict(dtype="float16"), "unknown config.model.dtype 'float16'"),
        (dict(backbone="vit"), "unknown config.model.backbone 'vit'; known: mobilenet_v3"),
        (dict(wdith=1), "unknown key config.model.wdith"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_build_model_refuses(change, message):
    config = tiny_config().unlock()
    if "image_size" in change:
        config.update(change)
    else:
        config.model.update(change)
    with pytest.raises(ValueError, match=message):
        build_model(config)


@pytest.mark.usefixtures("unchecked")
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
