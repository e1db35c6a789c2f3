"""Numbers of a run: means over a window, throughput, memory, time left; traces of its steps."""

from __future__ import annotations

import resource
import time
from collections import defaultdict
from collections.abc import Mapping
from typing import Any, SupportsFloat

import jax
import numpy as np
from etils import epath


class Window:
    """Means of metrics since the last `flush`, with the images/s of its steps."""

    def __init__(self, batch_size: int) -> None:
        self._batch_size = batch_size
        self._values: dict[str, list[float]] = defaultdict(list)
        self._started = time.monotonic()
        self._waited, self._steps = 0.0, 0

    def add(self, metrics: Mapping[str, SupportsFloat], waited: float) -> None:
        """Takes one step's metrics, already on the host, and the seconds it waited for data."""
        for name, value in metrics.items():
            self._values[name].append(float(value))
        self._waited += waited
        self._steps += 1

    def flush(self) -> dict[str, float]:
        """Means since the last flush, and rates.

        `data_wait` is the fraction of time spent waiting for data.
        """
        means = {name: float(np.mean(values)) for name, values in self._values.items()}
        self._values.clear()
        now = time.monotonic()
        elapsed = max(now - self._started, 1e-9)
        means["images_per_second"] = self._steps * self._batch_size / elapsed
        means["data_wait"] = self._waited / elapsed
        self._started, self._waited, self._steps = now, 0.0, 0
        return means

    def pause(self) -> float:
        """Marks the start of work that is no training; give the result to `resume`."""
        return time.monotonic()

    def resume(self, paused: float) -> None:
        """Leaves the time since `paused` out of the window."""
        self._started += time.monotonic() - paused


class Trace:
    """A profile of `count` steps from `start` on, in WORKDIR/profile; none where count is 0."""

    def __init__(self, workdir: str, start: int, count: int) -> None:
        self._folder = epath.Path(workdir) / "profile"
        self._start, self._last = start, start + count - 1
        self._running = False

    def before(self, step: int) -> None:
        """Starts the trace at its first step."""
        if not self._running and self._start <= step <= self._last:
            jax.profiler.start_trace(str(self._folder))
            self._running = True

    def after(self, step: int, results: Any) -> None:
        """Ends the trace once the results of its last step are there."""
        if self._running and step == self._last:
            jax.block_until_ready(results)
            jax.profiler.stop_trace()
            self._running = False


def memory_gib() -> float:
    """The most memory in use so far: of the first device, or of the process where it has none."""
    statistics = jax.local_devices()[0].memory_stats() or {}
    peak = statistics.get("peak_bytes_in_use")
    if peak is None:
        peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # Linux counts KiB
    return peak / 2**30
