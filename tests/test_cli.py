"""What every command shows while it works."""

from __future__ import annotations

import io
import re
import sys

import pytest

from fields_jax import cli


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    """Seconds pass only when told to."""
    now = [100.0]
    monkeypatch.setattr(cli.time, "monotonic", lambda: now[0])
    return now


def test_progress_at_a_terminal_keeps_one_line(monkeypatch, clock):
    monkeypatch.setattr(sys, "stderr", Terminal())
    passed = []
    for item in cli.progress("abcd", 4, "letters"):
        passed.append(item)
        clock[0] += 2
    assert passed == list("abcd")
    said = sys.stderr.getvalue()
    assert [line.strip() for line in re.split("[\r\n]+", said)][1:-1] == [
        "1/4 letters, 0.5/s, 6 s left",
        "2/4 letters, 0.5/s, 4 s left",
        "3/4 letters, 0.5/s, 2 s left",
        "4/4 letters, 0.5/s, 0 s left",
    ]
    assert said.count("\n") == 1 and said.endswith("\n")


def test_progress_in_a_log_writes_a_line_now_and_then_and_at_the_end(capsys, clock):
    for _ in cli.progress(range(9), 9, "steps"):
        clock[0] += 2
    said = [line.split()[0] for line in capsys.readouterr().err.splitlines()]
    assert said == ["3/9", "6/9", "9/9"]


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (SyntaxError("never closed", ("a.py", 4, 1, "(")), "a.py, line 4 is no Python: never"),
        (KeyError("no key x"), "unknown config key: no key x"),
        (ValueError("Traceback (most recent call last):\nValueError: bad\x1b[2J"), r"bad\x1b[2J"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_a_config_file_raises_is_one_line(monkeypatch, capsys, error, line):
    def parsed(argv):
        raise error

    monkeypatch.setattr(cli.flags, "FLAGS", parsed)
    with pytest.raises(SystemExit, match="2"):
        cli.parse_flags(["train"])
    said = capsys.readouterr().err
    assert said.startswith(f"error: {line}") and said.count("\n") == 1
