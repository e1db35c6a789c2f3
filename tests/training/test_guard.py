"""Guards: examples that make a step non-finite, loss spikes, the mean of the parameters."""

from __future__ import annotations

import json
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest

from fields_jax.training import optim
from fields_jax.training.guard import DivergedError, FiniteGuard, SpikeWatch, bad_labels
from fields_jax.training.writers import Writers
from tests.support.tiny_training import tiny_batch, tiny_config


def blind_to_white(variables, image):
    """A model whose outputs are not finite for white images."""
    white = image.min(axis=(1, 2, 3)) == 1
    return {"x": jnp.where(white, jnp.nan, variables["params"])}


def check(guard, step, bad_steps, batch):
    values = {"loss": np.float32(np.nan if bad_steps else 1.0), "bad_steps": np.int32(bad_steps)}
    ids = np.array([f"face-{i}" for i in range(len(batch["image"]))])
    guard.check(step, values, batch, ids, {"params": np.float32(1.0)})


def test_the_examples_to_blame_are_written_down_and_named(tmp_path):
    batch = tiny_batch(tiny_config())
    batch["expression"][1, 2] = np.inf
    batch["jaw"][5] = np.nan
    batch["has_flame"][5] = False  # absent: nobody reads it
    batch["image"][3] = 255
    guard = FiniteGuard(SimpleNamespace(apply=blind_to_white), str(tmp_path), limit=1)
    check(guard, 6, 1, batch)
    check(guard, 7, 0, batch)  # a finite one in between: counting starts anew
    check(guard, 8, 1, batch)
    with pytest.raises(DivergedError, match=r"step 9 and 1 before .*loss; examples face-1, face-3"):
        check(guard, 9, 2, batch)
    lines = (tmp_path / "bad_examples.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert [row["step"] for row in rows] == [8, 9]
    assert rows[0]["bad_labels"] == {"face-1": ["expression"]} and len(rows[0]["ids"]) == 8
    assert rows[1]["bad_outputs"] == ["face-3"] and rows[1]["not_finite"] == ["loss"]


def test_absent_labels_are_nobodys_fault():
    batch = tiny_batch(tiny_config())
    batch["valence"][2] = np.nan
    batch["has_va"][2] = False
    assert bad_labels(batch) == [[]] * 8
    batch["has_va"][2] = True
    assert bad_labels(batch)[2] == ["valence"]


def test_spikes_stand_out_from_the_median_once_there_is_one():
    watch = SpikeWatch(5.0)
    assert not any(watch.look(step, 2.0) for step in range(19))
    assert watch.look(19, 100.0) == ""  # too early to know
    assert watch.look(20, 9.9) == "" and watch.look(21, float("nan")) == ""
    assert watch.look(22, 12.0) == "loss spike at step 22: 12, 6.0 times the median"
    silent = SpikeWatch(0.0)
    assert not any(silent.look(step, 10.0**step) for step in range(30))


def test_the_mean_of_the_parameters_by_hand():
    mean, params = {"w": jnp.asarray([1.0, 3.0])}, {"w": jnp.asarray([2.0, 3.0])}
    # Early: d = (1 + 2) / (10 + 2) = 0.25; late: d = the decay.
    early = optim.running_mean(mean, params, jnp.asarray(2), 0.9)
    np.testing.assert_allclose(early["w"], [1.75, 3.0], rtol=1e-6)
    late = optim.running_mean(mean, params, jnp.asarray(10_000), 0.9)
    np.testing.assert_allclose(late["w"], [1.1, 3.0], rtol=1e-6)


def test_a_resumed_run_drops_the_lines_of_steps_it_will_take_again(tmp_path):
    writers = Writers(str(tmp_path), active=True)
    for step in range(1, 6):
        writers.scalars(step, "A", {"loss": float(step)})
    writers.close()
    file = tmp_path / "metrics.jsonl"
    file.write_text(file.read_text() + '{"step": 6, "los')
    Writers(str(tmp_path), active=True, step=3).close()
    assert [json.loads(line)["step"] for line in file.read_text().splitlines()] == [1, 2, 3]
