"""Photographs of the embedded head, fitted to their landmarks by the command."""

from __future__ import annotations

import contextlib
import csv
import importlib
import io
import os

import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from fields_jax import photo_commands
from fields_jax.errors import Preemption
from fields_jax.flame import flame
from fields_jax.flame.procedural import procedural_head
from fields_jax.outputs.bundle import load_params
from fields_jax.photos.detector import DetectorError
from fields_jax.photos.faces import Detection, Finder
from fields_jax.photos.finding import find_photographs
from fields_jax.photos.names import OF_A_FACE, OF_A_PAGE
from fields_jax.photos.points import select_105
from fields_jax.render import project
from tests.support.clips import CLIP_FLAGS
from tests.support.portraits import coefficients, write_photograph

# The name in the package is the function, which this is the command of.
fit = importlib.import_module("fields_jax.fit")


def points_68(place):
    """The head's 68 points in a picture of `write_photograph`, in pixels."""
    known = coefficients()
    marks = project(flame(procedural_head(), known).landmarks_68, known.camera)
    return (np.asarray(marks)[0, :, :2] + 1) * 64 + place


HIDDEN = np.r_[0:6, 17:21, 36:40, 66]  # half of a face, as another head in front of it hides it


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """The results, and beside them what was printed; they lie in the folder of the pictures."""
    folder = tmp_path_factory.mktemp("fit")
    write_photograph(folder / "photographs/two.png", places=((10, 20), (160, 60)))
    write_photograph(folder / "photographs/text.png", marked=False)
    np.savetxt(folder / "photographs/text.pts", points_68((30, 20)))
    write_photograph(folder / "photographs/bare.png", marked=False)
    (folder / "photographs/bare.txt").write_text("somebody looks at us")
    hidden = points_68((30, 20))
    hidden[HIDDEN] = -1
    write_photograph(folder / "photographs/hidden.png", marked=False)
    np.savetxt(folder / "photographs/hidden.txt", hidden)
    share = write_photograph(folder / "photographs/share.png") / (300, 200)
    np.save(folder / "photographs/share.npy", share)
    for name in ("twin.png", "twin.PNG"):
        write_photograph(folder / "photographs" / name)
    write_photograph(folder / "photographs" / os.fsdecode(b"caf\xe9.tiff"))
    for name in ("raw.CR2", "notes.docx"):
        (folder / "photographs" / name).write_bytes(b"")
    (folder / "photographs/loop").symlink_to(".")
    out, said = folder / "photographs/out", io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(photo_commands, "find_python", lambda: None)
        chosen = dict(out=str(out), head="", batch_size=8, morphs="", **CLIP_FLAGS)
        patch.setattr(fit.flags, "FLAGS", ConfigDict(chosen))
        with contextlib.redirect_stdout(said):
            assert fit.main(["fit", str(folder / "photographs")]) == 0
    (out / "said.txt").write_text(said.getvalue())
    return out


def test_every_face_with_landmarks_is_fitted(fitted):
    with (fitted / "summary.csv").open() as file:
        rows = list(csv.DictReader(file))
    made = {row["face"]: row for row in rows if row["status"] == "ok"}
    assert set(made) == {"text", "two_0", "two_1", "hidden", "caf_"}
    assert all(float(row["residual"]) < 0.03 for row in made.values())
    refused = {
        row["image"].rsplit("/", 1)[1]: row["reason"] for row in rows if row["status"] == "unusable"
    }
    assert set(refused) == {"bare.png", "share.png", "twin.png", "twin.PNG", "raw.CR2"}
    assert "(bare.txt beside it holds no points) and no face detector" in refused["bare.png"]
    assert "make landmarks" in refused["bare.png"]
    assert refused["share.png"].startswith("its points span 0.") and "norm" in refused["share.png"]
    for name in ("twin.png", "twin.PNG"):
        assert refused[name].startswith("twin.npy may be that of ")
        assert f"name it {name}.npy if it is of this one" in refused[name]
    names = {path.name for path in (fitted / "text").iterdir()}
    assert names == {*OF_A_FACE, *OF_A_PAGE} - {"emotion.json", "expression.png"}
    assert "of the eye distance" in (fitted / "index.html").read_text()
    with Image.open(fitted / "two_1/overlay.png") as picture:
        assert picture.size == (300, 200)


def test_what_was_passed_over_is_said_wherever_one_may_look(fitted):
    """And names that are no text are shown as text."""
    line = "camera raw is not read; develop it to JPEG or TIFF"
    said = {name: (fitted / name).read_text() for name in ("said.txt", "summary.csv", "index.html")}
    assert all(
        f"raw.CR2{between}{line}" in said[name]
        for name, between in (
            ("said.txt", ": "),
            ("summary.csv", ",,,,,,,,,,"),
            ("index.html", "</td><td>"),
        )
    )
    assert "5 faces, 5 not used" in said["said.txt"]
    assert not any("docx" in text for text in said.values())
    shown = r"caf\udce9.tiff"
    assert shown in said["summary.csv"]
    _, meta = load_params(fitted / "caf_/params.npz")
    assert meta["image"].endswith(shown) and meta["found"] == r"landmark file caf\udce9.npy"


def test_results_among_the_pictures_are_not_read_again(fitted):
    found, _ = find_photographs([str(fitted.parent)])
    names = ["bare", "caf_", "hidden", "share", "text", "twin", "twin-2", "two"]
    assert [one.name for one in found] == names


def test_fitted_landmarks_lie_on_the_photograph(fitted):
    """Within two pixels; a face is 75 wide."""
    arrays, meta = load_params(fitted / "text/params.npz")
    assert "weights" not in meta and meta["found"] == "landmark file text.pts"
    off = np.linalg.norm(arrays["landmarks_68_image"] - points_68((30, 20)), axis=1)
    assert np.median(off) < 1 and off.max() < 3
    arrays, _ = load_params(fitted / "hidden/params.npz")
    off = np.linalg.norm(arrays["landmarks_68_image"] - points_68((30, 20)), axis=1)
    assert np.median(off) < 1 and off.max() < 4
    for name in ("two_0", "two_1"):
        arrays, meta = load_params(fitted / name / "params.npz")
        # The outer eye corners: rows 263 and 33 of mediapipe, 45 and 36 of the 68.
        off = arrays["landmarks_68_image"][[45, 36]] - arrays["points"][[263, 33]]
        assert np.abs(off).max() < 2
        assert arrays["residual"] < 0.03 and select_105(arrays["points"]).shape == (105, 2)
        assert meta["head"]["name"] == "procedural"


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (DetectorError("gone"), ["a", "b", "c"]),  # the face that waits for others is read
        (KeyboardInterrupt(), ["a", "b"]),
        (Preemption(), ["a", "b"]),
    ],
)
def test_the_page_shows_what_is_finished_where_the_work_ends(
    tmp_path, monkeypatch, error, expected
):
    for name in "abcd":
        points = write_photograph(tmp_path / f"in/{name}.png", marked=False)[0]
    seen = []

    def detect(image):
        seen.append(image)
        if len(seen) == 4:
            raise error
        return [Detection(np.pad(points, ((0, 0), (0, 1))), 0.75)]

    finder = contextlib.nullcontext(Finder("finder", detect))
    monkeypatch.setattr(photo_commands, "open_finder", lambda named: finder)
    out = tmp_path / "out"
    chosen = dict(out=str(out), head="", batch_size=2, morphs="", **CLIP_FLAGS)
    monkeypatch.setattr(fit.flags, "FLAGS", ConfigDict(chosen))
    with pytest.raises(type(error)):
        fit.main(["fit", str(tmp_path / "in")])
    with (out / "summary.csv").open() as file:
        assert [row["face"] for row in csv.DictReader(file)] == expected
    assert "overlay.png" in (out / "index.html").read_text()
