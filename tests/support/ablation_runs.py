"""What the runs of an ablation leave: workdirs, probes and photographs; all numbers are made up."""

from __future__ import annotations

import contextlib
import csv
import shutil
from collections.abc import Iterator

import numpy as np
import pytest

from fields_jax.ablation import jobs
from fields_jax.evaluation import ablation
from fields_jax.evaluation.expression_measures import MEASURES
from fields_jax.flame.io import resolve_head
from tests.support.answers import make_answers, write_csv
from tests.support.scored_runs import write_run

SKILLS = {"full": 0.8, "no_gt": 0.5, "no_emo": 0.75, "start": 0.3}


def write_ablation_run(folder, arm: str, seed: int, head, *, photographs: bool = False):
    """Everything of one run; the labels of all runs are alike."""
    folder.mkdir(parents=True)
    skill = SKILLS.get(arm, 0.6) + 0.02 * seed
    write_run(folder / "train", 1 if arm in ("start", "no_emo") else 2, head, skill=skill)
    (folder / "probe" / "predictions").mkdir(parents=True)
    labels = make_answers(np.random.default_rng(0), 80, noise=1.0)
    own = make_answers(np.random.default_rng(0), 80, noise=3 - 2 * skill)
    own |= {name: column for name, column in labels.items() if name.startswith("true_")}
    write_csv(folder / "probe" / "predictions" / "network-expression+jaw.csv", own)
    if photographs:
        (folder / "photographs").mkdir()
        _write_photographs(folder / "photographs" / "photographs.csv", skill)
    return folder


@contextlib.contextmanager
def made_up_jobs() -> Iterator[dict[str, str]]:
    """Stands for the child processes: lays down what they leave.

    Yields:
      The reasons of jobs that are to fail, by name, to be filled.
    """
    from fields_jax import train

    failing: dict[str, str] = {}

    def run_jobs(work, count):
        for job in work:
            arm, seed = job.name.rsplit("-", 1)
            if job.name not in failing and not (job.folder / "train").exists():
                shutil.rmtree(job.folder)  # holds the config
                shown = any(command.name == "photographs" for command in job.commands)
                head = resolve_head("")
                write_ablation_run(job.folder, arm, int(seed), head, photographs=shown)
        return dict(failing)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "prepare_data", lambda config: None)
        patch.setattr(ablation, "SAMPLES", 40)
        patch.setattr(jobs, "run_jobs", run_jobs)
        yield failing


def _write_photographs(path, skill: float) -> None:
    rng = np.random.default_rng(3)
    shown = rng.normal(size=(12, len(MEASURES)))
    seen = skill * shown + (1 - skill) * rng.normal(size=shown.shape)
    with path.open("w") as file:
        names = [f"{name}_{where}" for name in MEASURES for where in ("picture", "head")]
        writer = csv.DictWriter(file, ["name", "method", *names])
        writer.writeheader()
        for face in range(len(shown)):
            row = {"name": f"face {face}", "method": "network"}
            for index, name in enumerate(MEASURES):
                picture = "" if face == 0 else shown[face, index]  # of another scheme of landmarks
                row |= {f"{name}_picture": picture, f"{name}_head": seen[face, index]}
            writer.writerow(row)
