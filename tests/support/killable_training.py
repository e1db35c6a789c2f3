"""A tiny training as a program of its own, to be killed: run as a program with WORKDIR.

Random batches that depend on the step alone, a checkpoint every other step, one line of output per
step. `--key=value` sets keys of the config.
"""

from __future__ import annotations

import os
import sys

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import itertools

from absl import logging
from ml_collections import ConfigDict

from fields_jax import cli
from fields_jax.training import loop, setup
from tests.support.heads import random_head
from tests.support.tiny_training import tiny_batch, tiny_config


def small_config(**changes):
    """Few small steps of phase A alone, unless `changes` (dotted keys) say otherwise."""
    config = tiny_config(batch_size=8)
    config.init_from = ""
    config.phases.A.steps = 8
    config.phases.B.steps = 0
    config.log.update(every=1, images=0)
    config.checkpoint.update(every=2, keep=3)
    config.ema = 0.9
    if losses := changes.pop("phases.A.losses", None):
        config.phases.A.losses = ConfigDict(losses)
    with config.unlocked():
        config.update_from_flattened_dict(changes)
    if not config.phases.B.steps:
        del config.phases.B
    return config


def batches(config, first: int):
    """Batches from step `first` on, a pure function of the step."""
    for step in itertools.count(first):
        names = [f"example-{step}-{i}" for i in range(config.batch_size)]
        yield tiny_batch(config, seed=step) | {"id": names}


def main(argv: list[str]) -> int:
    workdir, *options = argv[1:]
    changes = dict(option.removeprefix("--").split("=", 1) for option in options)
    config = small_config(**{key: eval(value) for key, value in changes.items()})
    logging.set_verbosity(logging.ERROR)
    plan = setup.plan(config, random_head())
    loop.train(config, workdir, plan, lambda first: batches(config, first), {})
    return 0


if __name__ == "__main__":
    cli.leave(cli.guarded(main)(sys.argv))
