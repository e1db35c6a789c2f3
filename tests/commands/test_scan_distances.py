"""scan_to_mesh and now as a user types them."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from fields_jax import now as now_command
from fields_jax import scan_to_mesh
from fields_jax.evaluation import now, scan_distance, units
from fields_jax.flame.io import resolve_head
from fields_jax.outputs.meshes import ply
from tests.support.now_tree import (
    CHALLENGE,
    SUBJECT,
    face,
    moved,
    write_images,
    write_prediction,
    write_scan,
)

SCAN = f"scans/{SUBJECT}/natural.obj"
PICKED = f"scans_lmks_onlypp/{SUBJECT}/natural_picked_points.pp"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A NoW data set, a prediction in its frame and one that moved."""
    folder = tmp_path_factory.mktemp("scans")
    mesh, landmarks = face(offset=0.001)
    write_scan(folder)
    write_images(folder, f"{SUBJECT}/{CHALLENGE}/A.jpg", f"{SUBJECT}/{CHALLENGE}/B.jpg")
    write_prediction(folder / "predicted", "A", mesh, landmarks)
    (folder / "moved.ply").write_bytes(ply(moved(face()[0].vertices), mesh.faces, "moved"))
    np.save(folder / "moved.npy", moved(landmarks))
    np.savetxt(folder / "six.txt", landmarks[:6])
    (folder / "none.obj").write_text("")
    (folder / "nan.obj").write_text("v 0 0 nan\n")
    return folder


def test_choices_are_those_of_the_modules():
    assert scan_to_mesh._ALIGNMENTS == scan_distance.ALIGNMENTS
    assert tuple(units.UNITS) == scan_to_mesh._UNITS
    assert now_command._CHALLENGES == now.CHALLENGES


def test_a_millimetre_in_the_given_frame(folder, command, tmp_path, capsys):
    given = [f"--mesh={folder}/predicted/{SUBJECT}/{CHALLENGE}/A.ply", f"--scan={folder}/{SCAN}"]
    crop = ["--crop", f"--landmarks={folder}/moved.npy,{folder}/{PICKED}"]
    out = tmp_path / "new" / "a.json"
    assert command("fields_jax.scan_to_mesh", [*given, *crop, f"--json={out}"]) == 0
    assert "alignment none: median 1.000 mm" in capsys.readouterr().out
    report = json.loads(out.read_text())
    assert report["distance_mm"]["mean"] == pytest.approx(1, rel=0.05)
    assert report["alignment"]["scale"] == 1 and report["scan"]["cropped"]


def test_a_moved_mesh_has_no_distance_after_alignment(folder, command, tmp_path):
    out = tmp_path / "a.json"
    given = [
        f"--mesh={folder}/moved.ply",
        f"--scan={folder}/{SCAN}",
        "--alignment=rigid",
        f"--landmarks={folder}/moved.npy,{folder}/{PICKED}",
    ]
    assert command("fields_jax.scan_to_mesh", [*given, f"--json={out}"]) == 0
    assert json.loads(out.read_text())["distance_mm"]["mean"] < 1e-4


def test_regions_of_a_head_are_scored(command, tmp_path, capsys):
    head = resolve_head("")
    vertices, face = np.asarray(head.template), np.asarray(head.face_vertices)[::2]
    spots = vertices[face[:: len(face) // 7][:7]]
    (tmp_path / "mesh.ply").write_bytes(ply(vertices, np.asarray(head.faces), "mesh"))
    (tmp_path / "scan.ply").write_bytes(ply(moved(vertices[face]), np.array([[0, 1, 2]]), "scan"))
    np.save(tmp_path / "a.npy", spots)
    np.save(tmp_path / "b.npy", moved(spots))
    given = [f"--mesh={tmp_path}/mesh.ply", f"--scan={tmp_path}/scan.ply", "--scan_unit=m"]
    given += ["--alignment=rigid", f"--landmarks={tmp_path}/a.npy,{tmp_path}/b.npy", "--regions"]
    assert command("fields_jax.scan_to_mesh", [*given, f"--json={tmp_path}/a.json"]) == 0
    said = capsys.readouterr().out
    assert "nose: mean 0.000 mm aligned by itself" in said
    assert "mean of the regions: 0.000 mm" in said
    found = json.loads((tmp_path / "a.json").read_text())["regions_mm"]
    assert list(found) == ["nose", "mouth", "forehead", "cheek", "mean"]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("", "--mesh is missing"),
        ("--mesh={0}/moved.ply", "--scan is missing"),
        ("--mesh={0}/x.ply --scan={0}/{1}", "x.ply"),
        ("--mesh={0}/{1} --scan={0}/{1}", "no faces"),
        ("--mesh={0}/none.obj --scan={0}/{1}", "empty"),
        ("--mesh={0}/moved.ply --scan={0}/nan.obj", "not finite"),
        ("--mesh={0}/moved.ply --scan={0}/{1} --scan_unit=m", "--scan_unit=mm ("),
        ("--mesh={0}/moved.ply --scan={0}/{1} --mesh_unit=mm", "--mesh_unit=m ("),
        ("--mesh={0}/moved.ply --scan={0}/{1} --alignment=rigid", "needs landmarks"),
        ("--mesh={0}/moved.ply --scan={0}/{1} --crop", "--crop needs landmarks"),
        ("--mesh={0}/moved.ply --scan={0}/{1} --crop --landmarks={0}/{2}", "takes two files"),
        ("--mesh={0}/moved.ply --scan={0}/{1} --crop --landmarks={0}/six.txt,{0}/{2}", "7 are"),
        (
            "--mesh={0}/moved.ply --scan={0}/{1} --alignment=rigid --landmarks={0}/six.txt,{0}/{2}",
            "must be the same points",
        ),
        ("--mesh={0}/moved.ply --scan={0}/{1} --regions", "name --alignment=rigid or similarity"),
        (
            "--mesh={0}/moved.ply --scan={0}/{1} --regions --alignment=rigid "
            "--landmarks={0}/moved.npy,{0}/{2}",
            "name the head of the mesh with --head=HEAD.npz",
        ),
    ],
)
def test_mistakes_are_one_line_that_names_the_remedy(folder, command, capsys, line, said):
    given = [part.format(folder, SCAN, PICKED) for part in line.split()]
    assert command("fields_jax.scan_to_mesh", given) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: ") and told.count("\n") == 1 and said in told


def test_now_scores_and_draws(folder, command, tmp_path, capsys):
    given = [f"--data={folder}", f"--predictions={folder}/predicted", f"--out={tmp_path}"]
    assert command("fields_jax.now", [*given, "--metrical"]) == 0
    said = capsys.readouterr().out
    assert "1 of 2 photographs have no mesh" in said and f"{SUBJECT}/{CHALLENGE}/B" in said
    assert "NoW, metrical, 1 photographs: median 0.0" in said
    scores = json.loads((tmp_path / "now.json").read_text())
    assert scores["missing"] == 1 and len(scores["cumulative"]["share"]) == 161
    names = {file.name for file in tmp_path.iterdir()}
    assert names == {"now.json", "images.csv", "cumulative.csv", "cumulative.png"}
    with Image.open(tmp_path / "cumulative.png") as picture:
        assert picture.size[0] > 600


@pytest.mark.parametrize(
    "line",
    [
        "",
        "--predictions={0}",
        "--predictions={0} --data={0}",
        "--predictions={0} --data={0}/none --out={0}/out",
        "--predictions={0}/none --data={0} --out={0}/out",
        "--predictions={0}/predicted --data={0} --out={0}/out --challenge=other",
        "--predictions={0}/predicted --data={0} --out={0}/out --challenge=selfie",
        "--predictions={0}/predicted --data={0} --out={0}/out --images={0}/six.txt",
        "--predictions={0}/predicted --data={0} --out={0}/out --metrical --mesh_unit=cm",
        "--predictions={0}/new --reconstructions={0} --head={0}/none.npz",
    ],
)
def test_mistakes_of_now_are_one_line(folder, command, capsys, line):
    assert command("fields_jax.now", line.format(folder).split()) == 2
    told = [each for each in capsys.readouterr().err.splitlines() if "/s, " not in each]
    assert len(told) == 1 and told[0].startswith("error: ") and len(told[0]) > len("error: ")
