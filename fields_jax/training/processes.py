"""Joins the processes of one training: Cloud TPU, Slurm, or named by flags or the environment."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import jax

from fields_jax.errors import Preemption, UserError

# Environment variables; jax.distributed reads only the first by itself.
ADDRESS, COUNT, RANK = "JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID"


@contextlib.contextmanager
def joined(mode: str) -> Iterator[None]:
    """Starts `jax.distributed` before and shuts it down after; call it before any device is used.

    Shutting down waits for all processes. A process that alone meets an error would wait for
    minutes and then lose its message. So after an exception that the processes have not agreed on
    nothing is shut down: `cli.leave` ends this process, and the others notice that it is gone.

    Args:
      mode: "" for one process; "auto" where JAX knows the cluster (Cloud TPU, Slurm, Open MPI,
        GKE); "env" to read JAX_COORDINATOR_ADDRESS (host:port), JAX_NUM_PROCESSES and
        JAX_PROCESS_ID; or these three themselves, "HOST:PORT,COUNT,RANK".

    Raises:
      UserError: an unknown mode, a variable that is missing, or no such cluster.
    """
    if not mode:
        yield
        return
    places = _places(mode)
    try:
        jax.distributed.initialize(**places)
    except (ValueError, RuntimeError) as error:
        raise UserError(f"cannot join the other processes: {error}") from error
    try:
        yield
    except Preemption:  # all of them stop after the same step
        jax.distributed.shutdown()
        raise
    jax.distributed.shutdown()


def _places(mode: str) -> dict[str, str | int]:
    """The arguments of `jax.distributed.initialize`; none where JAX finds them by itself."""
    if mode == "auto":
        return {}
    if mode == "env":
        missing = [name for name in (ADDRESS, COUNT, RANK) if name not in os.environ]
        if missing:
            raise UserError(f"--distributed=env needs {', '.join(missing)} in the environment")
        parts = [os.environ[name] for name in (ADDRESS, COUNT, RANK)]
    else:
        parts = mode.split(",")
    if len(parts) != 3 or ":" not in parts[0] or not all(map(str.isdigit, parts[1:])):
        raise UserError(
            f"unknown --distributed {','.join(parts)!r}; known: auto, env, HOST:PORT,COUNT,RANK"
        )
    address, count, rank = parts[0], int(parts[1]), int(parts[2])
    if rank >= count:
        raise UserError(f"process {rank} of {count}: ranks count from 0 to {count - 1}")
    return dict(coordinator_address=address, num_processes=count, process_id=rank)
