"""The training loop: phases in order, a checkpoint now and then, metrics one step late.

A phase starts with the compilation of its programs, for which the first batch is fetched.
Order within an iteration, never to be changed: fetch the batch, dispatch the step, read the
metrics of the step before, write, save. A step and its batch are thus queued on the devices while
the step before runs; until the metrics are read, JAX refuses every implicit copy between host and
devices. Stop requests (Ctrl-C, SIGTERM, a preemption notice) are checked after each step; the state
is then saved and the run ends.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from fields_jax.disk import writing
from fields_jax.progress import clock
from fields_jax.training import optim, parallel, setup
from fields_jax.training.checkpoints import Checkpoints, first_state
from fields_jax.training.compilation import compile_all
from fields_jax.training.guard import FiniteGuard, SpikeWatch
from fields_jax.training.metrics import Trace, Window, memory_gib
from fields_jax.training.pictures import make_painter
from fields_jax.training.programs import Iterate, iteration, lower_programs, map_programs
from fields_jax.training.recipe import Assets, Phase
from fields_jax.training.step import Metrics
from fields_jax.training.stop import StopSwitch
from fields_jax.training.writers import RESUME, Writers
from fields_jax.types import TrainState
from fields_jax.workdir import retention, store
from fields_jax.workdir.config import claim_workdir, git_hash
from fields_jax.workdir.lock import only_run

Batches = Iterator[Mapping[str, np.ndarray]]
GOES_ON = "the same command goes on from here"


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
      make_batches: given the first step, yields that step's batch and all later ones: numpy arrays.
        All but `id` [B], which names the examples in the log, go to the devices.
      meta: what else goes into every checkpoint (head and data hashes).

    Returns:
      The final state.

    Raises:
      UserError: the config does not fit the workdir or the checkpoint, another training holds the
        workdir, or its disk is full or read-only (DiskError).
      KeyboardInterrupt, Preemption: asked to stop; the state is saved.
      DivergedError: too many non-finite steps; earlier checkpoints are untouched.
    """
    first = jax.process_index() == 0
    with contextlib.ExitStack() as stack:
        stack.enter_context(only_run(workdir) if first else contextlib.nullcontext())
        # Before anything is read, so that no file of an earlier failed start is taken for ours.
        claimed = claim_workdir(workdir, config)
        policies, best = retention.make_policies(config, workdir)
        manager = stack.enter_context(store.open_manager(workdir, policies=policies))
        stop = stack.enter_context(StopSwitch())
        state, trained, notes = first_state(config, plan, manager, meta)
        writers = Writers(workdir, active=first, step=int(state.step))
        stack.callback(writers.close)
        for note in filter(None, (claimed, *plan.notes, *notes)):
            writers.text(int(state.step), note)
        state, assets = parallel.replicate((state, plan.assets))
        made_of = dict(meta) | {"config": config.to_json(), "git": git_hash()}
        made_of["trained"] = trained
        checkpoints = Checkpoints(manager, workdir, config.seed, made_of, best)
        run = _Run(config, workdir, plan, assets, checkpoints, writers)
        try:
            for phase in plan.phases:
                if int(state.step) < phase.end:
                    state = run.phase(phase, state, make_batches, stop)
            run.save(state)
        finally:
            store.settle(manager)
    return state


@dataclasses.dataclass(frozen=True)
class PendingStep:
    """A dispatched step whose metrics are not read yet, with what is needed to judge them.

    Its parameters are missing: they were donated to the next step. Where the guard asks for them,
    that step has left them unchanged (`Recipe.max_bad_steps`).

    Attributes:
      step: the iteration.
      metrics: on the devices, perhaps not computed yet.
      batch: what this process fed it, on the host.
      ids: names of the examples [B], or None.
      waited: seconds it waited for the batch.
    """

    step: int
    metrics: Metrics
    batch: Mapping[str, np.ndarray]
    ids: np.ndarray | None
    waited: float


@dataclasses.dataclass
class _Pace:
    """Measurements of the current phase, and since when they are taken.

    Attributes:
      phase: the current one.
      window: metrics since the last report.
      spikes: watches the loss.
      first: the first iteration, which began at `began`.
      began: seconds, of `time.monotonic`.
      pending: the newest step, or None.
    """

    phase: Phase
    window: Window
    spikes: SpikeWatch
    first: int
    began: float = dataclasses.field(default_factory=time.monotonic)
    pending: PendingStep | None = None


class _Run:
    """What the iterations of a run share."""

    def __init__(
        self,
        config: ConfigDict,
        workdir: str,
        plan: setup.Plan,
        assets: Assets,
        checkpoints: Checkpoints,
        writers: Writers,
    ) -> None:
        self._config, self._plan, self._assets = config, plan, assets
        self._workdir = workdir
        self._checkpoints, self._writers = checkpoints, writers
        self._rng = parallel.replicated_key(config.seed + 1)
        self._paint = make_painter(plan.recipe, workdir, count=config.log.images)
        self._guard = FiniteGuard(plan.recipe.model, workdir, limit=config.guard.max_bad_steps)
        self._trace = Trace(workdir, *config.profile)
        self._compiled: dict[str, float] = {}  # logged with the next report
        self._rates: dict[str, float] = {}  # of the phase

    def phase(
        self,
        phase: Phase,
        state: TrainState,
        make_batches: Callable[[int], Batches],
        stop: StopSwitch,
    ) -> TrainState:
        """Runs the iterations of one phase that are not done yet."""
        config, step = self._config, int(state.step)
        self._announce(phase, state)
        batches = make_batches(step)
        batch = next(batches)
        iterate = self._compile(phase, state, batch, stop)
        batches = itertools.chain([batch], batches)
        pace = _Pace(phase, Window(config.batch_size), SpikeWatch(config.guard.spike), step)

        def due(every: int) -> bool:
            return step % every == 0 or step == phase.end

        while step < phase.end:
            batch, ids, waited = _fetch(batches)
            with parallel.no_implicit_transfers(config.parallel):
                self._trace.before(step)
                state, metrics = iterate(step, state, batch, self._rng, self._assets)
                self._trace.after(step, metrics)
                self._take_metrics(pace, state)  # of the step before
            pace.pending = PendingStep(step, metrics, batch, ids, waited)
            step += 1
            if due(config.log.every):
                self._report(pace, state, step)
            if config.log.images and due(config.log.images_every):
                self._picture(pace, state, batch, step)
            asked = stop.poll(self._checkpoints.manager, step)
            if due(config.checkpoint.every) or asked:
                self._take_metrics(pace, state)
                self.save(state, early=asked)
            if asked:
                self._writers.text(step, f"stopped at step {step}; {GOES_ON}")
                raise stop.error()
        return state

    def save(self, state: TrainState, *, early: bool = False) -> None:
        """Writes a checkpoint of this step unless it is there already; see `Checkpoints`."""
        if self._checkpoints.save(state, early=early):
            self._writers.publish()

    def _announce(self, phase: Phase, state: TrainState) -> None:
        """Says what the phase will do."""
        self._checkpoints.learn(phase.train)
        rules = self._config.optim.rules
        labels = optim.label_params(state.params, rules)
        self._rates = optim.rates(labels, rules, phase.train, phase.rates)
        self._writers.text(int(state.step), setup.describe(phase))

    def _compile(
        self,
        phase: Phase,
        state: TrainState,
        batch: Mapping[str, np.ndarray],
        stop: StopSwitch,
    ) -> Iterate:
        """Compiles what the phase runs and says how long it took; a request to stop ends it."""
        how, step, began = self._config.parallel, int(state.step), time.monotonic()
        programs = map_programs(self._plan.recipe, phase, how=how)

        def look() -> None:
            if stop.asked:  # the state is that of the last checkpoint, or the start
                self._writers.text(step, f"stopped at step {step}; {GOES_ON}")
                raise stop.error()

        with parallel.no_implicit_transfers(how):
            placed = parallel.place(_split(batch)[0], how=how)
            arguments = (state, placed, self._rng, self._assets)
            compile_all(
                lower_programs(programs, arguments, how=how),
                list(programs),
                what=f"phase {phase.name}",
                show=self._writers.progress,
                look=look,
            )
        spent = time.monotonic() - began
        self._writers.text(step, f"phase {phase.name} compiled in {clock(spent)}")
        self._compiled = {"compile_seconds": spent}
        return iteration(programs, how=how)

    def _take_metrics(self, pace: _Pace, state: TrainState) -> None:
        """Reads the pending step, if any, so that no bad state is ever written.

        Args:
          pace: of the phase.
          state: the newest: after that step or after the next one.
        """
        pending, pace.pending = pace.pending, None
        if pending is None:
            return
        values = jax.device_get(pending.metrics)
        variables = {"params": state.params, "batch_stats": state.batch_stats}
        self._guard.check(pending.step, values, pending.batch, pending.ids, variables)
        self._checkpoints.add(values)
        pace.window.add(values, pending.waited)
        if note := pace.spikes.look(pending.step, float(values["loss"])):
            self._writers.text(pending.step, note)

    def _report(self, pace: _Pace, state: TrainState, step: int) -> None:
        """Writes the means since the last report and a progress line."""
        self._take_metrics(pace, state)
        store.settle(self._checkpoints.manager, wait=False)
        phase, means = pace.phase, pace.window.flush()
        factor = means["schedule_factor"]
        means |= {f"learning_rate/{name}": rate * factor for name, rate in self._rates.items()}
        means |= {
            f"weighted/{name}": weight * means[f"loss/{name}"]
            for name, weight in phase.weights.items()
            if f"loss/{name}" in means
        }
        means["images_per_second_per_device"] = means["images_per_second"] / jax.device_count()
        rate = f"{means['images_per_second']:.0f} images/s  data {means['data_wait']:.0%}"
        means["memory_gib"] = memory_gib()
        means |= self._compiled
        self._compiled = {}
        self._writers.scalars(step, phase.name, means)
        each = (time.monotonic() - pace.began) / max(step - pace.first, 1)
        last = self._plan.phases[-1]
        left = clock(each * (phase.end - step)) + (" in this phase" if phase != last else "")
        self._writers.progress(
            f"{phase.name} {step}/{last.end}  loss {means['loss']:.3f}  {rate}  left {left}"
        )

    def _picture(
        self, pace: _Pace, state: TrainState, batch: Mapping[str, np.ndarray], step: int
    ) -> None:
        """Paints examples of the newest batch; the time it takes is no training."""
        paused = pace.window.pause()
        with writing(f"{self._workdir}/images", instead="another --workdir", then=RESUME):
            picture = self._paint(state, batch, self._assets, step)
        self._writers.image(step, "images", picture)
        pace.window.resume(paused)


def _fetch(batches: Batches) -> tuple[dict[str, np.ndarray], np.ndarray | None, float]:
    """The next batch without its names, its names or None, and the seconds it was waited for."""
    asked = time.monotonic()
    batch = next(batches)
    return *_split(batch), time.monotonic() - asked


def _split(batch: Mapping[str, np.ndarray]) -> tuple[dict[str, np.ndarray], np.ndarray | None]:
    """A batch without its names, and its names or None."""
    batch = dict(batch)
    return batch, batch.pop("id", None)
