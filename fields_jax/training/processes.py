"""Joins the processes of one training: Cloud TPU, Slurm, or named by the environment."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import jax

from fields_jax.cli import UserError

MODES = ("", "auto", "env")
# The names jax.distributed reads by itself but for the count and rank, which it does not.
ADDRESS, COUNT, RANK = "JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID"


@contextlib.contextmanager
def joined(mode: str) -> Iterator[None]:
    """Starts `jax.distributed` before and shuts it down after; call it before any device is used.

    Args:
      mode: "" for one process; "auto" where JAX knows the cluster (Cloud TPU, Slurm, Open MPI,
        GKE); "env" to read JAX_COORDINATOR_ADDRESS (host:port), JAX_NUM_PROCESSES and
        JAX_PROCESS_ID.

    Raises:
      UserError: an unknown mode, a variable that is missing, or no such cluster.
    """
    if mode not in MODES:
        raise UserError(f"unknown --distributed {mode!r}; known: auto, env")
    if not mode:
        yield
        return
    try:
        jax.distributed.initialize(**(_from_environment() if mode == "env" else {}))
    except (ValueError, RuntimeError) as error:
        raise UserError(f"cannot join the other processes: {error}") from error
    try:
        yield
    finally:
        jax.distributed.shutdown()


def _from_environment() -> dict[str, str | int]:
    missing = [name for name in (ADDRESS, COUNT, RANK) if name not in os.environ]
    if missing:
        raise UserError(f"--distributed=env needs {', '.join(missing)} in the environment")
    return dict(
        coordinator_address=os.environ[ADDRESS],
        num_processes=int(os.environ[COUNT]),
        process_id=int(os.environ[RANK]),
    )
