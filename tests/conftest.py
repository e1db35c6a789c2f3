"""Shared by all tests: how JAX compiles here, small heads, the order of files."""

from __future__ import annotations

import gc
import os
import tempfile

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Tests compile far more than they compute. Without optimisation that takes half the time, with the
# older emitters of fused loops half of that again; in one piece a sixth less than in many.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false "
    "--xla_cpu_parallel_codegen_split_count=1",
)
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# What one process has compiled the others take over: workers and the commands that tests start.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    _cache = tempfile.TemporaryDirectory(prefix="fields_jax_tests_")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _cache.name
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.1"

import jax
import jaxtyping
import pytest

# Tracing makes millions of objects that are soon gone; the collector's habit of looking through all
# others after each thousand takes a tenth of the time.
gc.set_threshold(200_000, 50, 100)
# Annotations are checked unless FIELDS_CHECK_ANNOTATIONS=0, before fields_jax is imported.
if os.environ.get("FIELDS_CHECK_ANNOTATIONS", "1") != "0":
    from tests.support.annotations import check_annotations

    check_annotations()
# Shapes of other ranks meet only where the code says so, with [None] or [..., None].
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture
def unchecked():
    """Turns the check of annotations off, for tests that pass what annotations forbid."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(scope="session")
def root(tmp_path_factory):
    """Where the training sets of tests.support.dot_sets are; tests that break some copy them."""
    from tests.support.dot_sets import write_sets  # tensorflow, which few tests need

    return write_sets(tmp_path_factory.mktemp("dots"))


@pytest.fixture(scope="session")
def tiny_head():
    """A head of FLAME's structure with few vertices and random bases."""
    from tests.support.heads import random_head  # fields_jax, which the hook must come before

    return random_head(seed=0)


# Files that take minutes: first, so that no worker ends alone with one of them.
_LONG = ("test_commands", "test_step", "test_survival", "test_full_configs", "test_processes")


def pytest_collection_modifyitems(items):
    """Files keep their order but for the long ones."""
    items.sort(key=lambda item: (item.path.stem not in _LONG, item.path.stem in _LONG[2:]))
