"""Export: the written program gives the model's outputs, and is refused if it does not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from jax import export as jax_export

from fields_jax.flame.io import save_flame
from fields_jax.models.fields import init_variables
from fields_jax.outputs import program as exported
from fields_jax.workdir import store
from fields_jax.workdir.config import claim_workdir, require_config
from fields_jax.workdir.inference import load_inference
from tests.support.heads import random_head
from tests.support.tiny_training import tiny_config, tiny_parts


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A workdir with the mean of the parameters beside them, and its export."""
    folder = tmp_path_factory.mktemp("export")
    # A fresh process checks the export, and knows the backbones that ship.
    config, plan, state = tiny_parts(backbone="mobilenet_v3")
    head, config = random_head(), tiny_config(backbone="mobilenet_v3")
    save_flame(str(folder / "head.npz"), head)
    config.ema, config.head = 0.9, str(folder / "head.npz")
    mean = init_variables(plan.recipe.model, jax.random.key(7))["params"]
    with store.open_manager(str(folder / "run")) as manager:
        meta = dict(trained=sorted(state.params), step=0, head=head.identity, data="d")
        store.save(manager, state.replace(ema=mean), seed=0, meta=meta)
    claim_workdir(str(folder / "run"), config)
    (folder / ".out.new" / "checkpoints" / "9").mkdir(parents=True)  # what a killed run leaves
    (folder / "out").mkdir()  # empty, and so free
    options = dict(ema=True, platforms=["cpu", "cuda", "tpu"])
    report = exported.export_workdir(str(folder / "run"), str(folder / "out"), **options)
    return folder, report, mean


def run_export(place, out: Path, **options) -> dict:
    options = dict(ema=True, platforms=["cpu"]) | options
    return exported.export_workdir(str(place[0] / "run"), str(out), **options)


def test_both_exports_agree_with_the_model_in_a_fresh_process(place):
    folder, report, mean = place
    assert report["largest_difference"].keys() == {
        *(f"coefficients/{name}" for name in ("shape", "expression", "jaw", "eyelid", "pose")),
        *("coefficients/camera", "vertices", "logits", "valence", "arousal"),
    }
    assert max(report["largest_difference"].values()) < 1e-5 and report["checked_on"] == "cpu"
    assert json.loads((folder / "out" / "export.json").read_text()) == report
    assert report["head"]["sha256"] == random_head().sha256 and report["data"] == "d"
    again = load_inference(str(folder / "out"))
    assert jax.tree.all(jax.tree.map(np.array_equal, again.variables["params"], mean))
    assert again.meta["ema"] is True and again.meta["head"] == report["head"]


def test_only_what_was_checked_is_left(place):
    folder, _, _ = place
    assert {path.name for path in folder.iterdir()} == {"head.npz", "run", "out"}
    names = {"checkpoints", "config.json", exported.PROGRAM, exported.REPORT}
    assert {path.name for path in (folder / "out").iterdir()} == names
    assert [path.name for path in (folder / "out" / "checkpoints").iterdir()] == ["0"]


def test_the_export_has_no_mean_and_its_config_says_so(place):
    folder, _, _ = place
    before, after = (require_config(str(folder / name)) for name in ("run", "out"))
    assert before.ema == 0.9 and after.ema == 0
    before.ema = 0
    assert after == before
    with pytest.raises(ValueError, match="keeps no mean of its parameters"):
        load_inference(str(folder / "out"), ema=True)


def test_the_program_takes_any_batch_on_every_platform_and_needs_nothing_else(place):
    folder, _, _ = place
    program = jax_export.deserialize(bytearray((folder / "out" / exported.PROGRAM).read_bytes()))
    assert program.platforms == ("cpu", "cuda", "tpu")
    image = np.random.default_rng(1).random((5, 32, 32, 3), dtype=np.float32)
    found = program.call(image)
    inference = load_inference(str(folder / "run"), ema=True)
    expected = inference.model.apply(inference.variables, image)
    np.testing.assert_allclose(found["valence"], expected.valence, rtol=1e-4, atol=1e-6)
    assert found["vertices"].shape[0] == 5


ALONE = """
import sys
from importlib import metadata
KNOWN = {"jax", "jaxlib", "numpy", "scipy", "ml_dtypes", "opt_einsum", "flatbuffers"}
OTHERS = set(metadata.packages_distributions()) - KNOWN
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in OTHERS:
            raise ModuleNotFoundError(f"{name} is blocked", name=name)
sys.meta_path.insert(0, Block())
import jax, numpy
from jax import export
program = export.deserialize(bytearray(open(sys.argv[1], "rb").read()))
print(program.call(numpy.zeros((2, 32, 32, 3), numpy.float32))["vertices"].shape)
"""


def test_jax_and_flatbuffers_are_all_that_the_program_needs(place):
    program = str(place[0] / "out" / exported.PROGRAM)
    result = subprocess.run(
        [sys.executable, "-c", ALONE, program], capture_output=True, text=True, timeout=300
    )
    assert result.returncode == 0, result.stderr[-2000:]
    assert result.stdout == f"(2, {len(random_head().template)}, 3)\n"


def test_for_an_absent_accelerator_it_is_checked_on_the_cpu(place, tmp_path, monkeypatch):
    # The variable has done its work in this process; one started with it would look for a TPU.
    monkeypatch.setenv("JAX_PLATFORMS", "tpu")
    report = run_export(place, tmp_path / "out", platforms=["tpu"])
    program = jax_export.deserialize(bytearray((tmp_path / "out" / exported.PROGRAM).read_bytes()))
    assert report["platforms"] == list(program.platforms) == ["cpu", "tpu"]
    assert os.environ["JAX_PLATFORMS"] == "tpu"


def half_broken(outputs: dict) -> dict:
    return outputs | {
        "vertices": outputs["vertices"] * 1.001,
        "arousal": outputs["arousal"] * np.nan,
    }


def test_a_program_that_differs_is_not_exported(place, tmp_path, monkeypatch):
    real = exported.predict
    monkeypatch.setattr(exported, "predict", lambda *arguments: half_broken(real(*arguments)))
    with pytest.raises(ValueError, match=r"differs from the model \(arousal by nan, vertices by 1"):
        run_export(place, tmp_path / "out")
    assert not list(tmp_path.iterdir())  # OUT is free for another try


def test_networks_that_were_damaged_are_not_exported(place, tmp_path, monkeypatch):
    real = store.write_networks

    def write(out, variables, meta):
        real(out, variables, meta)
        largest = max(Path(out).rglob("params/**/d/*"), key=lambda path: path.stat().st_size)
        content = bytearray(largest.read_bytes())
        content[len(content) // 2] ^= 0xFF
        largest.write_bytes(content)

    monkeypatch.setattr(store, "write_networks", write)
    monkeypatch.setattr(exported, "make_program", lambda *_: b"")  # is not come to
    with pytest.raises(ValueError, match=r"cannot be read \(.*damaged"):
        run_export(place, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_mistakes_are_named(place, tmp_path):
    folder, _, _ = place
    with pytest.raises(ValueError, match=r"out cannot be made anew .*--out"):
        run_export(place, folder / "out")
    with pytest.raises(ValueError, match=r"head.npz cannot be made anew .*--out"):
        run_export(place, folder / "head.npz")
    other = random_head(seed=1).replace(sha256="1" * 64)
    save_flame(str(tmp_path / "other.npz"), other)
    with pytest.raises(ValueError, match="trained with head"):
        run_export(place, tmp_path / "out", head=str(tmp_path / "other.npz"))
