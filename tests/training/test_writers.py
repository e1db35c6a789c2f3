"""Metrics of a workdir in a bucket: whole copies at each checkpoint, and never the run's end."""

from __future__ import annotations

import io
import json
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from fields_jax.files import write_whole
from fields_jax.training import checkpoints, loop, writers
from fields_jax.training.writers import Writers


@pytest.fixture
def scratch(tmp_path, monkeypatch):
    """Where temporary folders are made."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def bucket(tmp_path, scratch, monkeypatch):
    """A workdir that is taken for one in a bucket, though it is a local folder."""
    monkeypatch.setattr(writers, "is_remote", lambda workdir: True)
    return tmp_path / "bucket" / "run"


@pytest.fixture
def warnings(monkeypatch):
    said: list[str] = []
    monkeypatch.setattr(writers.logging, "warning", lambda text, *v: said.append(text % v))
    return said


def steps(workdir: Path) -> list[int]:
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["step"] for line in lines]


def write(to: Writers, *numbers: int) -> None:
    for step in numbers:
        to.scalars(step, "A", {"loss": float(step)})


def events(workdir: Path) -> list[Path]:
    return sorted((workdir / "tensorboard").iterdir())


def is_down(path, content):
    raise ConnectionError("503 try later\nand many more lines")


def test_what_a_bucket_is():
    assert writers.is_remote("gs://bucket/run")
    assert not writers.is_remote("/home/me/run") and not writers.is_remote("runs/gs")


def test_local_workdirs_are_written_in_place_at_once(tmp_path, scratch):
    run = Writers(str(tmp_path / "run"), active=True)
    write(run, 1)
    assert steps(tmp_path / "run") == [1] and len(events(tmp_path / "run")) == 1
    run.publish()
    write(run, 2)
    run.close()
    assert steps(tmp_path / "run") == [1, 2] and not list(scratch.iterdir())
    assert b"loss" in events(tmp_path / "run")[0].read_bytes()


def test_a_bucket_gets_everything_at_checkpoints_and_at_the_end(bucket, scratch, warnings):
    run = Writers(str(bucket), active=True)
    write(run, 1, 2)
    assert not bucket.exists()
    run.publish()
    assert steps(bucket) == [1, 2] and len(events(bucket)) == 1
    write(run, 3)
    assert steps(bucket) == [1, 2]
    run.close()
    assert steps(bucket) == [1, 2, 3]
    (file,) = events(bucket)
    assert file.read_bytes().count(b"loss") == 3
    assert not list(scratch.iterdir()) and not warnings


def test_a_restart_goes_on_with_the_lines_of_the_bucket(bucket, monkeypatch):
    run = Writers(str(bucket), active=True)
    write(run, 1, 2, 3, 4)
    run.close()
    (before,) = events(bucket)
    content = before.read_bytes()
    monkeypatch.setattr("socket.gethostname", lambda: "another")  # event files are named after it
    run = Writers(str(bucket), active=True, step=2)
    write(run, 3)
    run.publish()
    assert steps(bucket) == [1, 2, 3]
    run.close()
    assert len(events(bucket)) == 2 and before.read_bytes() == content


def test_a_failed_copy_is_one_warning_and_made_good(bucket, scratch, warnings, monkeypatch):
    run = Writers(str(bucket), active=True)
    write(run, 1)
    run.publish()
    monkeypatch.setattr(writers, "write_whole", is_down)
    write(run, 2)
    run.publish()
    file = bucket / "metrics.jsonl"
    assert warnings == [
        f"cannot write {file} (503 try later): it is tried again at the next checkpoint"
    ]
    assert steps(bucket) == [1]
    monkeypatch.setattr(writers, "write_whole", write_whole)
    write(run, 3)
    run.publish()
    assert steps(bucket) == [1, 2, 3] and len(warnings) == 1
    run.close()
    assert not list(scratch.iterdir())


def test_what_cannot_be_copied_at_the_end_is_left_and_masks_nothing(
    bucket, scratch, warnings, monkeypatch
):
    run = Writers(str(bucket), active=True)
    write(run, 1)
    monkeypatch.setattr(writers, "write_whole", is_down)
    with pytest.raises(ZeroDivisionError):
        try:
            _ = 1 / 0
        finally:
            run.close()
    (left,) = scratch.iterdir()
    assert len(warnings) == 1 and warnings[0].endswith(f": all is left in {left}")
    assert steps(left) == [1] and len(events(left)) == 1


def test_a_note_at_a_terminal_covers_the_progress_line(tmp_path, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr(writers.sys, "stdout", Terminal())
    run = Writers(str(tmp_path), active=True)
    run.progress("compiling phase A: reconstruction 0:41, 0 of 1 done")
    run.text(1, "compiled")
    run.close()
    line, note = writers.sys.stdout.getvalue().split("\r")
    assert note.startswith("compiled  ") and note.endswith("\n") and len(note) > len(line)


def test_other_processes_write_nothing(bucket, scratch):
    run = Writers(str(bucket), active=False)
    write(run, 1)
    run.publish()
    run.close()
    assert not bucket.exists() and not list(scratch.iterdir())


def test_the_loop_publishes_after_each_checkpoint(monkeypatch):
    done: list[str] = []
    monkeypatch.setattr(checkpoints.store, "save", lambda *_, **__: done.append("save"))
    manager = SimpleNamespace(latest_step=lambda: None)
    run = SimpleNamespace(
        _checkpoints=checkpoints.Checkpoints(manager, "", 0, {}),
        _writers=SimpleNamespace(publish=lambda: done.append("publish")),
    )
    monkeypatch.setattr(checkpoints.parallel, "as_global", lambda state: state)
    loop._Run.save(run, SimpleNamespace(step=4))
    assert done == ["save", "publish"]
