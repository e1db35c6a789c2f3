r"""Trains FIELDS: `python -m fields_jax.train --config=configs/stage2.py`.

This command trains on embedded, licence-free faces, and makes them if they are absent. Run again,
it goes on from the last checkpoint of its workdir. On licensed data:

    python -m fields_jax.train --config=configs/stage2.py:full \
        --config.data.root=gs://BUCKET/tfds --workdir=gs://BUCKET/run
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator, Mapping

import numpy as np
from absl import flags
from ml_collections import ConfigDict, config_flags

from fields_jax.cli import run
from fields_jax.compile_cache import keep_none_by_default, keep_programs_in
from fields_jax.errors import UserError

_MAKING = 7200  # seconds that a process may take to make the embedded sets while others wait


def define_flags() -> None:
    """The flags of the command; see the module's docstring."""
    config_flags.DEFINE_config_file("config", None, "config file, e.g. configs/stage2.py")
    flags.DEFINE_string("workdir", None, "where to write (default: runs/stage<N>[-full])")
    flags.DEFINE_string("head", None, "head .npz; the same as --config.head")
    flags.DEFINE_string("distributed", "", "auto (TPU, Slurm), env, HOST:PORT,COUNT,RANK")
    flags.DEFINE_bool("dry_run", False, "print what would be trained, by which losses, and stop")


def main(argv: list[str]) -> int:
    """Entry point; see the module's docstring."""
    if len(argv) > 1:
        raise UserError(f"unknown argument {argv[1]!r}; see --help")
    chosen = flags.FLAGS
    if chosen.config is None:
        raise UserError("name a config, e.g. --config=configs/stage2.py")
    import jax

    from fields_jax.platforms import traced_for
    from fields_jax.training.processes import joined

    with joined(chosen.distributed), traced_for(jax.default_backend()):
        if jax.process_count() > 1 and jax.default_backend() == "gpu":
            keep_none_by_default()
        return _train(chosen)


def _train(chosen: flags.FlagValues) -> int:
    from fields_jax.flame.io import resolve_head
    from fields_jax.training import loop, setup
    from fields_jax.training.overview import describe_run
    from fields_jax.workdir import schema

    config = chosen.config
    if not isinstance(config, ConfigDict):
        raise UserError("the config file's get_config() must return an ml_collections.ConfigDict")
    if chosen.head is not None:
        config.head = chosen.head
    schema.check(config.to_dict())
    suffix = "" if config.variant == "synthetic" else f"-{config.variant}"
    workdir = chosen.workdir or f"runs/stage{config.stage}{suffix}"
    if config.compilation_cache:
        keep_programs_in(config.compilation_cache)
    head = resolve_head(config.head)
    _check_places(config, workdir)
    plan = setup.plan(config, head)
    if chosen.dry_run:
        print(describe_run(config, plan))
        return 0
    pipeline = import_pipeline()
    _check_records(config)
    _prepare_together(config)
    names = dict(pipeline.parse_mixture(config.data.mixture))
    learnt = any(phase.learns_coefficients for phase in plan.phases)
    fits = learnt and config.losses.fitted_weight > 0
    for warning in pipeline.compare_heads(
        config.data, names, head, learnt=learnt, fits_learnt=fits
    ):
        print(f"warning: {warning}", flush=True)
    if learnt and not fits:
        for folder in pipeline.fitted_sets(config.data, names):
            print(
                f"warning: {folder} tells coefficients of a landmark fit, and none of them is "
                "learnt: --config.losses.fitted_weight is 0",
                flush=True,
            )
    meta = dict(
        head=head.identity,
        data=pipeline.fingerprint(config.data),
    )
    loop.train(config, workdir, plan, functools.partial(batches, pipeline, config), meta)
    print(f"done: {workdir}", flush=True)
    return 0


def _check_places(config: ConfigDict, workdir: str) -> None:
    """Says what is wrong with the folders named before anything is made or written."""
    from fields_jax.workdir.config import check_workdir, has_checkpoint
    from fields_jax.workdir.inference import require_trained

    check_workdir(workdir, config)
    if config.init_from and not has_checkpoint(workdir):
        require_trained(config.init_from)


def _check_records(config: ConfigDict) -> None:
    """Refuses the loss gt_expression if the records have another number of components."""
    from fields_jax.batch import N_EXPRESSION

    learnt = any(
        phase.steps and phase.losses.get("gt_expression", 0) for phase in config.phases.values()
    )
    if learnt and config.model.n_expression != N_EXPRESSION:
        raise UserError(
            f"config.model.n_expression={config.model.n_expression}, but the loss gt_expression "
            f"compares with the {N_EXPRESSION} of the records; set it to {N_EXPRESSION}"
        )


def _prepare_together(config: ConfigDict) -> None:
    """`prepare_data` by one process after the other: those that share a folder find it made."""
    import jax
    from orbax.checkpoint import multihost

    count = jax.process_count()
    for turn in range(count):
        if jax.process_index() == turn:
            prepare_data(config)
        if count > 1:  # at the coordinator, since sums over devices give up after half a minute
            multihost.sync_global_processes(
                f"embedded faces, turn {turn}", timeout=_MAKING, processes=set(range(count))
            )


def prepare_data(config: ConfigDict) -> None:
    """Makes the embedded faces when the mixture names them and they are absent."""
    from data_pipelines import prepare
    from data_pipelines.reading import mixture

    names = [name for name, _ in mixture.parse_mixture(config.data.mixture)]
    embedded = [name for name in names if name.startswith("synthetic/")]
    if not embedded:
        return
    print(
        "trains on embedded, generated faces; for real ones prepare them with `python -m "
        "data_pipelines.prepare` and name them: --config=configs/stage2.py:full "
        "--config.data.root=DIR",
        flush=True,
    )
    absent = {name for name in embedded if not mixture.is_prepared(config.data, name)}
    if "synthetic/wide" in absent:
        prepare.prepare_synthetic(config.data.root, size="wide", head=config.head)
    if absent & {f"synthetic/{part}" for part in ("spont4d", "wild2d", "levels")}:
        prepare.prepare_synthetic(config.data.root, head=config.head)


def import_pipeline():
    """The module that reads the sets.

    Raises:
      UserError: what it needs is not installed.
    """
    try:
        from data_pipelines.reading import mixture
    except ModuleNotFoundError as error:
        raise UserError(
            f"training reads TFDS shards and needs {error.name}: pip install 'fields_jax[data]'"
        ) from error
    return mixture


def batches(pipeline, config: ConfigDict, start_step: int) -> Iterator[Mapping[str, np.ndarray]]:
    """This process's share of every global batch from `start_step` on, checked."""
    import jax

    from fields_jax.batch import training_arrays, validate_batch

    for batch in pipeline.training_batches(
        config.data,
        image_size=config.image_size,
        batch_size=config.batch_size,
        seed=config.seed,
        start_step=start_step,
        process=pipeline.Process(jax.process_index(), jax.process_count()),
    ):
        validate_batch(batch, config.image_size)
        yield training_arrays(batch) | {"id": batch["id"]}


if __name__ == "__main__":
    define_flags()
    sys.exit(run(main))
