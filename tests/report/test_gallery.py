"""All faces of a run: one folder for each, one table and one page."""

from __future__ import annotations

import csv
import dataclasses
import re

import numpy as np
import pytest

from fields_jax.errors import UserError
from fields_jax.flame.procedural import procedural_head
from fields_jax.outputs import bundle, meshes, writers
from fields_jax.outputs.bundle import load_params, pose_heads
from fields_jax.outputs.confidence import Evidence, Verdict
from fields_jax.outputs.texture import Texture
from fields_jax.photos import names
from fields_jax.photos.files import Unusable
from fields_jax.report.gallery import COLUMNS, Gallery
from tests.support.gltf_reader import Glb
from tests.support.portraits import META, SIZE, coefficients, photograph


@pytest.fixture(scope="module")
def head():
    return procedural_head()


@pytest.fixture(scope="module")
def results(head):
    return pose_heads(head, coefficients(2, yaw=0.3), 4)


def test_gallery_lists_faces_and_what_was_not_used(head, results, tmp_path):
    gallery = Gallery(tmp_path, head, SIZE, META)
    bad = dataclasses.replace(results[0], coefficients={"camera": np.full(3, np.nan)})
    emotion = {"emotion": "sad", "probabilities": {"sad": 0.5}, "valence": -0.25, "arousal": 0.125}
    gallery.add(photograph(), dataclasses.replace(results[0], emotion=emotion))
    gallery.add(photograph(), results[1])
    gallery.add(photograph(), bad)
    gallery.add(photograph(), dataclasses.replace(results[0], residual=float("nan")))
    gallery.refuse(Unusable(tmp_path / "x<y.png", "not a readable picture"))
    gallery.close("Faces", "A lead.")
    assert gallery.faces == ["a b", "a b-2"]
    with (tmp_path / "summary.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    assert [row["status"] for row in rows] == ["ok", "ok", "unusable", "unusable", "unusable"]
    assert (rows[0]["emotion"], rows[0]["valence"]) == ("sad", "-0.250")
    assert rows[2]["reason"] == rows[3]["reason"] == "a b: the result is not finite"
    page = (tmp_path / "index.html").read_text()
    assert 'src="a%20b/overlay.png"' in page and 'src="a%20b-2/geometry.png"' in page
    assert "x&lt;y.png" in page and "read as sad (50 %), valence -0.25, arousal +0.12" in page
    assert "http" not in page.replace("http-equiv", "")


def test_the_page_links_every_file_that_it_does_not_show(head, results, tmp_path, monkeypatch):
    monkeypatch.setitem(writers.WRITERS, "mesh.csv", lambda _: "x,y,z")
    gallery = Gallery(tmp_path, head, SIZE, META)
    emotion = {"emotion": "sad", "probabilities": {"sad": 0.5}, "valence": 0.0, "arousal": 0.0}
    doubtful = Verdict("suspect", ("a face of 20 pixels",), 0.125)
    known = dict(emotion=emotion, verdict=doubtful, evidence=Evidence(pixels=20.0))
    gallery.add(photograph(), dataclasses.replace(results[0], **known))
    gallery.close("Faces", "A lead.")
    page = (tmp_path / "index.html").read_text()
    assert "suspect, about 12 % of the eye distance off: a face of 20 pixels" in page
    with (tmp_path / "summary.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert (row["verdict"], row["reason"]) == ("suspect", "a face of 20 pixels")
    links = re.findall('href="a%20b/([^"]+)">[^<]', (tmp_path / "index.html").read_text())
    shown = {"overlay.png", "geometry.png", "expression.png"}
    assert links == [name for name in writers.WRITERS if name not in shown]
    written = {path.name for path in (tmp_path / "a b").iterdir()}
    assert written == {*writers.WRITERS, *names.OF_A_PAGE} - {"expression.png"}


def test_the_kind_of_morph_targets_reaches_the_files(head, results, tiny_head, tmp_path):
    with pytest.raises(UserError, match="morphs=arkit: head random has no ARKit shapes"):
        Gallery(tmp_path / "none", tiny_head, SIZE, META, "arkit")
    assert not (tmp_path / "none").exists()
    for kind in ("", "expression"):
        gallery = Gallery(tmp_path / f"of {kind}", head, SIZE, META, kind)
        gallery.add(photograph(), results[0])
        read = Glb((tmp_path / f"of {kind}/a b/head.glb").read_bytes())
        assert read.mesh["extras"]["morphs"] == (kind or "arkit")


NAMED = (
    *("a", "a", "A", "a/b", "a/overlay.png", "a/overlay", "params.npz", "index.html"),
    *("summary.csv/x", "..", "../../up", "dot.", "dot", "x_0", "a\x1b\n\udce9", "." * 300),
)


def test_every_face_has_a_folder_of_its_own_whatever_it_is_called(
    head, results, tmp_path, monkeypatch
):
    monkeypatch.setattr(meshes, "obj", lambda *_: "")  # only where they go is looked at
    monkeypatch.setattr(meshes, "ply", lambda *_: b"")
    monkeypatch.setitem(writers.WRITERS, "head.glb", lambda _: b"")
    plain = np.zeros((8, 8, 3), np.uint8)
    monkeypatch.setattr(bundle, "bake", lambda *_: Texture(plain, plain))
    out = tmp_path / "x/y/out"
    gallery = Gallery(out, head, SIZE, META)
    face = photograph(30, 40, (10, 5, 30, 25))
    for number, name in enumerate(NAMED):
        named = dataclasses.replace(face, name=name, path=f"{number}\x1b\udce9.png")
        gallery.add(named, results[number % 2])
    gallery.close("Faces", "A lead.")
    assert len({name.casefold() for name in gallery.faces}) == len(NAMED)
    for number, name in enumerate(gallery.faces):
        _, meta = load_params(out / name / "params.npz")
        assert meta["image"] == rf"{number}\x1b\udce9.png" and meta["face"] == name
        files = {path.name for path in (out / name).iterdir() if path.is_file()}
        unread = {"emotion.json", "expression.png", "confidence.json"}
        assert files == {*names.OF_A_FACE, *names.OF_A_PAGE} - unread
    assert {path.name for path in out.iterdir() if path.is_file()} == set(names.OF_A_RUN)
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
    assert [path.name for path in (tmp_path / "x").iterdir()] == ["y"]
    with (out / "summary.csv").open() as file:
        assert [row["face"] for row in csv.DictReader(file)] == gallery.faces
    assert "\x1b" not in (out / "summary.csv").read_text() + (out / "index.html").read_text()


def test_a_folder_that_cannot_be_written_costs_only_its_face(head, results, tmp_path, monkeypatch):
    """Permissions do not bind root: a file stands where the folder should be."""
    (tmp_path / "a b").write_text("in the way")
    gallery = Gallery(tmp_path, head, SIZE, META)
    for name in ("a b", "c"):
        gallery.add(dataclasses.replace(photograph(), name=name), results[0])
    gallery.close("Faces", "A lead.")
    assert gallery.faces == ["c"] and (tmp_path / "c/overlay.png").exists()
    (unusable,) = gallery.unusable
    assert unusable.reason == f"{tmp_path / 'a b'} cannot be written: File exists"
    assert "a b cannot be written" in (tmp_path / "summary.csv").read_text()
    assert (tmp_path / "a b").read_text() == "in the way"


def test_files_of_the_user_where_the_results_go_stay(head, results, tmp_path):
    """As with --out=. in the folder of the photographs: a folder is taken that is free."""
    own = tmp_path / "a b/photograph.jpg"
    own.parent.mkdir()
    own.write_text("of the user")
    (tmp_path / "a b-2").mkdir()
    (tmp_path / "a b-2/params.npz").write_text("of another program")
    for _ in range(2):  # the second run overwrites what the first wrote
        gallery = Gallery(tmp_path, head, SIZE, META)
        gallery.add(photograph(), results[0])
        gallery.close("Faces", "A lead.")
        assert gallery.faces == ["a b-3"] and not gallery.unusable
    assert own.read_text() == "of the user"
    assert [path.name for path in own.parent.iterdir()] == ["photograph.jpg"]
    assert load_params(tmp_path / "a b-3/params.npz")[1]["face"] == "a b-3"


@pytest.mark.parametrize("name", names.OF_A_RUN)
def test_a_page_or_table_of_no_earlier_run_is_refused(head, tmp_path, name):
    (tmp_path / name).write_text("face,height\n")
    with pytest.raises(UserError, match=f"{name} is of no earlier run .* name another --out"):
        Gallery(tmp_path, head, SIZE, META)
    assert (tmp_path / name).read_text() == "face,height\n"
