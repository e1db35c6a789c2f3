"""The commands of every run of a sweep: training, evaluation, probe, photographs."""

from __future__ import annotations

import json
import os
import pprint
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from etils import epath

from fields_jax.ablation.jobs import Command, Job
from fields_jax.ablation.sweep import START, Run, Sweep, folder, workdir
from fields_jax.disk import writing
from fields_jax.files import write_whole
from fields_jax.workdir.config import FREE_KEYS

CONFIG = "config.py"  # in the folder of a run: what its training is given
PROBE, PHOTOGRAPHS = "probe", "photographs"
_LINE = 2000  # bytes that hold the last line of a log


def plan_jobs(sweep: Sweep, out: str, photographs: str = "") -> list[Job]:
    """A job for every run, those that others start from first.

    Args:
      sweep: the runs.
      out: folder of the ablation.
      photographs: folder of photographs with landmarks beside them; empty: none.
    """
    starts = {run.seed: run.name for run in sweep.runs if run.arm == START}
    return [
        Job(
            run.name,
            Path(folder(out, run.name)),
            list(_commands(run, sweep, out, photographs).values()),
            () if run.arm == START else tuple(filter(None, [starts.get(run.seed)])),
            partial(_told, Path(workdir(out, run.name)), run.steps),
        )
        for run in sweep.runs
    ]


def write_configs(sweep: Sweep, out: str) -> None:
    """Writes the config of every run beside its workdir, as a file that `fields_jax.train` takes.

    Raises:
      DiskError: one of them cannot be written.
    """
    for run in sweep.runs:
        text = pprint.pformat(run.config.to_dict(), width=96)
        target = epath.Path(folder(out, run.name))
        with writing(target, instead="another --out"):
            target.mkdir(parents=True, exist_ok=True)
            write_whole(
                target / CONFIG,
                f'"""Config of the run {run.name} of an ablation."""\n\n'
                "from ml_collections import ConfigDict\n\n\n"
                f"def get_config():\n    return ConfigDict(\n{text}\n    )\n",
            )


def _commands(run: Run, sweep: Sweep, out: str, photographs: str) -> dict[str, Command]:
    here, trained = folder(out, run.name), workdir(out, run.name)
    of_probe = {**sweep.probe, "seeds": 1, "inputs": "expression+jaw"}
    found = {
        "train": _command(
            "train",
            {"config": here / CONFIG, "workdir": trained},
            {"config": _learnt(run), "start": _start(run, sweep)},
        ),
        "evaluate": _command(
            "evaluate", {"workdir": trained, "sources": sweep.tests}, {"sources": sweep.tests}
        ),
        "probe": _command("probe", {"workdir": trained, "out": here / PROBE, **of_probe}, of_probe),
    }
    if photographs:
        given = {"photographs": os.path.abspath(photographs)}
        paths = {"workdir": trained, "out": here / PHOTOGRAPHS}
        found["photographs"] = _command(
            "evaluate", {**given, **paths, "photograph_fit": "false"}, given, "photographs"
        )
    return found


def _command(
    module: str, options: Mapping[str, Any], given: Mapping[str, Any], name: str = ""
) -> Command:
    words = [f"--{key}={value}" for key, value in options.items()]
    return Command(name or module, [sys.executable, "-m", f"fields_jax.{module}", *words], given)


def _learnt(run: Run) -> dict[str, Any]:
    """The config of a run without what does not change what is learnt, as JSON holds it."""
    config = run.plain()
    for key in FREE_KEYS:
        *groups, name = key.split(".")
        group = config
        for part in groups:
            group = group.get(part, {})
        group.pop(name, None)
    return config


def _start(run: Run, sweep: Sweep) -> str:
    """Where a run starts: stage 1 of its seed wherever that lies, or the checkpoint it is given."""
    own = any(each.arm == START for each in sweep.runs)
    return START if own and run.config.init_from else str(run.config.init_from)


def _told(trained: Path, steps: int) -> str:
    """How far a run is, by the log of its training."""
    log = trained / "metrics.jsonl"
    try:
        with open(log, "rb") as stream:
            stream.seek(max(0, stream.seek(0, os.SEEK_END) - _LINE))
            step = json.loads(stream.read().splitlines()[-1])["step"]
    except (OSError, ValueError, IndexError, KeyError):
        return ""  # not begun, or the last line is being written
    return f" at step {step} of {steps}" if step < steps else " is scored"
