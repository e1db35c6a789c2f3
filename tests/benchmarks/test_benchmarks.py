"""The benchmarks run and say what was measured."""

from __future__ import annotations

import importlib.util
import json

import numpy as np
import pytest

from benchmarks import arkit, overhead, reconstruct, scaling, scan_fit
from benchmarks.batches import random_batch
from benchmarks.timing import in_turns
from fields_jax.arkit import NAMES
from fields_jax.fitting.scan import ScanFitter
from fields_jax.fitting.scan_types import Scan, ScanSettings
from fields_jax.flame.procedural import procedural_head
from fields_jax.registration.heads import Pair, same_vertices
from tests.support.heads import random_head
from tests.support.registered import small_head
from tests.support.tiny_training import tiny_batch, tiny_config


def test_variants_are_timed_in_turn():
    order = []
    calls = {name: (lambda name=name: order.append(name)) for name in "abc"}
    spent = in_turns(calls, rounds=2)
    assert "".join(order) == "abc" * 3  # the first round warms up
    assert spent.keys() == set("abc") and min(min(each) for each in spent.values()) >= 0


def test_reconstruction_is_measured_without_torch(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        reconstruct.importlib.util,
        "find_spec",
        lambda name: None if name == "torch" else find(name),
    )
    report = reconstruct.measure(tiny_config(), random_head(), [2], rounds=1)
    json.dumps(report, allow_nan=False)
    rates = report["images_per_second"][2]
    assert list(rates) == ["jax: encoders", "jax: encoders, FLAME, render", "jax: synthesizer"]
    assert min(rates.values()) > 0 and report["torch"] == "skipped, it is not installed"
    assert report["image_size"] == 32


def test_scan_fits_are_measured():
    fitter = ScanFitter(
        procedural_head(), n_shape=8, settings=ScanSettings(points=600, neutral_frames=2, rounds=3)
    )
    report = scan_fit.measure(procedural_head(), fitter, 2, 4, 0.25)
    json.dumps(report, allow_nan=False)
    assert report["good"] == 6 and report["spoiled"] == 2
    assert report["spoiled_rejected"] + len(report["missed"]) == 2
    assert report["scans_per_second"] > report["scans_per_second_with_identity"] > 0
    assert 0 < report["vertex_error_mm"]["median"] < report["vertex_error_mm"]["p95"]


def test_every_way_of_spoiling_a_scan_is_used():
    rng = np.random.default_rng(0)
    scan = Scan(rng.normal(size=(40, 3)), rng.normal(size=(51, 3)), rng.normal(size=(105, 3)))
    scans, how = scan_fit.spoil([scan] * 12, 0.5, rng)
    assert {name for name in how if name} == set(scan_fit.SPOILERS)
    for spoiled, name in zip(scans, how, strict=True):
        assert (spoiled is scan) == (not name)


def test_the_scaling_page_holds_every_figure_and_estimate():
    program = dict(gflops=1234.0, gbytes_accessed=5.6, memory_traffic_gbytes=3.4)
    program |= dict(collective_mbytes=7.8, collectives=9)
    names = ("reconstruction", "synthesizer", "encoders")
    programs = {f"B/{name}": program | {"memory_gib": 2.5} for name in names}
    report = dict(
        kind="TPU v5 lite", devices=4, dtype="bfloat16", batch_per_device=16, programs=programs
    )
    page = scaling.page([report])
    for name in names:
        row = f"| TPU v5 lite | 4 | today's | bfloat16 | 16 | B/{name} "
        assert row + "| 1,234 | 5.6 | 3.4 | 2.50 | 9 | 7.8 |" in page
    for chips in (1, 8, 64, 256):
        assert f"| TPU v5e | today's | bfloat16 | 16 | {chips} | " in page
    part = report | {"programs": {"B/reconstruction": programs["B/reconstruction"]}}
    other = scaling.page([part | {"code": "former", "batch_per_device": 64, "accumulate": 4}])
    assert "| former | bfloat16 | 64 = 4 x 16 | B/reconstruction | " in other
    assert "| former | bfloat16 | 64 = 4 x 16 | 1 | " not in other  # two programs are unknown
    assert "A model, not a measurement" in page


def test_the_scaling_model_by_hand():
    program = dict(gflops=788.0, memory_traffic_gbytes=0.0)
    program |= dict(collective_mbytes=100.0, collectives=10)
    programs = {f"B/{name}": program for name in ("reconstruction", "synthesizer", "encoders")}
    report = {"kind": "TPU v5 lite", "dtype": "float32", "batch_per_device": 16}
    report["programs"] = programs
    one, many = scaling.estimate(report, 1), scaling.estimate(report, 64)
    # Two programs of 788 GFLOP at 0.4 x 197 TFLOP/s.
    assert one["compute"] == pytest.approx(0.02) and one["reduce"] == 0
    assert one["images"] == pytest.approx(800)
    # 2 x 63/64 x 200 MB / 100 GB/s, and 20 collectives of 5 us x (1 + 14/10).
    assert many["reduce"] == pytest.approx(0.0039375 + 20 * 12e-6)
    gpu = scaling.estimate(report | {"kind": "NVIDIA H100 80GB HBM3"}, 1)
    assert gpu["compute"] == pytest.approx(2 * 0.788 / (0.4 * 495))  # TF32
    assert many["read"] == 8 * 56 * 335 and many["efficiency"] == pytest.approx(0.02 / 0.0241775)


def test_overhead_is_measured_in_turns(tmp_path, monkeypatch):
    """The training loop is replaced by one that takes batches and does nothing."""
    taken = []

    def train(config, workdir, head, batches, meta):
        source = batches(0)
        for _ in range(config.phases.A.steps):
            next(source)
            taken.append("loop")

    monkeypatch.setattr(overhead.loop, "train", train)
    bare = lambda steps: taken.extend(["bare"] * steps)  # noqa: E731
    monkeypatch.setattr(overhead, "_bare_loop", lambda *_: bare)
    report = overhead.measure(tiny_config(), random_head(), str(tmp_path), steps=4, rounds=2)
    whole = ["loop"] * 2 + (["bare"] * 4 + ["loop"] * 4) * 2 + ["loop"]
    assert taken == whole
    assert len(report["blocks"]["bare"]) == len(report["blocks"]["loop"]) == 2
    json.dumps(report, allow_nan=False)


def test_random_batches_are_what_training_takes():
    config = tiny_config()
    batch = random_batch(config)
    expected = tiny_batch(config)
    for name, value in expected.items():
        assert batch[name].shape == value.shape and batch[name].dtype == value.dtype, name
    assert batch["image"].max() > 200 and batch["face_mask"].max() == 1


def test_carried_shapes_are_compared():
    """A head's shapes carried to itself and back are the same."""
    head = small_head().replace(arkit_basis=procedural_head().arkit_basis)
    same = same_vertices(np.asarray(head.faces), len(head.template))
    figures = arkit.carried(head, head, Pair(same, same))
    assert list(figures) == list(NAMES)
    for name, found in figures.items():
        if name == "tongueOut":
            assert found["moves"] is None and found["own_rms"] is None
            continue
        assert found["own_cosine"] > 0.95 and found["back_cosine"] > 0.95, name
        assert found["own_rms"] < 0.3 * found["moves"], name
    lines = arkit.table({"heads": {"small": figures}}).splitlines()
    assert len(lines) == len(NAMES) + 3
    assert len({line.count("|") for line in lines}) == 1
