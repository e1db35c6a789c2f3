"""The ledger measures part by part, and its page shows every figure beside its limit."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import ledger, ledger_page, machine, networks, rasterize, starting
from benchmarks.figures import Figure
from benchmarks.ledger_parts import PARTS
from benchmarks.machine import Speeds
from fields_jax.errors import UserError
from tests.support.heads import random_head
from tests.support.tiny_training import tiny_config

DOCS = Path(__file__).parents[2] / "docs"


def test_limits_by_hand():
    figure = Figure("a", 0.5, items=8, against={"torch": 1.0}, gflop=10.0, gbytes=2.0)
    found = figure.report(Speeds(flops=100e9, bytes=10e9))
    assert found["limit_seconds"] == pytest.approx({"arithmetic": 0.1, "memory": 0.2})
    assert found["times_limit"] == pytest.approx(2.5) and found["per_second"] == 16
    bare = Figure("b", 0.5).report(Speeds(1.0, 1.0))
    assert "times_limit" not in bare and "per_second" not in bare


def test_the_page_shows_figures_limits_and_what_is_missing():
    speeds = Speeds(flops=100e9, bytes=10e9)
    figure = Figure("a step", 0.25, items=8, against={"torch": 1.0}, gflop=10.0, gbytes=0.5)
    report = {
        "machine": machine.describe(),
        "limits": {"matmul_gflops": 100.0, "copy_gbytes_per_second": 10.0},
        "load_before": [0.1, 0.2, 0.3],
        "load_after": [0.4, 0.5, 0.6],
        "parts": {"encoders": [figure.report(speeds)]},
        "skipped": {"pipeline": "tensorflow is not installed"},
    }
    page = ledger_page.page(report)
    assert "| a step | 250 ms | 32.0 | torch 1.00 s | 4.00 | 100 ms | 50.0 ms | 2.50 |" in page
    assert "- Data pipeline: tensorflow is not installed" in page
    assert "0.1 0.2 0.3, 0.4 0.5 0.6" in page and "draft" not in page
    assert ledger_page._TITLES.keys() == ledger_page._LEADS.keys() == PARTS.keys()


def test_the_page_in_docs_is_that_of_its_figures():
    report = json.loads((DOCS / "performance.json").read_text())
    assert (DOCS / "performance.md").read_text() == ledger_page.page(report)


def test_a_part_that_fails_does_not_cost_the_others(tmp_path, monkeypatch):
    def broken(quick):
        raise MemoryError("no memory\nat all")

    for name, part in {"rasterizer": broken, "loop": lambda quick: [Figure("x", 1.0)]}.items():
        monkeypatch.setitem(PARTS, name, part)
    path = tmp_path / "out.json"
    report = ledger.measure(["loop", "rasterizer"], quick=True, path=str(path))
    assert report["skipped"] == {"rasterizer": "no memory"}
    assert [figure["name"] for figure in report["parts"]["loop"]] == ["x"]
    assert json.loads(path.read_text()) == report
    with pytest.raises(UserError, match="unknown part 'nothing'"):
        ledger.measure(["nothing"], quick=True)


def test_a_part_measured_again_tells_when():
    def measured(date, flops, **parts):
        return {
            "machine": machine.describe() | {"date": date, "git": "abcdef0123456789"},
            "limits": {"matmul_gflops": flops, "copy_gbytes_per_second": 2.0},
            "load_before": [0.1] * 3,
            "load_after": [0.1] * 3,
            "parts": {
                name: [Figure(what, 1.0).report(Speeds(1, 1))] for name, what in parts.items()
            },
            "skipped": {},
        }

    whole = measured("2026-01-01", 100.0, loop="a loop", starting="a start")
    whole["skipped"] = {"starting": "no tensorflow", "pipeline": "no tensorflow"}
    page = ledger_page.page(ledger.joined(whole, measured("2026-02-02", 50.0, starting="sooner")))
    assert "| date, commit | 2026-01-01, abcdef012345 |" in page and "a loop" in page
    assert "sooner" in page and "a start" not in page
    assert page.endswith("## Skipped\n\n- Data pipeline: no tensorflow\n")
    (line,) = (line for line in page.splitlines() if "Measured again" in line)
    assert "on 2026-02-02, commit abcdef012345, when products ran at 50 GFLOP/s" in line


@pytest.mark.parametrize("network", networks.NETWORKS)
def test_networks_are_measured_without_torch(network, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        networks.importlib.util,
        "find_spec",
        lambda name: None if name == "torch" else find(name),
    )
    found = networks.measure(networks.at_size(tiny_config(), 32, 2), network, rounds=1)
    names = [f"{network}, {kind}, 32 px, batch 2" for kind in ("forward", "training step")]
    assert [figure.name for figure in found] == names
    forward, step = found
    assert step.gflop > 2 * forward.gflop > 0 and min(forward.gbytes, step.seconds) > 0
    assert forward.note == "torch is not installed" and not forward.against


def test_the_rasterizer_is_measured_against_others():
    found = rasterize.measure(random_head(), 1, 32, rounds=1)
    ids = found[0]
    assert ids.name == "ids, 32 px, batch 1" and "reference backend" in ids.against
    assert min(ids.seconds, ids.gflop, ids.gbytes, *ids.against.values()) > 0


def test_pixels_that_a_loop_over_triangles_tests(monkeypatch):
    points = np.array([[[0.5, 0.5, 0], [3.2, 0.5, 0], [0.5, 2.9, 0], [-9, -9, 0]]])
    monkeypatch.setattr(rasterize, "_pixels", lambda *_: points)

    class head:
        faces = np.array([[0, 1, 2], [3, 3, 3]])

    # Columns 1 to 3 and rows 1 to 2; the other face is outside.
    assert rasterize.tests(head, 1, 4) == 6


def test_a_start_is_timed_until_it_has_done_its_work():
    code = "import time; print('begun', flush=True); time.sleep(1)"
    whole = starting._start(["-c", code])
    begun = starting._start(["-c", code], done=lambda text: "begun" in text)
    assert begun.seconds < whole.seconds
    with pytest.raises(UserError, match="failed: gone"):
        starting._start(["-c", "import sys; sys.exit('gone')"])


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system does not tell")
def test_a_start_tells_the_most_memory_that_it_had():
    code = "import time; bytearray(300 << 20); time.sleep({})"  # freed before the pause
    small, large = (starting._start(["-c", text]) for text in ("pass", code.format(0.3)))
    assert 0.29 < large.gib < 0.29 + small.gib + 0.1
    assert large.memory == f"at most {large.gib:.1f} GiB"
