"""The step, the optimiser and the mapping over devices."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fields_jax.errors import UserError
from fields_jax.losses import registry
from fields_jax.models.fields import variable_shapes
from fields_jax.training import optim, overview, setup
from fields_jax.training.forward import emotion_features
from fields_jax.training.programs import map_iteration
from fields_jax.training.recipe import Phase
from fields_jax.training.step import metric_names
from tests.support.tiny_training import tiny_batch, tiny_config, tiny_parts, tiny_run

RULES = dict(
    a=dict(match=r"one/.*", lr=0.1, b1=0.9, b2=0.999),
    b=dict(match=r"two/.*kernel", lr=0.2, b1=0.5, b2=0.999),
    c=dict(match=r"two/.*bias", lr=0.0, b1=0.9, b2=0.999),
)
PARAMS = {
    "one": {"kernel": jnp.ones(3)},
    "two": {"x": {"kernel": jnp.ones(2), "bias": jnp.ones(2)}},
}


@pytest.mark.parametrize(
    "mappings", [("pmap",), pytest.param(("pmap", "shard_map"), marks=pytest.mark.slow)]
)
def test_gradients_are_those_of_one_device_on_eight(mappings):
    program = [sys.executable, "-m", "tests.support.parallel_gradients", *mappings]
    root = Path(__file__).parents[2]
    result = subprocess.run(program, capture_output=True, text=True, cwd=root, timeout=1500)
    assert result.returncode == 0, result.stderr[-3000:]
    report = json.loads(result.stdout.splitlines()[-1])
    assert len(report) == 6 * len(mappings)
    for case, errors in report.items():
        # In float64, so that nothing of another size can pass for rounding.
        assert errors["tree"] < 1e-10 and errors["leaf"] < 1e-10, (case, errors)


def test_every_parameter_is_matched_by_exactly_one_rule():
    labels = optim.label_params(PARAMS, RULES)
    assert labels == {"one": {"kernel": "a"}, "two": {"x": {"kernel": "b", "bias": "c"}}}
    with pytest.raises(ValueError, match="two/x/bias is matched by no rule"):
        optim.label_params(PARAMS, {k: RULES[k] for k in "ab"})
    twice = RULES | {"d": dict(RULES["a"], match=".*kernel")}
    with pytest.raises(ValueError, match="one/kernel is matched by rules a, d"):
        optim.label_params(PARAMS, twice)


def test_a_resting_network_keeps_parameters_and_moments():
    optimizer = optim.make_optimizer(PARAMS, RULES)
    state = {name: optimizer[name].init(tree) for name, tree in PARAMS.items()}
    ones = jax.tree.map(jnp.ones_like, PARAMS)
    params, moved = optim.update(optimizer, {"two": ones["two"]}, PARAMS, state, jnp.asarray(0.5))
    np.testing.assert_array_equal(params["one"]["kernel"], PARAMS["one"]["kernel"])
    assert jax.tree.all(jax.tree.map(jnp.array_equal, moved["one"], state["one"]))
    # Adam's first step is the rate itself, whatever the gradient: 1 - 0.5 * 0.2.
    np.testing.assert_allclose(params["two"]["x"]["kernel"], 0.9, rtol=1e-4)
    np.testing.assert_array_equal(params["two"]["x"]["bias"], 1.0)


def test_a_phase_may_slow_a_network_down():
    optimizer = optim.make_optimizer(PARAMS, RULES)
    state = {name: optimizer[name].init(tree) for name, tree in PARAMS.items()}
    gradients = jax.tree.map(jnp.ones_like, PARAMS)
    params, _ = optim.update(optimizer, gradients, PARAMS, state, jnp.asarray(0.5), {"two": 0.25})
    np.testing.assert_allclose(params["one"]["kernel"], 1 - 0.5 * 0.1, rtol=1e-4)
    np.testing.assert_allclose(params["two"]["x"]["kernel"], 1 - 0.25 * 0.5 * 0.2, rtol=1e-4)


def test_schedule_by_hand():
    def factor(step, period=0, warmup=0):
        return float(
            optim.schedule_factor(
                jnp.asarray(step), start=100, length=50, period=period, warmup=warmup, final=0.01
            )
        )

    assert factor(100) == pytest.approx(1.0)
    assert factor(125) == pytest.approx(0.505)
    assert factor(149) == pytest.approx(0.01, abs=2e-3)
    assert factor(110, period=10) == pytest.approx(1.0)
    assert factor(100, warmup=4) == pytest.approx(0.25)


@pytest.fixture(scope="module")
def after_phase_a():
    return tiny_run(steps=1, phase="A")


@pytest.fixture(scope="module")
def after_phase_b():
    return tiny_run(steps=2, phase="B")


def changed(before, after) -> set[str]:
    """Networks of which any leaf differs."""
    return {
        name
        for name in before
        if not jax.tree.all(jax.tree.map(np.array_equal, before[name], after[name]))
    }


def test_phase_a_moves_its_networks_and_no_other(after_phase_a):
    _, _, start = tiny_parts()
    state, metrics = after_phase_a
    trained = {"expression_encoder", "shape_encoder", "emotion_head"}
    assert changed(start.params, state.params) == trained
    assert changed(start.opt_state, state.opt_state) == trained
    assert changed(start.batch_stats, state.batch_stats) == trained - {"emotion_head"}
    assert np.isfinite(metrics["loss"]) and metrics["bad_steps"] == 0


def test_the_metrics_of_a_step_are_known_before_it_runs(after_phase_a):
    _, plan, _ = tiny_parts()
    assert set(after_phase_a[1]) == set(metric_names(plan.phases[:1]))


@pytest.mark.slow
def test_phase_b_moves_everything_but_the_pose_encoder(after_phase_b):
    _, _, start = tiny_parts()
    state, metrics = after_phase_b
    assert changed(start.params, state.params) == set(start.params) - {"pose_encoder"}
    assert "pose_encoder" not in changed(start.batch_stats, state.batch_stats)
    assert jax.tree.all(jax.tree.map(np.array_equal, start.base, state.base))
    assert int(state.step) == 2
    weighted = {name.removeprefix("loss/") for name in metrics if name.startswith("loss/")}
    _, plan, _ = tiny_parts()
    assert weighted == set(plan.phases[1].weights) - {"cycle_shape"}  # the encoders' turn


@pytest.mark.slow
def test_smirks_synthesizer_trains_without_tokens():
    _, plan, start = tiny_parts(synthesizer="smirk")
    assert "token_encoder" not in start.params
    assert any("token and cycle_token are off" in note for note in plan.notes)
    state, metrics = tiny_run(steps=1, phase="B", synthesizer="smirk")
    assert changed(start.params, state.params) == set(start.params) - {"pose_encoder"}
    weighted = {name.removeprefix("loss/") for name in metrics if name.startswith("loss/")}
    assert weighted == set(plan.phases[1].weights)
    assert not weighted & registry.needing("tokens") and "l1" in weighted
    assert int(state.step) == 1 and np.isfinite(metrics["cycle_loss"])


def test_a_network_of_another_config_is_refused_by_name():
    _, _, state = tiny_parts()
    tokens = state.params["token_encoder"]
    with pytest.raises(
        ValueError, match=r"DIR: token_encoder\['encoder'\].*this config needs None"
    ):
        setup.check_same_shapes({}, tokens, "DIR: token_encoder")


def test_the_emotion_feature_loss_reaches_what_is_painted_and_not_the_painter():
    """The synthesiser's parameters are held, and its statistics, which depend on them, too."""

    def paint(variables, geometry, masked, tokens, method):
        assert method == "synthesize"
        strength = variables["params"]["synthesizer"] + variables["batch_stats"]["synthesizer"]
        return strength * geometry + masked + tokens

    features = lambda weight, image: weight * image  # noqa: E731
    recipe = SimpleNamespace(model=SimpleNamespace(apply=paint), emotion_features=features)
    assets = SimpleNamespace(emotion_features=5.0)

    def found(params, stats, geometry, tokens):
        variables = {"params": {"synthesizer": params}, "batch_stats": {"synthesizer": -1.0}}
        inputs, after = (geometry, 0.5, tokens), {"synthesizer": stats}
        return emotion_features(variables, after, inputs, 2.0, assets, recipe)

    numbers = (2.0, 1.0, 4.0, 0.25)
    assert found(*numbers) == (5 * (3 * 4 + 0.75), 5 * 2)
    gradient = jax.grad(lambda *args: found(*args)[0], argnums=(0, 1, 2, 3))(*numbers)
    np.testing.assert_array_equal(gradient, [0, 0, 5 * 3, 5])


def test_a_non_finite_step_changes_nothing_but_the_counts():
    config, plan, start = tiny_parts()
    recipe = dataclasses.replace(plan.recipe, max_bad_steps=1)
    iterate = map_iteration(recipe, plan.phases[0], how="pmap", devices=jax.devices()[:1])
    batch = tiny_batch(config)
    batch["expression"][1, 2] = np.inf
    state = jax.tree.map(np.array, start)
    state, metrics = iterate(0, state, batch, jax.random.key(0), plan.assets)
    assert int(state.step) == 1 and int(state.bad_steps) == 1 == int(metrics["bad_steps"])
    for name in ("params", "batch_stats", "opt_state"):
        assert not changed(getattr(start, name), getattr(state, name)), name
    batch["expression"][1, 2] = 0
    state, _ = iterate(1, state, batch, jax.random.key(0), plan.assets)
    assert int(state.step) == 2 and int(state.bad_steps) == 0
    assert changed(start.params, state.params)


def test_an_iteration_gives_the_metrics_of_both_its_steps():
    """It traces to a state of the same shapes and to the metrics of both halves."""
    config, plan, start = tiny_parts()
    phase = plan.phases[1]
    one = dict(how="shard_map", devices=jax.devices()[:1])
    iterate = functools.partial(map_iteration(plan.recipe, phase, **one), 1)  # the encoders' turn
    shapes = jax.eval_shape(iterate, start, tiny_batch(config), jax.random.key(0), plan.assets)
    state, metrics = shapes
    jax.tree.map(lambda a, b: np.testing.assert_equal(a.shape, b.shape), state, start)
    others_turn = {"gradient_norm/cycle_synthesizer", "loss/cycle_shape"}
    assert set(metrics) == set(metric_names([phase])) - others_turn


def test_phases_follow_the_config():
    config = tiny_config()
    config.steps_scale = 0.1
    notes: list[str] = []
    a, b = setup.make_phases(config, notes)
    assert isinstance(a, Phase) and (a.name, b.name) == ("A", "B")
    assert b.start == a.steps == round(0.1 * config.phases.A.steps)
    assert "synthesizer" not in a.train and not a.cycle and b.cycle
    for name in ("perceptual", "emotion_feature"):
        assert name not in b.weights and any(f"{name} loss is off" in n for n in notes)
    assert "pose_encoder" not in a.train + b.train and a.weights["base_expression"] > 0

    config.phases.A.steps = 0
    (only,) = setup.make_phases(config, [])
    assert (only.name, only.start) == ("B", 0)
    config.phases.B.steps = 0
    with pytest.raises(UserError, match=r"every phase of config.phases has 0 steps"):
        setup.make_phases(config, [])
    config.phases.A.steps = config.phases.B.steps = 100

    config.init_from = ""
    notes.clear()
    for phase in setup.make_phases(config, notes):
        assert "pose_encoder" in phase.train
        assert not any(name.startswith("base_") for name in phase.weights)
    assert any("from scratch" in note for note in notes)
    config.phases.A.train = ("pose_encoder", "shape_encoder")  # named already, it stands there once
    assert setup.make_phases(config, [])[0].train == ("pose_encoder", "shape_encoder")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("parallel", "pjit", "unknown config.parallel 'pjit'"),
        ("image_size", 40, "not a multiple of 32"),
        ("accumulate", 3, "not divisible by 1 devices x config.accumulate 3"),
        ("batch_size", 6, "not divisible by the cycle's 4 groups"),
        ("losses.gt_metric", "mm", "gt_metric"),
        ("losses.class_weights", (1.0, 2.0), "eight numbers"),
        ("checkpoint.every", 0, "config.checkpoint.every is a number of steps"),
        ("log.images_every", 0, "config.log.images_every is a number of steps"),
        ("profile", (100,), r"config.profile is \(first step, number of steps\)"),
        ("model.synthesizer", "unet", "unet"),
        ("checkpoint.best_metric", "loss/gt", "best_metric 'loss/gt'; known: loss, loss/"),
        ("checkpoint.best_metric", "weighted/l1", "best_metric 'weighted/l1'; known: "),
        ("losses.region_growth", (0.5,), r"region_growth is two values, .*, not \(0.5,\)"),
        ("model.n_expression", 60, "n_expression"),
        ("phases.B.train", ("token_encoder",), "B.cycle trains the synthesizer in turns: name it"),
        ("phases.B.rates", {"decoder": 0.1}, "unknown network 'decoder' in config.phases.B.rates"),
    ],
)
def test_a_config_that_does_not_fit_is_refused_by_name(key, value, message, tiny_head):
    config = tiny_config()
    with config.unlocked():
        config.update_from_flattened_dict({key: value})
    with pytest.raises(ValueError, match=message):
        setup.plan(config, tiny_head)


def test_the_overview_names_every_parameter_term_and_source(tiny_head):
    config = tiny_config()
    plan = setup.plan(config, tiny_head)
    text = overview.describe_run(config, plan)
    rows = {line.split()[0]: line for line in text.splitlines() if line}
    assert all(term.source for term in registry.TERMS.values())
    shapes = jax.tree.leaves(variable_shapes(plan.recipe.model)["params"])
    assert f"{sum(math.prod(x.shape) for x in shapes):,}" in rows["all"]
    assert "frozen" in rows["synthesizer"] and "0.01, cycle at even steps" in rows["synthesizer"]
    assert rows["pose_encoder"].count("frozen") == 2
    assert rows["perceptual"].split()[1:3] == ["-", "off"]
    assert rows["landmark_203"].split()[1:3] == ["20", "20"] and "TEASER" in rows["landmark_203"]
    assert "steps 0..3000" in text and "perceptual loss is off" in text


def test_an_unknown_loss_is_refused_by_name(tiny_head):
    config = tiny_config()
    with config.unlocked():
        config.phases.B.losses.l2 = 1.0
    with pytest.raises(ValueError, match="unknown loss 'l2'"):
        setup.plan(config, tiny_head)
