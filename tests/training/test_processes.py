"""Several processes of one training: started in every way, each with half a batch, stopped."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from fields_jax.errors import Preemption
from fields_jax.training import processes
from fields_jax.training.processes import joined
from fields_jax.workdir.lock import only_run

ROOT = Path(__file__).parents[2]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]


def by_flags(port: int, rank: int) -> tuple[str, dict[str, str]]:
    return f"localhost:{port},2,{rank}", {}


def by_environment(port: int, rank: int) -> tuple[str, dict[str, str]]:
    names = (processes.ADDRESS, processes.COUNT, processes.RANK)
    return "env", dict(zip(names, (f"localhost:{port}", "2", str(rank)), strict=True))


def by_slurm(port: int, rank: int) -> tuple[str, dict[str, str]]:
    """What `srun` sets; JAX takes the last 4096 ports in turn, by the number of the job."""
    return "auto", {
        "SLURM_JOB_ID": str(port % 4096),
        "SLURM_STEP_NODELIST": "localhost",
        "SLURM_NTASKS": "2",
        "SLURM_PROCID": str(rank),
        "SLURM_LOCALID": str(rank),
    }


def start_pair(start, workdir: Path, *options: str) -> list[tuple[int, tuple[str, str]]]:
    """Status and (output, errors) of both processes, once both have ended."""
    port = free_port()
    running = []
    for rank in (0, 1):
        mode, names = start(port, rank)
        command = [
            sys.executable,
            "-m",
            "tests.support.training_process",
            mode,
            str(workdir),
            *options,
        ]
        pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)
        running.append(subprocess.Popen(command, env=os.environ | names, **pipes))
    try:
        ended = [process.communicate(timeout=900) for process in running]
    finally:
        for process in running:
            process.kill()
    return [(process.returncode, texts) for process, texts in zip(running, ended, strict=True)]


def run_pair(start, workdir: Path, *options: str, status: int = 0) -> tuple[str, str]:
    """The standard output of both processes, once both have ended with this status."""
    ended = start_pair(start, workdir, *options)
    for found, (_, errors) in ended:
        assert found == status, errors[-3000:]
    return tuple(output for _, (output, _) in ended)


def check(report: dict, cases: int) -> None:
    assert (report["processes"], report["devices"]) == (2, 4)
    assert report["step"] == 4 and report["restored"]
    assert report["again pmap"] == report["again shard_map"] == []
    errors = [value for name, value in report.items() if "/" in name]
    assert len(errors) == cases
    assert all(e["tree"] < 1e-10 and e["leaf"] < 1e-10 for e in errors), errors


def test_two_processes_train_save_and_restore_and_the_first_writes(tmp_path):
    first, second = run_pair(by_flags, tmp_path / "run", "init")
    reports = [json.loads(output.splitlines()[-1]) for output in (first, second)]
    for report in reports:
        check(report, cases=0)
        assert report["started"] == 4
        assert report["refused"].startswith("process 1 begins with other values than process 0")
    assert reports[0]["turn"][1] <= reports[1]["turn"][0]  # of making the embedded sets
    assert f"starts from {tmp_path}/run (step 4): expression_encoder" in first
    assert "A 4/4" in first and "A 4/4" not in second  # the first process alone reports
    lines = (tmp_path / "run/metrics.jsonl").read_text().splitlines()
    steps = [json.loads(line)["step"] for line in lines]
    assert steps == [1, 2, 3, 4]
    kept = {path.name for path in (tmp_path / "run" / "checkpoints").iterdir()}
    assert kept == {"2", "4"}


def test_a_mistake_that_one_process_sees_is_told_and_ends_both(tmp_path):
    with only_run(str(tmp_path / "run")):
        (status, errors), (other, _) = start_pair(by_flags, tmp_path / "run")
    assert status == 2 and "in use by process" in errors[1]
    assert other != 0


@pytest.mark.slow
def test_a_notice_to_one_process_stops_both_and_gradients_are_those_of_one(tmp_path):
    """Started by the environment, then by Slurm's; gradients of the whole of phase B."""
    first, _ = run_pair(by_environment, tmp_path / "run", "preempted", status=42)
    assert "stopped at step" in first
    first, second = run_pair(by_slurm, tmp_path / "run", "gradients")
    assert "resumes at step" in first
    check(json.loads(second.splitlines()[-1]), cases=3)


@pytest.mark.parametrize(
    ("mode", "names", "expected"),
    [
        ("auto", {}, {}),  # Cloud TPU, Slurm, Open MPI, GKE: JAX looks for them
        ("env", dict(zip("acr", ("h:1", "4", "3"), strict=True)), ("h:1", 4, 3)),
        ("node7:8476,16,0", {}, ("node7:8476", 16, 0)),
    ],
)
def test_every_start_says_who_is_who(mode, names, expected, monkeypatch):
    seen = []
    monkeypatch.setattr(jax.distributed, "initialize", lambda **places: seen.append(places))
    monkeypatch.setattr(jax.distributed, "shutdown", lambda: seen.append("shut down"))
    long = dict(a=processes.ADDRESS, c=processes.COUNT, r=processes.RANK)
    for name, value in names.items():
        monkeypatch.setenv(long[name], value)
    with pytest.raises(Preemption), joined(mode):
        raise Preemption
    if expected:
        keys = ("coordinator_address", "num_processes", "process_id")
        expected = dict(zip(keys, expected, strict=True))
    assert seen == [expected, "shut down"]
    with pytest.raises(KeyError), joined(mode):
        raise KeyError("of this process alone: nobody is waited for")
    assert seen == [expected, "shut down", expected]


@pytest.mark.parametrize(
    ("mode", "message"),
    [
        ("env", "needs JAX_COORDINATOR_ADDRESS"),
        ("mpi", "unknown --distributed 'mpi'; known: auto, env, HOST:PORT,COUNT,RANK"),
        ("host:1,2", "unknown --distributed"),
        ("host:1,2,x", "unknown --distributed"),
        ("host:1,2,", "unknown --distributed"),
        ("host:1,2,2", "process 2 of 2: ranks count from 0 to 1"),
    ],
)
def test_processes_that_cannot_join_say_why(mode, message, monkeypatch):
    monkeypatch.delenv(processes.ADDRESS, raising=False)
    with pytest.raises(ValueError, match=message), joined(mode):
        pass
