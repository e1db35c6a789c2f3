"""Commands as `python -m` runs them, but in this process, where programs stay compiled."""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Iterator, Sequence
from types import ModuleType

import pytest
from absl import flags

from fields_jax import cli


@contextlib.contextmanager
def flags_of(name: str) -> Iterator[ModuleType]:
    """The module of a command, with its flags defined until the end of the block."""
    module = importlib.import_module(name)
    if hasattr(module, "__path__"):
        module = importlib.import_module(f"{name}.__main__")
    known = set(flags.FLAGS)
    try:
        module.define_flags()
        yield module
    finally:
        for flag in set(flags.FLAGS) - known:
            delattr(flags.FLAGS, flag)
        flags.FLAGS.unparse_flags()


def typed(name: str, arguments: Sequence[str]) -> int:
    """Runs a command; returns its exit status."""
    argv = [name, *arguments]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", argv)  # which default configs look at when they are defined
        patch.delitem(sys.modules, "config_config", raising=False)
        patch.setattr(cli.signal, "signal", lambda *_: None)
        with flags_of(name) as module:
            try:
                return cli.guarded(module.main)(cli.parse_flags(argv))
            except SystemExit as ended:
                return ended.code
