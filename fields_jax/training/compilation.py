"""Compiles the programs of a phase before its first iteration, each while the next is traced."""

from __future__ import annotations

import concurrent.futures
import time
from collections.abc import Callable, Iterable, Sequence

import jax

from fields_jax import cpu_tuning
from fields_jax.progress import clock, kept_up

_LOOK_SECONDS = 0.5


def compile_all(
    lowered: Iterable[tuple[str, jax.stages.Lowered]],
    names: Sequence[str],
    *,
    what: str,
    show: Callable[[str], None],
    look: Callable[[], None],
) -> None:
    """Compiles programs so that JAX calls them without compiling them again.

    Python traces in this thread; XLA compiles in others, without Python's lock. JAX keeps what it
    has lowered, with its executable, for calls with such arguments: those go the usual, fast way.

    Args:
      lowered: name and program, traced when asked for: `programs.lower_programs`.
      names: of all of them, in this order.
      what: that is compiled, for the progress line.
      show: takes that line now and then, in another thread.
      look: called in between, in this thread; what it raises ends the wait. Compilations that have
        begun then go on by themselves: they cannot be stopped.

    Raises:
      Exception: of a program that cannot be traced or compiled, as soon as it is known.
    """
    board = _Board(names, what)
    pool = concurrent.futures.ThreadPoolExecutor(threads_for(len(names)), "compile")
    running = []
    try:
        with kept_up(board.line, show):
            for name, program in lowered:
                board.traced(name)
                running.append(pool.submit(program.compile))
                running[-1].add_done_callback(lambda _, name=name: board.finished(name))
                look()
                _raise_errors(running)
            while concurrent.futures.wait(running, _LOOK_SECONDS).not_done:
                look()
                _raise_errors(running)
            _raise_errors(running)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def threads_for(programs: int) -> int:
    """Compilations at a time; each needs memory, and by itself keeps two cores busy now and then.

    GPUs measure kernels while they compile: side by side they disturb each other, and several
    processes share out what is measured.
    """
    cores = 0 if jax.devices()[0].platform == "gpu" else cpu_tuning.cores()
    return min(programs, max(1, cores // 2))


def _raise_errors(running: Iterable[concurrent.futures.Future]) -> None:
    """Raises the error of the first that has ended with one."""
    for each in running:
        if each.done():
            each.result()


class _Board:
    """Who does what since when; told by any thread."""

    def __init__(self, names: Sequence[str], what: str) -> None:
        self._names, self._what = names, what
        self._began = time.monotonic()
        self._traced: dict[str, float] = {}  # when
        self._finished: set[str] = set()

    def traced(self, name: str) -> None:
        """A program waits to be compiled, or is compiled, from now on."""
        self._traced[name] = time.monotonic()

    def finished(self, name: str) -> None:
        """A program is compiled, or cannot be."""
        self._finished.add(name)

    def line(self) -> str:
        """The progress line."""
        now, traced = time.monotonic(), dict(self._traced)
        parts = [
            f"{name} {clock(now - since)}"
            for name, since in traced.items()
            if name not in self._finished
        ]
        if len(traced) < len(self._names):
            since = max(traced.values(), default=self._began)
            parts.append(f"tracing {self._names[len(traced)]} {clock(now - since)}")
        done = f"{len(self._finished)} of {len(self._names)} done"
        return f"compiling {self._what}: {', '.join([*parts, done])}"
