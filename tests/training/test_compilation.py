"""Programs compiled in threads: what is traced meanwhile, said, raised, and never done twice."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest

from fields_jax import progress
from fields_jax.training import compilation
from fields_jax.training.compilation import compile_all
from tests.support.small_programs import COMPILES, run_compiled

NAMES = ("first", "second", "third")
THREADS = compilation.threads_for


@pytest.fixture(autouse=True)
def a_thread_for_each(monkeypatch):
    monkeypatch.setattr(compilation, "threads_for", lambda programs: programs)


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


@pytest.mark.parametrize(
    ("platform", "cores", "expected"),
    [("cpu", 2, 1), ("cpu", 4, 2), ("tpu", 112, 3), ("gpu", 64, 1)],
)
def test_as_many_at_a_time_as_there_are_cores_and_on_gpus_one(
    monkeypatch, platform, cores, expected
):
    monkeypatch.setattr(compilation.jax, "devices", lambda: [SimpleNamespace(platform=platform)])
    monkeypatch.setattr(compilation.cpu_tuning, "cores", lambda: cores)
    assert THREADS(3) == expected


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
        wait_for("compiling phase A: tracing first 0:07, 0 of 3 done")
        yield "first", programs["first"]
        now[0] += 5
        wait_for("compiling phase A: first 0:05, tracing second 0:05, 0 of 3 done")
        yield "second", programs["second"]
        programs["first"].released.set()
        now[0] += 60
        wait_for("compiling phase A: second 1:00, tracing third 1:00, 1 of 3 done")
        yield "third", programs["third"]
        wait_for("compiling phase A: second 1:00, third 0:00, 1 of 3 done")
        programs["second"].released.set()
        programs["third"].released.set()

    run(traced(), show=said.append)


@pytest.mark.parametrize("how", ["pmap", "shard_map"])
def test_iterations_find_every_program_compiled(how):
    """JAX neither traces nor compiles again, whichever turn it is, and finds the same numbers."""
    batch = {"x": np.arange(8, dtype=np.float32)}
    value, (before, again) = run_compiled(how, batch)
    assert before.count(COMPILES) == 3 and not again
    lazily, (before, again) = run_compiled(how, batch, first=lambda *_, **__: None)
    assert COMPILES not in before and again.count(COMPILES) == 3
    assert value == lazily
