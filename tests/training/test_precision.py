"""Recomputation and bfloat16 change memory and speed and must not change what is learnt."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fields_jax.models.encoders import TokenEncoder
from fields_jax.models.fields import build_model, init_variables, variable_shapes
from fields_jax.models.synthesizer import Synthesizer
from fields_jax.training import setup
from fields_jax.training.programs import map_iteration
from fields_jax.training.state import create_state
from tests.support.heads import random_head
from tests.support.killable_training import small_config
from tests.support.step_gradients import compare, in_float64
from tests.support.tiny_training import tiny_batch, tiny_config


@pytest.mark.slow
def test_recomputed_blocks_have_the_same_names_gradients_and_statistics():
    """An encoder and the synthesiser in training mode, in float64."""
    common = dict(dtype=jnp.float64)
    rng = np.random.default_rng(0)
    image, geometry = rng.random((2, 32, 32, 3)), rng.random((2, 32, 32, 1))

    def paint(variables, remat):
        reader = TokenEncoder(0.25, 0.25, **common, remat=remat, token_dim=6)
        painter = Synthesizer(4, 1, 4, **common, remat=remat)
        train = dict(train=True, mutable=["batch_stats"])
        tokens, read = reader.apply(variables["reader"], image, **train)
        painted, drawn = painter.apply(variables["painter"], geometry, image, tokens, **train)
        return jnp.sum(painted**3), (read, drawn)

    def init(remat):
        reader = TokenEncoder(0.25, 0.25, **common, remat=remat, token_dim=6)
        painter = Synthesizer(4, 1, 4, **common, remat=remat)
        key, tokens = jax.random.key(0), jnp.zeros((2, 4, 6))
        return {
            "reader": reader.init(key, image),
            "painter": painter.init(key, geometry, image, tokens),
        }

    with jax.enable_x64(True):
        shapes = jax.eval_shape(lambda: init(True))
        assert shapes == jax.eval_shape(lambda: init(False))
        variables = jax.tree.map(lambda x: 1 + 0.3 * rng.standard_normal(x.shape), shapes)
        slope = jax.jit(jax.grad(paint, has_aux=True), static_argnums=1)
        kept, again = slope(variables, False), slope(variables, True)
        text = slope.lower(variables, True).as_text()
        assert text.count("optimization_barrier") > 5  # what is computed again is kept apart
    errors = compare(in_float64(again), in_float64(kept))
    assert errors["tree"] < 1e-12 and errors["leaf"] < 1e-10, errors


def test_the_config_reaches_every_network():
    config = tiny_config(backbone="mobilenet_v3")
    config.remat = True
    model = build_model(config)
    assert model.remat and variable_shapes(model) == variable_shapes(
        build_model(tiny_config(backbone="mobilenet_v3"))
    )
    del config.remat
    assert not build_model(config).remat


def learn(dtype: str):
    """Phase B on one batch again and again: phase, state before and after, losses."""
    config = small_config(**{"phases.B.steps": 12, "model.dtype": dtype})
    config.init_from = "given"
    plan = setup.plan(config, random_head())
    variables = init_variables(plan.recipe.model, jax.random.key(0))
    state = create_state(variables, plan.recipe.optimizer, keep_base=plan.keep_base)
    before = jax.tree.map(np.array, state)
    phase = plan.phases[-1]
    iterate = map_iteration(plan.recipe, phase, how="pmap", devices=jax.devices()[:1])
    state, batch, losses = before, tiny_batch(config), []
    for step in range(10):
        state, metrics = iterate(step, state, batch, jax.random.key(1), plan.assets)
        losses.append(float(metrics["loss"]))
    return phase, before, state, np.array(losses)


@pytest.mark.slow
def test_bfloat16_networks_learn_like_those_of_float32_and_parameters_stay_float32():
    """Reconstruction and cycle."""
    phase, before, state, losses = learn("bfloat16")
    expected = learn("float32")[-1]
    assert expected[-1] < expected[0]
    np.testing.assert_allclose(losses, expected, rtol=0.005)
    np.testing.assert_allclose(losses[0] - losses[-1], expected[0] - expected[-1], rtol=0.3)
    kinds = {leaf.dtype for leaf in jax.tree.leaves((state.params, state.opt_state))}
    assert kinds <= {jnp.dtype("float32"), jnp.dtype("int32")}
    for network in phase.train:
        old, new = before.params[network], state.params[network]
        assert not jax.tree.all(jax.tree.map(np.array_equal, old, new)), network
