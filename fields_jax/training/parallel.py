"""Mapping a per-device step over devices: pmap by default, shard_map on request."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from fields_jax.errors import UserError
from fields_jax.workdir.schema import MAPPINGS

AXIS = "batch"


def map_step(
    step: Callable,
    *,
    inputs: Sequence[bool],
    outputs: Sequence[bool],
    how: str,
    devices: Sequence[jax.Device] | None = None,
) -> Any:
    """Maps a per-device step so that it takes a process's whole batch, as `place` puts it.

    The first argument is the state: it is replicated and donated.

    Args:
      step: per-device function, collectives over `AXIS`.
      inputs: for each argument whether it is split over the devices (True) or replicated.
      outputs: the same for each result; a replicated one must be equal on every device. A split
        result may be handed to another mapped step as a split argument, and nowhere else.
      how: "pmap" or "shard_map".
      devices: default: all.

    Raises:
      ValueError: an unknown mapping.
    """
    devices = list(jax.devices() if devices is None else devices)
    if how == "pmap":
        return jax.pmap(
            step,
            axis_name=AXIS,
            in_axes=tuple(0 if split else None for split in inputs),
            out_axes=tuple(0 if split else None for split in outputs),
            devices=devices,
            donate_argnums=0,
        )
    if how == "shard_map":
        spec = {True: PartitionSpec(AXIS), False: PartitionSpec()}
        # check_vma=False: with the default, gradients of replicated parameters arrive summed and
        # the step's own pmean would leave them as many times too large as there are devices.
        mapped = jax.shard_map(
            step,
            mesh=Mesh(np.asarray(devices), (AXIS,)),
            in_specs=tuple(spec[split] for split in inputs),
            out_specs=tuple(spec[split] for split in outputs),
            check_vma=False,
        )
        return jax.jit(mapped, donate_argnums=0)
    raise ValueError(f"unknown config.parallel {how!r}; known: {', '.join(MAPPINGS)}")


def place(
    batch: Mapping[str, np.ndarray], *, how: str, devices: Sequence[jax.Device] | None = None
) -> dict[str, jax.Array]:
    """Puts a process's batch on its devices, as the programs of `map_step` take it.

    Args:
      batch: arrays [B, ...] that are split into equal contiguous blocks.
      how: "pmap", whose programs take [devices of this process, B / devices, ...], or
        "shard_map", whose programs take the batches of all processes, joined.
      devices: default: all.
    """
    devices = list(jax.devices() if devices is None else devices)
    if how == "pmap":
        devices = [d for d in devices if d.process_index == jax.process_index()]
        n = len(devices)
        batch = {key: x.reshape(n, x.shape[0] // n, *x.shape[1:]) for key, x in batch.items()}
    sharding = NamedSharding(Mesh(np.asarray(devices), (AXIS,)), PartitionSpec(AXIS))
    if how == "pmap" or jax.process_count() == 1:
        return jax.device_put(dict(batch), sharding)
    with jax.transfer_guard("allow"):  # asked for here, though JAX counts it as implicit
        return {k: jax.make_array_from_process_local_data(sharding, x) for k, x in batch.items()}


def no_implicit_transfers(how: str) -> contextlib.AbstractContextManager[None]:
    """Makes JAX refuse implicit copies to or from a device inside the block.

    With several processes pmap itself copies keys in this way: nothing is refused there.
    """
    if how == "pmap" and jax.process_count() > 1:
        return contextlib.nullcontext()
    return jax.transfer_guard("disallow")


def replicate(tree, devices: Sequence[jax.Device] | None = None):
    """Puts a tree on every device once, so that mapped calls need not send it again.

    Raises:
      UserError: the processes of the run do not have the same values.
    """
    mesh = Mesh(np.asarray(jax.devices() if devices is None else devices), (AXIS,))
    sharding = NamedSharding(mesh, PartitionSpec())
    if jax.process_count() == 1:
        return jax.device_put(tree, sharding)
    # JAX would send every leaf of each process to all others to compare them.
    tree = jax.tree.map(np.asarray, tree)
    _check_same(tree)
    return jax.tree.map(
        lambda x: jax.make_array_from_callback(x.shape, sharding, lambda part: x[part]), tree
    )


def _check_same(tree) -> None:
    seen = hashlib.sha256()
    for leaf in jax.tree.leaves(tree):
        seen.update(np.ascontiguousarray(leaf).reshape(-1).view(np.uint8))
    digests = multihost_utils.process_allgather(np.frombuffer(seen.digest(), np.uint8))
    others = np.flatnonzero(np.any(digests != digests[0], axis=-1))
    if len(others):
        raise UserError(
            f"process {others[0]} begins with other values than process 0: give all of them the "
            "same code, head, checkpoint of --config.init_from and kind of device"
        )


def replicated_key(seed: int) -> jax.Array:
    """The random key of a seed, on every device of all processes."""
    # As plain numbers: JAX puts a key itself on devices of this process only.
    numbers = np.asarray(jax.random.key_data(jax.random.key(seed)))
    return jax.random.wrap_key_data(replicate(numbers))


def replicated_shapes(tree, devices: Sequence[jax.Device] | None = None):
    """The shapes of a tree, on every device: what a checkpoint is restored to."""
    mesh = Mesh(np.asarray(jax.devices() if devices is None else devices), (AXIS,))
    sharding = NamedSharding(mesh, PartitionSpec())
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree)


def stand_ins(tree, *, split: bool, how: str, devices: Sequence[jax.Device] | None = None):
    """What a program of `map_step` can be lowered with in place of results of another one.

    Args:
      tree: shapes of the results over all processes, as `Lowered.out_info` has them.
      split: whether they are split over the devices or replicated.
      how, devices: as both programs were mapped.

    Returns:
      Shapes on those devices, or zeros where JAX demands arrays: for pmap over several processes.
    """
    mesh = Mesh(np.asarray(jax.devices() if devices is None else devices), (AXIS,))
    sharding = NamedSharding(mesh, PartitionSpec(AXIS) if split else PartitionSpec())

    def stand_in(x: jax.ShapeDtypeStruct) -> jax.Array | jax.ShapeDtypeStruct:
        if how == "pmap" and jax.process_count() > 1:
            part = np.zeros(sharding.shard_shape(x.shape), x.dtype)
            return jax.make_array_from_callback(x.shape, sharding, lambda _: part)
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)

    return jax.tree.map(stand_in, tree)


def as_global(tree):
    """A replicated tree as arrays over the devices of all processes, as checkpoints need it.

    With several processes pmap returns arrays over this process's devices only.
    """
    if jax.process_count() == 1:
        return tree
    sharding = NamedSharding(Mesh(np.asarray(jax.devices()), (AXIS,)), PartitionSpec())

    def join(x: jax.Array) -> jax.Array:
        parts = [shard.data for shard in x.addressable_shards]
        return jax.make_array_from_single_device_arrays(x.shape, sharding, parts)

    return jax.tree.map(join, tree)
