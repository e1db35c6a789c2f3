"""Checkpoints: damage is always noticed."""

from __future__ import annotations

import random
import shutil

import pytest

from fields_jax.training.checkpoints import first_state
from fields_jax.workdir import store
from tests.support.small_states import a_state, same
from tests.support.tiny_training import tiny_parts

STEPS = (2, 4, 6)


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
