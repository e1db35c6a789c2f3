"""Photographs to bundles through the commands a user types, with tensorflow and torch blocked."""

from __future__ import annotations

import contextlib
import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from fields_jax import confirming, doctor, photo_commands, reconstruct
from fields_jax import finder as packaged_network
from fields_jax.errors import UserError
from fields_jax.flame.io import save_flame
from fields_jax.outputs.bundle import load_params
from fields_jax.photos.faces import Detection, Finder
from fields_jax.report.packing import pack_workdir
from fields_jax.workdir import packed
from tests.support.clips import CLIP_FLAGS
from tests.support.heads import random_head
from tests.support.portraits import write_photograph
from tests.support.workdirs import write_workdir

ROOT = Path(__file__).parents[2]
# As `python -m fields_jax.NAME`, on a machine without tensorflow and torch, and without the
# face detector that this checkout may have.
BLOCKED = """
import runpy, sys
from importlib.machinery import PathFinder

class Without(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        hidden = name.split(".")[0] in ("tensorflow", "torch")
        return None if hidden else super().find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = Without
import fields_jax.photos.detector
fields_jax.photos.detector.ENVIRONMENT = fields_jax.photos.detector.ENVIRONMENT / "absent"
sys.argv = sys.argv[1:]
runpy.run_module("fields_jax." + sys.argv[0], run_name="__main__", alter_sys=True)
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reconstruct")
    write_workdir(folder)
    return folder


def run(command: str, *arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", BLOCKED, command, *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        timeout=300,
    )


@pytest.fixture
def here(place, monkeypatch):
    """The command inside this process, which keeps what is compiled."""
    monkeypatch.setattr(photo_commands, "find_python", lambda: None)

    def call(*paths, **values):
        chosen = dict(workdir=place / "run", out="", head="", box="", batch_size=2, refine=False)
        chosen["morphs"] = ""
        chosen |= CLIP_FLAGS | values
        chosen = {
            key: v if isinstance(v, int | float | tuple) else str(v) for key, v in chosen.items()
        }
        monkeypatch.setattr(reconstruct.flags, "FLAGS", ConfigDict(chosen))
        return reconstruct.main(["reconstruct", *map(str, paths)])

    return call


def test_photographs_become_bundles(place):
    photographs, out = place / "photographs", place / "out"
    points = write_photograph(photographs / "one.png")
    write_photograph(photographs / "album/group.png", places=((5, 10), (150, 60)))
    Image.new("RGB", (300, 200), "grey").save(photographs / "bare.png")
    broken = write_photograph(photographs / "broken.png")
    broken[0, 7] = np.nan
    np.save(photographs / "broken.npy", broken[0])
    (photographs / "half.jpg").write_bytes(b"\xff\xd8\xff half a picture")
    (photographs / "film.mp4").write_bytes(b"")

    workdir = place / "run"
    result = run(
        "reconstruct", f"--workdir={workdir}", f"--out={out}", "--batch_size=2", photographs
    )
    assert result.returncode == 0, result.stderr[-3000:]
    said = result.stdout
    assert "3 faces, 4 not used" in said
    assert "bare.png: no face found; give its landmarks" in said
    assert "broken.png: some of its landmarks are not finite (landmark file broken.npy)" in said
    assert "half.jpg: not a readable picture" in said and "film.mp4: a video among pictures" in said
    assert "5/5 photographs" in result.stderr and "left" in result.stderr

    with (out / "summary.csv").open() as file:
        rows = {row["face"]: row for row in csv.DictReader(file) if row["face"]}
    assert set(rows) == {"one", "album/group_0", "album/group_1"}
    assert all(f'src="{name}/overlay.png"' in (out / "index.html").read_text() for name in rows)
    reading = json.loads((out / "one/emotion.json").read_text())
    assert sum(reading["probabilities"].values()) == pytest.approx(1)
    assert reading["emotion"] == rows["one"]["emotion"] in reading["probabilities"]
    with Image.open(out / "one/overlay.png") as picture:
        assert picture.size == (300, 200)

    arrays, meta = load_params(out / "one/params.npz")
    assert meta["weights"]["workdir"] == str(workdir) and meta["weights"]["step"] == 0
    assert meta["head"]["name"] == "random" and meta["found"] == "landmark file one.npy"
    np.testing.assert_allclose(arrays["points"], points[0], atol=1e-4)
    # The crop by hand: 1.2 boxes wide, the model's 32 pixels.
    low, high = points[0].min(axis=0), points[0].max(axis=0)
    zoom = 32 / (1.2 * (high - low).mean())
    centre = arrays["crop_matrix"] @ [*((low + high) / 2), 1]
    np.testing.assert_allclose(arrays["crop_matrix"][[0, 1], [0, 1]], zoom, rtol=1e-5)
    np.testing.assert_allclose(centre, [16, 16, 1], atol=1e-3)
    assert arrays["shape"].shape == (7,) and arrays["expression"].shape == (6,)
    assert not (place / "programs").exists()  # that the workdir names for compiled programs


def test_a_face_is_the_same_alone_and_in_a_batch_and_by_its_box(place, here):
    path = place / "again/one.png"
    points = write_photograph(path)[0]
    write_photograph(path.with_name("two.png"), places=((120, 60),))
    box = ",".join(str(value) for value in [*points.min(axis=0), *points.max(axis=0)])
    assert here(path.parent, out=place / "both") == 0
    assert here(path, out=place / "alone") == 0
    path.with_suffix(".npy").unlink()
    assert here(path, out=place / "boxed", box=box) == 0
    both, alone, boxed = (
        load_params(place / name / "one/params.npz")[0] for name in ("both", "alone", "boxed")
    )
    del both["points"], alone["points"]
    for name, value in both.items():
        np.testing.assert_allclose(alone[name], value, atol=2e-5, err_msg=name)
        np.testing.assert_allclose(boxed[name], value, atol=2e-5, err_msg=name)


def test_faces_with_landmarks_are_refined_and_the_output_says_which(place, here, capsys):
    folder, out = place / "mixed", place / "refined"
    write_photograph(folder / "one.png")
    write_photograph(folder / "bare.png", marked=False)
    assert here(folder, out=out, refine=True) == 0
    assert "1 faces have no landmarks to refine by" in capsys.readouterr().out
    table = (out / "summary.csv").read_text().splitlines()
    rows = {row["face"]: row for row in csv.DictReader(table)}
    assert rows["one"]["refined"] == "yes" and rows["bare"]["refined"] == "no"
    assert rows["bare"]["residual"] == rows["bare"]["residual_before"] == ""
    assert float(rows["one"]["residual"]) < float(rows["one"]["residual_before"])
    one, bare = (load_params(out / name / "params.npz")[0] for name in ("one", "bare"))
    assert one["refined"] and one["residual"] < one["residual_before"]
    assert not bare["refined"] and "residual" not in bare
    assert here(folder / "bare.png", out=place / "unrefined") == 0
    plain, _ = load_params(place / "unrefined/bare/params.npz")
    assert "refined" not in plain
    np.testing.assert_allclose(bare["expression"], plain["expression"], atol=2e-5)


def test_another_expression_is_painted_where_the_model_can(place, here, capsys):
    path = place / "calm/one.png"
    write_photograph(path)
    write_photograph(path.with_name("two.png"), places=((120, 60),))
    assert here(path.parent, out=place / "painted", neutral=True) == 0
    with Image.open(place / "painted/one/expression.png") as picture:
        crop, made = np.split(np.asarray(picture), 2, axis=1)
    assert crop.shape == made.shape == (32, 32, 3) and (crop != made).any()
    names = {file.name for file in (place / "painted/two").iterdir()}
    assert "emotion.json" not in names and "expression.png" in names
    assert "synthesiser" not in capsys.readouterr().out
    encoders = ("pose_encoder", "shape_encoder", "expression_encoder", "emotion_head")
    workdir, _ = write_workdir(place / "unpainted", trained=encoders)
    assert here(path, workdir=workdir, out=place / "plain_calm", neutral=True) == 0
    said = capsys.readouterr().out
    assert f"{workdir} has no trained synthesiser: no expression.png is written" in said
    assert not (place / "plain_calm/one/expression.png").exists()


def test_without_an_emotion_head_nothing_is_read(place, here, capsys):
    encoders = ("pose_encoder", "shape_encoder", "expression_encoder")
    workdir, _ = write_workdir(place / "stage1", trained=encoders)
    path = place / "plain/one.png"
    write_photograph(path)
    assert here(path, workdir=workdir, out=place / "o1") == 0
    assert "has no trained emotion head: no emotion.json" in capsys.readouterr().out
    assert not (place / "o1/one/emotion.json").exists()
    assert (place / "o1/one/params.npz").exists()


def test_no_face_at_all_is_status_2(place, here, capsys):
    (place / "text.jpg").write_text("no picture")
    for name in ("one.png", "one.PNG"):
        write_photograph(place / "twins" / name)
    assert here(place / "text.jpg", place / "none.png", place / "twins", out=place / "o2") == 2
    said = capsys.readouterr().out
    assert "none.png: no such file or folder" in said and "0 faces, 4 not used" in said
    assert said.count("one.npy may be that of one.") == 2
    assert "no such file or folder" in (place / "o2/index.html").read_text()
    assert here(place / "twins/one.png", out=place / "o2", box="0.1,0.1,0.6,0.8") == 2
    assert "one.png: the box spans 0.1..0.8: normalised? give pixels" in capsys.readouterr().out


def test_a_finder_is_asked_where_there_is_no_landmark_file(place, here, monkeypatch):
    path = place / "found/one.png"
    points = write_photograph(path, marked=False)[0]
    mesh = np.pad(points, ((0, 0), (0, 1)))
    finder = Finder("finder 2", lambda image: [Detection(mesh, 0.75), Detection(mesh + 9, None)])
    monkeypatch.setattr(photo_commands, "open_finder", lambda named: contextlib.nullcontext(finder))
    assert here(path, out=place / "o3") == 0
    first, meta = load_params(place / "o3/one_0/params.npz")
    assert meta["found"] == "finder 2, score 0.75"
    np.testing.assert_allclose(first["points"], points, atol=1e-4)
    second, _ = load_params(place / "o3/one_1/params.npz")
    np.testing.assert_allclose(second["box"], first["box"] + 9, atol=1e-3)


def test_without_a_detector_the_network_in_the_package_is_asked(place, here, monkeypatch):
    path = place / "boxes/one.png"
    write_photograph(path, marked=False)
    box = np.array([40, 30, 140, 150], np.float32)
    asked, again = [], []

    def look(image):
        asked.append(image.shape[:2])
        return [Detection(None, 0.926, box)]

    finder = Finder("found by the network", look)
    second = Finder("the same", lambda image: again.append(image.shape[:2]) or [])
    monkeypatch.setattr(confirming, "packaged", lambda *own: finder)
    monkeypatch.setattr(packaged_network, "packaged", lambda: second)
    assert here(path, out=place / "o5") == 0
    arrays, meta = load_params(place / "o5/one/params.npz")
    assert meta["found"] == "found by the network, score 0.93" and "points" not in arrays
    np.testing.assert_allclose(arrays["box"], box)
    assert here(path, out=place / "o5", box="40,30,140,150") == 0
    # A box given by the user leaves nothing to find, but is looked at a second time.
    assert asked == [(200, 300)] and again == [(160, 160)]
    told = json.loads((place / "o5/one/confidence.json").read_text())
    assert told["reasons"].count("the finder sees no face there") == 1


@pytest.mark.parametrize(
    ("values", "paths", "line"),
    [
        (dict(out=""), ["a.png"], "--out is missing"),
        (dict(), [], "name photographs, videos, folders or patterns"),
        (dict(workdir="/none"), ["a.png"], "/none is no workdir"),
        (dict(box="1,2"), ["a.png"], "--box=1,2: expected x0,y0,x1,y1"),
        (dict(head="/none.npz"), ["a.png"], "head file /none.npz does not exist"),
    ],
)
def test_mistakes_are_named_in_one_line(place, here, values, paths, line):
    out = place / "mistake"
    with pytest.raises((ValueError, FileNotFoundError), match=line) as caught:
        here(*paths, **{"out": out} | values)
    assert "\n" not in str(caught.value)
    assert not out.exists()


def test_weights_and_heads_that_do_not_fit(place, here):
    workdir, _ = write_workdir(place / "half", trained=("pose_encoder",))
    with pytest.raises(UserError, match="half/run holds no trained shape_encoder"):
        here("a.png", workdir=workdir, out=place / "x")
    save_flame(str(place / "other.npz"), random_head(seed=1).replace(sha256="1" * 64))
    with pytest.raises(UserError, match="was trained with head random 0, this is random 0 of oth"):
        here("a.png", head=place / "other.npz", out=place / "x")


def test_converted_weights_on_the_procedural_head_are_doubted(place, here, capsys):
    workdir, head = write_workdir(place / "converted", source="TEASER")
    assert here("none.png", workdir=workdir, out=place / "o4") == 2
    assert "converted from TEASER, which knows FLAME" in capsys.readouterr().out
    assert here("none.png", workdir=workdir, head=head, out=place / "o4") == 2
    assert "FLAME" not in capsys.readouterr().out


def test_without_a_workdir_the_model_of_the_package_is_taken_and_said(
    place, here, capsys, monkeypatch
):
    path = place / "packaged/one.png"
    write_photograph(path)
    monkeypatch.setattr(packed, "PACKAGED", place / "nothing")
    with pytest.raises(UserError, match="this fields_jax holds no model"):
        here(path, workdir="", out=place / "o5")
    pack_workdir(str(place / "run"), str(place / "embedded"))
    monkeypatch.setattr(packed, "PACKAGED", place / "embedded")
    with pytest.raises(UserError, match="trained with head random 0, this is procedural"):
        here(path, workdir="", out=place / "o5")
    assert here(path, workdir="", head=place / "head.npz", out=place / "o5") == 0
    said = capsys.readouterr().out.splitlines()[0]
    assert said.startswith("model: embedded, made 2") and said.endswith("embedded/MODEL_CARD.md")
    _, meta = load_params(place / "o5/one/params.npz")
    assert meta["weights"]["workdir"] == "embedded" and len(meta["weights"]["sha256"]) == 64


def test_a_mistyped_flag_is_one_line_and_status_2(place):
    result = run("reconstruct", "--workdri=x", "a.png")
    assert result.returncode == 2
    assert result.stderr.startswith("error: ") and "workdri" in result.stderr
    assert result.stderr.count("\n") == 1


def test_doctor_names_what_is_there_and_what_to_do(place):
    (place / "no_head.npz").write_bytes(b"no head")
    arguments = (f"--workdir={place / 'run'}", f"--head={place / 'head.npz'}")
    # Where nothing is: it also looks at what runs have left in the folder it is called in.
    (elsewhere := place / "elsewhere").mkdir()
    arguments += (f"--head={place / 'no_head.npz'}", "--json")
    result = run("doctor", *arguments, cwd=elsewhere)
    assert result.returncode == 0, result.stderr[-3000:]
    checks = {check["name"]: check for check in json.loads(result.stdout)}
    assert checks[str(place / "run")]["ok"] and "step 0" in checks[str(place / "run")]["found"]
    assert "random 0, sha256 000000000000" in checks[str(place / "head.npz")]["found"]
    assert "is not a head file" in checks[str(place / "no_head.npz")]["found"]
    for name, remedy in (
        ("tensorflow", "pip install"),
        ("TEASER", "fields_jax.convert teaser"),
        ("ResNet-50", "fields_jax.convert emotion_resnet50"),
        ("synthetic", "data_pipelines.prepare synthetic"),
    ):
        assert not checks[name]["ok"] and remedy in checks[name]["remedy"]
    detector = checks["face detector"]
    assert detector["ok"] or "make landmarks" in detector["remedy"]
    assert checks["finder of faces"]["ok"]
    table = doctor.table([doctor.Check(**check) for check in checks.values()])
    assert f"  ok  {place / 'run'}" in table and "->" in table
    assert max(map(len, table.splitlines())) <= 120
