"""The programs of a training step, mapped over devices, and the iteration that runs them."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from fields_jax.training import parallel
from fields_jax.training.recipe import TURNS, Assets, Context, Phase, Recipe
from fields_jax.training.step import Metrics, cycle_step, reconstruction_step
from fields_jax.types import TrainState

Iterate = Callable[
    [int, TrainState, Mapping[str, np.ndarray], jax.Array, Assets], tuple[TrainState, Metrics]
]


def map_programs(
    recipe: Recipe, phase: Phase, *, how: str, devices: Sequence[jax.Device] | None = None
) -> dict[str, Any]:
    """The programs that an iteration of a phase is made of: reconstruction, then the turns.

    They are separate so that each compiles once: as one program per iteration, the reconstruction
    would be compiled again for each turn. All take batches as `parallel.place` returns them.
    """
    context = Context(recipe, phase, parallel.AXIS)
    mapped = functools.partial(parallel.map_step, how=how, devices=devices)
    reconstruction = mapped(
        functools.partial(reconstruction_step, context=context),
        inputs=(False, True, False, False),
        outputs=(False, False, True),
    )
    cycles = {
        turn: mapped(
            functools.partial(cycle_step, context=dataclasses.replace(context, turn=turn)),
            inputs=(False, True, True, False, False, False),
            outputs=(False, False),
        )
        for turn in (TURNS if phase.cycle else ())
    }
    return {"reconstruction": reconstruction} | cycles


def lower_programs(
    programs: Mapping[str, Any],
    arguments: tuple[TrainState, Any, jax.Array, Assets],
    *,
    how: str,
    devices: Sequence[jax.Device] | None = None,
) -> Iterator[tuple[str, jax.stages.Lowered]]:
    """Traces and lowers programs one by one, each when it is asked for; none is run.

    Args:
      programs: from `map_programs`.
      arguments: state, batch, key and assets as the reconstruction takes them: arrays or, unless
        pmap is over several processes, their shapes.
      how, devices: as the programs were mapped.

    Yields:
      The name of each program and what is left to compile.
    """
    state, batch, rng, assets = arguments
    (first, reconstruction), *cycles = programs.items()
    lowered = reconstruction.lower(state, batch, rng, assets)
    _, metrics, output = lowered.out_info
    yield first, lowered
    del lowered  # a large text, which is not kept while the next is made
    where = dict(how=how, devices=devices)
    output = parallel.stand_ins(output, split=True, **where)
    metrics = parallel.stand_ins(metrics, split=False, **where)
    for name, cycle in cycles:
        yield name, cycle.lower(state, batch, output, metrics, rng, assets)


def map_iteration(
    recipe: Recipe, phase: Phase, *, how: str, devices: Sequence[jax.Device] | None = None
) -> Iterate:
    """The mapped programs of a phase as one whole iteration, see `iteration`."""
    programs = map_programs(recipe, phase, how=how, devices=devices)
    return iteration(programs, how=how, devices=devices)


def iteration(
    programs: Mapping[str, Any], *, how: str, devices: Sequence[jax.Device] | None = None
) -> Iterate:
    """One whole iteration of a phase: what the training loop runs.

    Args:
      programs: from `map_programs`.
      how, devices: as they were mapped.

    Returns:
      A function of (step, state, batch, rng, assets) that returns the next state and the metrics;
      the given state is donated. `batch` is this process's, [B, ...] on the host; `step` decides
      whose turn it is in the cycle.
    """
    reconstruct, *cycles = programs.values()

    def iterate(step, state, batch, rng, assets):
        placed = parallel.place(batch, how=how, devices=devices)
        state, metrics, output = reconstruct(state, placed, rng, assets)
        if cycles:
            cycle = cycles[step % len(cycles)]
            state, metrics = cycle(state, placed, output, metrics, rng, assets)
        return state, metrics

    return iterate
