"""Kill it, damage it, start it twice: a run goes on as if nothing had happened."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fields_jax.workdir.lock import only_run

ROOT = Path(__file__).parents[2]
# Two networks learn, so that little is compiled.
LITTLE = (
    "--stage=1",
    "--phases.A.train=('pose_encoder', 'emotion_head')",
    "--phases.A.losses={'landmark_105': 1.0, 'emotion': 1.0}",
)
EXACT = ("params", "batch_stats", "opt_state", "ema", "counters", "data")


def start(workdir: Path, *options: str) -> subprocess.Popen:
    """A tiny training; one line of output per step."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.support.killable_training", str(workdir), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=ROOT,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )


def finish(process: subprocess.Popen, status: int = 0) -> str:
    output, _ = process.communicate(timeout=1800)
    assert process.returncode == status, output[-3000:]
    return output


def wait_for_steps(process: subprocess.Popen, count: int) -> None:
    """Returns after so many steps of the process, or when it ends."""
    for line in process.stdout:
        count -= line[:2] in ("A ", "B ")
        if count <= 0:
            return


def wait_for_save(process: subprocess.Popen, workdir: Path) -> bool:
    """Whether a checkpoint was seen half written before the process ended."""
    while process.poll() is None:
        if list((workdir / "checkpoints").glob("*.orbax-checkpoint-tmp")):
            return True
    return False


def kill(process: subprocess.Popen) -> None:
    process.kill()
    process.communicate(timeout=60)


def checksums(workdir: Path, step: int) -> dict[str, str]:
    file = workdir / "checkpoints" / str(step) / "checksums" / "metadata"
    return {name: json.loads(file.read_text())[name] for name in EXACT}


def losses(workdir: Path) -> list[tuple[int, float]]:
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [(row["step"], row["loss"]) for row in rows]


def test_killed_twice_and_preempted_it_ends_as_if_left_alone(tmp_path):
    options = ["--phases.A.steps=12", *LITTLE]
    finish(start(tmp_path / "alone", *options))

    workdir = tmp_path / "killed"
    process = start(workdir, *options)
    wait_for_steps(process, 3)
    assert wait_for_save(process, workdir)
    kill(process)
    process = start(workdir, *options)
    wait_for_steps(process, 1)
    kill(process)
    process = start(workdir, *options)
    wait_for_steps(process, 1)
    process.send_signal(signal.SIGTERM)
    output = finish(process, status=42)
    assert "stopped at step" in output and "run the same command again" in output
    assert "resumes at step" in finish(start(workdir, *options))

    assert checksums(workdir, 12) == checksums(tmp_path / "alone", 12)
    assert losses(workdir) == losses(tmp_path / "alone")


def test_a_start_that_diverged_gives_way_to_the_corrected_command(tmp_path):
    options = ["--phases.A.steps=2", *LITTLE]
    output = finish(start(tmp_path, *options, "--optim.rules.backbones.lr=1e30"), status=2)
    assert "lower the learning rate" in output
    before = (tmp_path / "metrics.jsonl").read_text()
    output = finish(start(tmp_path, *options))
    assert "optim.rules.backbones.lr was 1e+30, now 0.001) that came to no checkpoint" in output
    assert (tmp_path / "set_aside" / "1" / "metrics.jsonl").read_text() == before
    assert [step for step, _ in losses(tmp_path)] == [1, 2]
    assert len(list((tmp_path / "tensorboard").iterdir())) == 1
    output = finish(start(tmp_path, *options, "--optim.rules.backbones.lr=1e-4"), status=2)
    assert "use another --workdir" in output  # now there is a checkpoint


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kills", "saves", "phases", "more"),
    [(26, 9, (120, 0), LITTLE), (4, 1, (6, 18), ())],
    ids=["two networks", "both phases"],
)
def test_thirty_kills_are_thirty_exact_resumes(tmp_path, kills, saves, phases, more):
    """Kills at random moments, `saves` of them while a checkpoint is half written."""
    chance = random.Random(0)
    options = [f"--phases.{name}.steps={count}" for name, count in zip("AB", phases, strict=True)]
    options += more
    finish(start(tmp_path / "alone", *options))
    workdir, seen = tmp_path / "killed", 0
    for number in range(kills):
        process = start(workdir, *options)
        wait_for_steps(process, chance.randrange(1, 6))
        if number < saves:
            seen += wait_for_save(process, workdir)
        time.sleep(chance.uniform(0, 0.05))
        assert process.poll() is None, "it ended before it could be killed"
        kill(process)
    finish(start(workdir, *options))
    assert seen == saves
    assert checksums(workdir, sum(phases)) == checksums(tmp_path / "alone", sum(phases))
    assert losses(workdir) == losses(tmp_path / "alone")


HOLD = """
import sys, time
from fields_jax.workdir.lock import only_run
with only_run(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_run_is_refused_and_a_killed_one_blocks_nobody(tmp_path):
    first = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert first.stdout.readline() == "held\n"
    with (
        pytest.raises(ValueError, match=rf"in use by process {first.pid} on .*--workdir"),
        only_run(str(tmp_path), patience=0.2),
    ):
        pass
    kill(first)
    with only_run(str(tmp_path)):
        pass
    shutil.rmtree(tmp_path)
