"""Files that reconstruct and fit write for a face: meshes, overlays, its folder."""

from __future__ import annotations

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
from fields_jax.outputs.bundle import Bundle, judged, load_params, pose_heads
from fields_jax.outputs.overlays import paste_face
from fields_jax.outputs.writers import WRITERS, write_bundle
from fields_jax.photos import names
from fields_jax.photos.crops import to_photograph
from fields_jax.photos.faces import Finder
from fields_jax.photos.finding import find_photographs
from fields_jax.render import project
from fields_jax.render.camera import reframe
from tests.support.portraits import CAMERA, META, SIZE, coefficients, photograph


@pytest.fixture(scope="module")
def head():
    return procedural_head()


@pytest.fixture(scope="module")
def results(head):
    return pose_heads(head, coefficients(2, yaw=0.3), 4)


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
    result = judged(face, result, SIZE, Finder("blind", lambda image: []))
    written = write_bundle(tmp_path / "f", Bundle(face, head, result, SIZE, meta))
    assert written == [name for name in WRITERS if name != "expression.png"]  # none is worn
    assert {path.name for path in (tmp_path / "f").iterdir()} == set(written)
    assert set(WRITERS) == set(names.OF_A_FACE)
    assert find_photographs([str(tmp_path)])[0] == []  # results are no photographs
    with Image.open(tmp_path / "f/overlay.png") as picture:
        assert picture.size == (210, 150)
    with Image.open(tmp_path / "f/geometry.png") as picture:
        assert picture.size == (640, 320)
    assert json.loads((tmp_path / "f/emotion.json").read_text()) == {"emotion": "happy"}
    doubts = json.loads((tmp_path / "f/confidence.json").read_text())
    assert doubts["verdict"] == "fail" and doubts["expected_error"] == 0.25
    assert doubts["reasons"][0] == "the finder sees no face there"

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
    # Written again without a reading of emotion, none of the earlier one is left.
    result = dataclasses.replace(result, emotion=None)
    assert "emotion.json" not in write_bundle(
        tmp_path / "f", Bundle(face, head, result, SIZE, meta)
    )
    assert not (tmp_path / "f/emotion.json").exists()


def test_a_format_is_added_by_one_writer(head, results, tmp_path, monkeypatch):
    bundle = Bundle(photograph(), head, results[0], SIZE, META)
    before = write_bundle(tmp_path / "before", bundle)
    missing = ("emotion.json", "confidence.json", "expression.png")
    assert before == [n for n in WRITERS if n not in missing]
    monkeypatch.setitem(WRITERS, "mesh.csv", lambda b: f"{len(b.result.vertices)} \u00e9\n")
    monkeypatch.setitem(WRITERS, "never.txt", lambda b: None)
    assert write_bundle(tmp_path / "after", bundle) == [*before, "mesh.csv"]
    files = {path.name: path.read_bytes() for path in (tmp_path / "after").iterdir()}
    assert files.pop("mesh.csv") == f"{len(head.template)} \u00e9\n".encode()
    assert files == {path.name: path.read_bytes() for path in (tmp_path / "before").iterdir()}


def test_every_file_of_a_face_has_its_name_reserved():
    """No folder may be called so, and its pictures are no photographs."""
    assert set(WRITERS) == set(names.OF_A_FACE)
    assert names.OF_A_FACE[0] == "params.npz"


def test_results_that_are_none_are_named(tmp_path):
    np.savez(tmp_path / "params.npz", camera=np.zeros(3), conventions="{}")
    with pytest.raises(UserError, match=r"params.npz is no params.npz of this program: no meta"):
        load_params(tmp_path / "params.npz")
    np.savez(tmp_path / "params.npz", meta="[1]", conventions="{}")
    with pytest.raises(UserError, match=r"params.npz: meta holds a JSON list"):
        load_params(tmp_path / "params.npz")
