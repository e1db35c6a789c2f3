"""Adds the smallest example of everything that docs/extending.md says can be added, and uses it."""

from __future__ import annotations

import itertools
import json
import types
from typing import Any

import jax
import numpy as np
import pytest

from fields_jax import data_sets
from fields_jax.emotions import EMOTIONS
from fields_jax.errors import UserError
from fields_jax.evaluation import registry as metrics
from fields_jax.evaluation import summary
from fields_jax.losses import registry
from fields_jax.models import backbones
from fields_jax.models.fields import build_model, init_variables
from fields_jax.outputs import writers
from fields_jax.render import backends, patches, rasterize
from fields_jax.training import setup
from fields_jax.training.programs import map_iteration
from fields_jax.training.state import create_state
from fields_jax.workdir import schema
from fields_jax.workdir.config import check_workdir, claim_workdir
from tests.support.heads import random_head
from tests.support.meshes import soup
from tests.support.strided_backbone import Strided
from tests.support.tiny_training import tiny_batch, tiny_config


def train_a_step(config) -> tuple[Any, dict]:
    """One iteration of phase A; returns the new state and the metrics."""
    schema.check(config.to_dict())
    plan = setup.plan(config, random_head())
    variables = init_variables(plan.recipe.model, jax.random.key(0))
    state = create_state(variables, plan.recipe.optimizer, keep_base=True)
    (phase,) = (phase for phase in plan.phases if phase.name == "A")
    iterate = map_iteration(plan.recipe, phase, how="pmap", devices=jax.devices()[:1])
    state, metrics = iterate(0, state, tiny_batch(config), jax.random.key(1), plan.assets)
    return state, jax.device_get(metrics)


def test_a_loss(monkeypatch):
    """A penalty on wide-open mouths, of examples that have an emotion."""
    term = registry.Term(lambda e: e.output.coefficients.jaw[:, 0] ** 2, over="has_emotion")
    monkeypatch.setitem(registry.TERMS, "open_mouth", term)
    config = tiny_config()
    config.phases.A.losses = dict(open_mouth=2.0)
    config.phases.A.train = ("expression_encoder",)
    state, metrics = train_a_step(config)
    assert int(state.step) == 1
    assert metrics["loss"] == pytest.approx(2 * metrics["loss/open_mouth"]) and metrics["loss"] > 0


def test_a_backbone(monkeypatch):
    monkeypatch.setitem(backbones.BACKBONES, "plain", Strided)
    config = tiny_config()
    config.model.backbone = "plain"
    config.phases.A.losses = dict(reg_expression=1.0)
    config.phases.A.train = ("expression_encoder",)
    before = init_variables(build_model(config), jax.random.key(0))["params"]
    state, metrics = train_a_step(config)
    for encoder in ("pose_encoder", "shape_encoder", "expression_encoder", "token_encoder"):
        assert "Conv_4" in before[encoder]["encoder"]
    assert int(state.step) == 1 and np.isfinite(metrics["loss"])
    moved = jax.tree.map(lambda a, b: bool((a != b).any()), before, jax.device_get(state.params))
    assert any(jax.tree.leaves(moved["expression_encoder"]["encoder"]))
    assert not any(jax.tree.leaves(moved["pose_encoder"]))


def test_a_config_without_a_backbone_means_mobilenet():
    config = tiny_config(backbone="mobilenet_v3").unlock()
    assert config.model.backbone == "mobilenet_v3"
    named = build_model(config)
    del config.model.backbone
    assert build_model(config) == named


def test_a_run_that_began_before_backbones_had_names_goes_on(tmp_path):
    config = tiny_config(backbone="mobilenet_v3")
    claim_workdir(str(tmp_path), config)
    (tmp_path / "checkpoints/1").mkdir(parents=True)
    stored = json.loads((tmp_path / "config.json").read_text())
    del stored["model"]["backbone"]
    (tmp_path / "config.json").write_text(json.dumps(stored))
    assert check_workdir(str(tmp_path), config) == []
    config.model.backbone = "another"
    with pytest.raises(UserError, match=r"backbone was 'mobilenet_v3', now 'another'"):
        check_workdir(str(tmp_path), config)


def test_a_rasteriser_backend(monkeypatch):
    """One that asks `patches` for everything, and counts how often it draws."""
    drawn = []

    def draw(*arguments):
        drawn.append(1)
        return patches.draw(*arguments)

    functions = {name: getattr(patches, name) for name in ("start", "faces", "count", "most")}
    backend = types.SimpleNamespace(**functions, draw=draw)
    monkeypatch.setitem(backends.BACKENDS, "counted", backend)
    vertices, faces = soup(np.random.default_rng(0), batch=1, triangles=20)
    expected = rasterize(vertices, faces, 24, backend="scatter")
    found = rasterize(vertices, faces, 24, backend="counted")
    assert drawn and int(expected.face_index.max()) > 0
    jax.tree.map(np.testing.assert_array_equal, found, expected)
    with pytest.raises(ValueError, match="known: auto, scatter, sorted, counted, reference"):
        rasterize(vertices, faces, 24, backend="counter")


def test_a_data_set(monkeypatch, tmp_path, capsys):
    """The set of tests/support/moods_dataset_builder.py: prepared by name, read by the mixture."""
    pytest.importorskip("tensorflow_datasets")
    from data_pipelines import prepare
    from data_pipelines.reading import mixture
    from tests.support.dot_sets import make_config
    from tests.support.photograph_sets import write_photograph

    made = data_sets.PreparedSet("tests.support.moods_dataset_builder", (), ("limit", "threads"))
    monkeypatch.setitem(data_sets.SETS, "moods", made)
    for index, name in enumerate(("happy/a.png", "sad/b.png", "happy/c.png", "bored/d.png")):
        write_photograph(tmp_path / "photographs", name, seed=index)
    (folder,) = prepare.prepare("moods", tmp_path, source=str(tmp_path / "photographs"))
    assert str(folder) == f"{tmp_path}/moods/1.0.0"
    assert "3 kept, 1 left out (no such emotion: 1)" in capsys.readouterr().err
    assert "bored/d.png" in (folder / "prepare_rejects.tsv").read_text()
    assert "prepare moods --source=DIR" in data_sets.remedy("moods", "data")

    batches = mixture.training_batches(
        make_config(tmp_path, "moods=1"), image_size=32, batch_size=2, seed=0
    )
    for batch in itertools.islice(batches, 2):
        assert batch["image"].shape == (2, 32, 32, 3) and batch["has_landmarks_105"].all()
        folders = [name.split("/")[0] for name in batch["id"]]
        assert [EMOTIONS[emotion] for emotion in batch["emotion"]] == folders


def test_an_output_format(monkeypatch, tmp_path):
    def smile(bundle) -> str | None:
        return f"{bundle.smile:.1f}\n" if bundle.smile else None

    monkeypatch.setattr(writers, "WRITERS", {"smile.txt": smile})
    written = [
        writers.write_bundle(tmp_path / name, types.SimpleNamespace(smile=strength))
        for name, strength in (("a", 0.5), ("b", 0))
    ]
    assert written == [["smile.txt"], []]
    assert (tmp_path / "a/smile.txt").read_text() == "0.5\n"
    assert not (tmp_path / "b/smile.txt").exists()


def test_an_evaluation_metric(monkeypatch):
    """A score that is computed already is shown, and resampled, by an entry of the table."""
    interval = metrics.Resampled("median", np.median, ("error",), "known")
    metric = metrics.Metric("n", "Set", "examples", interval=interval, shown_as="count")
    monkeypatch.setattr(metrics, "METRICS", (*metrics.METRICS, metric))
    assert metrics.value_at({"n": 4}, metric.path) == 4
    columns = {"error": np.arange(4.0), "known": np.ones(4, bool), "group": np.arange(4)}
    low, high = summary._interval(columns, metrics.METRICS[-1].interval, 50)
    assert 0 <= low <= 1.5 <= high <= 3
