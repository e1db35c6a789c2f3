"""The shipped configs, shrunk, through the commands a user types: stage 1, stage 2, evaluation."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from data_pipelines.prepare import prepare_synthetic
from fields_jax.workdir.inference import read_networks

ROOT = Path(__file__).parents[2]
ENVIRONMENT = os.environ | {"PYTHONUNBUFFERED": "1"}
SMALL = [
    "--config.image_size=32",
    "--config.batch_size=16",
    "--config.model.encoder_width=0.25",
    "--config.model.encoder_depth=0.25",
    "--config.model.synthesizer_width=4",
    "--config.model.token_dim=8",
    "--config.model.adain_hidden=4",
    "--config.log.every=1",
    "--config.log.images=2",
    "--config.log.images_every=100",
]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("commands")
    prepare_synthetic(folder / "data", size="tiny")
    return folder


def typed(module: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", f"fields_jax.{module}", *arguments]


def run(module: str, *arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        typed(module, *arguments),
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=ENVIRONMENT,
        timeout=1500,
    )


def train(place: Path, stage: int, *extra: str) -> list[str]:
    return [
        f"--config=configs/stage{stage}.py",
        f"--config.data.root={place / 'data'}",
        f"--workdir={place / f'stage{stage}'}",
        *SMALL,
        *extra,
    ]


@pytest.fixture(scope="module")
def stage1(place):
    result = run("train", *train(place, 1, "--config.phases.pretrain.steps=3"))
    assert result.returncode == 0, result.stderr[-3000:]
    return place / "stage1", result.stdout


def rows(workdir: Path) -> list[dict]:
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def test_stage_1_leaves_a_whole_workdir(stage1):
    workdir, output = stage1
    assert "trains on embedded, generated faces" in output and "--config.data.root=DIR" in output
    assert "phase pretrain" in output and "images/s" in output and "left" in output
    assert [row["step"] for row in rows(workdir)] == [1, 2, 3]
    assert all(np.isfinite(row["loss"]) for row in rows(workdir))
    assert (workdir / "config.json").exists() and (workdir / "checkpoints" / "3").is_dir()
    assert list((workdir / "images").glob("*.png"))
    assert list((workdir / "tensorboard").glob("events*"))


def test_stage_2_is_interrupted_resumed_evaluated_and_reported(place, stage1, command, capsys):
    """Ctrl-C saves the step it was in; the same command goes on from there to the end."""
    arguments = train(
        place,
        2,
        f"--config.init_from={stage1[0]}",
        "--config.phases.A.steps=4",
        "--config.phases.B.steps=2",
    )
    workdir = place / "stage2"
    process = subprocess.Popen(
        typed("train", *arguments, "--config.log.images=0"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=ROOT,
        env=ENVIRONMENT,
    )
    deadline = time.monotonic() + 300
    while not (workdir / "metrics.jsonl").exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=1500)
    assert process.returncode == 130, output[-3000:]
    assert "starts from" in output and "expression_encoder, pose_encoder, shape_encoder" in output
    stopped = max(int(p.name) for p in (workdir / "checkpoints").iterdir() if p.name.isdigit())
    assert 0 < stopped < 6

    result = run("train", *arguments)
    assert result.returncode == 0, result.stderr[-3000:]
    assert f"resumes at step {stopped}" in result.stdout
    steps = [row["step"] for row in rows(workdir)]
    assert steps == [1, 2, 3, 4, 5, 6]
    last = rows(workdir)[-1]
    assert last["phase"] == "B" and np.isfinite(last["cycle_loss"])
    assert not any(name.startswith("gradient_norm/pose") for name in last)
    before, after = (read_networks(str(folder))[0] for folder in (stage1[0], workdir))
    for kind in ("params", "batch_stats"):
        stayed = {
            name
            for name, tree in before[kind].items()
            if jax.tree.all(jax.tree.map(np.array_equal, tree, after[kind][name]))
        }
        assert stayed == {"pose_encoder"}  # frozen in both phases
    assert {"synthesizer", "token_encoder", "emotion_head"} < after["params"].keys()

    assert command("fields_jax.evaluate", [f"--workdir={stage1[0]}"]) == 0
    result = run("evaluate", f"--workdir={workdir}")
    assert result.returncode == 0, result.stderr[-3000:]
    scores = json.loads((workdir / "evaluation.json").read_text())
    assert scores["expression_error_mm"] > 0 and scores["zero_expression_error_mm"] > 0
    assert {"valence_ccc", "arousal_ccc", "accuracy"} <= scores.keys()

    report, both = place / "report.html", place / "evaluation.json"
    arguments_of_report = [
        f"--stage1={place / 'stage1'}",
        f"--stage2={workdir}",
        f"--out={report}",
        f"--evaluation_out={both}",
    ]
    assert command("fields_jax.report.__main__", arguments_of_report) == 0
    page = report.read_text()
    assert "<html" in page and 'src="http' not in page and page.count("data:image/png") >= 5
    assert set(json.loads(both.read_text())) == {"stage1", "stage2"}

    capsys.readouterr()
    status = command("fields_jax.train", [*arguments, "--config.optim.rules.heads.lr=0.5"])
    check_mistake(status, capsys.readouterr().err, "optim.rules.heads.lr was 0.001, now 0.5")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config=configs/stage2.py:large"], "unknown config argument 'large'"),
        (["--config=configs/stage2.py:full"], "data_pipelines.prepare"),
        (["--config=configs/stage2.py", "--config.image_size=50"], "multiple of 32"),
        (["--config=configs/stage2.py", "--config.data.crop_scale=1.4"], "data.crop_scale is two"),
        (["--config=configs/stage2.py", "--workdri=x"], "workdri"),
        (["--config=configs/none.py"], "none.py"),
        (["--config=configs/stage2.py", "--config.init_from=/none"], "/none is no workdir"),
        (["--config=configs/stage2.py", "--head=/none.npz"], "head file /none.npz does not exist"),
    ],
)
def test_mistakes_end_with_one_line_and_status_2(place, command, capsys, arguments, message):
    made = place / "made"
    places = [f"--config.data.root={made / 'data'}", f"--workdir={made / 'run'}"]
    status = command("fields_jax.train", [*arguments, *places])
    check_mistake(status, capsys.readouterr().err, message)
    assert not made.exists()  # told before faces are made and the workdir is claimed


def check_mistake(status: int, said: str, message: str) -> None:
    assert status == 2 and message in said and "Traceback" not in said, said[-1500:]
    assert sum(line.startswith("error: ") for line in said.splitlines()) == 1


def test_a_process_ends_with_one_line_and_status_2(place):
    result = run("train", "--config=configs/stage2.py", "--config.modle.dtype=x")
    check_mistake(result.returncode, result.stderr, "modle")


@pytest.mark.slow
def test_a_damaged_shard_ends_training_with_one_line_that_names_it(place):
    data = place / "damaged"
    shutil.copytree(place / "data", data)
    (shard,) = (data / "synthetic" / "wild2d").rglob("*train.tfrecord*")
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 0xFF
    shard.write_bytes(content)
    arguments = train(place, 1, "--config.phases.pretrain.steps=50")
    arguments += [f"--config.data.root={data}", f"--workdir={place / 'unlucky'}"]
    result = run("train", *arguments)
    assert result.returncode == 2, (result.stdout[-500:], result.stderr[-1500:])
    assert str(shard) in result.stderr and "Traceback" not in result.stderr
