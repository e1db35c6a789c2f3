"""Settings of the process: added to the user's, never replacing them."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from fields_jax import cpu_tuning

FLAG = "--xla_cpu_enable_concurrency_optimized_scheduler"


@pytest.fixture(autouse=True)
def memory_as_it_is(monkeypatch):
    """The workers of the tests keep giving theirs back."""
    monkeypatch.setattr(cpu_tuning, "_keep_freed_memory", lambda: None)


@pytest.mark.parametrize(
    "given, expected",
    [
        ("", f"{FLAG}=false"),
        ("--xla_dump_to=x", f"--xla_dump_to=x {FLAG}=false"),
        (f"{FLAG}=true", f"{FLAG}=true"),
    ],
)
def test_flag_joins_those_of_the_user_and_yields_to_them(monkeypatch, given, expected):
    monkeypatch.setenv("XLA_FLAGS", given)
    cpu_tuning.tune()
    assert os.environ["XLA_FLAGS"] == expected


def test_flag_is_left_out_for_a_jaxlib_that_may_not_know_it(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "")
    monkeypatch.setattr(cpu_tuning.metadata, "version", lambda name: "9.9.9")
    cpu_tuning.tune()
    assert os.environ["XLA_FLAGS"] == ""


def test_the_installed_jaxlib_starts_with_the_flag():
    code = (
        "from fields_jax import cpu_tuning as c; c.tune(); import jax.numpy as n; print(n.ones(()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, "1.0"), done.stderr
