"""The benchmarks run and say what was measured."""

from __future__ import annotations

import importlib.util
import json

from benchmarks import reconstruct
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
