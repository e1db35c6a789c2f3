"""Layouts for trainers of avatars, read back as their public descriptions say."""

from __future__ import annotations

import io
import json
import pickle
import zipfile

import jax
import numpy as np
import pytest
from etils import epath
from PIL import Image

from fields_jax.flame import flame
from fields_jax.flame.procedural import procedural_head
from fields_jax.outputs.trainers.layout import parted
from fields_jax.outputs.trainers.metrical_tracker import write_metrical_tracker
from fields_jax.outputs.trainers.shots import Job, Shot
from fields_jax.outputs.trainers.torch_save import torch_bytes
from fields_jax.outputs.trainers.vhap import write_vhap
from fields_jax.photos.crops import to_photograph
from fields_jax.types import FlameCoefficients
from tests.support.bundles import bundle_of, random_coefficients
from tests.support.portraits import photograph

STEPS = 2


@pytest.fixture(scope="module")
def head():
    return procedural_head()


@pytest.fixture(scope="module")
def exported(head, tmp_path_factory):
    """The folder, where our camera sees the vertices [T, V, 2], and what the writers say."""
    folder = epath.Path(tmp_path_factory.mktemp("trainers"))
    faces = random_coefficients(head, STEPS)
    # Open lids, which VHAP's layout has no room for, and no neck, which the other has none for.
    faces = faces.replace(eyelid=0 * faces.eyelid, neck=None)
    shots, pixels = [], []
    for step in range(STEPS):
        one = jax.tree.map(lambda column, step=step: column[step : step + 1], faces)
        bundle = bundle_of(head, one, photograph(box=(60 + 40 * step, 40, 140 + 40 * step, 130)))
        shots.append(
            Shot(bundle.face.image, bundle.result.coefficients, bundle.matrix, bundle.size)
        )
        pixels.append(to_photograph(bundle.result.vertices_ndc, bundle.matrix, bundle.size))
    job = Job(head, 10.0, {})
    said = {
        "vhap": write_vhap(folder / "vhap", shots, job),
        "tracker": write_metrical_tracker(folder / "tracker", iter(shots), job),
    }
    return folder, np.stack(pixels), said


def posed(head, **known):
    """Vertices of FLAME's parameters, by our FLAME, which other tests compare with FLAME's code."""
    rest = dict(eyelid=np.zeros((1, 2)), pose=np.zeros((1, 3)), camera=np.ones((1, 3)))
    arrays = {name: np.asarray(value, np.float32) for name, value in (rest | known).items()}
    return np.asarray(flame(head, FlameCoefficients(**arrays)).vertices[0], np.float64)


def test_vhap_is_read_back_and_projected(exported, head):
    folder, pixels, said = exported
    table = json.loads((folder / "vhap/transforms.json").read_text())
    assert [frame["timestep_index"] for frame in table["frames"]] == [0, 1]
    for step, frame in enumerate(table["frames"]):
        codes = np.load(folder / "vhap" / frame["flame_param_path"])
        assert codes["expr"].shape == (1, 100) and codes["shape"].shape == (300,)
        assert codes["static_offset"].shape == (1, *head.template.shape)
        names = dict(neck="neck_pose", jaw="jaw_pose", eyes="eyes_pose", pose="rotation")
        vertices = posed(
            head,
            shape=codes["shape"][None],
            expression=codes["expr"],
            **{ours: codes[theirs] for ours, theirs in names.items()},
        )
        to_world = np.array(frame["transform_matrix"])
        # OpenGL's axes to those of a picture: x right, y down, z forward.
        to_world[:3, 1:3] *= -1
        to_camera = np.linalg.inv(to_world)
        seen = (vertices + codes["translation"]) @ to_camera[:3, :3].T + to_camera[:3, 3]
        x, y = (seen[:, :2] / seen[:, 2:]).T
        u, v = frame["fl_x"] * x + frame["cx"], frame["fl_y"] * y + frame["cy"]
        off = np.linalg.norm(np.stack([u, v], axis=1) - pixels[step], axis=1)
        off = off[np.asarray(head.face_vertices)]
        assert off.max() < 1
        np.testing.assert_allclose([off.mean(), off.max()], said["vhap"][step], atol=1e-3)
        tangent = np.tan(frame["camera_angle_x"] / 2)
        np.testing.assert_allclose(frame["w"] / (2 * frame["fl_x"]), tangent)
    # The heads are about the origin, and one camera stands still.
    places = [np.load(folder / f"vhap/flame_param/0000{k}.npz")["translation"] for k in range(2)]
    np.testing.assert_allclose(np.mean(places, axis=0), 0, atol=1e-6)
    assert table["frames"][0]["transform_matrix"] == table["frames"][1]["transform_matrix"]
    rest = np.load(folder / "vhap/canonical_flame_param.npz")
    assert rest["jaw_pose"].tolist() == [[pytest.approx(0.3), 0, 0]] and not rest["expr"].any()
    assert rest["shape"].any()


def test_pictures_and_masks_are_those_of_the_head(exported, head):
    folder, pixels, _ = exported
    for step in range(STEPS):
        name = f"0000{step}_00.png"
        picture = np.asarray(Image.open(folder / "vhap/images" / name))
        np.testing.assert_array_equal(picture, photograph().image)
        mask = np.asarray(Image.open(folder / "vhap/fg_masks" / name))
        assert mask.shape == (150, 210)
        other = np.asarray(Image.open(folder / f"tracker/seg_mask/0000{step}.png"))
        np.testing.assert_array_equal(mask, other)
        # A vertex in the picture lies on the mask or, at the outline, within a pixel of it.
        rows = np.round(pixels[step] - 0.5).astype(int)[:, ::-1]
        inside = ((rows > 0) & (rows < (149, 209))).all(axis=1)
        near = [mask[i - 1 : i + 2, j - 1 : j + 2].max() for i, j in rows[inside]]
        assert np.mean(near) > 254 and min(near) > 60
        low, high = pixels[step].min(axis=0), pixels[step].max(axis=0)
        shown = np.argwhere(mask > 127)[:, ::-1]
        assert (shown.min(axis=0) >= np.maximum(low, 0) - 1.5).all()
        assert (shown.max(axis=0) <= np.minimum(high, (209, 149)) + 1.5).all()


def load(file):
    """A file of torch.save without tensors, by zipfile and pickle."""
    with zipfile.ZipFile(io.BytesIO(file.read_bytes())) as archive:
        assert {"archive/data.pkl", "archive/version"} <= set(archive.namelist())
        content = archive.read("archive/data.pkl")
    assert b"numpy._core" not in content and b"numpy.core.multiarray" in content
    return pickle.loads(content.replace(b"numpy.core.", b"numpy._core."))


def six_back(values):
    """The rotation whose first two rows are given, as axis-angle."""
    from fields_jax.geometry.rotations import vector_of

    a, b = np.float64(values[:3]), np.float64(values[3:])
    return vector_of(np.stack([a, b, np.cross(a, b)]))[None]


def ply_vertices(content):
    header, _, body = content.partition(b"end_header\n")
    count = int(header.split(b"element vertex ")[1].split()[0])
    return np.frombuffer(body, "<f4", 3 * count).reshape(-1, 3)


def test_metrical_tracker_is_read_back_and_projected(exported, head):
    folder, pixels, said = exported
    table = json.loads((folder / "tracker/transforms.json").read_text())
    for step, frame in enumerate(table["frames"]):
        known = load(folder / f"tracker/checkpoint/0000{step}.frame")
        assert known["frame_id"] == f"0000{step}" and known["img_size"].tolist() == [150, 210]
        codes = known["flame"]
        assert codes["exp"].shape == (1, 100) and codes["shape"].shape == (1, 300)
        vertices = posed(
            head,
            shape=codes["shape"],
            expression=codes["exp"],
            eyelid=codes["eyelids"],
            jaw=six_back(codes["jaw"][0]),
            eyes=np.concatenate([six_back(codes["eyes"][0, k : k + 6]) for k in (0, 6)], axis=1),
        )
        mesh = ply_vertices((folder / "tracker" / frame["mesh_path"]).read_bytes())
        np.testing.assert_allclose(mesh, vertices, atol=2e-6)
        R, t, K = (known["opencv"][name][0].astype(np.float64) for name in "RtK")
        seen = (mesh @ R.T + t) @ K.T
        seen = seen[:, :2] / seen[:, 2:]
        off = np.linalg.norm(seen - pixels[step], axis=1)[np.asarray(head.face_vertices)]
        assert off.max() < 1
        np.testing.assert_allclose([off.mean(), off.max()], said["tracker"][step], atol=0.01)
        # The same by PyTorch3D's rules: points times R, x left, y up, half smaller sides.
        a, b = known["camera"]["R"][0, :3], known["camera"]["R"][0, 3:]
        across = mesh @ np.stack([a, b, np.cross(a, b)]) + known["camera"]["t"]
        ndc = known["camera"]["fl"][0] * across[:, :2] / across[:, 2:]
        screen = np.array([105, 75]) - ndc * 75
        np.testing.assert_allclose(screen, seen, atol=0.02)
        # INSTA's script leaves OpenCV's axes in the matrix.
        camera = np.linalg.inv(frame["transform_matrix"])
        np.testing.assert_allclose(camera[:3], np.column_stack([R, t]), atol=1e-6)
        lines = (folder / "tracker" / frame["exp_path"]).read_text().split()
        np.testing.assert_allclose(np.float64(lines), codes["exp"][0], atol=1e-7)
        assert (folder / "tracker" / frame["file_path"]).exists()
    assert table["fl_x"] == 2100 and (table["w"], table["h"]) == (210, 150)
    rest = (folder / "tracker/canonical.obj").read_text()
    assert rest.count("\nv ") == len(head.template)


def test_lids_are_what_vhap_has_no_room_for(head, tmp_path):
    """And the writer says so in pixels."""
    faces = random_coefficients(head, 1)
    bundle = bundle_of(head, faces.replace(eyelid=np.ones((1, 2), np.float32)))
    shot = Shot(bundle.face.image, bundle.result.coefficients, bundle.matrix, bundle.size)
    mean, most = write_vhap(epath.Path(tmp_path), [shot], Job(head, 10.0, {}))[0]
    lids = np.abs(np.asarray(head.eyelid_basis)[..., :2]).max()
    pixels = lids * bundle.result.coefficients["camera"][0] * bundle.size / 2 / bundle.matrix[0, 0]
    assert mean < 1 and 0.5 * pixels < most < 2 * pixels


def test_parts_of_a_set():
    assert {k: list(v) for k, v in parted(1).items()} == {
        "": [0],
        "_train": [0],
        "_val": [0],
        "_test": [0],
    }
    long = parted(25)
    assert list(long["_train"]) == list(range(23)) and list(long["_test"]) == [23, 24]


def test_the_same_content_gives_the_same_file_which_torch_reads(tmp_path):
    value = {"flame": {"exp": np.arange(3, dtype=np.float32)[None]}, "frame_id": "00007"}
    content = torch_bytes(value)
    assert content == torch_bytes(value)
    (tmp_path / "a.frame").write_bytes(content)
    torch = pytest.importorskip("torch", reason="the extra `parity` is not installed")
    found = torch.load(tmp_path / "a.frame", weights_only=False)
    np.testing.assert_array_equal(found["flame"]["exp"], value["flame"]["exp"])
    assert found["frame_id"] == "00007"
