"""Which checkpoints are kept."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest

from fields_jax.workdir import retention, store
from tests.support.small_states import a_state
from tests.support.tiny_training import tiny_config


def policies(tmp_path, **options):
    config = tiny_config()
    config.checkpoint.update(keep=2, **options)
    return retention.make_policies(config, str(tmp_path))


def test_the_last_every_third_and_the_best_are_kept(tmp_path):
    chosen, best = policies(tmp_path, keep_every=3, best_metric="loss", best_mode="min")
    with store.open_manager(str(tmp_path), policies=chosen) as manager:
        for step, loss in enumerate((9.0, 1.0, 5.0, 4.0, 6.0, 2.0, 3.0, 3.0), start=1):
            best.add({"loss": np.float32(loss)})
            best.offer(step, write=True)
            meta = {"trained": [], "step": step}
            store.save(manager, a_state(step), seed=0, meta=meta)
        manager.wait_until_finished()
        assert sorted(manager.all_steps()) == [2, 3, 6, 7, 8]
    record = json.loads((tmp_path / "best.json").read_text())
    assert (record["metric"], record["mode"]) == ("loss", "min")
    assert record["values"]["2"] == 1.0 and len(record["values"]) == 8


def test_the_best_is_one_that_exists(tmp_path):
    """Killed while the best was saved, or with it damaged: the best of the others is kept."""
    _, best = policies(tmp_path, best_metric="loss", best_mode="min")
    for step, loss in ((1000, 1.0), (2000, 2.0), (3000, 0.5)):
        best.add({"loss": loss})
        best.add({"loss": np.nan})  # a step that was skipped changed nothing
        best.offer(step, write=True)
    _, best = policies(tmp_path, best_metric="loss", best_mode="min")
    saved = [SimpleNamespace(step=step) for step in (1000, 2000)]
    assert best.should_preserve(saved, context=None) == [True, False]


def test_the_best_is_remembered_and_a_damaged_record_is_no_record(tmp_path):
    def preserved(offers):
        (*_, best), _ = policies(tmp_path, best_metric="accuracy", best_mode="max")
        for step, value in offers:
            best.add({"accuracy": value})
            best.add({"other": 100.0})
            best.offer(step, write=True)
        steps = [SimpleNamespace(step=step) for step in range(6)]
        return [s for s in range(6) if best.should_preserve(steps, context=None)[s]]

    assert preserved([(1, 0.2), (2, 0.8), (3, 0.5)]) == [2]
    assert preserved([(4, 0.7)]) == [2]
    (tmp_path / "best.json").write_text('{"metric": "accur')
    assert preserved([(4, 0.7), (5, float("nan"))]) == [4]


@pytest.mark.parametrize(
    ("options", "message"),
    [(dict(best_metric="loss", best_mode="most"), "best_mode 'most'"), (dict(keep=0), "keep=0")],
)
def test_impossible_retention_is_refused_by_name(tmp_path, options, message):
    config = tiny_config()
    config.checkpoint.update(options)
    with pytest.raises(ValueError, match=message):
        retention.make_policies(config, str(tmp_path))
