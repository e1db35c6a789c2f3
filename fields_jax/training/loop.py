"""The training loop: phases in order, a checkpoint now and then, metrics one step late.

Order within an iteration, never to be changed: fetch the batch, dispatch the step, read the
metrics of the step before, write, save. A stop request (Ctrl-C) is looked at after each step; the
state is saved and the run ends.
"""

from __future__ import annotations

import functools
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from absl import logging
from ml_collections import ConfigDict

from fields_jax.cli import UserError
from fields_jax.models.fields import init_variables
from fields_jax.training import checkpoint, parallel, setup
from fields_jax.training.metrics import Window, clock
from fields_jax.training.pictures import make_painter
from fields_jax.training.recipe import Phase, Recipe
from fields_jax.training.state import TrainState, create_state
from fields_jax.training.step import TURNS, cycle_step, reconstruction_step
from fields_jax.training.writers import Writers
from fields_jax.types import FlameModel

Batches = Iterator[Mapping[str, np.ndarray]]


def train(
    config: ConfigDict,
    workdir: str,
    head: FlameModel,
    make_batches: Callable[[int], Batches],
    meta: Mapping[str, Any],
) -> TrainState:
    """Trains to the end of the last phase, from the start or from the latest checkpoint.

    Args:
      config: see configs/common.py.
      workdir: where everything is written; local or gs://.
      head: the FLAME model.
      make_batches: given the first step, yields that step's batch and all that follow: numpy
        arrays, all of which go to the devices.
      meta: what else goes into every checkpoint (head and data hashes).

    Returns:
      The final state.

    Raises:
      UserError: the config does not fit itself, the head, the workdir or the checkpoint.
      KeyboardInterrupt: asked to stop; the state is saved.
      DivergedError: too many non-finite steps; earlier checkpoints are untouched.
    """
    plan = setup.plan(config, head)
    checkpoint.claim_workdir(workdir, config)
    writers = Writers(workdir, active=jax.process_index() == 0)
    for note in plan.notes:
        writers.text(0, note)
    with checkpoint.open_manager(workdir, keep=config.checkpoint.keep) as manager:
        state, trained = _start(config, plan, manager, writers)
        state, assets = parallel.replicate((state, plan.assets))
        run = _Run(config, workdir, plan, assets, manager, writers, dict(meta), trained)
        try:
            with _StopSwitch() as stop:
                for phase in plan.phases:
                    if int(state.step) < phase.start + phase.steps:
                        state = run.phase(phase, state, make_batches, stop)
            run.save(state)
        finally:
            manager.wait_until_finished()
            writers.close()
    return state


class DivergedError(UserError):
    """The loss or its gradients were not finite more often in a row than `config.guard` allows."""


def _start(
    config: ConfigDict, plan: setup.Plan, manager: Any, writers: Writers
) -> tuple[TrainState, set[str]]:
    """The state to go on from, and the networks that are not at their random start.

    That state is the latest checkpoint, `config.init_from`, or the random start, in this order.
    """
    key = jax.random.key(config.seed)
    variables = init_variables(plan.recipe.model, key)
    if manager.latest_step() is not None:
        state = create_state(variables, plan.recipe.optimizer, keep_base=plan.keep_base)
        state = checkpoint.restore(manager, state)
        writers.text(int(state.step), f"resumes at step {int(state.step)}")
        return state, set(checkpoint.read_meta(manager)["trained"])
    trained: set[str] = set()
    if config.init_from:
        networks, source = checkpoint.read_networks(config.init_from)
        trained = set(networks["params"])
        for kind, trees in networks.items():
            for name, tree in trees.items():
                expected = variables[kind].get(name, {})  # SMIRK's have no token encoder
                setup.check_same_shapes(expected, tree, f"{config.init_from}: {name}")
                variables[kind][name] = tree
        names = ", ".join(sorted(trained))
        writers.text(0, f"starts from {config.init_from} (step {source['step']}): {names}")
    return create_state(variables, plan.recipe.optimizer, keep_base=plan.keep_base), trained


class _Run:
    """What the iterations of a run share."""

    def __init__(self, config, workdir, plan, assets, manager, writers, meta, trained) -> None:
        self._config, self._plan, self._assets = config, plan, assets
        self._manager, self._writers = manager, writers
        self._meta = meta | {"config": config.to_json(), "git": checkpoint.git_hash()}
        self._trained: set[str] = trained
        self._rng = jax.random.key(config.seed + 1)
        self._paint = make_painter(plan.recipe, workdir, count=config.log.images)

    def phase(
        self,
        phase: Phase,
        state: TrainState,
        make_batches: Callable[[int], Batches],
        stop: _StopSwitch,
    ) -> TrainState:
        """Runs the iterations of one phase that are not done yet."""
        config, writers = self._config, self._writers
        step, end = int(state.step), phase.start + phase.steps
        self._trained |= set(phase.train)
        writers.text(step, setup.describe(phase))
        iterate = map_iteration(self._plan.recipe, phase, how=config.parallel)
        programs = len(TURNS) if phase.cycle else 1
        batches = make_batches(step)
        window, began, pending = Window(config.batch_size), time.monotonic(), None
        first = step
        while step < end:
            asked = time.monotonic()
            batch = next(batches)
            waited = time.monotonic() - asked
            state, metrics = iterate(step, state, batch, self._rng, self._assets)
            if pending is not None:
                self._collect(window, *pending)
            pending = (metrics, waited, step)
            step += 1
            if step - first == programs:  # every program is compiled by now
                jax.block_until_ready(metrics)
                writers.text(step, f"phase {phase.name} compiled in {clock(window.flush_time())}")
                began, first, programs = time.monotonic(), step, 0
            if step % config.log.every == 0 or step == end:
                self._collect(window, *pending)
                pending = None
                self._report(window, phase, step, first, end, began)
            if step % config.log.images_every == 0 or step == end:
                paused = window.pause()
                picture = self._paint(state, batch, self._assets, step)
                writers.image(step, "images", picture)
                window.resume(paused)
            if step % config.checkpoint.every == 0 or step == end:
                self._flush(window, pending)
                pending = None
                self.save(state)
            if stop.asked:
                self._flush(window, pending)
                self.save(state)
                writers.text(step, f"stopped at step {step}; the same command goes on from here")
                raise KeyboardInterrupt
        return state

    def save(self, state: TrainState) -> None:
        """Writes a checkpoint of this step unless it is there already."""
        if self._manager.latest_step() == int(state.step):
            return
        meta = self._meta | {"trained": sorted(self._trained), "step": int(state.step)}
        checkpoint.save(self._manager, state, seed=self._config.seed, meta=meta)

    def _flush(self, window: Window, pending: tuple | None) -> None:
        """Reads the last step before its state is written, so that no bad one ever is."""
        if pending is not None:
            self._collect(window, *pending)

    def _collect(self, window: Window, metrics: Any, waited: float, step: int) -> None:
        values = jax.device_get(metrics)
        bad = int(values["bad_steps"])
        if bad:
            names = [n for n, v in values.items() if not np.isfinite(v)]
            logging.warning("step %d skipped: not finite: %s", step, ", ".join(names))
        if bad > self._config.guard.max_bad_steps:
            raise DivergedError(
                f"step {step} and {bad - 1} before it are not finite ({', '.join(names)}): lower "
                "the learning rate or raise config.guard.max_bad_steps; checkpoints are untouched"
            )
        window.add(values, waited)

    def _report(
        self, window: Window, phase: Phase, step: int, first: int, end: int, began: float
    ) -> None:
        means = window.flush()
        rates = self._config.optim.rules
        means |= {
            f"learning_rate/{name}": rule.lr * means["schedule_factor"]
            for name, rule in rates.items()
        }
        means |= {
            f"weighted/{name}": weight * means[f"loss/{name}"]
            for name, weight in phase.weights.items()
            if f"loss/{name}" in means
        }
        self._writers.scalars(step, phase.name, means)
        each = (time.monotonic() - began) / max(step - first, 1)
        last = self._plan.phases[-1]
        left = clock(each * (end - step)) + (" in this phase" if phase != last else "")
        self._writers.progress(
            f"{phase.name} {step}/{last.start + last.steps}  loss {means['loss']:.3f}  "
            f"{means['images_per_second']:.0f} images/s  data {100 * means['data_wait']:.0f} %  "
            f"left {left}"
        )


def map_iteration(
    recipe: Recipe, phase: Phase, *, how: str, devices: Sequence[jax.Device] | None = None
) -> Callable:
    """The mapped programs of a phase as one function of (step, state, batch, rng, assets).

    The parity of `step` decides the cycle's turn.
    """
    bound = dict(recipe=recipe, phase=phase, axis_name=parallel.AXIS)
    reconstruct = parallel.map_step(
        functools.partial(reconstruction_step, **bound),
        inputs=(False, True, False, False),
        outputs=(False, False, True),
        how=how,
        devices=devices,
    )
    cycles = [
        parallel.map_step(
            functools.partial(cycle_step, turn=turn, **bound),
            inputs=(False, True, True, False, False, False),
            outputs=(False, False),
            how=how,
            devices=devices,
        )
        for turn in (TURNS if phase.cycle else ())
    ]

    def iterate(step, state, batch, rng, assets):
        state, metrics, output = reconstruct(state, batch, rng, assets)
        if cycles:
            cycle = cycles[step % len(cycles)]
            state, metrics = cycle(state, batch, output, metrics, rng, assets)
        return state, metrics

    return iterate


class _StopSwitch:
    """Turns the first Ctrl-C into a request; the second one ends the process at once."""

    def __init__(self) -> None:
        self.asked = False
        self._before: Any = None

    def __enter__(self) -> _StopSwitch:
        try:
            self._before = signal.signal(signal.SIGINT, self._ask)
        except ValueError:  # not the main thread: signals are the caller's
            self._before = None
        return self

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def _ask(self, *_: object) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        print("\nstopping after this step (Ctrl-C again to stop at once)", flush=True)
