"""Requests to stop: Ctrl-C, SIGTERM and the preemption notice of a cluster.

The first request is remembered and polled by the loop; nothing is interrupted.
"""

from __future__ import annotations

import os
import signal
from typing import Any

import jax
import orbax.checkpoint as ocp

from fields_jax.errors import Preemption


class StopSwitch:
    """Turns signals into a request. A second Ctrl-C ends the process at once.

    With several processes SIGTERM is left to JAX's preemption service, which makes all of them stop
    at the same step; a handler of ours would stop one early and leave the others waiting in a
    collective. Ctrl-C then ends a run without saving.
    """

    def __init__(self) -> None:
        self._asked: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopSwitch:
        caught = (signal.SIGINT, signal.SIGTERM) if jax.process_count() == 1 else ()
        for number in caught:
            try:
                self._before[number] = signal.signal(number, self._ask)
            except ValueError:  # not the main thread: signals are the caller's
                break
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @property
    def asked(self) -> bool:
        """Whether a signal has asked this process to stop; with several processes use `poll`."""
        return self._asked is not None

    def poll(self, manager: ocp.CheckpointManager, step: int) -> bool:
        """Whether to save and stop after this step; call it once for each step."""
        preempted = jax.process_count() > 1 and manager.reached_preemption(step)
        if preempted and self._asked is None:
            self._asked = signal.SIGTERM
        return self.asked

    def error(self) -> BaseException:
        """What to raise once the state is saved; it decides the exit status."""
        return KeyboardInterrupt() if self._asked == signal.SIGINT else Preemption()

    def _ask(self, number: int, _: object) -> None:
        if number == signal.SIGINT and self._asked is not None:
            raise KeyboardInterrupt
        if self._asked is None:
            self._asked = number
            again = " (Ctrl-C again to stop at once)" if number == signal.SIGINT else ""
            # Not print, which is not reentrant: the signal may have interrupted one.
            os.write(1, f"\nstopping after this step{again}\n".encode())
