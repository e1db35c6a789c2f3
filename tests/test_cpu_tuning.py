"""Settings of the process: added to the user's, never replacing them."""

from __future__ import annotations

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fields_jax import cpu_tuning

ORDER = "--xla_cpu_enable_concurrency_optimized_scheduler"
PRODUCTS = "--xla_cpu_experimental_ynn_fusion_type"
OURS = f"{ORDER}=false {PRODUCTS}=reduce"


@pytest.fixture(autouse=True)
def memory_as_it_is(monkeypatch):
    """The workers of the tests keep giving theirs back."""
    monkeypatch.setattr(cpu_tuning, "keep_freed_memory", lambda: None)


@pytest.mark.parametrize(
    "given, expected",
    [
        ("", OURS),
        ("--xla_dump_to=x", f"--xla_dump_to=x {OURS}"),
        (f"{ORDER}=true", f"{ORDER}=true {PRODUCTS}=reduce"),
    ],
)
def test_flags_join_those_of_the_user_and_yield_to_them(monkeypatch, given, expected):
    monkeypatch.setenv("XLA_FLAGS", given)
    cpu_tuning.tune()
    assert os.environ["XLA_FLAGS"] == expected


def test_flags_are_left_out_for_a_jaxlib_that_may_not_know_it(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "")
    monkeypatch.setattr(cpu_tuning.metadata, "version", lambda name: "9.9.9")
    cpu_tuning.tune()
    assert os.environ["XLA_FLAGS"] == ""


def test_the_installed_jaxlib_starts_with_the_flags():
    code = (
        "from fields_jax import cpu_tuning as c; c.tune(); import jax.numpy as n; print(n.ones(()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, "1.0"), done.stderr


def test_small_programs_are_compiled_sooner_unless_the_user_says_how(monkeypatch):
    emitters, level = "xla_cpu_use_fusion_emitters", "xla_backend_optimization_level"
    monkeypatch.setenv("XLA_FLAGS", "")
    assert cpu_tuning.soon_compiled("cpu") == {emitters: False, level: 1}
    assert cpu_tuning.soon_compiled("gpu") == {}
    monkeypatch.setenv("XLA_FLAGS", f"--{level}=3")
    assert cpu_tuning.soon_compiled("cpu") == {emitters: False}
    monkeypatch.setattr(cpu_tuning.metadata, "version", lambda name: "9.9.9")
    assert cpu_tuning.soon_compiled("cpu") == {}


def test_the_installed_jaxlib_takes_the_options_and_gives_the_same(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "")
    x = np.linspace(-3, 3, 100, dtype=np.float32)
    function = lambda x: jnp.tanh(x) * jnp.sort(x)[::-1] + x.sum()  # noqa: E731
    program = jax.jit(function, compiler_options=cpu_tuning.soon_compiled("cpu"))
    np.testing.assert_allclose(program(x), function(x), rtol=1e-5, atol=1e-6)


def test_cores_are_those_that_the_process_may_use():
    code = (
        "import os; from fields_jax import cpu_tuning; os.sched_setaffinity(0, "
        "{min(os.sched_getaffinity(0))}); print(cpu_tuning.cores())"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout == "1\n"
