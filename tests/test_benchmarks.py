"""The benchmarks run and say what was measured."""

from __future__ import annotations

import importlib.util
import json

import numpy as np

from benchmarks import reconstruct, scan_fit
from fields_jax.fitting.scan import ScanFitter
from fields_jax.fitting.scan_types import Scan, ScanSettings
from fields_jax.flame.procedural import procedural_head
from tests.heads import random_head
from tests.training import tiny_config


def test_variants_are_timed_in_turn():
    order = []
    calls = {name: (lambda name=name: order.append(name)) for name in "abc"}
    seconds = reconstruct.timed(calls, rounds=2)
    assert "".join(order) == "abc" * 3  # the first round warms up
    assert seconds.keys() == set("abc") and min(seconds.values()) >= 0


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
