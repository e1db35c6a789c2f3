"""The benchmark of accelerators, in its small form on a CPU."""

from __future__ import annotations

import json

import pytest

from benchmarks import accelerator
from benchmarks.accelerator_jobs import SMALL, Bench, Job, jobs
from fields_jax.errors import UserError
from tests.support.heads import random_head
from tests.support.tiny_training import tiny_config


def test_every_job_runs_on_a_cpu_or_says_why_not(tmp_path):
    log = accelerator.Log(str(tmp_path / "out.json"))
    speeds = accelerator.measure_speeds(SMALL.matmul, SMALL.copy_mib)
    log.describe(speeds)
    found = jobs(Bench(tiny_config(), random_head(), SMALL, speeds))
    report = accelerator.measure(found, log, deadline=float("inf"))
    assert json.loads((tmp_path / "out.json").read_text()) == report
    assert report["failed"] == {}
    assert report["skipped"] == dict.fromkeys(("nvdiffrast", "torch"), "there is no GPU")
    results = report["results"]
    assert [row["name"] for row in results["rasterizer, 32 px"]] == [
        "ids, batch 2",
        "interpolated, batch 2",
        "with gradients, batch 2",
    ]
    assert all("times_limit" in row for row in results["rasterizer, 32 px"])
    step = results["step of phase A, float32, 4"]
    assert [row["name"] for row in step] == ["reconstruction", "iteration"]
    assert step[1]["per_second"] > 0 and step[1]["share_of_matmul"] > 0
    parts = [row["name"] for row in results["parts of a step, float32, 4"]]
    assert parts[0] == "encoders, forward" and parts[-1] == "optimiser, all networks"
    assert {"FLAME", "render", "synthesizer, forward+backward"} < set(parts)
    assert results["inference"][0]["items"] == 2
    told = [row["name"] for row in results["forms"]]
    assert told[:2] == ["depthwise_conv_by_groups, float32", "depthwise_conv_by_shifts, float32"]
    assert "upsample_by_gathering, float32" in told and len(set(told)) == len(told) == 11
    assert report["limits"]["float32_matmul_tflops"] > 0


def test_jobs_that_fail_or_come_too_late_are_named():
    now = [0.0]

    def rows(*names):
        for name in names:
            now[0] += 1
            yield {"name": name}

    def broken():
        yield {"name": "first"}
        raise MemoryError("out of memory\nfor the whole story see above")

    def absent():
        raise UserError("it is not installed")

    found = [
        Job("broken", broken),
        Job("absent", absent),
        Job("whole", lambda: rows("a", "b")),
        Job("half", lambda: rows("c", "d")),
        Job("late", lambda: rows("e")),
    ]
    report = accelerator.measure(found, accelerator.Log(""), 3.0, clock=lambda: now[0])
    assert report["failed"] == {"broken": "out of memory"}
    late = dict.fromkeys(("half", "late"), "the time was over")
    assert report["skipped"] == {"absent": "it is not installed"} | late
    names = {job: [row["name"] for row in rows] for job, rows in report["results"].items()}
    assert names == {"broken": ["first"], "whole": ["a", "b"], "half": ["c"]}


def test_when_the_time_is_over_the_process_ends_and_says_what_is_left(tmp_path, monkeypatch):
    ended = []
    monkeypatch.setattr(accelerator.os, "_exit", ended.append)
    log = accelerator.Log(str(tmp_path / "out.json"))
    log.expect(["now", "later"])
    log.begin("now")
    log.add({"name": "measured"})
    log.leave("the time was over")
    report = json.loads((tmp_path / "out.json").read_text())
    assert ended == [0] and report["results"] == {"now": [{"name": "measured"}]}
    assert report["skipped"] == dict.fromkeys(("now", "later"), "the time was over")


def test_the_most_important_jobs_come_first():
    bench = Bench(tiny_config(), random_head(), accelerator.FULL, {})
    names = [job.name for job in jobs(bench)]
    assert names[:2] == ["rasterizer, 224 px", "step of phase B, bfloat16, 64"]
    assert len(set(names)) == len(names)
    with pytest.raises(UserError, match="no GPU"):
        next(job for job in jobs(bench) if job.name == "torch").rows().__next__()
