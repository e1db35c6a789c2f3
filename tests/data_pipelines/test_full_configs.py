"""The configs of the licensed sets, shrunk, on shards that the builders made of small folders."""

import functools
import json

import numpy as np
import pytest

from configs import stage1, stage2
from data_pipelines import prepare
from data_pipelines.reading import mixture
from fields_jax import train
from fields_jax.flame.io import load_flame, save_flame
from fields_jax.training import loop, setup
from tests.support import raw_sets
from tests.support.heads import random_head
from tests.support.sizes import SMALLEST
from tests.support.strided_backbone import STRIDED

STEPS = 2


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with head.npz and the three sets of `:full`."""
    folder = tmp_path_factory.mktemp("full")
    save_flame(str(folder / "head.npz"), random_head(shapes=300, expressions=50))
    head = load_flame(str(folder / "head.npz"))
    data = folder / "data"
    prepare.prepare("affectnet", data, source=str(raw_sets.affectnet_full(folder / "affectnet")))
    fits = raw_sets.scan_fits(folder / "fits", head)
    options = dict(fits=str(fits), head=str(folder / "head.npz"))
    prepare.prepare("bp4d", data, source=str(raw_sets.bp4d(folder / "bp4d")), **options)
    for index in range(3):
        path = raw_sets.picture(folder / f"faces/{index}.jpg", seed=index)
        np.save(path.with_suffix(".npy"), raw_sets.mesh(seed=index))
    prepare.prepare("faces", data, source=str(folder / "faces"))
    return folder


def shrunk(config, place):
    """The config as it is but for sizes and the backbone."""
    config.update(image_size=32, batch_size=8, head=str(place / "head.npz"))
    config.data.root = str(place / "data")
    config.model.update(SMALLEST | dict(backbone=STRIDED, residual_blocks=1))
    config.losses.va_min_count = 2
    for phase in config.phases.values():
        phase.steps = STEPS
    config.log.update(every=1, images_every=100)
    return config


@pytest.mark.parametrize("last", ["A", pytest.param("B", marks=pytest.mark.slow)])
def test_both_stages_train_on_the_real_layouts(place, last):
    """Phase B of stage 2, whose programs take a minute to compile, is a long check."""
    start = ""
    for stage, module in enumerate((stage1, stage2), start=1):
        config = shrunk(module.get_config("full"), place)
        config.init_from = start
        if stage == 2 and last == "A":
            del config.phases.B
        workdir = place / f"{last}{stage}"
        head = load_flame(config.head)
        meta = dict(
            head=dict(name=head.name, version=head.version, sha256=head.sha256),
            data=mixture.fingerprint(config.data),
        )
        batches = functools.partial(train.batches, mixture, config)
        state = loop.train(config, str(workdir), setup.plan(config, head), batches, meta)
        assert int(state.step) == STEPS * len(config.phases)
        rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
        assert all(np.isfinite(row["loss"]) for row in rows)
        start = str(workdir)
    names = {name.removeprefix("loss/") for name in rows[0]}
    assert {"gt_expression", "emotion", "va_mse", "landmark_105", "landmark_contour"} <= names
    for name in ("gt_expression", "emotion", "landmark_105", "landmark_contour"):
        assert any(row[f"loss/{name}"] > 0 for row in rows), name


def test_a_batch_holds_every_kind_of_label(place):
    config = shrunk(stage2.get_config("full"), place)
    kinds = {"flame": 1, "shape": 1, "emotion": 0, "va": 0, "landmarks_68": 0, "landmarks_105": 2}
    batches = mixture.training_batches(config.data, image_size=32, batch_size=64, seed=0)
    batch = next(batches)
    assert np.bincount(batch["source"]).tolist() == [32, 16, 16]
    for kind, source in kinds.items():
        assert batch[f"has_{kind}"][batch["source"] == source].any(), kind
    assert not batch["has_emotion"][batch["source"] == 1].any()
    assert not batch["has_flame"][batch["source"] == 0].any()
