"""The state a run starts from and the checkpoints it saves, on top of `workdir.store`."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from ml_collections import ConfigDict

from fields_jax.disk import writing
from fields_jax.models.fields import init_variables, variable_shapes
from fields_jax.training import parallel, setup
from fields_jax.training.state import create_state
from fields_jax.training.writers import RESUME
from fields_jax.types import TrainState
from fields_jax.workdir import retention, store
from fields_jax.workdir.inference import check_head, read_networks


def first_state(
    config: ConfigDict, plan: setup.Plan, manager: ocp.CheckpointManager, meta: Mapping[str, Any]
) -> tuple[TrainState, set[str], list[str]]:
    """The state to go on from, the networks that are no longer random, and a note for the user.

    The state comes from the newest intact checkpoint, else from `config.init_from`, else it is
    random.

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
        return _within(plan.recipe.max_bad_steps, state), set(before["trained"]), notes
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
                # On the host, from where every process puts them on all devices.
                variables[kind][name] = jax.device_get(tree)
        names = ", ".join(sorted(trained))
        notes = [f"starts from {config.init_from} (step {source['step']}): {names}"]
    return make(variables), trained, notes


def _within(limit: int, state: TrainState) -> TrainState:
    """The state with at most `limit` bad steps in a row: with more, no step would change it."""
    if int(state.bad_steps) <= limit:
        return state
    return state.replace(bad_steps=jnp.full_like(state.bad_steps, limit))


class Checkpoints:
    """Saves the states of a run, with the networks that have learnt and the run's meta item."""

    def __init__(
        self,
        manager: ocp.CheckpointManager,
        workdir: str,
        seed: int,
        meta: Mapping[str, Any],
        best: retention.KeepBest | None = None,
    ) -> None:
        """Prepares the saving of one run.

        Args:
          manager: of the workdir.
          workdir: where best.json is written.
          seed: of the data.
          meta: what goes into every checkpoint.
          best: the policy that keeps the best checkpoint by a metric, or None.
        """
        self.manager = manager
        self._workdir, self._seed, self._meta, self._best = workdir, seed, dict(meta), best
        self._trained: set[str] = set(meta.get("trained", ()))

    def learn(self, networks: tuple[str, ...]) -> None:
        """Notes networks that are no longer at their random start."""
        self._trained |= set(networks)

    def add(self, metrics: Mapping[str, np.ndarray]) -> None:
        """Takes one step's metrics, from which the best checkpoint is chosen."""
        if self._best is not None:
            self._best.add(metrics)

    def save(self, state: TrainState, *, early: bool = False) -> bool:
        """Writes a checkpoint of this step; False if it is there already.

        An `early` one does not compete for the best: its metrics may cover only a few steps.
        """
        step = int(state.step)
        if self.manager.latest_step() == step:
            return False
        if self._best is not None and not early:
            with writing(f"{self._workdir}/best.json", instead="another --workdir", then=RESUME):
                self._best.offer(step, write=jax.process_index() == 0)
        meta = self._meta | {"trained": sorted(self._trained)}
        store.save(self.manager, parallel.as_global(state), seed=self._seed, meta=meta)
        return True
