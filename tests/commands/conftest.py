"""Commands without processes of their own."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest
from absl import flags

from fields_jax import cli

ROOT = Path(__file__).parents[2]


@pytest.fixture
def command(monkeypatch):
    """Runs a command as `python -m` would, in this process; returns its exit status."""
    known = set(flags.FLAGS)

    def call(name: str, arguments: list[str]) -> int:
        module = importlib.import_module(name)
        module.define_flags()
        argv = [name, *arguments]
        monkeypatch.setattr(sys, "argv", argv)
        monkeypatch.delitem(sys.modules, "config_config", raising=False)
        try:
            return cli.guarded(module.main)(cli.parse_flags(argv))
        except SystemExit as ended:
            return ended.code
        finally:
            for flag in set(flags.FLAGS) - known:
                delattr(flags.FLAGS, flag)
            flags.FLAGS.unparse_flags()

    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(cli.signal, "signal", lambda *_: None)
    return call
