"""A batch in parts gives the whole's gradients, values and outputs, wherever the labels are."""

from __future__ import annotations

import dataclasses
import functools

import jax
import numpy as np
import pytest
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from fields_jax.losses.evidence import clear_absent
from fields_jax.training.parallel import AXIS
from fields_jax.training.recipe import TURNS, Context
from fields_jax.training.state import BASE_NETWORKS
from fields_jax.training.step import cycle_gradients, reconstruction_gradients
from fields_jax.types import TrainState
from tests.support.linear_networks import LinearModel
from tests.support.step_gradients import compare, in_float64
from tests.support.tiny_training import tiny_batch, tiny_config, tiny_parts


@functools.cache
def results(name: str) -> dict:
    """{parts: {step: gradients, metrics, outputs, statistics}} of a phase; float64, one device."""
    with jax.enable_x64(True):
        config, plan, _ = tiny_parts(8)
        phase = next(p for p in plan.phases if p.name == name)
        model, state = linear_state(config)
        batch, assets = in_float64((tiny_batch(config), plan.assets))
        rng = np.random.default_rng(2)
        for flag in [key for key in batch if key.startswith("has_")]:
            batch[flag] = rng.random(8) < 0.6  # some parts have more labels than others
        batch["has_flame"][:] = np.arange(8) < 2  # and some have none
        batch["fit_residual"] = np.arange(8) % 2 * 0.03  # every other one is of a landmark fit
        batch = clear_absent(batch) | {"image": batch["image"] / 255}
        mesh = Mesh(np.asarray(jax.devices()[:1]), (AXIS,))

        def run(parts):
            settings = dataclasses.replace(plan.recipe.settings, fitted_weight=0.4)
            recipe = dataclasses.replace(
                plan.recipe, model=model, accumulate=parts, settings=settings
            )
            program = jax.shard_map(
                functools.partial(all_gradients, recipe=recipe, phase=phase),
                mesh=mesh,
                in_specs=P(),
                out_specs=P(),
                check_vma=False,
            )
            return jax.device_get(jax.jit(program)(state, batch, assets))

        return {parts: run(parts) for parts in ((1, 2) if name == "A" else (1, 2, 4))}


def linear_state(config) -> tuple[LinearModel, TrainState]:
    """Linear networks and, as base model, others."""
    sizes = dict(n_shape=config.model.n_shape, n_expression=config.model.n_expression)
    model = LinearModel(token_dim=config.model.token_dim, **sizes)
    image = np.zeros((1, config.image_size, config.image_size, 3))
    init = jax.jit(functools.partial(model.init, method="run_all"))
    variables = in_float64(init(jax.random.key(0), image))
    base = {kind: {n: tree[n] for n in BASE_NETWORKS} for kind, tree in variables.items()}
    base["params"] = jax.tree.map(lambda x: 1.1 * x + 0.01, base["params"])
    none = np.zeros((), np.int32)
    return model, TrainState(step=none, opt_state={}, base=base, bad_steps=none, **variables)


def all_gradients(state, batch, assets, *, recipe, phase):
    """What the step of a phase and, with a cycle, both turns give before any update."""
    context, key = Context(recipe, phase, AXIS), jax.random.key(5)
    found, (output, stats, metrics) = reconstruction_gradients(
        state, batch, key, assets, context=context
    )
    report = {"reconstruction": (found, metrics, output, stats)}
    for turn in TURNS if phase.cycle else ():
        found, (stats, metrics) = cycle_gradients(
            state, batch, output, key, assets, context=dataclasses.replace(context, turn=turn)
        )
        report[turn] = (found, metrics, output, stats)
    return report


@pytest.mark.parametrize("phase", ["A", pytest.param("B", marks=pytest.mark.slow)])
def test_parts_add_up_to_the_whole(phase):
    whole, *others = results(phase).values()
    for parts in others:
        for step, (gradients, metrics, output, _) in whole.items():
            found, values, outputs, _ = parts[step]
            errors = compare(found, gradients)
            assert errors["tree"] < 1e-10 and errors["leaf"] < 1e-10, (step, errors)
            assert values.keys() == metrics.keys()
            for name, value in metrics.items():
                assert value != 0 and values[name] == pytest.approx(value, rel=1e-10), name
            jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9), outputs, output)


def test_statistics_move_once_and_those_of_a_resting_network_not_at_all():
    before = linear_state(tiny_config(8))[1].batch_stats
    whole, parts = (results("A")[n]["reconstruction"][3] for n in (1, 2))
    for name, tree in before.items():
        np.testing.assert_allclose(parts[name]["mean"], whole[name]["mean"], rtol=1e-12)
        moved = not np.array_equal(parts[name]["mean"], tree["mean"])
        assert moved == (name in ("shape_encoder", "expression_encoder")), name
