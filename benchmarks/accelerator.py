"""All that a GPU or TPU has to tell, in a few minutes.

    python -m benchmarks.accelerator --json OUT --cache=DIR          # on the device, 8 minutes
    python -m benchmarks.accelerator --json OUT --only=rasterizer    # names that begin so
    python -m benchmarks.accelerator --quick --config=configs/stage2.py   # does it run? on a CPU

Needs jax and no tensorflow. The most important jobs come first; each result is written as soon as
it is measured. When the minutes are over the process ends, in the middle of a compilation if need
be, and says what it left out. A job that fails is written down, and the next one begins. Programs
compile once; with --cache a second call finds them compiled and comes further.

Times are of calls that are queued one after the other. A limit is the arithmetic at the measured
speed of a matrix product in the same type, or the bytes at the measured speed of a copy.
"""

from __future__ import annotations

import gc
import json
import os
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
from absl import flags
from ml_collections import config_flags

from benchmarks import machine
from benchmarks.accelerator_jobs import FULL, SMALL, Bench, Job, jobs
from benchmarks.machine import Speeds
from benchmarks.results import save
from fields_jax.cli import run
from fields_jax.errors import UserError, first_line
from fields_jax.flame.io import resolve_head

_BEGAN = time.monotonic()


def define_flags() -> None:
    """The flags of the command."""
    config_flags.DEFINE_config_file("config", "configs/stage2.py:full", "config of stage 2")
    flags.DEFINE_string("json", "", "file for the results")
    flags.DEFINE_float("minutes", 7.5, "after its imports when the process ends", lower_bound=0.1)
    flags.DEFINE_list("only", [], "beginnings of the names of jobs (default: all)")
    flags.DEFINE_string("cache", "", "folder that keeps compiled programs between calls")
    flags.DEFINE_bool("quick", False, "small sizes, to see whether it runs")


def main(_: list[str]) -> None:
    """The command."""
    chosen = flags.FLAGS
    deadline = _BEGAN + 60 * chosen.minutes
    log = Log(chosen.json)
    over = threading.Timer(deadline - time.monotonic(), lambda: log.leave("the time was over"))
    over.daemon = True
    over.start()
    if chosen.cache:
        jax.config.update("jax_compilation_cache_dir", chosen.cache)
    sizes = SMALL if chosen.quick else FULL
    speeds = measure_speeds(sizes.matmul, sizes.copy_mib)
    log.describe(speeds)
    bench = Bench(chosen.config, resolve_head(chosen.config.head), sizes, speeds)
    found = [
        job for job in jobs(bench) if not chosen.only or job.name.startswith(tuple(chosen.only))
    ]
    measure(found, log, deadline)
    over.cancel()


def measure_speeds(side: int, mib: int) -> dict[str, Speeds]:
    """The limits by type of the matrix product."""
    copy = machine.copy_speed(mib)
    return {
        dtype: Speeds(machine.matmul_speed(side, dtype), copy) for dtype in ("bfloat16", "float32")
    }


def measure(
    found: Sequence[Job], log: Log, deadline: float, clock: Callable[[], float] = time.monotonic
) -> dict[str, Any]:
    """Runs jobs in order until the deadline; one that fails does not stop the others.

    Args:
      found: the jobs.
      log: takes the results.
      deadline: in seconds of the clock.
      clock: seconds.

    Returns:
      The report, ready for JSON.
    """
    log.expect(job.name for job in found)
    for job in found:
        if clock() >= deadline:
            break
        log.begin(job.name)
        try:
            for row in job.rows():
                log.add(row)
                if clock() >= deadline:
                    break
            else:
                log.end()
        except Exception as error:  # out of memory, or a package that is absent
            log.end(error)
        gc.collect()
    log.leave_out("the time was over")
    return log.report


class Log:
    """The report, which is written after each result and may be ended by another thread."""

    def __init__(self, path: str) -> None:
        self._path, self._lock, self._job, self._began = path, threading.Lock(), "", 0.0
        self._left: dict[str, None] = {}
        self.report: dict[str, Any] = {
            "machine": {},
            "limits": {},
            "results": {},
            "seconds": {},
            "failed": {},
            "skipped": {},
        }

    def describe(self, speeds: dict[str, Speeds]) -> None:
        """Writes what the machine is and does at most."""
        limits = {f"{dtype}_matmul_tflops": s.flops / 1e12 for dtype, s in speeds.items()}
        limits["copy_gbytes_per_second"] = next(iter(speeds.values())).bytes / 1e9
        self._put("machine", machine.describe())
        self._put("limits", limits)

    def expect(self, names) -> None:
        """Notes the jobs that are to come."""
        self._left = dict.fromkeys(names)

    def begin(self, name: str) -> None:
        """A job begins."""
        self._job, self._began = name, time.monotonic()
        print(f"{name} ...", flush=True)

    def add(self, row: dict[str, Any]) -> None:
        """A result of the current job."""
        print(f"  {json.dumps(row)}", flush=True)
        self._put("results", row, into=self._job)

    def end(self, error: Exception | None = None) -> None:
        """The current job is over, with an error or without."""
        self._left.pop(self._job, None)
        self._put("seconds", round(time.monotonic() - self._began, 1), into=self._job)
        if error is not None:
            kind = "skipped" if isinstance(error, UserError) else "failed"
            print(f"  {kind}: {first_line(error)}", flush=True)
            self._put(kind, first_line(error), into=self._job)

    def leave_out(self, why: str) -> None:
        """Notes that the jobs that are left are not run, or not to their end."""
        for name in list(self._left):
            self._put("skipped", why, into=name)

    def leave(self, why: str) -> None:
        """Ends the process, whatever the other threads do."""
        self.leave_out(why)
        print(f"{why}: the rest is left out", flush=True)
        self._lock.acquire()  # until the file is whole
        os._exit(0)

    def _put(self, key: str, value: Any, into: str = "") -> None:
        with self._lock:
            if not into:
                self.report[key] = value
            elif key == "results":
                self.report[key].setdefault(into, []).append(value)
            else:
                self.report[key][into] = value
            save(self._path, self.report, indent=1)


if __name__ == "__main__":
    define_flags()
    run(main)
