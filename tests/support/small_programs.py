"""Programs of the form of a phase's, which compile at once, and what JAX spends on calling them."""

from __future__ import annotations

import functools

import jax
import numpy as np

from fields_jax.training import parallel
from fields_jax.training.compilation import compile_all
from fields_jax.training.programs import iteration, lower_programs

COMPILES = "/jax/core/compile/backend_compile_duration"


def reconstruct(state, batch, rng, assets):
    """A mean over all devices, and something for each example."""
    output = {"y": batch["x"] * assets + jax.random.uniform(rng, (), np.float32), "none": None}
    loss = jax.lax.pmean(output["y"].mean(), parallel.AXIS)
    return {"w": state["w"] + loss}, {"loss": loss}, output


def turn(state, batch, output, metrics, rng, assets, *, factor):
    """Reads all that the reconstruction gives."""
    difference = jax.lax.pmean((output["y"] - batch["x"]).mean(), parallel.AXIS)
    state = {"w": state["w"] * factor + difference}
    noise = jax.random.uniform(rng, (), np.float32)
    return state, metrics | {"cycle_loss": difference + noise + assets}


def small_programs(how):
    """The reconstruction and two turns, mapped."""
    programs = {
        "reconstruction": parallel.map_step(
            functools.partial(reconstruct),  # new each time: JAX knows programs by their function
            inputs=(False, True, False, False),
            outputs=(False, False, True),
            how=how,
        )
    }
    for factor in (2, 3):
        programs[f"turn {factor}"] = parallel.map_step(
            functools.partial(turn, factor=factor),
            inputs=(False, True, True, False, False, False),
            outputs=(False, False),
            how=how,
        )
    return programs


def run_compiled(how, batch, *, first=compile_all):
    """Compiles the programs, then runs three iterations under the loop's guard.

    Args:
      how: they are mapped.
      batch: x [B], of this process.
      first: compiles them.

    Returns:
      The final state's w, and the names of what JAX spent on compilation: (before, in iterations).
    """
    spent: list[str] = []

    def note(name, seconds, **_):
        if name.startswith("/jax/core/compile"):
            spent.append(name)

    state, assets = parallel.replicate(({"w": np.float32(1)}, np.float32(2)))
    rng = parallel.replicated_key(0)
    programs = small_programs(how)
    jax.monitoring.register_event_duration_secs_listener(note)
    try:
        with parallel.no_implicit_transfers(how):
            placed = parallel.place(batch, how=how)
            lowered = lower_programs(programs, (state, placed, rng, assets), how=how)
            first(lowered, list(programs), what="phase", show=print, look=lambda: None)
            before = len(spent)
            iterate = iteration(programs, how=how)
            for step in range(3):
                state, _ = iterate(step, state, batch, rng, assets)
                jax.block_until_ready(state)
    finally:
        jax.monitoring.unregister_event_duration_listener(note)
    return float(state["w"].addressable_data(0)), (spent[:before], spent[before:])
