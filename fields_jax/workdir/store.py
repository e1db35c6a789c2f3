"""Checkpoints: Orbax items under WORKDIR/checkpoints/<step>/, written and read back.

Items: `params`, `batch_stats`, `opt_state` (one vector per network and type, see codec.py),
`base` (only where a base model is kept), `ema` (only where a mean of the parameters is),
`counters` (step, bad steps), `data` (seed and step: the pipeline is a pure function of both),
`meta` (config, git hash, head, data, trained networks) and `checksums` of all others, which are
compared on every read.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath
from jax.experimental import multihost_utils
from orbax.checkpoint.checkpoint_managers import AnyPreservationPolicy

from fields_jax.disk import quiet_orbax, writing
from fields_jax.errors import UserError, first_line
from fields_jax.types import TrainState
from fields_jax.workdir import codec
from fields_jax.workdir.config import absolute
from fields_jax.workdir.integrity import DamagedError, json_checksum, tree_checksum, verify

PyTree = Any


def open_manager(workdir: str, *, policies: Sequence = ()) -> ocp.CheckpointManager:
    """The manager that writes a workdir's checkpoints; saving is asynchronous and atomic.

    Args:
      workdir: local or gs://.
      policies: Orbax preservation policies; a checkpoint is deleted once no policy wants it.
        Without policies every checkpoint is kept.

    Raises:
      DiskError: the folder of checkpoints cannot be made.
    """
    options = ocp.CheckpointManagerOptions(
        preservation_policy=AnyPreservationPolicy(list(policies)) if policies else None,
        cleanup_tmp_directories=True,
    )
    quiet_orbax()
    folder = absolute(workdir) / "checkpoints"
    with _writing(folder):
        return ocp.CheckpointManager(folder, options=options)


def save(
    manager: ocp.CheckpointManager, state: TrainState, *, seed: int, meta: Mapping[str, Any]
) -> None:
    """Starts to write one checkpoint and returns before it is on disk; see `settle`.

    Args:
      manager: of the workdir.
      state: its step names the checkpoint.
      seed: of the run; with the step it gives the place in the data.
      meta: what a reader should know of the run, as JSON.

    Raises:
      RuntimeError: the manager declined to write.
      DiskError: this checkpoint, or the one still being written before it, cannot be written.
    """
    step = int(state.step)
    texts = {"data": {"seed": seed, "step": step}, "meta": {**meta, "step": step}}
    with _writing(manager.directory):
        if not manager.save(step, args=_arguments(_trees(state, codec.pack), texts)):
            raise RuntimeError(f"checkpoint {step} was not written: a later one is in the workdir")


def settle(manager: ocp.CheckpointManager, *, wait: bool = True) -> None:
    """Checks the checkpoint that is being written, if there is one.

    Args:
      manager: of the workdir.
      wait: waits until it is on disk; else reports only what has failed so far.

    Raises:
      DiskError: it could not be written; the checkpoints before it are whole.
    """
    with _writing(manager.directory):
        if wait:
            manager.wait_until_finished()
        else:
            manager.check_for_errors()


def write_networks(target: str, variables: Mapping[str, PyTree], meta: Mapping[str, Any]) -> None:
    """Writes networks trained elsewhere as step 0 of a new workdir, and waits for the disk.

    Args:
      target: the workdir.
      variables: {"params": {network: tree}, "batch_stats": {...}}.
      meta: as for `save`.

    Raises:
      DiskError: they cannot be written.
    """
    with open_manager(target) as manager, _writing(manager.directory / "0"):
        manager.save(0, args=_arguments(variables, {"meta": {**meta, "step": 0}}))
        manager.wait_until_finished()


def restore(
    manager: ocp.CheckpointManager, target: TrainState
) -> tuple[TrainState, dict[str, Any], list[str]]:
    """Reads the newest intact state and moves damaged checkpoints after it to WORKDIR/damaged.

    Args:
      manager: of a workdir with at least one checkpoint.
      target: arrays or `jax.ShapeDtypeStruct`s; they give shapes, types and shardings.

    Returns:
      (state, meta item, one line for each damaged checkpoint).

    Raises:
      UserError: every checkpoint is damaged or belongs to another model; none is moved.
    """
    step, found, damaged = newest_intact(
        manager, _trees(target, codec.empty), texts=("data", "meta")
    )
    for broken, _ in damaged:
        _move_away(manager, broken)
    manager.reload()
    meta = found.pop("meta")
    found.pop("data")
    counters = found.pop("counters")
    found["opt_state"] = {
        name: codec.unpack(packed, target.opt_state[name])
        for name, packed in found["opt_state"].items()
    }
    state = target.replace(step=counters["step"], bad_steps=counters["bad_steps"], **found)
    folder = manager.directory
    lines = [
        f"checkpoint {folder / str(broken)} is damaged ({reason}): set aside, goes on from {step}"
        for broken, reason in damaged
    ]
    return state, meta, lines


@contextlib.contextmanager
def reading(workdir: str, absent: str, empty: str = "") -> Iterator[ocp.CheckpointManager]:
    """A manager for reading, which changes nothing: a training may be writing to the same workdir.

    Args:
      workdir: local or gs://.
      absent: the message where the workdir has no folder of checkpoints.
      empty: the message where that folder holds no checkpoint; `absent` again if "".

    Raises:
      UserError: with one of the two messages.
    """
    folder = absolute(workdir) / "checkpoints"
    if not folder.exists():
        raise UserError(absent)
    options = ocp.CheckpointManagerOptions(create=False, cleanup_tmp_directories=False)
    with ocp.CheckpointManager(folder, options=options) as manager:
        if manager.latest_step() is None:
            raise UserError(empty or absent)
        yield manager


def newest_intact(
    manager: ocp.CheckpointManager, trees: dict[str, PyTree], texts: Sequence[str] = ("meta",)
) -> tuple[int, dict[str, Any], list[tuple[int, str]]]:
    """Reads some items of the newest intact checkpoint; every process takes the same one.

    Args:
      manager: of a workdir with at least one checkpoint.
      trees: {item: tree that gives shapes, types and shardings}, for items of arrays.
      texts: items of JSON to read beside them.

    Returns:
      (step, {item: value}, [(step, reason)] of the damaged ones after it).

    Raises:
      UserError: none is intact; the message names the newest and what is wrong with it.
    """
    damaged: list[tuple[int, str]] = []
    for step in sorted(manager.all_steps(), reverse=True):
        for _ in range(2):  # a disk or bucket may fail once; damage stays
            try:
                found, reason = _read(manager, step, trees, texts), ""
            except DamagedError as error:
                found, reason = {}, str(error)
            if _on_every_process(not reason):
                return step, found, damaged
        damaged.append((step, reason or "as another process reads it"))
    step, reason = damaged[0]
    raise UserError(
        f"checkpoint {manager.directory / str(step)} is damaged or of another model ({reason})"
        f"{', and so are all before it' if len(damaged) > 1 else ''}; bring back a whole one or "
        "begin anew in another workdir"
    )


def _read(
    manager: ocp.CheckpointManager, step: int, trees: Mapping[str, PyTree], texts: Sequence[str]
) -> dict[str, Any]:
    """Reads items of one checkpoint and compares their checksums.

    Raises:
      DamagedError: the items cannot be read, or are not what was written.
      UserError: the items do not fit into the device's memory.
    """
    arguments = {name: ocp.args.StandardRestore(tree) for name, tree in trees.items()}
    arguments |= {name: ocp.args.JsonRestore() for name in (*texts, "checksums")}
    try:
        restored = manager.restore(step, args=ocp.args.Composite(**arguments))
        found = {name: restored[name] for name in (*trees, *texts)}
        checksums = dict(restored["checksums"])
    except (PermissionError, MemoryError):
        raise
    except Exception as error:  # Orbax raises many types for damage, bare Exception among them.
        if "RESOURCE_EXHAUSTED" in str(error):
            raise UserError(
                f"checkpoint {manager.directory / str(step)} does not fit into the memory of "
                f"{jax.devices()[0].device_kind}; end what else runs there"
            ) from error
        raise DamagedError(first_line(error)) from error
    verify(checksums, {name: tree_checksum(found[name]) for name in trees})
    verify(checksums, {name: json_checksum(found[name]) for name in texts})
    written = found["meta"].get("step")
    if written != step:
        raise DamagedError(f"it was written at step {written}")
    return found


def _trees(state: TrainState, pack: Callable[[PyTree], PyTree]) -> dict[str, PyTree]:
    """The items that hold arrays, with `pack` applied to each optimiser state."""
    trees = {
        "params": state.params,
        "batch_stats": state.batch_stats,
        "opt_state": {name: pack(tree) for name, tree in state.opt_state.items()},
        "counters": {"step": state.step, "bad_steps": state.bad_steps},
        "base": state.base,
        "ema": state.ema,
    }
    return {name: tree for name, tree in trees.items() if tree is not None}


def _arguments(trees: Mapping[str, PyTree], texts: Mapping[str, Any]) -> ocp.args.Composite:
    checksums = {name: tree_checksum(tree) for name, tree in trees.items()}
    checksums |= {name: json_checksum(text) for name, text in texts.items()}
    items = {name: ocp.args.StandardSave(tree) for name, tree in trees.items()}
    items |= {name: ocp.args.JsonSave(text) for name, text in texts.items()}
    return ocp.args.Composite(**items, checksums=ocp.args.JsonSave(checksums))


def _writing(path: epath.Path) -> contextlib.AbstractContextManager[None]:
    then = "the same command then goes on from the last checkpoint"
    return writing(path, instead="another --workdir", then=then)


def _on_every_process(fine: bool) -> bool:
    """Whether `fine` is true on all processes of the run."""
    if jax.process_count() == 1:
        return fine
    return bool(multihost_utils.process_allgather(np.asarray(fine)).all())


def _move_away(manager: ocp.CheckpointManager, step: int) -> None:
    if jax.process_index() == 0:
        folder = manager.directory.parent / "damaged"
        folder.mkdir(parents=True, exist_ok=True)
        taken = len(list(folder.iterdir()))
        (manager.directory / str(step)).rename(folder / f"{step}-{taken}")
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(f"moved checkpoint {step}")
