"""Runs as child processes: order, failure, resumption, interruption; children are one-liners."""

from __future__ import annotations

import json
import os
import sys
import threading
import time

import pytest

from fields_jax.ablation import jobs
from fields_jax.errors import UserError


def python(name: str, code: str, given=None) -> jobs.Command:
    return jobs.Command(name, [sys.executable, "-S", "-c", code], given or {"code": code})


def writes(path) -> str:
    """Code that appends a line to a file."""
    return f"open({str(path)!r}, 'a').write('x\\n')"


def test_jobs_run_once_and_after_what_they_need(tmp_path):
    trace = tmp_path / "trace"
    order = [
        jobs.Job(
            name,
            tmp_path / name,
            [python("train", f"open({str(trace)!r},'a').write({name!r})")],
            after,
        )
        for name, after in (("a", ()), ("b", ("a",)), ("c", ("b",)))
    ]
    assert jobs.run_jobs(order, 2) == {}
    assert trace.read_text() == "abc"
    assert jobs.run_jobs(order, 2) == {}
    assert trace.read_text() == "abc"
    record = json.loads((tmp_path / "a" / jobs.RECORD).read_text())
    assert record["train"]["given"] == order[0].commands[0].given


def test_a_failed_job_is_named_by_its_last_line_and_the_rest_goes_on(tmp_path, capsys):
    fails = "import sys; print('first'); print('error: no such set', file=sys.stderr); sys.exit(2)"
    bug = "print('ValueError: 3'); print('this is a bug of fields_jax'); raise SystemExit(1)"
    silent = "raise SystemExit(3)"
    done = tmp_path / "done"
    many = [
        jobs.Job("bad", tmp_path / "bad", [python("train", fails), python("evaluate", silent)]),
        jobs.Job("child", tmp_path / "child", [python("train", writes(done))], ("bad",)),
        jobs.Job("worse", tmp_path / "worse", [python("train", bug)]),
        jobs.Job("mute", tmp_path / "mute", [python("train", silent)]),
        jobs.Job("good", tmp_path / "good", [python("train", writes(done))]),
    ]
    assert jobs.run_jobs(many, 2) == {
        "bad": "train: error: no such set",
        "child": "not run, as bad failed",
        "worse": "train: ValueError: 3",
        "mute": "train: ended with status 3",
    }
    assert done.read_text() == "x\n"
    assert "bad failed after 0:00: train: error: no such set" in capsys.readouterr().out


def test_a_run_goes_on_behind_its_last_finished_command(tmp_path):
    trained, scored, ready = (tmp_path / name for name in ("trained", "scored", "ready"))
    code = f"import os; {writes(scored)}; raise SystemExit(not os.path.exists({str(ready)!r}))"
    job = jobs.Job(
        "run", tmp_path / "run", [python("train", writes(trained)), python("score", code)]
    )
    assert "run" in jobs.run_jobs([job], 1)
    ready.touch()
    assert jobs.run_jobs([job], 1) == {}
    assert trained.read_text() == "x\n" and scored.read_text() == "x\nx\n"
    again = jobs.Job(
        "run", job.folder, [job.commands[0], python("score", code, {"tests": "other"})]
    )
    assert jobs.run_jobs([again], 1) == {}
    assert trained.read_text() == "x\n" and scored.read_text() == "x\nx\nx\n"


def test_another_config_is_refused_with_its_first_key(tmp_path):
    job = jobs.Job(
        "run", tmp_path / "run", [python("train", "", {"config": {"b": 1, "a": {"c": 2}}})]
    )
    jobs.check_same(job, "train", {"config": {}})  # nothing has been trained yet
    assert jobs.run_jobs([job], 1) == {}
    jobs.check_same(job, "train", job.commands[0].given)
    with pytest.raises(UserError, match=r"config.a.c was 2, now 3; use another --out"):
        jobs.check_same(job, "train", {"config": {"b": 9, "a": {"c": 3}}})


def test_jobs_side_by_side_share_the_cores(tmp_path):
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        pytest.skip("one core")
    code = "import os, time; print(sorted(os.sched_getaffinity(0))); time.sleep(0.5)"
    many = [jobs.Job(name, tmp_path / name, [python("train", code)]) for name in "ab"]
    assert jobs.run_jobs(many, 2) == {}
    seen = [json.loads((tmp_path / name / jobs.LOG).read_text()) for name in "ab"]
    assert sorted(seen[0] + seen[1]) == cores
    assert sorted(os.sched_getaffinity(0)) == cores


def test_an_interruption_ends_the_children(tmp_path, monkeypatch):
    alive = tmp_path / "alive"
    code = f"import os, time; open({str(alive)!r}, 'w').write(str(os.getpid())); time.sleep(300)"
    job = jobs.Job("run", tmp_path / "run", [python("train", code)])
    real, main = jobs.futures.wait, threading.get_ident()

    def interrupted(*given):
        if alive.exists() and alive.read_text() and threading.get_ident() == main:
            raise KeyboardInterrupt
        return real(*given)

    monkeypatch.setattr(jobs.futures, "wait", interrupted)
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        jobs.run_jobs([job], 1)
    assert time.monotonic() - start < 60
    with pytest.raises(ProcessLookupError):
        os.kill(int(alive.read_text()), 0)
    assert not (job.folder / jobs.RECORD).exists()


def test_runs_on_an_accelerator_have_it_for_themselves(monkeypatch):
    monkeypatch.setattr(jobs.cpu_tuning, "cores", lambda: 8)
    assert jobs.default_count("cpu") == 4
    assert jobs.default_count("gpu") == jobs.default_count("tpu") == 1


@pytest.mark.parametrize(("platforms", "expected"), [("cpu", "cpu"), ("", "cpu"), ("none", "cpu")])
def test_a_child_says_what_runs_compute_on(monkeypatch, platforms, expected):
    monkeypatch.setenv("JAX_PLATFORMS", platforms)
    assert jobs.backend() == expected
