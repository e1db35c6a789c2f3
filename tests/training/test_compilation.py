"""Programs compiled in threads: what is traced meanwhile, said, raised, and never done twice."""

from __future__ import annotations

import threading
import time

import jax
import numpy as np
import pytest

from fields_jax import progress
from fields_jax.training import compilation, parallel
from fields_jax.training.compilation import compile_all
from fields_jax.training.programs import iteration, lower_programs, map_programs
from tests.support.tiny_training import tiny_batch, tiny_parts

NAMES = ("first", "second", "third")


class Program:
    """Compiles when it is told to."""

    def __init__(self, error=None):
        self.released, self.done, self.error = threading.Event(), False, error

    def compile(self):
        assert threading.current_thread() is not threading.main_thread()
        assert self.released.wait(30)
        if self.error:
            raise self.error
        self.done = True


def run(lowered, show=lambda _: None, look=lambda: None):
    compile_all(lowered, NAMES, what="phase A", show=show, look=look)


def test_a_program_is_compiled_while_the_next_is_traced():
    programs = {name: Program() for name in NAMES}

    def traced():
        for name, program in programs.items():
            assert threading.current_thread() is threading.main_thread()
            assert not any(each.done for each in programs.values())  # nobody is waited for
            yield name, program
        for program in programs.values():
            program.released.set()

    run(traced())
    assert all(program.done for program in programs.values())


def test_a_failed_compilation_is_raised_as_itself_and_ends_the_wait():
    failing, endless = Program(error=RuntimeError("RESOURCE_EXHAUSTED")), Program()
    failing.released.set()
    with pytest.raises(RuntimeError) as caught:
        run(iter([("first", endless), ("second", failing)]))
    assert caught.value is failing.error and not endless.done
    endless.released.set()


def test_a_failed_trace_and_a_request_to_stop_end_it_at_once():
    endless = Program()

    def broken():
        yield "first", endless
        raise TypeError("not traceable")

    with pytest.raises(TypeError, match="not traceable"):
        run(broken())

    def stop():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(iter([("first", endless)]), look=stop)
    assert not endless.done
    endless.released.set()


def test_the_line_says_what_is_traced_compiled_and_done(monkeypatch):
    monkeypatch.setattr(progress, "_WAIT_SECONDS", 0.01)
    now = [100.0]
    monkeypatch.setattr(compilation.time, "monotonic", lambda: now[0])
    programs = {name: Program() for name in NAMES}
    said = []

    def wait_for(line):
        began = time.perf_counter()
        while not said or said[-1] != line:
            assert time.perf_counter() - began < 30, said[-1:]
            time.sleep(0.005)

    def traced():
        now[0] += 7
        wait_for("compiling phase A: first traced for 0:07, 0 of 3 done")
        yield "first", programs["first"]
        now[0] += 5
        wait_for("compiling phase A: first 0:05, second traced for 0:05, 0 of 3 done")
        yield "second", programs["second"]
        programs["first"].released.set()
        now[0] += 60
        wait_for("compiling phase A: second 1:00, third traced for 1:00, 1 of 3 done")
        yield "third", programs["third"]
        wait_for("compiling phase A: second 1:00, third 0:00, 1 of 3 done")
        programs["second"].released.set()
        programs["third"].released.set()

    run(traced(), show=said.append)


@pytest.fixture
def spent():
    """Names of what JAX has traced, lowered and compiled since it was cleared."""
    seen = []

    def note(name, seconds, **_):
        if name.startswith("/jax/core/compile"):
            seen.append(name)

    jax.monitoring.register_event_duration_secs_listener(note)
    yield seen
    jax.monitoring.unregister_event_duration_listener(note)


@pytest.mark.parametrize("how", ["pmap", "shard_map"])
def test_iterations_find_every_program_compiled(how, spent):
    """JAX neither traces nor compiles again, whichever turn it is, and copies nothing unasked."""
    config, plan, state = tiny_parts()
    phase = next(phase for phase in plan.phases if phase.cycle)
    state, assets = parallel.replicate((jax.tree.map(np.array, state), plan.assets))
    rng, batch = parallel.replicated_key(1), tiny_batch(config)
    programs = map_programs(plan.recipe, phase, how=how)
    placed = parallel.place(batch, how=how)
    lowered = lower_programs(programs, (state, placed, rng, assets), how=how)
    compile_all(lowered, list(programs), what="B", show=print, look=lambda: None)
    assert sum("backend_compile" in name for name in spent) >= len(programs) == 3
    spent.clear()
    iterate = iteration(programs, how=how)
    with parallel.no_implicit_transfers(how):
        for step in range(3):
            state, metrics = iterate(step, state, batch, rng, assets)
    assert np.isfinite(jax.device_get(metrics)["loss"])
    assert not spent
