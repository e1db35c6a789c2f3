"""The first face sooner: programs of its outputs are compiled while its networks still are.

A compiler works without Python's lock, so that a second core has something to do; tracing does not,
and a cold start of 16 s on two cores becomes one of 15.
"""

from __future__ import annotations

import atexit
import threading
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from fields_jax.outputs.morphs import state_of
from fields_jax.outputs.texture import View, bake
from fields_jax.types import FlameCoefficients, FlameModel

_SIDE = 64  # pixels of the grey picture, any will do


class Warming:
    """Calls functions one after the other beside the program, for what they leave compiled.

    What fails here fails again where it is needed, and is told there.
    """

    def __init__(self, calls: Sequence[Callable[[], object]]):
        """Starts."""
        self._calls, self._ended = calls, threading.Event()
        self._thread = threading.Thread(target=self._run, name="warming", daemon=True)
        self._thread.start()
        # A process that ends while a compiler works crashes.
        atexit.register(self.end)

    def _run(self) -> None:
        for call in self._calls:
            if self._ended.is_set():
                return
            try:
                call()
            except Exception:
                return

    def end(self) -> None:
        """Waits for the call that runs, if any, and makes no more."""
        self._ended.set()
        self._thread.join()


def warm_up(head: FlameModel, morphs: str, n_expression: int) -> Warming:
    """Begins to compile what every face's texture and morph targets need.

    Args:
      head: of the faces.
      morphs: one of `outputs.morphs.MORPHS`.
      n_expression: expression components of the faces.
    """
    grey = np.full((_SIDE, _SIDE, 3), 128, np.uint8)
    view = View(grey, np.asarray(head.template), np.float32([5, 0, 0]), np.eye(3), _SIDE)
    sizes = dict(shape=1, expression=n_expression, jaw=3, eyelid=2, pose=3, camera=3)
    sizes |= dict(neck=3, eyes=6)
    face = FlameCoefficients(**{name: np.zeros((1, size)) for name, size in sizes.items()})
    return Warming([partial(state_of, head, morphs, face), partial(bake, head, [view])])
