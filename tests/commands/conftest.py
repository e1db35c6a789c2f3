"""Commands without processes of their own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.typed import typed

ROOT = Path(__file__).parents[2]


@pytest.fixture
def command(monkeypatch):
    """Runs a command as `python -m` would, in this process; returns its exit status."""
    monkeypatch.chdir(ROOT)
    return typed
