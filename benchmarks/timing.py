"""Times of calls that are compared with each other."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax


class Spent(NamedTuple):
    """Median seconds of a call.

    Attributes:
      wall: what a user waits.
      cpu: of all threads of this process, which a busy machine does not stretch.
    """

    wall: float
    cpu: float


def in_turns(calls: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, Spent]:
    """Times calls that block; they run in turn, once to warm up and then `rounds` times.

    A busy machine thus slows all of them: compare inside one result only.
    """
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    for turn in range(rounds + 1):
        for name, call in calls.items():
            wall, cpu = time.perf_counter(), time.process_time()
            call()
            if turn:
                seconds[name].append((time.perf_counter() - wall, time.process_time() - cpu))
    return {
        name: Spent(*(statistics.median(column) for column in zip(*found, strict=True)))
        for name, found in seconds.items()
    }


def shortest(call: Callable[[], Any], rounds: int) -> float:
    """The least seconds of a call that blocks, after one to warm up: for limits of a machine."""
    times = []
    for _ in range(rounds + 1):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return min(times[1:])


def steady(start: Callable[[], Any], seconds: float = 0.3) -> float:
    """Seconds of a call among many that are queued without waiting for each other.

    Args:
      start: returns JAX arrays, which need not be computed yet.
      seconds: the calls take together, at least.
    """
    jax.block_until_ready(start())
    count = 1
    while True:
        began = time.perf_counter()
        for _ in range(count):
            last = start()
        jax.block_until_ready(last)
        spent = time.perf_counter() - began
        if spent >= seconds:
            return spent / count
        count *= 2
