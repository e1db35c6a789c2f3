"""Settings of the process that make XLA's CPU backend, and the tracing of programs, fast."""

from __future__ import annotations

import ctypes
import gc
import os
from importlib import metadata
from typing import Any

# Breadth-first order keeps two cores busy but defeats their caches: depth-first, a step of the
# small configs takes 46 ms instead of 75.
_DEPTH_FIRST = "--xla_cpu_enable_concurrency_optimized_scheduler=false"
# The library that jaxlib calls for products and convolutions by default leaves one of two cores
# idle: without it, an encoders' step at 64 px takes 65 ms instead of 106.
_OWN_PRODUCTS = "--xla_cpu_experimental_ynn_fusion_type=reduce"
# With the older emitters of fused loops and little optimisation, programs of readings and pictures
# compile in 0.55 of the time and run within 5 % as fast; training steps compile no faster.
_SOON = {"xla_cpu_use_fusion_emitters": False, "xla_backend_optimization_level": 1}
_KNOWN = ("0.10.", "0.11.")  # jaxlib ends the process at a flag it does not know
# Tracing makes millions of objects that are soon gone, and Python's collector looks through all
# others after each 700 that are left over: an eighth of the time of tracing and lowering a step.
_COLLECT_AFTER = (200_000, 50, 100)
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # M_* of glibc's malloc.h


def tune() -> None:
    """Tunes the process; call it before JAX touches a device. The user's XLA_FLAGS win."""
    gc.set_threshold(*_COLLECT_AFTER)
    _set_flags()
    keep_freed_memory()


def cores() -> int:
    """Cores that this process may use: a scheduler such as Slurm's may give it few of them."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def soon_compiled(platform: str) -> dict[str, Any]:
    """Compiler options of `jax.jit` for programs that run for milliseconds; none but on CPUs.

    The user's XLA_FLAGS win.
    """
    if platform != "cpu" or not _flags_are_known():
        return {}
    flags = os.environ.get("XLA_FLAGS", "")
    return {name: value for name, value in _SOON.items() if f"--{name}" not in flags}


def _flags_are_known() -> bool:
    return metadata.version("jaxlib").startswith(_KNOWN)


def _set_flags() -> None:
    flags = os.environ.get("XLA_FLAGS", "")
    if _flags_are_known():
        ours = [flag for flag in (_DEPTH_FIRST, _OWN_PRODUCTS) if flag.split("=")[0] not in flags]
        os.environ["XLA_FLAGS"] = " ".join([flags, *ours]).strip()


def keep_freed_memory() -> None:
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
