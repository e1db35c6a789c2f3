"""A checkpoint can be read on other devices, by the other mapping and other versions."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import jax
import numpy as np

from fields_jax.workdir import store
from tests.support import newer_checkpoint

ROOT = Path(__file__).parents[2]


def test_saved_on_eight_devices_it_goes_on_on_others_and_by_the_other_mapping(tmp_path):
    command = [sys.executable, "-m", "tests.support.device_changes", str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=600)
    assert result.returncode == 0, result.stderr[-3000:]
    report = json.loads(result.stdout.splitlines()[-1])
    assert list(report) == ["1/pmap", "2/pmap", "2/shard_map", "8/shard_map"]
    for where, found in report.items():
        assert found["restored"], where
        assert found["apart"] < 1e-12, (where, found)


def test_what_newer_versions_wrote_is_read_as_it_was_written(tmp_path):
    with zipfile.ZipFile(newer_checkpoint.FILE) as archive:
        archive.extractall(tmp_path)
    expected = newer_checkpoint.state()
    with store.open_manager(str(tmp_path)) as manager:
        found, meta, damaged = store.restore(manager, jax.tree.map(np.zeros_like, expected))
    assert not damaged and meta["versions"]["jax"] == "0.11.2"
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    jax.tree.map(np.testing.assert_array_equal, found, expected)
    assert {x.dtype for x in jax.tree.leaves(found)} == {x.dtype for x in jax.tree.leaves(expected)}
