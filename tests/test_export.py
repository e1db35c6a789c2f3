"""Export: what is written gives what the model gives, and is refused where it does not."""

from __future__ import annotations

import json

import jax
import numpy as np
import pytest
from jax import export as jax_export

from fields_jax import export
from fields_jax.flame.io import save_flame
from fields_jax.models.fields import init_variables
from fields_jax.training import checkpoint
from fields_jax.training.checkpoint import load_inference
from tests.heads import random_head
from tests.training import tiny_config, tiny_parts


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A workdir with the mean of the parameters beside them, and its export."""
    folder = tmp_path_factory.mktemp("export")
    config, plan, state = tiny_parts()
    head, config = random_head(), tiny_config()
    save_flame(str(folder / "head.npz"), head)
    config.ema, config.head = 0.9, str(folder / "head.npz")
    mean = init_variables(plan.recipe.model, jax.random.key(7))["params"]
    with checkpoint.open_manager(str(folder / "run")) as manager:
        meta = dict(trained=sorted(state.params), step=0, head=export._identity(head), data="d")
        checkpoint.save(manager, state.replace(ema=mean), seed=0, meta=meta)
    checkpoint.claim_workdir(str(folder / "run"), config)
    options = dict(ema=True, platforms=["cpu", "cuda", "tpu"])
    report = export.export_workdir(str(folder / "run"), str(folder / "out"), **options)
    return folder, report, mean


def test_both_exports_agree_with_the_model_in_a_fresh_process(place):
    folder, report, mean = place
    names = {name.split("/")[0] for name in report["largest_difference"]}
    assert names == {"checkpoint", "program"} and len(report["largest_difference"]) == 20
    assert max(report["largest_difference"].values()) < 1e-5
    assert json.loads((folder / "out" / "export.json").read_text()) == report
    assert report["head"]["sha256"] == random_head().sha256 and report["data"] == "d"
    again = load_inference(str(folder / "out"))
    assert jax.tree.all(jax.tree.map(np.array_equal, again.variables["params"], mean))
    assert again.meta["ema"] is True and again.meta["head"] == report["head"]


def test_the_program_takes_any_batch_on_every_platform_and_needs_nothing_else(place):
    folder, _, _ = place
    program = jax_export.deserialize(bytearray((folder / "out" / export.PROGRAM).read_bytes()))
    assert program.platforms == ("cpu", "cuda", "tpu")
    image = np.random.default_rng(1).random((5, 32, 32, 3), dtype=np.float32)
    found = program.call(image)
    inference = load_inference(str(folder / "run"), ema=True)
    expected = inference.model.apply(inference.variables, image)
    np.testing.assert_allclose(found["valence"], expected.valence, rtol=1e-4, atol=1e-6)
    assert found["vertices"].shape[0] == 5


def test_an_export_that_differs_is_not_called_done(place, tmp_path, monkeypatch):
    folder, _, _ = place
    other = load_inference(str(folder / "run"))  # the parameters themselves, not their mean
    real = export.make_program
    monkeypatch.setattr(export, "make_program", lambda _, *rest: real(other, *rest))
    with pytest.raises(ValueError, match=r"differs from the model: program/.* not usable"):
        export.export_workdir(
            str(folder / "run"), str(tmp_path / "out"), ema=True, platforms=["cpu"]
        )


def test_mistakes_are_named(place, tmp_path):
    folder, _, _ = place
    with pytest.raises(ValueError, match="is not empty"):
        export.export_workdir(str(folder / "run"), str(folder / "out"), platforms=["cpu"])
    with pytest.raises(ValueError, match="trained with head"):
        options = dict(head="", platforms=["cpu"])
        other = random_head(seed=1).replace(sha256="1" * 64)
        save_flame(str(tmp_path / "other.npz"), other)
        options["head"] = str(tmp_path / "other.npz")
        export.export_workdir(str(folder / "run"), str(tmp_path / "out"), **options)
