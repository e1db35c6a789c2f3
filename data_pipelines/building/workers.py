"""Makes the shards of a set by several processes of this machine.

As with Beam only the names of shards are handed out, and whoever is free takes the next one. A
worker ends with the process that started it, also if that is killed.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import connection
from typing import Any

from absl import logging
from etils import epath

from data_pipelines.building.sharded_builder import Job, ShardedBuilder, unfinished_jobs
from fields_jax import cpu_tuning
from fields_jax.disk import told
from fields_jax.errors import UserError

_PLATFORMS = "JAX_PLATFORMS"  # the variable that JAX reads when a process first computes
_LOOK_SECONDS = 0.5  # between looks at how much is done


def make_shards(construct: Callable[[], ShardedBuilder], source: str, workers: int) -> int:
    """Makes every unfinished shard; the builder assembles them afterwards.

    Args:
      construct: makes the builder; sent to the workers by pickle.
      source: folder of the raw data; "" for sets without.
      workers: processes.

    Returns:
      How many shards were made.

    Raises:
      UserError: the source does not hold such a set, a disk is full, or a worker was killed.
    """
    builder = construct()
    splits = builder.plan(epath.Path(source), resume=True)
    todo = unfinished_jobs(splits)
    if not todo:
        return 0
    line = builder.progress(splits)
    count = sum(len(shard) for shards in splits.values() for shard in shards)
    line.skip(count - sum(len(splits[split][index]) for split, index in todo))
    context = multiprocessing.get_context("spawn")  # JAX's threads do not survive a fork
    taken, done = context.Value("q", 0), context.Value("q", 0)
    started, counted = [], 0
    try:
        with _on_cpu():
            for _ in range(min(workers, len(todo))):
                heard, says = context.Pipe(duplex=False)
                arguments = (construct, source, todo, taken, done, says)
                process = context.Process(target=_work, args=arguments, daemon=True)
                process.start()
                started.append((process, heard))
        running = list(started)
        while running:
            connection.wait([process.sentinel for process, _ in running], _LOOK_SECONDS)
            if done.value > counted:
                line.step(done.value - counted)
                counted = done.value
            for process, heard in running:
                if not process.is_alive():
                    _check(process, heard)
            running = [(process, heard) for process, heard in running if process.is_alive()]
    finally:
        for process, _ in started:
            process.kill()  # finished shards are whole, and the one at work is made anew
            process.join()
    return len(todo)


@contextlib.contextmanager
def _on_cpu() -> Iterator[None]:
    """Processes started inside use no accelerator: a TPU serves one, a GPU feeds the first."""
    before = os.environ.get(_PLATFORMS)
    os.environ[_PLATFORMS] = "cpu"
    try:
        yield
    finally:
        del os.environ[_PLATFORMS]
        if before is not None:
            os.environ[_PLATFORMS] = before


class _Counter:
    """Tells the process that shows the progress of examples made; stands for a `Progress`."""

    def __init__(self, done: Any):
        self._done = done

    def skip(self, count: int) -> None:
        """Counts nothing: finished shards are not handed out."""

    def step(self, count: int = 1) -> None:
        with self._done.get_lock():
            self._done.value += count


def _work(construct: Any, source: str, *rest: Any) -> None:
    """Makes shards until none is left."""
    todo, taken, done, says = rest
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that waits for this one is told too
    _end_with_parent()
    cpu_tuning.keep_freed_memory()
    logging.set_verbosity(logging.ERROR)  # tfds's warnings; what a user must know is in the report
    try:
        builder = construct()
        plan = builder.plan(epath.Path(source))
        while (job := _next(todo, taken)) is not None:
            split, index = job
            shard = plan[split][index]
            shard.progress = _Counter(done)
            builder.write_shard(shard)
    except Exception as error:
        mistake = told(error) or (str(error) if isinstance(error, UserError) else None)
        says.send((mistake is not None, mistake or traceback.format_exc()))
        raise SystemExit(1) from error


def _next(todo: Sequence[Job], taken: Any) -> Job | None:
    with taken.get_lock():
        taken.value += 1
        return todo[taken.value - 1] if taken.value <= len(todo) else None


def _end_with_parent() -> None:
    """Ends this process as soon as the one that started it is gone."""
    parent = multiprocessing.parent_process()

    def watch() -> None:
        connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, name="parent", daemon=True).start()


def _check(process: Any, heard: Any) -> None:
    """Raises what ended a worker.

    Raises:
      UserError: a mistake, or it was killed.
      RuntimeError: a bug, with the worker's traceback.
    """
    if process.exitcode == 0:
        return
    if heard.poll():
        is_mistake, text = heard.recv()
        raise UserError(text) if is_mistake else RuntimeError(f"a worker failed:\n{text}")
    raise UserError(
        f"a process that makes shards was ended from outside (status {process.exitcode}), as when "
        "memory is short; the same command then goes on where it was, and fewer --workers need less"
    )
