"""The config of a workdir: which runs may train in it, and which files are set aside."""

from __future__ import annotations

import errno
import functools
import json

import pytest

from fields_jax.errors import UserError
from fields_jax.training import loop
from fields_jax.workdir import lock
from fields_jax.workdir.config import check_workdir, claim_workdir, read_config
from fields_jax.workdir.inference import load_inference
from fields_jax.workdir.lock import only_run
from tests.support.tiny_training import tiny_config


def test_a_start_may_move_but_not_come_or_go(tmp_path):
    config = tiny_config()
    config.init_from = "runs/stage1"
    claim_workdir(str(tmp_path), config)
    (tmp_path / "checkpoints" / "2").mkdir(parents=True)
    config.init_from = "elsewhere/stage1"
    check_workdir(str(tmp_path), config)
    config.init_from = ""
    with pytest.raises(ValueError, match="init_from was 'runs/stage1', now ''; use another"):
        check_workdir(str(tmp_path), config)


def start_without_checkpoint(workdir, config):
    claim_workdir(str(workdir), config)
    (workdir / "tensorboard").mkdir()
    for name in ("metrics.jsonl", "tensorboard/events", "bad_examples-1.jsonl", "best.json"):
        (workdir / name).write_text(f"of the first start: {name}")
    (workdir / "checkpoints" / "2.orbax-checkpoint-tmp").mkdir(parents=True)
    (workdir / "mine.txt").write_text("not ours")


def test_a_start_without_a_checkpoint_gives_way_and_its_log_with_it(tmp_path):
    config = tiny_config()
    start_without_checkpoint(tmp_path, config)
    config.optim.rules.heads.lr = 1e-6
    (change,) = check_workdir(str(tmp_path), config)
    assert change == "optim.rules.heads.lr was 0.001, now 1e-06"
    assert (tmp_path / "metrics.jsonl").exists()  # nothing is moved by looking
    note = claim_workdir(str(tmp_path), config)
    assert change in note and str(tmp_path / "set_aside" / "1") in note
    aside = tmp_path / "set_aside" / "1"
    names = ("metrics.jsonl", "tensorboard", "bad_examples-1.jsonl", "best.json", "config.json")
    assert {path.name for path in aside.iterdir()} == set(names)
    assert {path.name for path in tmp_path.iterdir()} == {
        *("config.json", "checkpoints", "set_aside", "mine.txt")
    }
    assert read_config(str(tmp_path)).optim.rules.heads.lr == 1e-6
    assert claim_workdir(str(tmp_path), config) == ""  # the same again is no other start
    config.optim.rules.heads.lr = 1e-5
    assert "set_aside/2" in claim_workdir(str(tmp_path), config)


@pytest.mark.parametrize("place", ["checkpoints/2", "damaged/2-0"])
def test_a_workdir_with_a_checkpoint_does_not_give_way(tmp_path, place):
    config = tiny_config()
    start_without_checkpoint(tmp_path, config)
    (tmp_path / place).mkdir(parents=True)
    config.optim.rules.heads.lr = 1e-6
    for refuse in (check_workdir, claim_workdir):
        with pytest.raises(UserError, match=r"heads.lr was .* now 1e-06; use another"):
            refuse(str(tmp_path), config)
    assert (tmp_path / "metrics.jsonl").exists() and not (tmp_path / "set_aside").exists()


@pytest.mark.parametrize("content", ['{"model_type": "bert"}', "{", "[]", "\0"])
def test_a_folder_of_something_else_is_not_claimed(tmp_path, content):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(UserError, match=f"{tmp_path}.*use another "):
        claim_workdir(str(tmp_path), tiny_config())
    assert (tmp_path / "config.json").read_text() == content


def test_a_config_that_no_model_can_be_made_of_is_named(tmp_path):
    config = tiny_config()
    claim_workdir(str(tmp_path), config)
    stored = json.loads((tmp_path / "config.json").read_text())
    del stored["losses"]
    (tmp_path / "config.json").write_text(json.dumps(stored))
    with pytest.raises(UserError, match=r"config.json: config.losses.dilation is missing"):
        load_inference(str(tmp_path))


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


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK])
def test_a_disk_without_locks_is_written_to_with_a_warning(tmp_path, monkeypatch, caplog, number):
    refusal = OSError(number, "not here")

    def refuse(*_):
        raise refusal

    monkeypatch.setattr(lock.fcntl, "flock", refuse)
    with only_run(str(tmp_path)):
        pass
    assert f"{tmp_path}: this disk has no locks (not here)" in caplog.text
    refusal.errno = errno.EIO
    with pytest.raises(OSError, match="not here"), only_run(str(tmp_path)):
        pass
