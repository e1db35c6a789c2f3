"""Settings of the process that make XLA's CPU backend, and the tracing of programs, fast."""

from __future__ import annotations

import ctypes
import gc
import os
from importlib import metadata

# Breadth-first order keeps two cores busy but defeats their caches: depth-first, a step of the
# small configs takes 46 ms instead of 75.
_DEPTH_FIRST = "--xla_cpu_enable_concurrency_optimized_scheduler=false"
_KNOW_DEPTH_FIRST = ("0.10.", "0.11.")  # jaxlib ends the process at a flag it does not know
# Tracing makes millions of objects that are soon gone, and Python's collector looks through all
# others after each 700 that are left over: an eighth of the time of tracing and lowering a step.
_COLLECT_AFTER = (200_000, 50, 100)
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # M_* of glibc's malloc.h


def tune() -> None:
    """Tunes the process; call it before JAX touches a device. The user's XLA_FLAGS win."""
    gc.set_threshold(*_COLLECT_AFTER)
    _schedule_depth_first()
    _keep_freed_memory()


def _schedule_depth_first() -> None:
    flags = os.environ.get("XLA_FLAGS", "")
    known = metadata.version("jaxlib").startswith(_KNOW_DEPTH_FIRST)
    if known and _DEPTH_FIRST.split("=")[0] not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} {_DEPTH_FIRST}".strip()


def _keep_freed_memory() -> None:
    """Asks glibc not to give freed memory back to the system.

    XLA allocates each step's buffers afresh. By default glibc maps and unmaps the large ones each
    time, and zeroing their pages took two fifths of an encoder's step.
    """
    try:
        libc = ctypes.CDLL("libc.so.6")
    except OSError:  # another C library, which is left as it is
        return
    libc.mallopt(_MMAP_MAX, 0)
    libc.mallopt(_TRIM_THRESHOLD, 2**31 - 1)
