"""Numbers of a run: means over a window, throughput and time left."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping

import numpy as np


class Window:
    """Means of metrics since the last `flush`, with the images/s of the window."""

    def __init__(self, batch_size: int) -> None:
        self._batch_size = batch_size
        self._values: dict[str, list[float]] = defaultdict(list)
        self._started = time.monotonic()
        self._waited = 0.0

    def add(self, metrics: Mapping[str, np.ndarray], waited: float) -> None:
        """Takes one step's metrics, already on the host, and the seconds it waited for data."""
        for name, value in metrics.items():
            self._values[name].append(float(value))
        self._waited += waited

    def flush(self) -> dict[str, float]:
        """Means since the last flush; `data_wait` is the share of time spent waiting for data."""
        elapsed = max(time.monotonic() - self._started, 1e-9)
        steps = max((len(values) for values in self._values.values()), default=0)
        means = {name: float(np.mean(values)) for name, values in self._values.items()}
        means["images_per_second"] = steps * self._batch_size / elapsed
        means["data_wait"] = self._waited / elapsed
        self._values.clear()
        self._started, self._waited = time.monotonic(), 0.0
        return means

    def flush_time(self) -> float:
        """Seconds since the last flush; starts a new window."""
        elapsed = time.monotonic() - self._started
        self.flush()
        return elapsed

    def pause(self) -> float:
        """Marks the start of work that is no training; give the result to `resume`."""
        return time.monotonic()

    def resume(self, paused: float) -> None:
        """Leaves the time since `paused` out of the window."""
        self._started += time.monotonic() - paused


def clock(seconds: float) -> str:
    """Seconds as h:mm:ss or m:ss."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
