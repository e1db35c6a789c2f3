"""Shared by all tests: how JAX compiles here, small heads, the order of files."""

from __future__ import annotations

import gc
import os
import tempfile

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Tests compile far more than they compute. Compiling without optimisation takes half the time, with
# the older emitters of fused loops half of that; in one piece it takes a sixth less than in many.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false "
    "--xla_cpu_parallel_codegen_split_count=1",
)
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Processes (workers, and commands that tests start) share what one of them has compiled.
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
# Arrays of different ranks must be combined explicitly, with [None] or [..., None].
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture
def unchecked():
    """Turns the check of annotations off, for tests that pass what annotations forbid."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(scope="session")
def root(tmp_path_factory):
    """Folder with the training sets of tests.support.dot_sets; tests that damage sets copy them."""
    from tests.support.dot_sets import write_sets  # tensorflow, which few tests need

    return write_sets(tmp_path_factory.mktemp("dots"))


@pytest.fixture(scope="session")
def tiny_head():
    """A head of FLAME's structure with few vertices and random bases."""
    from tests.support.heads import random_head  # fields_jax, which the hook must come before

    return random_head(seed=0)


# Files that take minutes run first, so that no worker is left alone with one at the end.
_LONG = ("test_commands", "test_step", "test_survival", "test_full_configs", "test_processes")


def pytest_collection_modifyitems(items):
    """Moves the long files to the front; the others keep their order."""
    items.sort(key=lambda item: (item.path.stem not in _LONG, item.path.stem in _LONG[2:]))
