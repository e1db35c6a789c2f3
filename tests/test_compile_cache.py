"""Where compiled programs are kept."""

from __future__ import annotations

import os
import stat
import subprocess
import sys

import pytest

from fields_jax import compile_cache

FOLDER = "JAX_COMPILATION_CACHE_DIR"


@pytest.fixture
def kept(monkeypatch, tmp_path):
    """What keep_programs names, given the user's environment."""

    def keep(**environment):
        for name in (FOLDER, "XDG_CACHE_HOME", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"):
            monkeypatch.setenv(name, "")
            monkeypatch.delenv(name)
        monkeypatch.setenv("HOME", str(tmp_path))
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        compile_cache.keep_programs()
        return os.environ.get(FOLDER)

    return keep


def test_programs_are_kept_in_a_folder_of_the_users_own(kept, tmp_path):
    folder = kept()
    assert folder.startswith(f"{tmp_path}/.cache/fields_jax/programs-")
    assert stat.S_IMODE(os.stat(folder).st_mode) == 0o700
    assert kept(XDG_CACHE_HOME=f"{tmp_path}/else").startswith(f"{tmp_path}/else/fields_jax/")
    assert kept(XDG_CACHE_HOME="else") == folder  # relative ones are to be ignored


def test_a_folder_that_is_named_or_empty_is_left_alone(kept, tmp_path):
    assert kept(JAX_COMPILATION_CACHE_DIR="/named") == "/named"
    assert kept(JAX_COMPILATION_CACHE_DIR="") == ""
    assert not list(tmp_path.iterdir())


def test_nothing_is_kept_where_no_folder_can_be_made(kept, tmp_path):
    (tmp_path / ".cache").write_text("no folder")
    assert kept() is None


def test_programs_of_long_ago_are_removed(kept):
    folder = kept()
    for name, days in (("old", 31), ("new", 1)):
        file = os.path.join(folder, name)
        open(file, "w").close()
        written = os.stat(file).st_mtime - days * 24 * 3600
        os.utime(file, (written, written))
    kept()
    assert os.listdir(folder) == ["new"]


def test_another_folder_is_taken_after_programs_have_been_compiled(tmp_path):
    code = (
        "import os, sys, jax; from fields_jax import compile_cache\n"
        "for name in sys.argv[1:]:\n"
        "    compile_cache.keep_programs_in(name)\n"
        "    jax.jit(lambda x: x + len(name))(1)\n"
        "    assert os.listdir(name), name\n"
    )
    folders = [str(tmp_path / name) for name in ("one", "another")]
    least = {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    subprocess.run([sys.executable, "-c", code, *folders], env=os.environ | least, check=True)


def test_runs_on_many_gpus_leave_the_default_folder_and_no_other(kept, monkeypatch, tmp_path):
    dropped = []
    monkeypatch.setattr(compile_cache, "keep_programs_in", dropped.append)
    kept(JAX_COMPILATION_CACHE_DIR="/named")
    compile_cache.keep_none_by_default()
    assert os.environ[FOLDER] == "/named" and not dropped
    kept()
    compile_cache.keep_none_by_default()
    assert FOLDER not in os.environ and dropped == [None]
