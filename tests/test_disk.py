"""Full and read-only disks: one line, status 2, and earlier files stay whole."""

from __future__ import annotations

import errno
import json
import os
import re
import struct
import subprocess

import numpy as np
import pytest
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.record_writer import masked_crc32c

from data_pipelines.building import shards
from fields_jax import cli, disk
from fields_jax.errors import UserError
from fields_jax.evaluation import scoring
from fields_jax.training import events
from fields_jax.training.writers import Writers
from fields_jax.workdir import store
from fields_jax.workdir.lock import only_run
from tests.support.small_states import a_state, same
from tests.support.typed import typed


def full(*_, **__):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 900 KB, where this process may make one."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=900k", "tmpfs", str(folder)]
    try:
        made = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        made = False
    if not made:
        pytest.skip("file systems cannot be mounted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=False)


def test_checkpoints_until_a_real_disk_is_full(small_disk, capfd):
    """Of the threads that write nothing is heard but the one line; the last whole one is read."""
    line = re.escape(f"{small_disk}/checkpoints cannot be written: No space left on device; make ")
    with (
        pytest.raises(disk.DiskError, match=line),
        store.open_manager(str(small_disk)) as manager,
    ):
        for step in range(1, 30):
            store.save(manager, a_state(step), seed=0, meta={"trained": []})
            store.settle(manager)
    assert capfd.readouterr() == ("", "")
    with store.open_manager(str(small_disk)) as manager:
        state, _, damaged = store.restore(manager, a_state(0))
    assert 0 < int(state.step) < step and not damaged
    assert same(state, a_state(int(state.step)))


def test_the_log_of_a_real_disk_that_is_full(small_disk, capfd):
    run = Writers(str(small_disk / "run"), active=True)
    with pytest.raises(disk.DiskError, match=r"(metrics.jsonl|tensorboard) cannot be written: No"):
        for step in range(10_000):
            run.scalars(step, "A", {f"loss/{i}": 1.0 for i in range(50)})
    run.close()  # nothing is pending that could fail
    assert capfd.readouterr() == ("", "")
    for path in (small_disk / "run" / "tensorboard").iterdir():
        path.unlink()  # room is made, and the same command goes on
    again = Writers(str(small_disk / "run"), active=True, step=step)
    again.scalars(step + 1, "A", {"loss": 1.0})
    again.close()
    lines = (small_disk / "run" / "metrics.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert [row["step"] for row in rows] in ([*range(step), step + 1], [*range(step + 2)])


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device", "/a/b"),
        ValueError("RESOURCE_EXHAUSTED: No space left on device [os_error_code='28']"),
        OSError(errno.EROFS, "Read-only file system"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        PermissionError(errno.EACCES, "Permission denied"),
    ],
    ids=lambda e: type(e).__name__,
)
def test_what_a_disk_says_becomes_a_line_with_a_remedy(error):
    chained = RuntimeError("save failed")
    chained.__cause__ = error
    line = r"^/run cannot be written: [A-Z].*; m.* or name X; T$"
    for raised in (error, chained):
        with pytest.raises(disk.DiskError, match=line), disk.writing("/run", instead="X", then="T"):
            raise raised


def test_other_errors_and_interruptions_pass():
    for error in (ValueError("x"), KeyError("y"), KeyboardInterrupt()):
        with pytest.raises(type(error)), disk.writing("/run", instead="X"):
            raise error
    inner = disk.DiskError("nearer")
    with pytest.raises(disk.DiskError, match=r"^nearer$"), disk.writing("/run", instead="X"):
        raise inner


def failing(error):
    def main(_):
        raise error

    return main


def test_a_command_ends_with_one_printable_line_also_after_a_failed_cleanup(capsys):
    def cleaning(_):
        try:
            with disk.writing("/run", instead="another --out"):
                full()
        finally:
            raise RuntimeError("cannot flush\x1b[31m\nTraceback")

    assert cli.guarded(cleaning)([]) == 2
    line = "error: /run cannot be written: No space left on device; make room there or name another"
    assert capsys.readouterr().err == f"{line} --out\n"
    hidden = RuntimeError("in thread 7: No space left on device\nTraceback")
    assert cli.guarded(failing(hidden))([]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert cli.guarded(failing(UserError("a\x1b[31m\nb")))([]) == 2
    assert capsys.readouterr().err == "error: a\\x1b[31m b\n"
    assert cli.guarded(failing(PermissionError(13, "Permission denied", "/data")))([]) == 2
    line = "error: /data: Permission denied; see to its permissions or name another place\n"
    assert capsys.readouterr().err == line
    assert cli.guarded(failing(TypeError("x")))([]) == 1  # a bug is no mistake of the user's
    assert "TypeError: x" in capsys.readouterr().err


def records(content):
    """Messages of a TFRecord file whose checksums hold."""
    while content:
        size, check = struct.unpack("<QI", content[:12])
        message, (checked,) = content[12 : 12 + size], struct.unpack_from("<I", content, 12 + size)
        assert masked_crc32c(content[:8]) == check and masked_crc32c(message) == checked
        yield message
        content = content[16 + size :]


def test_events_go_on_where_a_write_was_cut_short(tmp_path, monkeypatch):
    made = events.Events(tmp_path, first_step=1)
    write = os.write
    monkeypatch.setattr(os, "write", lambda file, content: write(file, content[:7]))
    made.scalars(3, {"loss": 0.5})
    made.text(3, "log", "a note")
    made.image(3, "picture", np.zeros((4, 4, 3), np.uint8))
    made.close()
    monkeypatch.undo()
    again = events.Events(tmp_path, first_step=4)  # in the same second
    again.close()
    first, second = sorted(tmp_path.iterdir(), key=lambda path: -path.stat().st_size)
    parsed = [Event.FromString(record) for record in records(first.read_bytes())]
    assert [event.step for event in parsed] == [0, 1, 3, 3, 3]
    assert parsed[2].summary.value[0].simple_value == 0.5
    assert parsed[2].summary.value[0].tag == "loss"
    assert parsed[4].summary.value[0].image.height == 4
    assert second.stat().st_size > 0


def test_a_lock_is_held_also_where_its_holder_cannot_be_written_down(tmp_path, monkeypatch):
    class Full:
        def __init__(self, stream):
            self.stream = stream

        def __getattr__(self, name):
            return full if name in ("write", "truncate") else getattr(self.stream, name)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.stream.close()

    from fields_jax.workdir import lock

    opened = lambda *given, **named: Full(open(*given, **named))  # noqa: E731, SIM115
    monkeypatch.setattr(lock, "open", opened, raising=False)
    with only_run(str(tmp_path)):
        pass


def test_scores_are_shown_before_a_folder_refuses_them(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(scoring, "score_workdir", lambda *_, **__: ({"n": 1}, {"a": np.ones(2)}))
    monkeypatch.setattr(scoring, "table", lambda scores: f"the scores of {scores['n']}")

    def read_only(*_, **__):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(scoring, "write_npz", read_only)
    assert typed("fields_jax.evaluate", [f"--workdir={tmp_path}"]) == 2
    out, error = capsys.readouterr()
    assert out == "the scores of 1\n"
    assert re.search(r"evaluation.json .* or name another by --out=FILE.j", error)
    assert not list(tmp_path.iterdir())


def test_a_full_disk_ends_the_making_of_shards_with_a_line(tmp_path, monkeypatch):
    monkeypatch.setattr(shards.tfds.core.ExampleWriter, "write", full)
    writer = shards.KeepingWriter(shards.epath.Path(tmp_path), None)
    with pytest.raises(disk.DiskError, match=rf"^{tmp_path} .*make room there or name another --"):
        writer.write(tmp_path / "train-00000", [])
