"""What reconstruct and fit write: meshes, overlays, the folder of a face, the page of all."""

from __future__ import annotations

import csv
import dataclasses
import json

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from fields_jax.errors import UserError
from fields_jax.flame import flame
from fields_jax.flame.procedural import procedural_head
from fields_jax.outputs import meshes
from fields_jax.outputs.bundle import load_params, pose_heads, write_bundle
from fields_jax.outputs.overlays import paste_face, to_photograph
from fields_jax.photos import names
from fields_jax.photos.faces import Face
from fields_jax.photos.files import Unusable
from fields_jax.photos.finding import find_photographs
from fields_jax.render import project
from fields_jax.render.camera import reframe
from fields_jax.report.gallery import COLUMNS, Gallery
from tests.support.portraits import CAMERA, coefficients

META = {"version": "0", "head": {"name": "procedural", "version": "1", "sha256": "ab" * 32}}
SIZE = 48  # of the crops


@pytest.fixture(scope="module")
def head():
    return procedural_head()


@pytest.fixture(scope="module")
def results(head):
    return pose_heads(head, coefficients(2, yaw=0.3), 4)


def photograph(height=150, width=210, box=(60, 40, 140, 130), scale=1.4):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (height, width, 3), np.uint8)
    marks = rng.uniform(60, 120, (478, 2)).astype(np.float32)
    box = np.array(box, np.float32)
    return Face("photos/a b.png", "a b", image, marks, box, scale, "landmark file a b.npy")


def read_obj(text):
    """Vertices, texture coordinates, and faces as (vertex, texture) pairs, from 0."""
    rows = [line.split() for line in text.splitlines()]
    vertices = np.array([row[1:] for row in rows if row[0] == "v"], float)
    uv = np.array([row[1:] for row in rows if row[0] == "vt"], float)
    faces = [[corner.split("/") for corner in row[1:]] for row in rows if row[0] == "f"]
    return vertices, uv, np.array(faces, int) - 1


def read_ply(content):
    """Vertices and faces of a binary PLY of triangles."""
    header, body = content.split(b"end_header\n", 1)
    lines = header.decode().splitlines()
    assert lines[:2] == ["ply", "format binary_little_endian 1.0"]
    counts = [int(line.split()[2]) for line in lines if line.startswith("element")]
    vertices = np.frombuffer(body, "<f4", 3 * counts[0]).reshape(-1, 3)
    kind = [("count", "u1"), ("corners", "<i4", 3)]
    faces = np.frombuffer(body[12 * counts[0] :], kind)
    assert len(faces) == counts[1] and (faces["count"] == 3).all()
    return vertices, faces["corners"], lines


def test_meshes_are_read_back(tiny_head):
    vertices = np.array(tiny_head.template)
    text = meshes.obj(
        vertices, tiny_head.faces, tiny_head.uv, tiny_head.uv_faces[:, ::-1], "a\nhead"
    )
    assert text.startswith("# a head\n")
    found, uv, faces = read_obj(text)
    np.testing.assert_allclose(found, vertices, atol=1e-7)
    np.testing.assert_allclose(uv, tiny_head.uv, atol=1e-6)
    np.testing.assert_array_equal(faces[..., 0], tiny_head.faces)
    np.testing.assert_array_equal(faces[..., 1], tiny_head.uv_faces[:, ::-1])
    found, faces, lines = read_ply(meshes.ply(vertices, tiny_head.faces, "Kopf größer"))
    np.testing.assert_array_equal(found, vertices)
    np.testing.assert_array_equal(faces, tiny_head.faces)
    assert "comment Kopf gr??er" in lines


def test_reframed_camera_shows_the_same_elsewhere():
    points = jnp.array(np.random.default_rng(1).normal(0, 0.1, (1, 9, 3)), jnp.float32)
    camera = jnp.array([7.0, 0.02, -0.03])
    before = np.asarray(project(points, camera[None]))[0]
    after = np.asarray(project(points, reframe(camera, 1.7, jnp.array([0.3, -0.2]))[None]))[0]
    np.testing.assert_allclose(after[:, :2], 1.7 * before[:, :2] + (0.3, -0.2), atol=1e-5)
    np.testing.assert_allclose(after[:, 2], 1.7 * before[:, 2], atol=1e-5)


def test_to_photograph_undoes_the_crop():
    face = photograph()
    pixels = np.random.default_rng(0).uniform(0, 200, (50, 2))
    matrix = np.asarray(face.matrix(SIZE), np.float64)
    cropped = pixels @ matrix[:2, :2].T + matrix[:2, 2]
    back = to_photograph(2 * cropped / SIZE - 1, face.matrix(SIZE), SIZE)
    np.testing.assert_allclose(back, pixels, atol=1e-3)


@pytest.mark.parametrize("box", [(60, 40, 140, 130), (-60, -50, 60, 70)])
def test_overlay_lies_where_the_vertices_are(head, results, box):
    """Changed pixels have the bounds of the projected face mask, as far as the image goes."""
    face = photograph(box=box)
    image = np.zeros_like(face.image)
    matrix = face.matrix(SIZE)
    camera = np.array(CAMERA, np.float32)
    pasted = paste_face(image, head, results[0].vertices, camera, matrix, SIZE)
    assert pasted.shape == image.shape and not image.any()
    rows, columns = np.nonzero(pasted.any(axis=-1))
    s, tx, ty = CAMERA
    x, y, _ = results[0].vertices[np.asarray(head.face_vertices)].T.astype(float)
    extent = 1.4 * ((box[2] - box[0]) + (box[3] - box[1])) / 2
    u = (box[0] + box[2]) / 2 + extent / 2 * s * (x + tx)
    v = (box[1] + box[3]) / 2 - extent / 2 * s * (y + ty)
    for found, place, size in ((columns, u, image.shape[1]), (rows, v, image.shape[0])):
        assert found.min() == pytest.approx(max(place.min(), 0), abs=1.5)
        assert found.max() + 1 == pytest.approx(min(place.max(), size), abs=1.5)


def test_overlay_has_smooth_edges_and_leaves_the_rest(head, results):
    """On white, a pixel that the face fills is at most 0.15 + 0.85 x 0.79 of white."""
    face = photograph()
    image = np.full_like(face.image, 255)
    camera = np.array(CAMERA, np.float32)
    pasted = paste_face(image, head, results[0].vertices, camera, face.matrix(SIZE), SIZE)
    assert (pasted[:, :30] == 255).all() and (pasted[..., 0] == pasted[..., 2]).all()
    filled, bare = pasted[..., 0] <= 210, pasted[..., 0] == 255
    assert filled.sum() > 2000 and bare.sum() > 2000
    assert (~filled & ~bare).sum() > 100  # the outline is longer than that


def test_overlay_of_a_face_outside_is_the_photograph(head, results):
    face = photograph(box=(1000, 1000, 1100, 1100))
    camera = np.array(CAMERA, np.float32)
    arguments = (face.image, head, results[0].vertices, camera, face.matrix(SIZE), SIZE)
    np.testing.assert_array_equal(paste_face(*arguments), face.image)


def test_bundle_of_a_face(head, results, tmp_path):
    face = photograph()
    meta = META | {"weights": {"workdir": "runs/x", "step": 7}}
    result = dataclasses.replace(results[1], emotion={"emotion": "happy"}, residual=0.25)
    write_bundle(tmp_path / "f", face, head, result, size=SIZE, meta=meta)
    assert {path.name for path in (tmp_path / "f").iterdir()} == set(names.OF_A_FACE)
    assert find_photographs([str(tmp_path)])[0] == []  # results are no photographs
    assert Image.open(tmp_path / "f/overlay.png").size == (210, 150)
    assert Image.open(tmp_path / "f/geometry.png").size == (640, 320)
    assert json.loads((tmp_path / "f/emotion.json").read_text()) == {"emotion": "happy"}

    arrays, about = load_params(tmp_path / "f/params.npz")
    assert about == meta | {
        "image": "photos/a b.png",
        "face": "a b",
        "found": "landmark file a b.npy",
    }
    with np.load(tmp_path / "f/params.npz", allow_pickle=False) as stored:
        conventions = json.loads(str(stored["conventions"]))
        assert set(conventions) == set(stored.files) - {"conventions"}
    expected = flame(head, coefficients(1, yaw=0.3))
    np.testing.assert_allclose(arrays["vertices"], expected.vertices[0], atol=1e-6)
    np.testing.assert_allclose(arrays["landmarks_68"], expected.landmarks_68[0], atol=1e-6)
    assert arrays["residual"] == 0.25 and arrays["camera"].tolist() == pytest.approx(CAMERA)
    assert arrays["image_size"].tolist() == [150, 210] and arrays["crop_size"] == SIZE
    np.testing.assert_array_equal(arrays["points"], face.points)
    # The projected nose tip by hand: crop centre (100, 85), side 1.4 x 85.
    s, tx, ty = CAMERA
    x, y, _ = arrays["landmarks_68"][30]
    by_hand = 100 + 59.5 * s * (x + tx), 85 - 59.5 * s * (y + ty)
    np.testing.assert_allclose(arrays["landmarks_68_image"][30], by_hand, atol=1e-3)

    comment = (tmp_path / "f/mesh.obj").read_text().splitlines()[0]
    assert "procedural 1 sha256 abababababab; weights runs/x step 7" in comment
    vertices, faces, lines = read_ply((tmp_path / "f/mesh.ply").read_bytes())
    np.testing.assert_array_equal(vertices, arrays["vertices"])
    np.testing.assert_array_equal(faces, head.faces)
    assert f"comment {comment[2:]}" in lines


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


NAMED = (
    *("a", "a", "A", "a/b", "a/overlay.png", "a/overlay", "params.npz", "index.html"),
    *("summary.csv/x", "..", "../../up", "dot.", "dot", "x_0", "a\x1b\n\udce9", "." * 300),
)


def test_every_face_has_a_folder_of_its_own_whatever_it_is_called(
    head, results, tmp_path, monkeypatch
):
    monkeypatch.setattr(meshes, "obj", lambda *_: "")  # only where they go is looked at
    monkeypatch.setattr(meshes, "ply", lambda *_: b"")
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
        assert files == set(names.OF_A_FACE) - {"emotion.json"}
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


def test_results_that_are_none_are_named(tmp_path):
    np.savez(tmp_path / "params.npz", camera=np.zeros(3), conventions="{}")
    with pytest.raises(UserError, match=r"params.npz is no params.npz of this program: no meta"):
        load_params(tmp_path / "params.npz")
    np.savez(tmp_path / "params.npz", meta="[1]", conventions="{}")
    with pytest.raises(UserError, match=r"params.npz: meta holds a JSON list"):
        load_params(tmp_path / "params.npz")
