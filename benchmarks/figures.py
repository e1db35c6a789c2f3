"""A measured time beside what it is compared with and what it could be at best."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax

from benchmarks.machine import Speeds
from benchmarks.timing import Spent


@dataclasses.dataclass(frozen=True)
class Figure:
    """One line of a table.

    Attributes:
      name: what was done.
      seconds: it took.
      cpu_seconds: of all threads, or 0.
      items: images or scans that were worked on, or 0 where a rate says nothing.
      against: seconds of the same work done by others, by their names.
      gflop: of arithmetic it takes, or 0 where not known.
      gbytes: it has to read and write, or 0 where not known.
      note: what a reader has to know.
    """

    name: str
    seconds: float
    cpu_seconds: float = 0.0
    items: int = 0
    against: Mapping[str, float] = dataclasses.field(default_factory=dict)
    gflop: float = 0.0
    gbytes: float = 0.0
    note: str = ""

    def report(self, speeds: Speeds) -> dict[str, Any]:
        """Ready for JSON, with the limits on a machine of these speeds."""
        found = dataclasses.asdict(self)
        if self.items:
            found["per_second"] = self.items / self.seconds
        limits = {
            "arithmetic": 1e9 * self.gflop / speeds.flops,
            "memory": 1e9 * self.gbytes / speeds.bytes,
        }
        if limit := max(limits.values()):
            found |= {"limit_seconds": limits, "times_limit": self.seconds / limit}
        return found


@dataclasses.dataclass(frozen=True)
class Program:
    """A compiled function with what the compiler counts of it.

    Attributes:
      run: the executable.
      gflop: of arithmetic, before the compiler changes anything; loops count once.
      gbytes: that the executable reads and writes, in caches too; loops count once.
      temporary_gib: memory besides arguments and results.
      compile_seconds: tracing and compiling took.
    """

    run: Callable[..., Any]
    gflop: float
    gbytes: float
    temporary_gib: float
    compile_seconds: float

    def figure(self, name: str, spent: Spent, **more: Any) -> Figure:
        """A line about one run of the program."""
        counts = dict(gflop=self.gflop, gbytes=self.gbytes)
        return Figure(name, spent.wall, spent.cpu, **counts | more)


@dataclasses.dataclass(frozen=True)
class Lowered:
    """A traced function that is not compiled yet."""

    lowered: Any
    seconds: float

    def compile(self) -> Program:
        """Compiles it, with what the compiler counts."""
        began = time.perf_counter()
        executable = self.lowered.compile()
        spent = self.seconds + time.perf_counter() - began
        cost, memory = executable.cost_analysis() or {}, executable.memory_analysis()
        # The executable hides arithmetic in calls of libraries, and repeats some in its fusions.
        asked = self.lowered.cost_analysis() or cost
        return Program(
            executable,
            asked.get("flops", 0.0) / 1e9,
            cost.get("bytes accessed", 0.0) / 1e9,
            0.0 if memory is None else memory.temp_size_in_bytes / 2**30,
            spent,
        )


def lower(function: Callable[..., Any], *arguments: Any) -> Lowered:
    """Traces a function for these arguments.

    Args:
      function: any function, or one that is jitted or mapped already.
      arguments: arrays, or their shapes.
    """
    began = time.perf_counter()
    jitted = function if hasattr(function, "lower") else jax.jit(function)
    return Lowered(jitted.lower(*arguments), time.perf_counter() - began)


def compiled(function: Callable[..., Any], *arguments: Any) -> Program:
    """Compiles a function for these arguments; nothing is run."""
    return lower(function, *arguments).compile()
