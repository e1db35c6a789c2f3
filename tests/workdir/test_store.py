"""Checkpoints: nothing damaged is ever taken for what was written; which ones are kept."""

from __future__ import annotations

import functools
import json
import random
import shutil
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from fields_jax.errors import UserError
from fields_jax.training import loop, optim
from fields_jax.training.checkpoints import first_state
from fields_jax.training.state import create_state
from fields_jax.workdir import retention, store
from fields_jax.workdir.lock import only_run
from tests.support.tiny_training import tiny_config, tiny_parts

STEPS = (2, 4, 6)
RULES = dict(all=dict(match=".*", lr=0.1, b1=0.9, b2=0.999))


def a_state(step: int):
    """A small state whose every array depends on the step."""
    rng = np.random.default_rng(step)
    draw = lambda *shape: rng.standard_normal(shape).astype(np.float32)  # noqa: E731
    networks = ("shape_encoder", "expression_encoder")
    params = {name: {"kernel": draw(40, 30), "bias": draw(30)} for name in networks}
    stats = {name: {"mean": draw(30)} for name in networks}
    optimizer = optim.make_optimizer(params, RULES)
    state = create_state(
        {"params": params, "batch_stats": stats}, optimizer, keep_base=True, keep_ema=True
    )
    count = jax.numpy.asarray(step, jax.numpy.int32)
    return jax.tree.map(jax.numpy.asarray, state.replace(step=count))


def write(workdir, steps=STEPS, **options):
    with store.open_manager(str(workdir), **options) as manager:
        for step in steps:
            meta = {"trained": ["shape_encoder"], "step": step}
            store.save(manager, a_state(step), seed=3, meta=meta)
        manager.wait_until_finished()
        return sorted(manager.all_steps())


def read(workdir):
    with store.open_manager(str(workdir)) as manager:
        return store.restore(manager, a_state(0))


def same(a, b) -> bool:
    return jax.tree.all(jax.tree.map(np.array_equal, a, b))


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("written")
    write(folder)
    return folder


def test_what_is_read_is_what_was_written(written):
    state, meta, damaged = read(written)
    assert same(state, a_state(6)) and meta["step"] == 6 and not damaged


def flip(file, chance):
    content = bytearray(file.read_bytes())
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    file.write_bytes(content)


def truncate(file, chance):
    file.write_bytes(file.read_bytes()[: chance.randrange(file.stat().st_size)])


def files_of(folder, pattern):
    return sorted(f for f in folder.rglob(pattern) if f.is_file() and f.stat().st_size)


@pytest.mark.parametrize("seed", range(60))
def test_of_sixty_corruptions_none_is_silent_and_none_ends_the_run(written, tmp_path, seed):
    """Half of them in all data files of an item (of which Orbax keeps two copies), half anywhere.

    Bits are flipped and files cut short in turn.
    """
    chance = random.Random(seed)
    workdir = tmp_path / "run"
    shutil.copytree(written, workdir)
    files = files_of(workdir / "checkpoints" / "6", "*")
    if seed < 30:
        item = chance.choice(("params", "batch_stats", "opt_state", "base", "ema", "counters"))
        damaged_files = [f for f in files if f"6/{item}/" in str(f) and f.parent.name == "d"]
    else:
        damaged_files = [chance.choice(files)]
    for file in damaged_files:
        (flip, truncate)[seed % 2](file, chance)

    state, meta, damaged = read(workdir)
    assert meta["step"] == int(state.step)
    if int(state.step) == 6:  # a file that nothing is read from
        assert same(state, a_state(6)) and not damaged
    else:
        assert same(state, a_state(4))
        assert len(damaged) == 1 and str(workdir / "checkpoints" / "6") in damaged[0]
        assert "goes on from 4" in damaged[0]
        assert not (workdir / "checkpoints" / "6").exists() and (workdir / "damaged").exists()
        write(workdir, steps=(6,))  # the run comes by again
        assert same(read(workdir)[0], a_state(6))
    if seed < 30:
        assert int(state.step) == 4, f"the data of {item} were damaged"


@pytest.mark.parametrize("item", ["params", "opt_state", "ema", "data", "meta", "checksums"])
def test_a_missing_item_is_damage(written, tmp_path, item):
    shutil.copytree(written, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "6" / item)
    state, _, damaged = read(tmp_path / "run")
    assert same(state, a_state(4)) and len(damaged) == 1


TEXTS = {
    "empty": b"",
    "torn": b'{"step": ',
    "a list": b"[6]",
    "nothing": b"null",
    "deep": b"[" * 10**5,
    "digits": b'{"step": ' + b"9" * 5000 + b"}",
}


@pytest.mark.parametrize("item", ["data", "meta", "checksums"])
@pytest.mark.parametrize("content", TEXTS.values(), ids=TEXTS)
def test_a_text_that_is_another_is_damage(written, tmp_path, item, content):
    shutil.copytree(written, tmp_path / "run")
    (tmp_path / "run" / "checkpoints" / "6" / item / "metadata").write_bytes(content)
    state, _, damaged = read(tmp_path / "run")
    assert same(state, a_state(4)) and len(damaged) == 1 and damaged[0].isprintable()


def test_texts_and_folders_that_lie_are_damage(written, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(written, workdir)
    meta = workdir / "checkpoints" / "6" / "meta" / "metadata"
    meta.write_text(meta.read_text().replace("shape_encoder", "token_encoder"))
    (workdir / "checkpoints" / "99").mkdir()
    shutil.copytree(workdir / "checkpoints" / "4", workdir / "checkpoints" / "5")
    state, _, damaged = read(workdir)
    assert same(state, a_state(4))
    reasons = "\n".join(damaged)
    assert len(damaged) == 3
    assert "meta: the checksum differs" in reasons and "written at step 4" in reasons


def test_a_run_without_one_intact_checkpoint_says_so_and_moves_nothing(written, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(written, workdir)
    for step in STEPS:
        shutil.rmtree(workdir / "checkpoints" / str(step) / "params")
    with pytest.raises(ValueError, match=r"6 is damaged .* and so are all before it; bring"):
        read(workdir)
    assert len(list((workdir / "checkpoints").iterdir())) == len(STEPS)


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


def test_a_run_goes_on_with_its_own_head_and_says_when_its_sets_have_changed(tmp_path):
    config, plan, state = tiny_parts()
    head = plan.assets.head
    own = {"name": head.name, "version": head.version, "sha256": head.sha256}

    def go_on(folder, trained_with):
        meta = {"trained": [], "step": 0, "head": trained_with, "data": {"a": "1"}}
        with store.open_manager(str(folder)) as manager:
            store.save(manager, state, seed=0, meta=meta)
            manager.wait_until_finished()
            return first_state(config, plan, manager, {"data": {"a": "2"}})[-1]

    assert "the training sets have changed" in go_on(tmp_path / "own", own)[-1]
    with pytest.raises(ValueError, match=r"trained with head .*; name the right one with --head"):
        go_on(tmp_path / "other", own | {"sha256": "f" * 64})


def test_a_start_may_move_but_not_come_or_go(tmp_path):
    config = tiny_config()
    config.init_from = "runs/stage1"
    store.claim_workdir(str(tmp_path), config)
    (tmp_path / "checkpoints" / "2").mkdir(parents=True)
    config.init_from = "elsewhere/stage1"
    store.check_workdir(str(tmp_path), config)
    config.init_from = ""
    with pytest.raises(ValueError, match="init_from was 'runs/stage1', now ''; use another"):
        store.check_workdir(str(tmp_path), config)


def start_without_checkpoint(workdir, config):
    store.claim_workdir(str(workdir), config)
    (workdir / "tensorboard").mkdir()
    for name in ("metrics.jsonl", "tensorboard/events", "bad_examples-1.jsonl", "best.json"):
        (workdir / name).write_text(f"of the first start: {name}")
    (workdir / "checkpoints" / "2.orbax-checkpoint-tmp").mkdir(parents=True)
    (workdir / "mine.txt").write_text("not ours")


def test_a_start_without_a_checkpoint_gives_way_and_its_log_with_it(tmp_path):
    config = tiny_config()
    start_without_checkpoint(tmp_path, config)
    config.optim.rules.heads.lr = 1e-6
    (change,) = store.check_workdir(str(tmp_path), config)
    assert change == "optim.rules.heads.lr was 0.001, now 1e-06"
    assert (tmp_path / "metrics.jsonl").exists()  # nothing is moved by looking
    note = store.claim_workdir(str(tmp_path), config)
    assert change in note and str(tmp_path / "set_aside" / "1") in note
    aside = tmp_path / "set_aside" / "1"
    names = ("metrics.jsonl", "tensorboard", "bad_examples-1.jsonl", "best.json", "config.json")
    assert {path.name for path in aside.iterdir()} == set(names)
    assert {path.name for path in tmp_path.iterdir()} == {
        *("config.json", "checkpoints", "set_aside", "mine.txt")
    }
    assert store.read_config(str(tmp_path)).optim.rules.heads.lr == 1e-6
    assert store.claim_workdir(str(tmp_path), config) == ""  # the same again is no other start
    config.optim.rules.heads.lr = 1e-5
    assert "set_aside/2" in store.claim_workdir(str(tmp_path), config)


@pytest.mark.parametrize("place", ["checkpoints/2", "damaged/2-0"])
def test_a_workdir_with_a_checkpoint_does_not_give_way(tmp_path, place):
    config = tiny_config()
    start_without_checkpoint(tmp_path, config)
    (tmp_path / place).mkdir(parents=True)
    config.optim.rules.heads.lr = 1e-6
    for refuse in (store.check_workdir, store.claim_workdir):
        with pytest.raises(UserError, match=r"heads.lr was .* now 1e-06; use another"):
            refuse(str(tmp_path), config)
    assert (tmp_path / "metrics.jsonl").exists() and not (tmp_path / "set_aside").exists()


@pytest.mark.parametrize("content", ['{"model_type": "bert"}', "{", "[]", "\0"])
def test_a_folder_of_something_else_is_not_claimed(tmp_path, content):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(UserError, match=f"{tmp_path}.*use another "):
        store.claim_workdir(str(tmp_path), tiny_config())
    assert (tmp_path / "config.json").read_text() == content


def test_a_config_that_no_model_can_be_made_of_is_named(tmp_path):
    config = tiny_config()
    store.claim_workdir(str(tmp_path), config)
    stored = json.loads((tmp_path / "config.json").read_text())
    del stored["losses"]
    (tmp_path / "config.json").write_text(json.dumps(stored))
    with pytest.raises(UserError, match=r"config.json: config.losses.dilation is missing"):
        store.load_inference(str(tmp_path))


def test_a_start_that_is_under_way_gives_way_to_nobody(tmp_path, monkeypatch):
    """It may be about to write its first checkpoint: nothing of it is moved while it holds on."""
    config = tiny_config()
    start_without_checkpoint(tmp_path, config)
    before = (tmp_path / "config.json").read_bytes()
    config.optim.rules.heads.lr = 1e-6
    monkeypatch.setattr(loop, "only_run", functools.partial(only_run, patience=0.1))
    with only_run(str(tmp_path)), pytest.raises(UserError, match="is in use by process"):
        loop.train(config, str(tmp_path), None, None, {})
    assert (tmp_path / "config.json").read_bytes() == before
    assert (tmp_path / "metrics.jsonl").exists() and not (tmp_path / "set_aside").exists()
