"""The loop around its steps: the state the guard judges, and implicit copies to devices."""

from __future__ import annotations

import dataclasses
import functools
import json
import signal
from types import SimpleNamespace

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fields_jax.training import checkpoints, loop, optim, parallel
from fields_jax.training.guard import DivergedError
from fields_jax.training.programs import iteration, map_iteration
from fields_jax.training.recipe import Phase
from fields_jax.training.state import create_state
from fields_jax.training.stop import StopSwitch
from fields_jax.training.writers import Writers
from tests.support.linear_networks import LinearModel
from tests.support.tiny_training import tiny_batch, tiny_config, tiny_parts

STEPS = 4
PHASE = Phase("A", 0, STEPS, ("expression_encoder",), False, {"gt_expression": 1.0})
RULES = dict(all=dict(match=".*", lr=0.1, b1=0.9, b2=0.999))


def small_config():
    """Of few steps, none of which is read before the next one runs, but the first."""
    config = tiny_config()
    config.optim.rules = RULES
    config.log.update(every=100, images=0)
    return config


@functools.cache
def linear_parts():
    """(plan, initial state on the host) of networks of one layer, which compile at once."""
    config, plan, _ = tiny_parts()
    sizes = dict(n_shape=config.model.n_shape, n_expression=config.model.n_expression)
    model = LinearModel(token_dim=config.model.token_dim, **sizes)
    image = np.zeros((1, config.image_size, config.image_size, 3), np.float32)
    variables = jax.jit(functools.partial(model.init, method="run_all"))(jax.random.key(0), image)
    optimizer = optim.make_optimizer(variables["params"], RULES)
    recipe = dataclasses.replace(plan.recipe, model=model, optimizer=optimizer, max_bad_steps=0)
    state = create_state(variables, optimizer, keep_base=False)
    plan = dataclasses.replace(plan, recipe=recipe, phases=(PHASE,))
    return plan, jax.device_get(state)


def batch_of(config, step, bad_step=None):
    """A batch; in a bad step one label is not finite."""
    batch = tiny_batch(config, seed=step)
    if step == bad_step:
        batch["expression"][3, 1] = np.inf
    return batch


def batches(config, bad_step):
    for step in range(STEPS):
        names = [f"face-{step}-{i}" for i in range(config.batch_size)]
        yield batch_of(config, step, bad_step) | {"id": names}


def run_phase(tmp_path, bad_step=None, stop=None):
    """Runs the phase from its start."""
    config, (plan, state) = small_config(), linear_parts()
    manager = SimpleNamespace(latest_step=lambda: STEPS, wait_until_finished=lambda: None)
    saved = checkpoints.Checkpoints(manager, str(tmp_path), 0, {})
    writers = Writers(str(tmp_path), active=True)
    state, assets = parallel.replicate((state, plan.assets))
    run = loop._Run(config, str(tmp_path), plan, assets, saved, writers)
    stop = stop or StopSwitch()
    try:
        return run.phase(PHASE, state, lambda _: batches(config, bad_step), stop)
    finally:
        writers.close()


@pytest.fixture(autouse=True)
def nothing_to_settle(monkeypatch):
    monkeypatch.setattr(loop.store, "settle", lambda *_, **__: None)


def test_the_guard_judges_a_step_by_its_own_batch_and_parameters(tmp_path, monkeypatch):
    """By then the step after has run: the run is over, so it has moved nothing."""
    plan, start = linear_parts()
    config, seen = small_config(), []
    check = loop.FiniteGuard.check

    def watch(guard, step, values, batch, ids, variables):
        seen.append((step, batch, ids, jax.device_get(variables)))
        check(guard, step, values, batch, ids, variables)

    monkeypatch.setattr(loop.FiniteGuard, "check", watch)
    with pytest.raises(DivergedError, match=r"step 2 and 0 before it .*; examples face-2-3\)"):
        run_phase(tmp_path, bad_step=2)
    assert [step for step, *_ in seen] == [0, 1, 2]
    for step, batch, ids, _ in seen:
        chex.assert_trees_all_equal(dict(batch), batch_of(config, step, bad_step=2))
        assert ids[0] == f"face-{step}-0"

    iterate = map_iteration(plan.recipe, PHASE, how="pmap", devices=jax.devices())
    state, rng = parallel.replicate((start, jax.random.key(config.seed + 1)))
    for step in range(2):
        state, _ = iterate(step, state, batch_of(config, step), rng, plan.assets)
    chex.assert_trees_all_equal(seen[-1][-1]["params"], jax.device_get(state.params))
    with pytest.raises(AssertionError):
        chex.assert_trees_all_equal(seen[-1][-1]["params"], start.params)


def test_a_count_above_the_limit_of_a_resumed_run_does_not_end_it():
    _, start = linear_parts()
    for found, kept in ((0, 0), (2, 2), (5, 2)):
        state = start.replace(bad_steps=np.int32(found))
        assert int(checkpoints._within(2, state).bad_steps) == kept


def test_steps_run_with_the_copies_they_ask_for_and_no_others(tmp_path, monkeypatch):
    state = run_phase(tmp_path)
    assert int(state.step) == STEPS

    def careless(*args, **kwargs):
        iterate = iteration(*args, **kwargs)

        def step(number, state, batch, rng, assets):
            state, metrics = iterate(number, state, batch, rng, assets)
            return state, metrics | {"mean": jnp.mean(batch["valence"])}  # from the host

        return step

    monkeypatch.setattr(loop, "iteration", careless)
    with pytest.raises(Exception, match="Disallowed host-to-device transfer"):
        run_phase(tmp_path)


def test_compilation_is_told_and_timed(tmp_path, capsys):
    run_phase(tmp_path)
    assert "phase A compiled in 0:0" in capsys.readouterr().out
    (row,) = map(json.loads, (tmp_path / "metrics.jsonl").read_text().splitlines())
    assert row["step"] == STEPS and 0 < row["compile_seconds"] < 60


def test_asked_to_stop_while_it_compiles_it_stops_before_a_step(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(loop, "iteration", lambda *_, **__: pytest.fail("has compiled"))
    with StopSwitch() as stop, pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
        run_phase(tmp_path, stop=stop)
    assert "stopped at step 0; the same command" in capsys.readouterr().out


@pytest.mark.parametrize("how", ["pmap", "shard_map"])
def test_a_batch_that_was_not_placed_is_refused_inside_the_guard(how):
    program = parallel.map_step(
        lambda state, batch: (state + jax.lax.psum(batch["x"].sum(), parallel.AXIS),),
        inputs=(False, True),
        outputs=(False,),
        how=how,
    )
    batch = {"x": np.ones((8, 2), np.float32)}
    state = parallel.replicate(np.float32(1))
    with parallel.no_implicit_transfers(how):
        (state,) = program(state, parallel.place(batch, how=how))
    assert float(state) == 17
    n = jax.device_count()
    raw = {"x": batch["x"].reshape(n, -1, 2) if how == "pmap" else batch["x"]}
    with (
        pytest.raises(Exception, match="Disallowed host-to-device transfer"),
        parallel.no_implicit_transfers(how),
    ):
        program(state, raw)
