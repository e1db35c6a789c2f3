"""fields_jax.emotion_network as a user types it, on pictures that are made here."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import pytest

from fields_jax.workdir.inference import read_meta
from tests.support.moods import moods

CONFIG = "--config=configs/emotion_network.py"
SMALL = [f"--config.{key}" for key in ("steps=40", "image_size=32", "width=0.25", "depth=0.25")]


@pytest.fixture
def pictures(monkeypatch):
    """Stands for the pipeline."""
    from fields_jax import train

    pipeline = SimpleNamespace(
        parse_mixture=lambda text: [(text.split("=")[0], 1.0)],
        evaluation_batches=lambda config, name, **sizes: [moods(-seed % 2**32) for seed in (1, 2)],
        fingerprint=lambda config: {"sets": "moods"},
    )
    monkeypatch.setattr(train, "import_pipeline", lambda: pipeline)
    monkeypatch.setattr(train, "prepare_data", lambda config: None)
    monkeypatch.setattr(train, "batches", lambda *_: map(moods, itertools.count()))


def test_a_network_is_trained_scored_and_written_once(command, pictures, tmp_path, capsys):
    given = [CONFIG, *SMALL, "--config.rate=5e-3", f"--out={tmp_path}/network"]
    assert command("fields_jax.emotion_network", given) == 0
    said = capsys.readouterr().out
    assert "40/40  class " in said and "held out: accuracy " in said and ", 32 examples" in said
    measured = read_meta(f"{tmp_path}/network")[0]["measured"]
    assert measured["n"] == 32 and measured["accuracy"] > 0.6 and measured["valence_ccc"] > 0.3
    assert command("fields_jax.emotion_network", given) == 0
    assert "holds this network already" in capsys.readouterr().out
    assert command("fields_jax.emotion_network", [*given, "--config.seed=1"]) == 2
    assert "holds no network of this config" in capsys.readouterr().err


def test_mistakes_end_in_one_line(command, tmp_path, capsys):
    def refused(*given):
        assert command("fields_jax.emotion_network", list(given)) == 2
        (line,) = capsys.readouterr().err.strip().splitlines()
        return line

    assert "--out is missing" in refused(CONFIG)
    assert "name a config of such a network" in refused(f"--out={tmp_path}/new")
    assert "name a config of such" in refused("--config=configs/stage1.py", f"--out={tmp_path}/n")
    assert "holds no network of this config" in refused(CONFIG, f"--out={tmp_path}")
