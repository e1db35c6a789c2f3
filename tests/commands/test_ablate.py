"""fields_jax.ablate as a user types it; the runs are made up, in the slow test they are real."""

from __future__ import annotations

import json

import pytest

from fields_jax.ablation import jobs
from tests.support.ablation_runs import made_up_jobs

SWEEP = "--sweep=configs/ablation.py"
ASKED = [SWEEP, "--arms=no_gt", "--sweep.seeds=(0,1)"]
FILES = ("ablation.json", "ablation.csv", "ablation.tex", "ablation.html")


@pytest.fixture
def made_up():
    """The reasons of jobs that are to fail, by name."""
    with made_up_jobs() as failing:
        yield failing


def test_the_table_is_the_same_bit_for_bit(command, made_up, tmp_path, capsys):
    given = [*ASKED, f"--out={tmp_path}"]
    assert command("fields_jax.ablate", given) == 0
    said = capsys.readouterr().out
    assert "Expression: error, mm" in said and "written: " in said
    first = {name: (tmp_path / name).read_bytes() for name in FILES[:3]}
    assert (tmp_path / FILES[3]).exists()
    assert command("fields_jax.ablate", given) == 0
    assert first == {name: (tmp_path / name).read_bytes() for name in FILES[:3]}
    scores = json.loads(first["ablation.json"])
    assert list(scores["arms"]) == ["full", "no_gt", "start"]
    assert scores["arms"]["no_gt"]["seeds"] == [0, 1]
    assert any("phase A only" in note for note in scores["notes"])
    assert any("Fewer than three seeds" in note for note in scores["notes"])


def test_failed_runs_are_named_and_the_rest_is_scored(command, made_up, tmp_path, capsys):
    made_up["no_gt-1"] = "train: error: no such set"
    assert command("fields_jax.ablate", [*ASKED, f"--out={tmp_path}"]) == 2
    said = capsys.readouterr().err
    assert "1 of 6 runs failed; no_gt-1: train: error: no such set" in said and "log.txt" in said
    scores = json.loads((tmp_path / "ablation.json").read_text())
    assert scores["failed"] == made_up
    assert scores["arms"]["no_gt"]["seeds"] == [0] and scores["arms"]["full"]["seeds"] == [0, 1]
    assert list(scores["differences"]["no_gt"]["error"]["by_seed"]) == ["0"]


def test_mistakes_end_in_one_line(command, tmp_path, capsys):
    def refused(*given):
        assert command("fields_jax.ablate", list(given)) == 2
        lines = capsys.readouterr().err.strip().splitlines()
        assert len(lines) == 1, lines
        return lines[0]

    assert "--sweep is missing" in refused(f"--out={tmp_path}")
    assert "--out is missing" in refused(SWEEP)
    assert "unknown arm 'x'" in refused(SWEEP, f"--out={tmp_path}", "--arms=x")
    assert "unknown config argument 'x'" in refused(f"{SWEEP}:x", f"--out={tmp_path}")
    record = {"train": {"given": {"config": {"seed": 7}}, "seconds": 1}}
    folder = tmp_path / "runs" / "full-0"
    folder.mkdir(parents=True)
    (folder / jobs.RECORD).write_text(json.dumps(record))
    assert "is of another config" in refused(*ASKED, f"--out={tmp_path}")


def test_a_dry_run_lists_the_runs(command, tmp_path, capsys):
    assert command("fields_jax.ablate", [*ASKED, f"--out={tmp_path}/new", "--dry_run"]) == 0
    said = capsys.readouterr().out
    assert "no_gt-1" in said and "6 runs, " in said
    assert not (tmp_path / "new").exists()


@pytest.mark.slow
def test_two_arms_are_trained_scored_and_resumed(command, tmp_path, capfd):
    """The whole experiment at its smallest: children, records, page."""
    from data_pipelines.prepare import prepare_synthetic

    prepare_synthetic(tmp_path / "data", size="tiny")
    out = tmp_path / "out"
    given = ["--sweep=tests/support/tiny_sweep.py", f"--out={out}", f"--data_root={tmp_path}/data"]
    given += ["--arms=no_emo", "--jobs=1"]
    assert command("fields_jax.ablate", given) == 0, (out / "runs/start-0/log.txt").read_text()
    said = capfd.readouterr().out
    assert all(f"{name}-0: done in" in said for name in ("start", "full", "no_emo"))
    table = (out / "ablation.csv").read_bytes()
    assert command("fields_jax.ablate", given) == 0
    assert "3 of 3 runs are finished already" in capfd.readouterr().out
    assert (out / "ablation.csv").read_bytes() == table
    scores = json.loads((out / "ablation.json").read_text())
    assert scores["differences"]["no_emo"]["faces.accuracy"] is None  # it has no head
    assert scores["differences"]["no_emo"]["probe.accuracy"] is not None
    assert command("fields_jax.ablate", [*given, "--sweep.base.phases.A.steps=5"]) == 2
    assert "phases.A.steps was 4, now 5; use another --out" in capfd.readouterr().err
