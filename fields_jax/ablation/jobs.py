"""Runs as child processes: several side by side, each with its share of the cores, and resumable.

A run is a chain of commands. What each was given is recorded when it has ended well, so that the
same command is not run again, and one that was given something else is.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent import futures
from pathlib import Path
from typing import Any

import fields_jax
from fields_jax import cpu_tuning
from fields_jax.disk import writing
from fields_jax.errors import UserError, printable
from fields_jax.files import read_json, write_whole
from fields_jax.progress import clock

RECORD, LOG = "finished.json", "log.txt"  # in the folder of a run
_LOG_SECONDS = 60.0  # between the lines about all runs where stdout is no terminal
_ENDING = 60.0  # seconds that a child has to save its work
_BUG = "this is a bug of"  # how a command's line after a traceback begins


@dataclasses.dataclass(frozen=True)
class Command:
    """One command of a run.

    Attributes:
      name: under which it is recorded, such as "train".
      arguments: of the process.
      given: what its result depends on, ready for JSON.
    """

    name: str
    arguments: Sequence[str]
    given: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Job:
    """A run.

    Attributes:
      name: of the run.
      folder: its own, which is made.
      commands: one after the other.
      after: names of jobs that must have ended well before.
      told: how far it is, for the line of progress.
    """

    name: str
    folder: Path
    commands: Sequence[Command]
    after: Sequence[str] = ()
    told: Callable[[], str] = str


def run_jobs(jobs: Sequence[Job], count: int) -> dict[str, str]:
    """Runs all jobs, `count` side by side; one that fails does not hold up the others.

    Args:
      jobs: those that others come after stand before them.
      count: how many at once; each gets its share of the cores.

    Returns:
      Why it failed, by the names of those that did: the last line that the child wrote.
    """
    finished = [job for job in jobs if all(map(_Record(job).holds, job.commands))]
    if finished:
        print(f"{len(finished)} of {len(jobs)} runs are finished already", flush=True)
    state = _State({job.name for job in finished}, {}, {}, [], _Board(), time.monotonic())
    waiting = [job for job in jobs if job.name not in state.done]
    slots: queue.SimpleQueue[set[int] | None] = queue.SimpleQueue()
    for share in _shares(count):
        slots.put(share)
    children = _Children()
    running: set[futures.Future] = set()
    with futures.ThreadPoolExecutor(count) as pool, children.ended_at_last():
        while waiting or running:
            state.board.show(lambda: _line(state, jobs, count))
            for job in list(waiting):
                broken = [name for name in job.after if name in state.failed]
                if broken:
                    state.failed[job.name] = f"not run, as {broken[0]} failed"
                elif len(running) >= count or not state.done.issuperset(job.after):
                    continue
                else:
                    state.running[job.name] = job
                    running.add(pool.submit(_run, job, slots, children, state))
                waiting.remove(job)
            if running:
                ended, running = futures.wait(running, 0.5, futures.FIRST_COMPLETED)
                for each in ended:
                    each.result()  # a bug of ours ends all
    return state.failed


class _Board:
    """The line about all runs, kept up to date at a terminal and now and then elsewhere."""

    def __init__(self):
        self._said, self._width = time.monotonic(), 0

    def show(self, line: Callable[[], str]) -> None:
        """Shows the line if it is time to."""
        at_terminal, now = sys.stdout.isatty(), time.monotonic()
        if now - self._said < (1 if at_terminal else _LOG_SECONDS):
            return
        self._said, text = now, line()
        print(f"\r{text:{self._width}}" if at_terminal else text, end="" if at_terminal else "\n")
        self._width = len(text) if at_terminal else 0
        sys.stdout.flush()

    def say(self, line: str) -> None:
        """Writes a line that stays."""
        start = f"\r{'':{self._width}}\r" if self._width else ""
        print(f"{start}{line}", flush=True)


@dataclasses.dataclass
class _State:
    """How far all jobs are; each is changed by the thread that runs it."""

    done: set[str]
    failed: dict[str, str]
    running: dict[str, Job]
    took: list[float]  # seconds of each that ended well
    board: _Board
    started: float


class _Record:
    """What the commands of a job that ended well were given."""

    def __init__(self, job: Job):
        self._file = job.folder / RECORD
        self._found = read_json(self._file) if self._file.exists() else {}

    def holds(self, command: Command) -> bool:
        """Whether this command ended well, given the same."""
        return command.name in self._found and self.given(command.name) == command.given

    def given(self, name: str) -> Any:
        """What a command was given that ended well; None if there is none."""
        return self._found.get(name, {}).get("given")

    def add(self, command: Command, seconds: float) -> None:
        """Writes that a command ended well."""
        self._found[command.name] = {"given": command.given, "seconds": round(seconds, 1)}
        write_whole(self._file, json.dumps(self._found, indent=1))


def given_before(job: Job, name: str) -> Any:
    """What a command of a job was given that ended well; None if there is none."""
    return _Record(job).given(name)


class _Children:
    """The processes that run, so that none outlives this one."""

    def __init__(self):
        self._running: set[subprocess.Popen] = set()
        self._lock, self.closed = threading.Lock(), False

    def call(self, arguments: Sequence[str], log: Path) -> int:
        """Runs a process to its end, both outputs appended to `log`; returns its exit status."""
        with open(log, "ab") as stream:
            with self._lock:
                if self.closed:
                    return -1
                child = subprocess.Popen(
                    arguments, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, env=_env()
                )
                self._running.add(child)
            status = child.wait()
        with self._lock:
            self._running.discard(child)
        return status

    @contextlib.contextmanager
    def ended_at_last(self) -> Iterator[None]:
        """Ends whatever still runs when the block is left, which happens only if it raised."""
        try:
            yield
        finally:
            with self._lock:
                self.closed = True
                left = list(self._running)
            for child in left:
                with contextlib.suppress(OSError):
                    child.terminate()
            deadline = time.monotonic() + _ENDING
            for child in left:
                try:
                    child.wait(max(0.0, deadline - time.monotonic()))
                except subprocess.TimeoutExpired:
                    child.kill()


def _run(job: Job, slots: queue.SimpleQueue, children: _Children, state: _State) -> None:
    """One job in a thread of the pool."""
    share = slots.get()
    try:
        if share is not None:
            os.sched_setaffinity(0, share)  # of this thread, and so of the children it starts
        start = time.monotonic()
        reason = _commands(job, children)
        seconds = time.monotonic() - start
        if children.closed:  # ended by us: it neither failed nor is done
            return
        if reason is None:
            state.done.add(job.name)
            state.took.append(seconds)
            state.board.say(f"{job.name}: done in {clock(seconds)}")
        else:
            state.failed[job.name] = reason
            state.board.say(f"{job.name} failed after {clock(seconds)}: {reason}")
    finally:
        state.running.pop(job.name, None)
        slots.put(share)


def _commands(job: Job, children: _Children) -> str | None:
    """Runs what is not recorded; returns why the first that failed did."""
    record, log = _Record(job), job.folder / LOG
    with writing(job.folder, instead="another --out"):
        job.folder.mkdir(parents=True, exist_ok=True)
    for command in job.commands:
        if record.holds(command):
            continue
        start = time.monotonic()
        size = log.stat().st_size if log.exists() else 0
        if status := children.call(command.arguments, log):
            return f"{command.name}: {_last_line(log, size) or f'ended with status {status}'}"
        record.add(command, time.monotonic() - start)
    return None


def _last_line(log: Path, start: int) -> str:
    """The last line that tells something, of what was written from `start` on."""
    with open(log, "rb") as stream:
        stream.seek(start)
        lines = stream.read().decode(errors="replace").splitlines()
    lines = [line.strip() for line in lines if line.strip()]
    if len(lines) > 1 and lines[-1].startswith(_BUG):
        lines.pop()
    return printable(lines[-1][:300]) if lines else ""


def _shares(count: int) -> list[set[int] | None]:
    """The cores divided among `count` jobs; None where a system cannot, or has fewer cores."""
    if not hasattr(os, "sched_setaffinity"):
        return [None] * count
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < count:
        return [None] * count
    ends = [index * len(cores) // count for index in range(count + 1)]
    return [set(cores[low:high]) for low, high in itertools.pairwise(ends)]


def backend() -> str:
    """What the children compute on, as JAX names it.

    A child is asked: TPUs serve one process, and the first on a GPU takes most of its memory.
    """
    if os.environ.get("JAX_PLATFORMS") == "cpu":
        return "cpu"
    asked = [sys.executable, "-c", "import jax; print(jax.default_backend())"]
    told = subprocess.run(asked, env=_env(), capture_output=True, text=True, check=False)
    return (told.stdout.split() or ["cpu"])[-1]  # the runs tell of a device that cannot be opened


def default_count(backend: str) -> int:
    """One job for every two cores that this process may use; one alone on an accelerator."""
    if backend != "cpu":
        return 1
    return max(1, cpu_tuning.cores() // 2)


def _env() -> dict[str, str]:
    """The children import this package from where it is, and share an accelerator's memory."""
    here = str(Path(fields_jax.__file__).parents[1])
    paths = [here, *filter(None, [os.environ.get("PYTHONPATH")])]
    shared = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    return shared | os.environ | {"PYTHONPATH": os.pathsep.join(paths)}


def _line(state: _State, jobs: Sequence[Job], count: int) -> str:
    left = len(jobs) - len(state.done) - len(state.failed)
    parts = [f"{len(state.done)}/{len(jobs)} runs"]
    if state.failed:
        parts.append(f"{len(state.failed)} failed")
    if state.took:
        parts.append(f"about {clock(sum(state.took) / len(state.took) * left / count)} left")
    now = "; ".join(f"{job.name}{job.told()}" for job in list(state.running.values()))
    return f"{', '.join(parts)}: {now or 'none runs'}"


def check_same(job: Job, name: str, given: Mapping[str, Any]) -> None:
    """Refuses a job whose command was given something else when it ended well.

    Raises:
      UserError: naming the first key that differs.
    """
    before = given_before(job, name)
    if before is None or before == given:
        return
    key, old, new = next(_differences(before, given))
    raise UserError(
        f"{job.folder} is of another config: {key} was {old!r}, now {new!r}; use another --out, or "
        "remove that folder"
    )


def _differences(old: Any, new: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in sorted(old.keys() | new.keys()):
            yield from _differences(old.get(key), new.get(key), f"{path}.{key}" if path else key)
    elif old != new:
        yield path, old, new
