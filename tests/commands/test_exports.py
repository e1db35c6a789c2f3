"""Other expressions and sets for trainers, through the command that fits landmarks."""

from __future__ import annotations

import importlib
import json
import re

import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from fields_jax import clip_commands, expression_commands, face3d, photo_commands
from fields_jax.errors import UserError
from fields_jax.flame.procedural import procedural_head
from fields_jax.outputs.bundle import load_params
from tests.support.bundles import bundle_of, random_coefficients
from tests.support.clips import CLIP_FLAGS
from tests.support.portraits import write_photograph

fit = importlib.import_module("fields_jax.fit")
FRAMES = 5


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("exports")
    write_photograph(folder / "one.png")
    write_photograph(folder / "two.png", places=((10, 20), (160, 60)))
    for index in range(FRAMES):
        write_photograph(folder / f"frames/frame_{index}.png", places=((5 + 2 * index, 10),))
    return folder


def test_the_expression_of_a_picture_is_read_as_the_others_are(monkeypatch):
    """By the command's own reader, handed in."""
    chosen = dict(expression_from="ben.jpg", neutral=False)
    monkeypatch.setattr(expression_commands.flags, "FLAGS", ConfigDict(chosen))
    head, asked = procedural_head(), []
    donor = bundle_of(head, random_coefficients(head, 1))

    def read(picture):
        asked.append(picture)
        return [face3d.face3d(0, donor)]

    put = expression_commands.chosen(head, read, photo_commands.Named([], [], [], None))
    (worn,) = put([bundle_of(head, random_coefficients(head, 1, seed=1)).result], 1)
    assert asked == ["ben.jpg"] and worn.worn.source == donor.face.name
    for name in ("expression", "jaw", "eyelid", "eyes"):
        np.testing.assert_array_equal(worn.coefficients[name], donor.result.coefficients[name])


@pytest.fixture
def here(place, monkeypatch):
    for module in (photo_commands, clip_commands):
        monkeypatch.setattr(module, "find_python", lambda: None)

    def call(*paths, **values):
        chosen = (
            dict(out=str(place / "out"), head="", batch_size=1, morphs="") | CLIP_FLAGS | values
        )
        monkeypatch.setattr(fit.flags, "FLAGS", ConfigDict(chosen))
        return fit.main(["fit", *map(str, paths)])

    return call


def test_a_photograph_is_exported_and_relaxed(place, here, capsys):
    assert here(place / "one.png", export=("vhap", "metrical-tracker")) == 0
    said = capsys.readouterr().out
    assert "exported: vhap, metrical-tracker; a perspective camera of 10 sides sees" in said
    assert "head procedural is not FLAME" in said
    facts = json.loads((place / "out/one/vhap/export.json").read_text())
    assert facts["frames"] == 1 and facts["off_pixels_most"][0] < 1
    assert facts["head"]["name"] == "procedural"
    own, _ = load_params(place / "out/one/params.npz")
    page = (place / "out/index.html").read_text()
    for layout in ("vhap", "metrical-tracker"):
        assert f'<a href="one/{layout}/">{layout}/</a>' in page
    # By the file's own description: the camera's frame is the photograph's.
    table = json.loads((place / "out/one/metrical-tracker/transforms.json").read_text())
    assert (table["w"], table["h"]) == (300, 200)
    assert here(place / "one.png", out=str(place / "calm"), neutral=True) == 0
    calm, meta = load_params(place / "calm/one/params.npz")
    assert meta["expression_from"] == "neutral"
    assert not calm["expression"].any() and not calm["eyelid"].any() and not calm["eyes"].any()
    np.testing.assert_array_equal(calm["shape"], own["shape"])
    # The expression of a folder with a file.
    source, out = place / "out/one", place / "worn"
    assert here(place / "one.png", out=str(out), expression_from=str(source)) == 0
    worn, meta = load_params(out / "one/params.npz")
    np.testing.assert_allclose(worn["expression"], own["expression"], atol=1e-6)
    assert meta["expression_from"] == str(source / "params.npz")


def test_a_clip_is_exported(place, here):
    assert here(place / "frames", clip=True, export=("vhap",)) == 0
    folder = place / "out/frames/person_0"
    table = json.loads((folder / "vhap/transforms.json").read_text())
    assert table["timestep_indices"] == list(range(FRAMES))
    codes = [np.load(folder / "vhap" / f["flame_param_path"]) for f in table["frames"]]
    # One person, who walks to the right by two pixels a frame.
    assert all((each["shape"] == codes[0]["shape"]).all() for each in codes)
    assert (np.diff([each["translation"][0, 0] for each in codes]) > 0).all()
    assert json.loads((folder / "vhap/export.json").read_text())["frames"] == FRAMES
    page = (place / "out/index.html").read_text()
    assert '<a href="frames/person_0/vhap/">vhap/</a>' in page


def test_an_export_takes_the_place_of_a_longer_one(place, here, tmp_path):
    for index in range(FRAMES):
        write_photograph(tmp_path / f"clip/{index}.png", places=((5 + 2 * index, 10),))
    out = tmp_path / "out"
    assert here(tmp_path / "clip", out=str(out), clip=True, export=("vhap",)) == 0
    for suffix in ("png", "npy"):
        (tmp_path / f"clip/4.{suffix}").unlink()
    assert here(tmp_path / "clip", out=str(out), clip=True, export=("vhap",)) == 0
    folder = out / "clip/person_0/vhap"
    for part in ("images", "fg_masks", "flame_param"):
        assert len(list((folder / part).iterdir())) == FRAMES - 1, part
    assert not (folder.parent / ".vhap.new").exists()


def test_sets_that_cannot_be_written_are_told_and_cost_nothing_else(
    place, here, tmp_path, monkeypatch, capsys
):
    for index in range(3):
        path = tmp_path / f"clip/{index}.png"
        write_photograph(path, places=((5, 10),))
    Image.open(path).crop((0, 0, 320, 200)).save(path)
    own = tmp_path / "out/clip/person_0/vhap/of the user.png"
    own.parent.mkdir(parents=True)
    own.write_text("mine")
    layouts = ("vhap", "metrical-tracker")
    assert here(tmp_path / "clip", out=str(tmp_path / "out"), clip=True, export=layouts) == 0
    said = capsys.readouterr().out
    assert "person_0/metrical-tracker: the pictures are of several sizes" in said
    assert "vhap cannot be made anew" in said and own.read_text() == "mine"
    assert not (own.parents[1] / "metrical-tracker").exists()
    assert "clip/person_0/clip.npz" in (tmp_path / "out/index.html").read_text()


def test_a_lens_that_is_too_near_is_told_with_a_longer_one(place, here, capsys):
    out = str(place / "near")
    assert here(place / "one.png", out=out, export=("vhap",), focal=0.5) == 0
    said = capsys.readouterr().out
    (focal,) = re.findall(r"% of the square about a face.* such as --focal=(\d+)", said)
    assert here(place / "one.png", out=out, export=("vhap",), focal=float(focal)) == 0
    assert "such as --focal" not in capsys.readouterr().out


def test_mistakes_are_one_line(place, here, tmp_path):
    one, frames = place / "one.png", place / "frames"
    for paths, values, line in (
        ((one,), dict(expression_from=str(tmp_path / "a.npz")), "a.npz: no such file"),
        ((one,), dict(expression_from=str(place / "two.png")), "shows 2 faces: name the params"),
        ((one,), dict(expression_from=str(one), neutral=True), "two expressions: choose one"),
        ((frames,), dict(neutral=True, clip=True), "frames is a clip, which keeps its own"),
        ((one,), dict(neutral=True, export=("vhap",)), "--export=vhap is of the pictures' own"),
        ((one,), dict(rate=float("inf")), "--rate=inf: expected 0.001 to 1000"),
        ((one,), dict(rate=1e5), "--rate=100000: expected 0.001 to 1000"),
        ((one,), dict(rate=0.0), "--rate=0: expected 0.001 to 1000"),
        ((one,), dict(smooth=float("nan")), "--smooth=nan: expected 0 to 1000"),
        ((one,), dict(bridge=-1.0), "--bridge=-1: expected 0 to 1e"),
        ((one,), dict(focal=float("inf")), "--focal=inf: expected 0.5 to 1000"),
    ):
        with pytest.raises(UserError, match=line) as said:
            here(*paths, **values)
        assert "\n" not in str(said.value)
