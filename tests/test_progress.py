"""Progress of long work: one line at a terminal, a line now and then elsewhere."""

from __future__ import annotations

import io
import re
import sys
import threading

import pytest

from fields_jax import progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    """Seconds pass only when told to."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_progress_at_a_terminal_keeps_one_line(monkeypatch, clock):
    monkeypatch.setattr(sys, "stderr", Terminal())
    passed = []
    for item in progress.progress("abcd", 4, "letters"):
        passed.append(item)
        clock[0] += 2
    assert passed == list("abcd")
    said = sys.stderr.getvalue()
    assert [line.strip() for line in re.split("[\r\n]+", said)][1:-1] == [
        "1/4 letters, 0.5/s, 0:06 left",
        "2/4 letters, 0.5/s, 0:04 left",
        "3/4 letters, 0.5/s, 0:02 left",
        "4/4 letters, 0.5/s, 0:00 left",
    ]
    assert said.count("\n") == 1 and said.endswith("\n")


def test_progress_in_a_log_writes_a_line_now_and_then_and_at_the_end(capsys, clock):
    for _ in progress.progress(range(9), 9, "steps", of="a\rset"):
        clock[0] += 2
    said = capsys.readouterr().err
    assert [line.split()[:3] for line in said.splitlines()] == [
        ["a", "set:", "3/9"],
        ["a", "set:", "6/9"],
        ["a", "set:", "9/9"],
    ]
    assert "\r" not in said


def test_what_an_earlier_run_has_made_does_not_make_this_one_faster(capsys, clock):
    line = progress.Progress(110, "photographs")
    line.skip(100)
    for _ in range(4):
        clock[0] += 2
        line.step()
    assert capsys.readouterr().err == "103/110 photographs, 0.5/s, 0:14 left\n"


@pytest.mark.parametrize(("stdout", "pause"), [(Terminal(), "_TICK"), (io.StringIO(), "_WAIT")])
def test_a_line_is_kept_up_while_a_block_is_busy(monkeypatch, stdout, pause):
    monkeypatch.setattr(sys, "stdout", stdout)
    for name in ("_TICK_SECONDS", "_WAIT_SECONDS"):
        monkeypatch.setattr(progress, name, 0.01 if name.startswith(pause) else 60.0)
    said, enough = [], threading.Event()

    def show(line):
        said.append(line)
        if len(said) == 3:
            enough.set()

    with progress.kept_up(lambda: f"line {len(said)}", show):
        assert enough.wait(30)
    count = len(said)
    assert said[:3] == ["line 0", "line 1", "line 2"]
    assert not [each for each in threading.enumerate() if each.name == "progress"]
    assert len(said) == count  # nothing is shown once the block has ended


def test_hours_are_told_as_such():
    assert [progress.clock(s) for s in (0, 59.6, 3599, 7261)] == [
        *("0:00", "1:00", "59:59", "2:01:01"),
    ]
