"""The training loop: phases in order, a checkpoint now and then, metrics one step late.

Order within an iteration, never to be changed: fetch the batch, dispatch the step, read the
metrics of the step before, write, save. So a step and its batch, on its way to the devices, are in
their queue while the step before runs. A stop request (Ctrl-C, SIGTERM, a preemption notice) is
looked at after each step; the state is saved and the run ends.
"""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from fields_jax.disk import writing
from fields_jax.models.fields import init_variables, variable_shapes
from fields_jax.progress import clock
from fields_jax.training import optim, parallel, setup
from fields_jax.training.guard import FiniteGuard, SpikeWatch
from fields_jax.training.metrics import Trace, Window, memory_gib
from fields_jax.training.pictures import make_painter
from fields_jax.training.recipe import Phase, Recipe
from fields_jax.training.state import create_state
from fields_jax.training.step import TURNS, cycle_step, reconstruction_step
from fields_jax.training.stop import StopSwitch
from fields_jax.training.writers import RESUME, Writers
from fields_jax.types import TrainState
from fields_jax.workdir import retention, store
from fields_jax.workdir.config import claim_workdir, git_hash
from fields_jax.workdir.inference import check_head, read_networks
from fields_jax.workdir.lock import only_run

Batches = Iterator[Mapping[str, np.ndarray]]


def train(
    config: ConfigDict,
    workdir: str,
    plan: setup.Plan,
    make_batches: Callable[[int], Batches],
    meta: Mapping[str, Any],
) -> TrainState:
    """Trains to the end of the last phase, from the start or from the latest checkpoint.

    Args:
      config: see configs/common.py.
      workdir: where everything is written; local or gs://.
      plan: what `setup.plan` made of the config and a head.
      make_batches: given the first step, yields that step's batch and all that follow: numpy
        arrays, all of which go to the devices but `id` [B], which names the examples in the log.
      meta: what else goes into every checkpoint (head and data hashes).

    Returns:
      The final state.

    Raises:
      UserError: the config does not fit the workdir or the checkpoint, another training holds the
        workdir, or it takes no more (DiskError).
      KeyboardInterrupt, Preemption: asked to stop; the state is saved.
      DivergedError: too many non-finite steps; earlier checkpoints are untouched.
    """
    first = jax.process_index() == 0
    with contextlib.ExitStack() as stack:
        stack.enter_context(only_run(workdir) if first else contextlib.nullcontext())
        # Before anything is read: what a failed start has left is none of this run's.
        claimed = claim_workdir(workdir, config)
        policies, best = retention.make_policies(config, workdir)
        manager = stack.enter_context(store.open_manager(workdir, policies=policies))
        stop = stack.enter_context(StopSwitch())
        state, trained, notes = _start(config, plan, manager, meta)
        writers = Writers(workdir, active=first, step=int(state.step))
        stack.callback(writers.close)
        for note in filter(None, (claimed, *plan.notes, *notes)):
            writers.text(int(state.step), note)
        state, assets = parallel.replicate((state, plan.assets))
        run = _Run(config, workdir, plan, assets, manager, writers, dict(meta), trained, best)
        try:
            for phase in plan.phases:
                if int(state.step) < phase.start + phase.steps:
                    state = run.phase(phase, state, make_batches, stop)
            run.save(state)
        finally:
            store.settle(manager)
    return state


def _start(
    config: ConfigDict, plan: setup.Plan, manager: Any, meta: Mapping[str, Any]
) -> tuple[TrainState, set[str], list[str]]:
    """The state to go on from, the networks not at their random start, and what to say of it.

    That state is the newest intact checkpoint, `config.init_from`, or the random start, in this
    order.

    Raises:
      UserError: no intact checkpoint, networks of other shapes, or learnt with another head.
    """
    make = functools.partial(
        create_state,
        optimizer=plan.recipe.optimizer,
        keep_base=plan.keep_base,
        keep_ema=bool(config.ema),
    )
    if manager.latest_step() is not None:
        target = jax.eval_shape(make, variable_shapes(plan.recipe.model))
        state, before, notes = store.restore(manager, parallel.replicated_shapes(target))
        check_head(before, plan.assets.head)
        notes.append(f"resumes at step {int(state.step)}")
        if before.get("data") != meta.get("data"):
            notes.append("the training sets have changed since; it goes on with the new ones")
        return state, set(before["trained"]), notes
    variables = init_variables(plan.recipe.model, jax.random.key(config.seed))
    trained: set[str] = set()
    notes = []
    if config.init_from:
        networks, source = read_networks(config.init_from)
        check_head(source, plan.assets.head)
        trained = set(networks["params"])
        for kind, trees in networks.items():
            for name, tree in trees.items():
                expected = variables[kind].get(name, {})  # SMIRK's have no token encoder
                setup.check_same_shapes(expected, tree, f"{config.init_from}: {name}")
                variables[kind][name] = tree
        names = ", ".join(sorted(trained))
        notes = [f"starts from {config.init_from} (step {source['step']}): {names}"]
    return make(variables), trained, notes


class _Run:
    """What the iterations of a run share."""

    def __init__(
        self, config, workdir, plan, assets, manager, writers, meta, trained, best
    ) -> None:
        self._config, self._plan, self._assets = config, plan, assets
        self._workdir = workdir
        self._manager, self._writers, self._best = manager, writers, best
        self._meta = meta | {"config": config.to_json(), "git": git_hash()}
        self._trained: set[str] = trained
        self._rng = jax.random.key(config.seed + 1)
        self._paint = make_painter(plan.recipe, workdir, count=config.log.images)
        self._guard = FiniteGuard(plan.recipe.model, workdir, limit=config.guard.max_bad_steps)
        self._trace = Trace(workdir, *config.profile)
        self._compiled: dict[str, float] = {}  # goes out with the next numbers
        self._rates: dict[str, float] = {}  # of the phase

    def phase(
        self,
        phase: Phase,
        state: TrainState,
        make_batches: Callable[[int], Batches],
        stop: StopSwitch,
    ) -> TrainState:
        """Runs the iterations of one phase that are not done yet."""
        config, writers = self._config, self._writers
        step, end = int(state.step), phase.start + phase.steps
        self._trained |= set(phase.train)
        rules = config.optim.rules
        labels = optim.label_params(state.params, rules)
        self._rates = optim.rates(labels, rules, phase.train, phase.rates)
        writers.text(step, setup.describe(phase))
        iterate = map_iteration(self._plan.recipe, phase, how=config.parallel)
        programs = len(TURNS) if phase.cycle else 1
        batches = make_batches(step)
        window, spikes = Window(config.batch_size), SpikeWatch(config.guard.spike)
        began, pending, first = time.monotonic(), None, step

        def collect() -> None:
            """Reads the newest step, so that no bad state is ever written."""
            nonlocal pending
            if pending is not None:
                values = self._collect(window, state, *pending)
                if note := spikes.look(pending[-1], float(values["loss"])):
                    writers.text(pending[-1], note)
            pending = None

        while step < end:
            asked = time.monotonic()
            batch = dict(next(batches))
            ids = batch.pop("id", None)
            waited = time.monotonic() - asked
            self._trace.before(step)
            state, metrics = iterate(step, state, batch, self._rng, self._assets)
            self._trace.after(step, metrics)
            collect()
            pending = (metrics, waited, batch, ids, step)
            step += 1
            if step - first == programs:  # every program is compiled by now
                collect()
                spent = window.restart_clock()
                writers.text(step, f"phase {phase.name} compiled in {clock(spent)}")
                self._compiled = {"compile_seconds": spent}
                began, first, programs = time.monotonic(), step, 0
            if step % config.log.every == 0 or step == end:
                collect()
                store.settle(self._manager, wait=False)
                self._report(window, phase, step, first, end, began)
            if config.log.images and (step % config.log.images_every == 0 or step == end):
                paused = window.pause()
                with writing(f"{self._workdir}/images", instead="another --workdir", then=RESUME):
                    picture = self._paint(state, batch, self._assets, step)
                writers.image(step, "images", picture)
                window.resume(paused)
            asked_to_stop = stop.poll(self._manager, step)
            if step % config.checkpoint.every == 0 or step == end or asked_to_stop:
                collect()
                self.save(state, early=asked_to_stop)
            if asked_to_stop:
                writers.text(step, f"stopped at step {step}; the same command goes on from here")
                raise stop.error()
        return state

    def save(self, state: TrainState, *, early: bool = False) -> None:
        """Writes a checkpoint of this step unless it is there already.

        An `early` one is no candidate for the best: few steps may lie behind it.
        """
        step = int(state.step)
        if self._manager.latest_step() == step:
            return
        if self._best is not None and not early:
            with writing(f"{self._workdir}/best.json", instead="another --workdir", then=RESUME):
                self._best.offer(step, write=jax.process_index() == 0)
        meta = self._meta | {"trained": sorted(self._trained)}
        whole = parallel.as_global(state)
        store.save(self._manager, whole, seed=self._config.seed, meta=meta)
        self._writers.publish()

    def _collect(
        self, window: Window, state: TrainState, metrics: Any, waited: float, batch, ids, step: int
    ) -> dict[str, np.ndarray]:
        values = jax.device_get(metrics)
        variables = {"params": state.params, "batch_stats": state.batch_stats}
        self._guard.check(step, values, batch, ids, variables)
        if self._best is not None:
            self._best.add(values)
        window.add(values, waited)
        return values

    def _report(
        self, window: Window, phase: Phase, step: int, first: int, end: int, began: float
    ) -> None:
        means = window.flush()
        factor = means["schedule_factor"]
        means |= {f"learning_rate/{name}": rate * factor for name, rate in self._rates.items()}
        means |= {
            f"weighted/{name}": weight * means[f"loss/{name}"]
            for name, weight in phase.weights.items()
            if f"loss/{name}" in means
        }
        rate = ""
        if "images_per_second" in means:
            means["images_per_second_per_device"] = means["images_per_second"] / jax.device_count()
            rate = f"{means['images_per_second']:.0f} images/s  data {means['data_wait']:.0%}  "
        means["memory_gib"] = memory_gib()
        means |= self._compiled
        self._compiled = {}
        self._writers.scalars(step, phase.name, means)
        each = (time.monotonic() - began) / max(step - first, 1)
        last = self._plan.phases[-1]
        left = clock(each * (end - step)) + (" in this phase" if phase != last else "")
        self._writers.progress(
            f"{phase.name} {step}/{last.start + last.steps}  loss {means['loss']:.3f}  "
            f"{rate}left {left}"
        )


def map_iteration(
    recipe: Recipe, phase: Phase, *, how: str, devices: Sequence[jax.Device] | None = None
) -> Callable:
    """The mapped programs of a phase as one function, see `iteration`."""
    return iteration(map_programs(recipe, phase, how=how, devices=devices))


def iteration(programs: Mapping[str, Callable]) -> Callable:
    """The programs of `map_programs` as one function of (step, state, batch, rng, assets).

    `step` decides the cycle's turn.
    """
    reconstruct, *cycles = programs.values()

    def iterate(step, state, batch, rng, assets):
        state, metrics, output = reconstruct(state, batch, rng, assets)
        if cycles:
            cycle = cycles[step % len(cycles)]
            state, metrics = cycle(state, batch, output, metrics, rng, assets)
        return state, metrics

    return iterate


def map_programs(
    recipe: Recipe, phase: Phase, *, how: str, devices: Sequence[jax.Device] | None = None
) -> dict[str, Callable]:
    """The programs that an iteration of a phase is made of: reconstruction, then the turns."""
    bound = dict(recipe=recipe, phase=phase, axis_name=parallel.AXIS)
    reconstruct = parallel.map_step(
        functools.partial(reconstruction_step, **bound),
        inputs=(False, True, False, False),
        outputs=(False, False, True),
        how=how,
        devices=devices,
    )
    cycles = {
        turn: parallel.map_step(
            functools.partial(cycle_step, turn=turn, **bound),
            inputs=(False, True, True, False, False, False),
            outputs=(False, False),
            how=how,
            devices=devices,
        )
        for turn in (TURNS if phase.cycle else ())
    }
    return {"reconstruction": reconstruct} | cycles
