"""What is compiled beforehand is what the first face needs, and ends with the process."""

from __future__ import annotations

import threading

import numpy as np

from fields_jax import kept
from fields_jax.flame.procedural import procedural_head
from fields_jax.outputs.morphs import state_of
from fields_jax.outputs.texture import View, bake
from fields_jax.outputs.warming import Warming, warm_up
from tests.support.portraits import CAMERA, coefficients


def test_a_face_afterwards_needs_no_other_program(monkeypatch):
    head, programs = procedural_head(), {}
    monkeypatch.setattr(kept, "_programs", programs)
    face = coefficients()
    warm_up(head, "arkit", face.expression.shape[1])._thread.join()
    before = set(programs)
    assert len(before) >= 2  # others may be left of earlier tests
    state_of(head, "arkit", face)
    picture = np.zeros((90, 70, 3), np.uint8)
    bake(head, [View(picture, np.asarray(head.template), np.float32(CAMERA), np.eye(3), 64)])
    assert set(programs) == before


def test_it_ends_after_the_call_that_runs():
    started, go_on, calls = threading.Event(), threading.Event(), []

    def first():
        started.set()
        go_on.wait(10)

    warming = Warming([first, lambda: calls.append("second")])
    assert started.wait(10)
    ending = threading.Thread(target=warming.end)
    ending.start()
    go_on.set()
    ending.join(10)
    assert not ending.is_alive() and not calls


def test_what_fails_is_left_to_where_it_is_needed():
    def broken():
        raise ValueError("no such head")

    calls: list[str] = []
    warming = Warming([broken, lambda: calls.append("second")])
    warming._thread.join(10)
    assert not calls
    warming.end()
