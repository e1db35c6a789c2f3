"""Sets made by several processes equal those made by one; workers end with their command."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from etils import epath

from data_pipelines import prepare
from data_pipelines.building import photographs, workers
from data_pipelines.faces import faces_dataset_builder as faces
from fields_jax.errors import UserError
from tests.support.photograph_sets import split_sizes, write_photographs

_WAIT_SECONDS = 60  # for a process to end, on a busy machine


class Pipe:
    """What a worker sent before it ended."""

    def __init__(self, *sent):
        self.sent = list(sent)

    def poll(self):
        return bool(self.sent)

    def recv(self):
        return self.sent.pop()


class Process:
    """A worker that ended."""

    def __init__(self, exitcode):
        self.exitcode = exitcode


def test_what_ended_a_worker_is_told():
    workers._check(Process(0), Pipe())
    with pytest.raises(UserError, match=r"^no room$"):
        workers._check(Process(1), Pipe((True, "no room")))
    with pytest.raises(RuntimeError, match=r"Traceback: x"):
        workers._check(Process(1), Pipe((False, "Traceback: x")))
    with pytest.raises(UserError, match=r"status -9.*the same command then goes on"):
        workers._check(Process(-9), Pipe())


class Counter:
    """A shared number in one process."""

    value = 0

    def get_lock(self):
        return self

    def __enter__(self):
        return self

    def __exit__(self, *error):
        return None


def test_every_shard_is_taken_once():
    todo, taken = [("train", 0), ("train", 1), ("test", 0)], Counter()
    assert [workers._next(todo, taken) for _ in range(5)] == [*todo, None, None]


@pytest.fixture
def planned(tmp_path):
    """A builder of photographs and its only shard, not made yet."""
    write_photographs(epath.Path(tmp_path / "photographs"))
    builder = faces.Builder(data_dir=tmp_path / "data", threads=1)
    (shard,) = builder.plan(epath.Path(tmp_path / "photographs"))["train"]
    return builder, shard


def test_two_workers_may_make_the_same_shard(planned, monkeypatch):
    """The first ends while the second is at work, or has left a shard without its note."""
    builder, shard = planned
    read = photographs.make_record

    def slower(sample, **options):
        monkeypatch.setattr(photographs, "make_record", read)
        builder.write_shard(shard)
        return read(sample, **options)

    monkeypatch.setattr(photographs, "make_record", slower)
    builder.write_shard(shard)
    assert shard.whole()
    shard.path.with_name(f"{shard.path.name}.json").unlink()
    builder.write_shard(shard)
    assert shard.whole() and len(list(builder.unfinished.iterdir())) == 2


def test_attempts_that_failed_leave_nothing(planned, tmp_path, monkeypatch):
    builder, shard = planned

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(photographs, "make_record", full)
        with pytest.raises(UserError, match="No space left on device; make room there"):
            builder.write_shard(shard)
        patch.setattr(epath.Path, "mkdir", full)
        with pytest.raises(UserError, match="No space left on device; make room there"):
            builder.write_shard(shard)
    assert not list(builder.unfinished.iterdir())
    # A worker that was killed cannot clean up.
    (builder.unfinished / "attempt-1").mkdir()
    (builder.unfinished / "attempt-1/shard").write_bytes(b"1")
    (builder.unfinished / "shard.1.partial").write_bytes(b"1")
    builder.plan(epath.Path(tmp_path / "photographs"))  # as workers do, while others are at work
    assert len(list(builder.unfinished.iterdir())) == 2
    builder.plan(epath.Path(tmp_path / "photographs"), resume=True)
    assert not list(builder.unfinished.iterdir())


@pytest.mark.slow
def test_workers_make_the_same_set(tmp_path):
    source = tmp_path / "photographs"
    write_photographs(source, 7)
    (source / "broken.png").write_bytes(b"no picture")
    (source / "broken.npy").write_bytes((source / "day0/0.npy").read_bytes())
    options = dict(source=str(source), shard_size=3, threads=1)
    (alone,) = prepare.prepare("faces", tmp_path / "alone", **options)
    (folder,) = prepare.prepare("faces", tmp_path / "many", **options, workers=2)
    assert split_sizes(folder) == {"train": 7}
    report = json.loads((folder / "prepare_report.json").read_text())
    assert report == json.loads((alone / "prepare_report.json").read_text())
    assert report["splits"]["train"]["rejects"] == {"image unreadable": 1}
    assert not list(folder.parent.glob("unfinished*"))


@pytest.mark.slow
def test_workers_end_with_a_command_that_is_killed():
    code = """
import multiprocessing, time
from tests.data_pipelines.test_workers import lasting
if __name__ == "__main__":
    process = multiprocessing.get_context("spawn").Process(target=lasting)
    process.start()
    print(process.pid, flush=True)
    time.sleep(600)
"""
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True
    ) as command:
        child = int(command.stdout.readline())
        assert Path(f"/proc/{child}").exists()
        command.send_signal(signal.SIGKILL)
    ends = time.monotonic() + _WAIT_SECONDS
    while running(child) and time.monotonic() < ends:
        time.sleep(0.1)
    assert not running(child)


def lasting():
    """What the child of the test does."""
    workers._end_with_parent()
    time.sleep(600)


def running(process):
    try:
        os.kill(process, 0)
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


@pytest.mark.parametrize("named", [None, "tpu"])
def test_workers_leave_the_accelerator_to_their_command(monkeypatch, named):
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    if named:
        monkeypatch.setenv("JAX_PLATFORMS", named)
    with workers._on_cpu():
        assert os.environ["JAX_PLATFORMS"] == "cpu"
    assert os.environ.get("JAX_PLATFORMS") == named
