"""What the runs of an ablation leave: workdirs, probes and photographs; all numbers are made up."""

from __future__ import annotations

import csv

import numpy as np

from fields_jax.evaluation.expression_measures import MEASURES
from tests.support.answers import make_answers, write_csv
from tests.support.scored_runs import write_run

SKILLS = {"full": 0.8, "no_gt": 0.5, "no_emo": 0.75, "start": 0.3}


def write_ablation_run(folder, arm: str, seed: int, head, *, photographs: bool = False):
    """Everything of one run; the labels of all runs are alike."""
    folder.mkdir(parents=True)
    skill = SKILLS[arm] + 0.02 * seed
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
