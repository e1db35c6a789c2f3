"""Progress of long work in one line on stderr: how much is done, how fast, and the time left."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from fields_jax.errors import printable

Item = TypeVar("Item")
_LOG_SECONDS = 5.0  # between the lines where stderr is no terminal
_WAIT_SECONDS = 15.0  # between the lines about work that cannot be counted, where it is none
_TICK_SECONDS = 1.0  # between them at a terminal
_WIDTH = 70  # of the line at a terminal, padded so that it covers the one before


class Progress:
    """Counts the items done and reports them.

    At a terminal one line is kept up to date; elsewhere, as in a file, a new line is written every
    few seconds, and at the end.
    """

    def __init__(self, total: int, what: str, *, of: str = "") -> None:
        """Starts the clock.

        Args:
          total: number of items.
          what: what the items are, such as "photographs".
          of: the beginning of the line, such as the set that is being made.
        """
        self._total, self._what = total, what
        self._label = f"{printable(of)}: " if of else ""
        self._done = self._made = 0
        self._started = self._said = time.monotonic()
        self._line = ""

    def skip(self, count: int) -> None:
        """Counts items done by an earlier run, which do not count for the speed of this one."""
        self._done += count

    def step(self, count: int = 1) -> None:
        """Counts items as done, and reports if it is time to."""
        self._done, self._made, now = self._done + count, self._made + count, time.monotonic()
        last = self._done >= self._total
        if not (last or sys.stderr.isatty() or now - self._said >= _LOG_SECONDS):
            return
        self._said, rate = now, self._made / max(now - self._started, 1e-9)
        left = clock(max(self._total - self._done, 0) / rate)
        line = f"{self._label}{self._done}/{self._total} {self._what}, {rate:.1f}/s, {left} left"
        if sys.stderr.isatty():
            print(f"\r{line:{_WIDTH}}", end="\n" if last else "", file=sys.stderr, flush=True)
        else:
            print(line, file=sys.stderr, flush=True)


def progress(items: Iterable[Item], total: int, what: str, *, of: str = "") -> Iterator[Item]:
    """Passes items on; one counts when the next one is asked for. See `Progress`."""
    line = Progress(total, what, of=of)
    for item in items:
        yield item
        line.step()


@contextlib.contextmanager
def kept_up(line: Callable[[], str], show: Callable[[str], None]) -> Iterator[None]:
    """Shows a line again and again while the block runs, from a thread, as the block is busy.

    Args:
      line: makes it.
      show: writes it to stdout, where it replaces the one before at a terminal.
    """
    ended = threading.Event()
    wait = _TICK_SECONDS if sys.stdout.isatty() else _WAIT_SECONDS

    def work() -> None:
        while not ended.wait(wait):
            show(line())

    thread = threading.Thread(target=work, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def clock(seconds: float) -> str:
    """Seconds as h:mm:ss or m:ss."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
