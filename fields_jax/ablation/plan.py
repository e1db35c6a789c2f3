"""The commands of every run of a sweep: training, evaluation, probe, photographs."""

from __future__ import annotations

import json
import os
import pprint
import sys
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from etils import epath

from fields_jax.ablation.jobs import Command, Job
from fields_jax.ablation.sweep import NETWORK, START, Run, Sweep, folder, network, workdir
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
    return [_network_job(run, out) for run in sweep.networks] + [
        Job(
            run.name,
            Path(folder(out, run.name)),
            list(_commands(run, sweep, out, photographs).values()),
            tuple(_before(run, sweep, out)),
            partial(_told, Path(workdir(out, run.name)), run.steps),
        )
        for run in sweep.runs
    ]


def _network_job(run: Run, out: str) -> Job:
    """The training of an emotion network."""
    options = {"config": folder(out, run.name) / CONFIG, "out": network(out, run.seed)}
    command = _command(NETWORK, options, {"config": _learnt(run)})
    return Job(run.name, Path(folder(out, run.name)), [command])


def _before(run: Run, sweep: Sweep, out: str) -> Iterator[str]:
    """Names of the runs that one needs."""
    if run.arm == START:
        return
    if begun := _stage_1(run, sweep):
        yield begun.name
    if _own_network(run, sweep, out):
        yield f"{NETWORK}-{run.seed}"


def _own_network(run: Run, sweep: Sweep, out: str) -> bool:
    """Whether a run compares features of the network that the sweep trains for its seed."""
    named = run.config.losses.emotion_feature_weights
    return bool(sweep.networks) and named == str(network(out, run.seed))


def write_configs(sweep: Sweep, out: str) -> None:
    """Writes the config of every run beside its workdir, as a file that its command takes.

    Raises:
      DiskError: one of them cannot be written.
    """
    for run in (*sweep.networks, *sweep.runs):
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
    given = {"config": _learnt(run), "start": _start(run, sweep)}
    if _own_network(run, sweep, out):
        given["config"]["losses"]["emotion_feature_weights"] = NETWORK  # wherever it lies
        given[NETWORK] = next(_learnt(each) for each in sweep.networks if each.seed == run.seed)
    found = {
        "train": _command("train", {"config": here / CONFIG, "workdir": trained}, given),
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


def _start(run: Run, sweep: Sweep) -> dict[str, Any] | str:
    """What a run starts from: what stage 1 of its seed learnt, or the checkpoint it is given."""
    begun = _stage_1(run, sweep)
    return _learnt(begun) if begun else str(run.config.init_from)


def _stage_1(run: Run, sweep: Sweep) -> Run | None:
    """The run of stage 1 that an arm starts from, where the sweep holds one."""
    begun = (each for each in sweep.runs if (each.arm, each.seed) == (START, run.seed))
    return next(begun, None) if run.arm != START else None


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
