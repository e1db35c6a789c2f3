r"""Compiles the training step for TPUs or GPUs that need not be here and says what it would need.

    pip install 'fields_jax[tpu]'     # or cuda, the compiler of GPUs; no driver is needed
    python -m fields_jax.tools.aot_compile --config=configs/stage2.py:full --topology=v5e:4x4
    python -m fields_jax.tools.aot_compile --config=configs/stage2.py:full --topology=h100:8

Prints one JSON object: for each program of each phase the memory of a device, FLOPs and bytes of a
step on it (the compiler's own count), what it reads from and writes to main memory (ours, see
hlo.py), and the bytes that its collectives carry. A program may take an hour for a TPU and some
minutes for a GPU; what is known of one is written to stderr at once. The step is mapped by
shard_map over all chips of the topology; --config.batch_size is over all of them.
`--topology=cpu` compiles for the devices of this host instead.

cuDNN chooses its algorithms when a program starts on a GPU: the memory they work in is not counted.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from absl import flags
from ml_collections import ConfigDict, config_flags

from fields_jax.batch import batch_spec, training_arrays
from fields_jax.cli import run
from fields_jax.disk import writing
from fields_jax.errors import UserError
from fields_jax.files import write_whole
from fields_jax.progress import progress
from fields_jax.tools import hlo
from fields_jax.tools.targets import compiler_options, find_devices

if TYPE_CHECKING:
    import jax

    from fields_jax.training import setup
    from fields_jax.types import FlameModel

_PLACES = 12  # that are listed, of those that move most


def define_flags() -> None:
    """The flags of the command; see the module's docstring."""
    config_flags.DEFINE_config_file("config", None, "config file, e.g. configs/stage2.py:full")
    flags.DEFINE_string("topology", "v5e:4x4", "TPU and its shape, v5e:4x4; GPUs, h100:8; or cpu")
    flags.DEFINE_list("phases", [], "phases to compile (default: all)")
    flags.DEFINE_string("out", "", "JSON file to write besides printing")


def main(argv: list[str]) -> None:
    """The command."""
    chosen = flags.FLAGS
    if len(argv) > 1:
        raise UserError(f"unexpected argument {argv[1]!r}; see --help")
    if chosen.config is None:
        raise UserError("name a config, e.g. --config=configs/stage2.py:full")
    from fields_jax.flame.io import resolve_head

    devices = find_devices(chosen.topology)  # first: compilers are looked for once in a process
    head = resolve_head(chosen.config.head)
    report = compile_programs(chosen.config, head, devices, names=chosen.phases)
    text = json.dumps({"topology": chosen.topology} | report, indent=1)
    print(text)
    if chosen.out:
        with writing(chosen.out, instead="another --out"):
            write_whole(chosen.out, text)


def compile_programs(
    config: ConfigDict, head: FlameModel, devices: Sequence[Any], *, names: Sequence[str] = ()
) -> dict[str, Any]:
    """Compiles every program of the chosen phases; nothing is run and no array is made.

    Args:
      config: of the training.
      head: the FLAME model.
      devices: over which the step is mapped.
      names: of phases; none: all.

    Raises:
      UserError: an unknown phase, or a batch that the devices cannot share.
    """
    if config.batch_size % len(devices):
        raise UserError(
            f"config.batch_size {config.batch_size} is not divisible by {len(devices)} devices"
        )
    from fields_jax.training import setup
    from fields_jax.training.programs import lower_programs, map_programs

    config.init_from = config.init_from or "given"  # compiled as if started from stage 1
    plan = setup.plan(config, head)
    unknown = sorted(set(names) - {phase.name for phase in plan.phases})
    if unknown:
        raise UserError(f"unknown phase {unknown[0]!r} in --phases")
    found, options = {}, compiler_options(devices)
    for phase in plan.phases:
        if not names or phase.name in names:
            where = dict(how="shard_map", devices=devices)
            mapped = map_programs(plan.recipe, phase, **where)
            lowered = lower_programs(mapped, _arguments(config, plan, devices), **where)
            began = time.monotonic()
            for name, program in progress(lowered, len(mapped), "programs"):
                key = f"{phase.name}/{name}"
                found[key] = _measure(program.compile(options), began)
                print(f"{key}: {json.dumps(found[key])}", file=sys.stderr)
                began = time.monotonic()
    return dict(
        devices=len(devices),
        kind=devices[0].device_kind,
        batch_size=config.batch_size,
        batch_per_device=config.batch_size // len(devices),
        accumulate=config.accumulate,
        image_size=config.image_size,
        dtype=config.model.dtype,
        programs=found,
    )


def _measure(compiled: jax.stages.Compiled, began: float) -> dict[str, Any]:
    """What a program needs; it was traced from `began` on."""
    memory, cost = compiled.memory_analysis(), compiled.cost_analysis() or {}
    sizes = dict(
        arguments_bytes=memory.argument_size_in_bytes,
        outputs_bytes=memory.output_size_in_bytes,
        shared_bytes=memory.alias_size_in_bytes,  # donated: counted in both of the above
        temporary_bytes=memory.temp_size_in_bytes,
        program_bytes=memory.generated_code_size_in_bytes,
    )
    total = sum(sizes.values()) - 2 * sizes["shared_bytes"]
    text = compiled.as_text()
    flops = cost.get("flops") or hlo.matrix_flops(text)  # the compiler of absent GPUs counts none
    count, carried = hlo.collectives(text)
    moved = hlo.memory_traffic(text)
    return sizes | dict(
        memory_gib=round(total / 2**30, 3),
        gflops=round(flops / 1e9, 2),
        gbytes_accessed=round(cost.get("bytes accessed", 0.0) / 1e9, 3),
        memory_traffic_gbytes=round(moved.total() / 1e9, 3),
        traffic_by_module={
            place or "others": round(size / 1e9, 3) for place, size in moved.most_common(_PLACES)
        },
        collectives=count,
        collective_mbytes=round(carried / 1e6, 3),
        compile_seconds=round(time.monotonic() - began, 1),
    )


def _arguments(config: ConfigDict, plan: setup.Plan, devices: Sequence[Any]) -> tuple:
    """Shapes and shardings of what the reconstruction takes, see `lower_programs`."""
    import jax
    from jax.sharding import Mesh, NamedSharding, PartitionSpec

    from fields_jax.models.fields import variable_shapes
    from fields_jax.training import parallel
    from fields_jax.training.state import create_state

    mesh = Mesh(np.asarray(devices), (parallel.AXIS,))
    split = NamedSharding(mesh, PartitionSpec(parallel.AXIS))

    def everywhere(tree):
        return parallel.replicated_shapes(jax.eval_shape(lambda: tree), devices)

    state = jax.eval_shape(
        lambda variables: create_state(
            variables,
            plan.recipe.optimizer,
            keep_base=plan.keep_base,
            keep_ema=bool(config.ema),
        ),
        variable_shapes(plan.recipe.model),
    )
    state = parallel.replicated_shapes(state, devices)
    sizes = dict(n_expression=config.model.n_expression, n_shape=config.model.n_shape)
    fields = training_arrays(batch_spec(config.batch_size, config.image_size, **sizes))
    batch = {
        name: jax.ShapeDtypeStruct(field.shape, field.dtype, sharding=split)
        for name, field in fields.items()
    }
    return state, batch, everywhere(jax.random.key(0)), everywhere(plan.assets)


if __name__ == "__main__":
    define_flags()
    run(main)
