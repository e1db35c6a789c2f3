"""Packed networks: written and read back, damage named, and the package's own found."""

from __future__ import annotations

import hashlib
import json
import shutil

import jax
import numpy as np
import pytest

from fields_jax.errors import UserError
from fields_jax.files import npz_bytes
from fields_jax.models.fields import build_model, predict, variable_shapes
from fields_jax.report.packing import model_card, pack_workdir
from fields_jax.workdir import packed
from fields_jax.workdir.inference import (
    ENCODERS,
    load_inference,
    read_meta,
    read_networks,
    require_trained,
)
from fields_jax.workdir.integrity import json_checksum
from tests.support.typed import typed
from tests.support.workdirs import write_workdir


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A workdir and its packed networks: (workdir, folder, what packing reported)."""
    folder = tmp_path_factory.mktemp("packed")
    workdir, _ = write_workdir(folder)
    scores = folder / "run" / "evaluation.json"
    scores.write_text(json.dumps({"step": 7}))  # of another step: no figures of this model
    return workdir, folder / "packed", pack_workdir(str(workdir), str(folder / "packed"))


@pytest.fixture
def copy(place, tmp_path):
    shutil.copytree(place[1], tmp_path / "copy")
    return tmp_path / "copy"


def test_the_networks_are_float16_numbers_and_nothing_else(place):
    workdir, folder, report = place
    assert {file.name for file in folder.iterdir()} == {"model.npz", "model.json", "MODEL_CARD.md"}
    assert report["bytes"] == sum(
        (folder / name).stat().st_size for name in ("model.npz", "model.json")
    )
    with np.load(folder / "model.npz", allow_pickle=False) as arrays:
        kinds = {name: arrays[name].dtype for name in arrays.files}
    assert {kind for name, kind in kinds.items() if name.startswith("params/")} == {np.dtype("f2")}
    stats = {kind for name, kind in kinds.items() if name.startswith("batch_stats/")}
    assert stats == {np.dtype("f4")}
    assert {name.split("/")[1] for name in kinds} == set(packed.NETWORKS)
    before = load_inference(str(workdir)).variables["params"]["shape_encoder"]
    after = load_inference(str(folder)).variables["params"]["shape_encoder"]
    half = jax.tree.map(lambda leaf: np.asarray(leaf, np.float16).astype(np.float32), before)
    assert jax.tree.all(jax.tree.map(np.array_equal, half, after))


def test_they_say_nearly_the_same(place):
    workdir, folder, report = place
    assert 0 < max(report["largest_difference"].values()) < 0.02
    image = np.random.default_rng(3).integers(0, 256, (4, 32, 32, 3), np.uint8)
    said = []
    for source in (workdir, folder):
        inference = load_inference(str(source))
        said.append(predict(inference.model, inference.variables, image))
    np.testing.assert_allclose(said[1].valence, said[0].valence, atol=0.02)
    assert said[0].tokens is not None and said[1].tokens is None


def test_meta_and_config_come_along_without_places_of_the_machine(place):
    workdir, folder, _ = place
    meta, step = read_meta(str(folder))
    assert step == 0 and meta["git"] == "0" * 40 and meta["head"]["name"] == "random"
    assert meta["trained"] == list(packed.NETWORKS) and len(meta["made"]) == 10
    assert str(workdir.parent) not in (folder / "model.json").read_text()
    config = require_trained(str(folder))
    assert config.head == "" and config.image_size == 32
    networks, _ = read_networks(str(folder))  # what --config.init_from takes
    assert set(networks["params"]) == set(packed.NETWORKS)


def test_the_card_tells_the_facts_and_no_figures_of_other_weights(place):
    text = (place[1] / "MODEL_CARD.md").read_text()
    assert "32 x 32 pixels" in text and "random 0, sha256 0000" in text
    assert "Not measured yet" in text and "must not be used" in text
    inference = load_inference(str(place[1]))
    inference.meta["data"] = {"synthetic/wild2d": "a<b"}
    drawn = model_card(inference, place[2], str(place[0]))
    assert "no photograph of a person" in drawn and "a<b" in drawn
    assert "no photograph of a person" not in text  # it has not said what it was trained on


@pytest.mark.parametrize(
    ("name", "change", "line"),
    [
        ("model.npz", lambda b: b[:900] + bytes([b[900] ^ 1]) + b[901:], "model.npz is damaged"),
        ("model.npz", lambda b: b[:-100], "model.npz is damaged"),
        ("model.npz", None, "model.npz is missing"),
        ("model.json", lambda b: b.replace(b'"step": 0', b'"step": 9'), "model.json is damaged"),
        ("model.json", lambda b: b[:200], "model.json is no JSON"),
        (
            "model.json",
            lambda b: b'{"format": 2}',
            "model.json is of format '2', this fields_jax re",
        ),
        ("model.json", lambda b: b"[]", "model.json holds a JSON list"),
    ],
)
def test_damage_is_one_line_that_names_the_file(copy, name, change, line):
    file = copy / name
    content = file.read_bytes()
    file.unlink()
    if change:
        file.write_bytes(change(content))
    with pytest.raises(UserError, match=line) as caught:
        load_inference(str(copy))
    assert "\n" not in str(caught.value) and str(copy) in str(caught.value)


def forge(folder, arrays) -> None:
    """Writes other arrays into a folder, with checksums that hold."""
    content = npz_bytes(arrays)
    told = json.loads((folder / "model.json").read_text())
    told |= {"sha256": hashlib.sha256(content).hexdigest()}
    told.pop("checksum")
    (folder / "model.npz").write_bytes(content)
    (folder / "model.json").write_text(json.dumps(told | {"checksum": json_checksum(told)}))


KERNEL = "params/emotion_head/logits/kernel"


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (
            lambda a: a.pop(KERNEL),
            f"{KERNEL} is missing, where model.json's config asks for (8, 8)",
        ),
        (
            lambda a: a.update({KERNEL: a[KERNEL][:, :7]}),
            f"{KERNEL} is (8, 7), where model.json's config asks for (8, 8)",
        ),
        (
            lambda a: a.update({f"{KERNEL}2": a[KERNEL]}),
            f"{KERNEL}2 is (8, 8), where model.json's config asks for no such array",
        ),
    ],
    ids=["missing", "other shape", "too many"],
)
def test_arrays_that_the_networks_cannot_take_are_named(copy, capsys, change, line):
    with np.load(copy / "model.npz") as stored:
        arrays = dict(stored)
    change(arrays)
    forge(copy, arrays)
    with pytest.raises(UserError) as caught:
        load_inference(str(copy))
    said = str(caught.value)
    assert said.startswith(f"{copy}/model.npz: {line}; bring it back whole") and "\n" not in said
    assert typed("fields_jax.evaluate", [f"--workdir={copy}"]) == 2
    assert capsys.readouterr().err == f"error: {said}\n"


def test_the_packages_own_arrays_fit_its_networks():
    found = packed.read_packed(packed.EMBEDDED)
    packed.check_shapes(packed.EMBEDDED, found, variable_shapes(build_model(found.config)))


def test_what_cannot_be_packed(tmp_path):
    workdir, _ = write_workdir(tmp_path, trained=("pose_encoder",))
    with pytest.raises(UserError, match="run holds no trained shape_encoder"):
        pack_workdir(str(workdir), str(tmp_path / "out"))
    with pytest.raises(UserError, match="cannot be made anew"):
        pack_workdir(str(workdir), str(workdir))
    assert not (tmp_path / "out").exists()
    with pytest.raises(UserError, match="keeps no mean"):
        pack_workdir(str(workdir), str(tmp_path / "out"), ema=True)


def test_the_word_embedded_is_the_package_and_a_folder_needs_its_dot(copy, tmp_path, monkeypatch):
    monkeypatch.setattr(packed, "PACKAGED", tmp_path / "none")
    monkeypatch.chdir(copy.parent)
    copy.rename(copy.with_name("embedded"))
    with pytest.raises(UserError, match="this fields_jax holds no model: name a trained one"):
        load_inference("embedded")
    assert load_inference("./embedded").step == 0
    monkeypatch.setattr(packed, "PACKAGED", copy.with_name("embedded"))
    assert load_inference("embedded").meta["sha256"] == load_inference("./embedded").meta["sha256"]


def test_the_package_holds_a_small_whole_model_or_says_that_it_holds_none():
    if not (packed.PACKAGED / packed.MODEL).exists():
        with pytest.raises(UserError, match="holds no model"):
            load_inference(packed.EMBEDDED)
        return
    files = list(packed.PACKAGED.iterdir())
    assert {file.name for file in files} == {packed.MODEL, packed.ARRAYS, packed.CARD}
    assert sum(file.stat().st_size for file in files) <= packed.LARGEST_PACKAGED
    inference = load_inference(packed.EMBEDDED)
    assert inference.meta["head"]["name"] == "procedural"
    assert set(ENCODERS) <= set(inference.meta["trained"])
