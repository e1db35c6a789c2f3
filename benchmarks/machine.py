"""The machine that a benchmark runs on: what it is, and how fast it multiplies and copies."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from benchmarks.timing import shortest
from fields_jax.workdir.config import git_hash

_PACKAGES = ("jax", "jaxlib", "flax", "numpy", "tensorflow", "tensorflow-cpu", "torch")


class Speeds(NamedTuple):
    """What a machine can do at most, as far as measured.

    Attributes:
      flops: per second, of a product of large matrices with all threads.
      bytes: per second, read and written, of an array far larger than the caches.
    """

    flops: float
    bytes: float

    def faster(self, other: Speeds) -> Speeds:
        """The larger of each: what keeps a machine busy only ever lowers a measurement."""
        return Speeds(*map(max, self, other))


def describe() -> dict[str, Any]:
    """The machine, the versions and the state of the sources; ready for JSON."""
    versions = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "date": datetime.date.today().isoformat(),
        "git": git_hash(),
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "memory_gib": _memory_gib(),
        "device": jax.devices()[0].device_kind,
        "devices": jax.device_count(),
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        "versions": versions,
    }


def load() -> list[float]:
    """The system's load over 1, 5 and 15 minutes."""
    return [round(value, 2) for value in os.getloadavg()]


def matmul_speed(side: int, dtype: str = "float32", rounds: int = 5) -> float:
    """FLOP/s of a product of square matrices, at the platform's default precision."""
    matrix = jnp.ones((side, side), dtype)
    product = jax.jit(jnp.matmul)
    call = lambda: product(matrix, matrix).block_until_ready()  # noqa: E731
    return 2 * side**3 / shortest(call, rounds)


def copy_speed(mib: int, rounds: int = 5) -> float:
    """Bytes/s read and written by a copy of that many MiB."""
    source = jnp.ones((mib, 2**18), jnp.float32)
    copy = jax.jit(lambda x: x + 1)  # a plain copy may be left to one thread
    return 2 * source.nbytes / shortest(lambda: copy(source).block_until_ready(), rounds)


def speeds(side: int = 2048, mib: int = 256) -> Speeds:
    """The measured limits, in float32."""
    return Speeds(matmul_speed(side), copy_speed(mib))


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _memory_gib() -> float:
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
