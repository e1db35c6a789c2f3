"""GLBs of faces, as a reader of our own and Khronos' validator see them."""

from __future__ import annotations

import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from fields_jax import arkit
from fields_jax.errors import UserError
from fields_jax.flame import flame, lbs
from fields_jax.flame.procedural import procedural_head
from fields_jax.geometry.rotations import rodrigues
from fields_jax.outputs.glb import Frames, glb, person_of, strongest
from fields_jax.outputs.gltf import quaternions
from fields_jax.outputs.morphs import choose_morphs, state_of, targets
from fields_jax.outputs.texture import Texture
from fields_jax.types import JOINTS, FlameCoefficients
from tests.support.bundles import bundle_of, random_coefficients
from tests.support.gltf_reader import Glb
from tests.support.gltf_validator import issues, why_absent
from tests.support.heads import with_joints

EXACT = 1e-5  # metres: float32 and what targets leave out
_SIDE = 32


def with_texture(bundle):
    """The bundle with a small texture in place of one that is baked."""
    rng = np.random.default_rng(0)
    color = rng.integers(0, 256, (_SIDE, _SIDE, 3), np.uint8)
    vars(bundle)["texture"] = Texture(color, np.zeros_like(color))
    return bundle


@pytest.fixture(scope="module")
def plain(tiny_head):
    """A random head whose vertices have four joints each, without pose correctives."""
    weights = np.array(tiny_head.skin_weights)
    weights[np.arange(len(weights)), np.arange(len(weights)) % 5] = 0
    weights /= weights.sum(1, keepdims=True)
    return tiny_head.replace(skin_weights=weights, pose_basis=tiny_head.pose_basis[..., :0])


@pytest.fixture(scope="module")
def two_materials(plain):
    """The same with materials of its own, half of the triangles each."""
    rows = np.arange(len(plain.faces)) % 2
    return plain.replace(materials=rows.astype(np.int32), material_names=("M_Face", "M_Eyes"))


@pytest.fixture(scope="module")
def moving(plain):
    return random_coefficients(plain, 3)


@pytest.fixture(scope="module")
def face(plain, moving):
    return with_texture(bundle_of(plain, moving))


@pytest.fixture(scope="module")
def procedural():
    """The embedded head with a face that has ARKit's names."""
    head = procedural_head()
    rest = random_coefficients(head, 2, seed=3)
    return with_texture(bundle_of(head, rest)), rest


@jax.jit
def linear_blend(head, shape, moved, rotations):
    """[V, 3] of FLAME's equations, of a neutral person moved by [V, 3] and joints turned."""
    neutral = head.template[None] + lbs.blend_shapes(shape[None], head.shape_basis)
    joints = lbs.regress_joints(neutral, head.joint_regressor)
    world, translation, _ = lbs.rigid_chain(rodrigues(rotations)[None], joints, head.parents)
    return lbs.skin(neutral + moved[None], world, translation, head.skin_weights)[0]


def expected_corners(head, shape, kind, weights, rotations):
    """What `linear_blend` gives, at the corners of the file."""
    moved = sum(w * each for w, (_, each) in zip(weights, targets(head, kind, 6), strict=True))
    points = linear_blend(head, jnp.asarray(shape), np.float32(moved), jnp.asarray(rotations))
    return np.asarray(points)[person_of(head, np.asarray(shape)).rows]


def check_against_flame(bundle, kind, most):
    """At rest, and with three random sets of weights and turns of all joints but the root."""
    head, shape = bundle.head, bundle.result.coefficients["shape"]
    read = Glb(glb(bundle, kind))
    names = read.mesh["extras"]["targetNames"]
    rng = np.random.default_rng(7)
    still = {"head_pose": {"rotation": (0, 0, 0, 1), "translation": (0, 0, 0)}}
    nodes = {read.node(name): properties for name, properties in still.items()}
    for seed in range(4):
        weights = rng.uniform(0, most, len(names)) * (seed > 0)
        turns = rng.normal(0, 0.2, (len(head.joint_names), 3)).astype(np.float32) * (seed > 0)
        turns[0] = 0
        rotations = dict(zip(head.joint_names, quaternions(turns), strict=True))
        found = read.vertices(weights, rotations, nodes)
        expected = expected_corners(head, shape, kind, weights, turns)
        np.testing.assert_allclose(found, expected, atol=EXACT)
        if not seed:
            neutral = np.asarray(head.template) + head.shape_basis[..., : len(shape)] @ shape
            rows = person_of(head, shape).rows
            np.testing.assert_allclose(found, neutral[rows], atol=1e-6)
    return read


def test_own_movements_are_those_of_flame(face):
    read = check_against_flame(face, "expression", 2.0)
    names = read.mesh["extras"]["targetNames"]
    expected = ["first", "second", *(f"expression_{k:03d}" for k in range(2, 6))]
    assert names == [*expected, "eyelid_left", "eyelid_right"]
    assert read.json["asset"]["extras"]["morphs"] == "expression"


def test_arkits_movements_are_those_of_the_head(procedural):
    bundle, _ = procedural
    read = check_against_flame(bundle, "arkit", 1.0)
    assert read.mesh["extras"]["targetNames"] == list(arkit.NAMES)
    content = glb(bundle, "arkit")
    assert len(content) < 8e6 and content == glb(bundle)
    assert {each["name"] for each in read.json["materials"]} == {"skin", "eyes", "gums"}


def test_a_file_shows_the_face_of_the_photograph(plain, moving):
    """Weights, turns and the node of the pose: where lids are open it is FLAME's head.

    FLAME's joints follow the expression, those of the file do not: the regressor of a random head
    takes them centimetres away, so here it looks at vertices that no expression moves.
    """
    regressor = np.zeros_like(plain.joint_regressor)
    regressor[np.arange(5), np.arange(5)] = 1
    basis = np.array(plain.expression_basis)
    basis[:5] = 0
    head = plain.replace(joint_regressor=regressor, expression_basis=basis)
    bundle = with_texture(bundle_of(head, moving.replace(eyelid=np.zeros((3, 2), np.float32))))
    read = Glb(glb(bundle))
    _, tx, ty = bundle.result.coefficients["camera"]
    rows = person_of(head, bundle.result.coefficients["shape"]).rows
    posed = bundle.result.vertices[rows] + np.array([tx, ty, 0])
    np.testing.assert_allclose(read.vertices(), posed, atol=EXACT)


def test_the_camera_lies_over_the_photograph(face):
    """Points through the file's camera fall on the pixels that params.npz gives them."""
    read = Glb(glb(face))
    camera = read.json["cameras"][0]["orthographic"]
    height, width = face.face.image.shape[:2]
    points = face.result.vertices + np.append(face.result.coefficients["camera"][1:], 0)
    seen = points - read.place("photograph_camera")[:3, 3]
    x = (seen[:, 0] / camera["xmag"] + 1) * width / 2
    y = (1 - seen[:, 1] / camera["ymag"]) * height / 2
    zoom = 1.4 * 85  # of photograph(): the side of its crop, about (100, 85)
    ndc = face.result.vertices_ndc
    by_hand = np.stack([100 + zoom * ndc[:, 0] / 2, 85 + zoom * ndc[:, 1] / 2], axis=1)
    np.testing.assert_allclose(np.stack([x, y], axis=1), by_hand, atol=1e-3)
    assert np.all((-seen[:, 2] > camera["znear"]) & (-seen[:, 2] < camera["zfar"]))


def test_arkits_weights_are_those_of_the_face(procedural):
    """They are near the true displacement, hold jaw and eyes, and clips have them in each frame."""
    bundle, coefficients = procedural
    frames = Frames(np.array([3.0, 3.5]), coefficients)
    read = Glb(glb(bundle, frames=frames))
    assert read.json["asset"]["extras"]["morphs_error_mm"] < 3
    weights = dict(zip(arkit.NAMES, read.mesh["weights"], strict=True))
    assert weights["jawOpen"] > 0.02 and max(weights.values()) <= 1
    for name in ("jaw", "left_eye", "right_eye"):
        assert "rotation" not in read.json["nodes"][read.node(name)]
    assert "rotation" in read.json["nodes"][read.node("neck")]
    first, _ = read.moment(0)
    np.testing.assert_allclose(first, read.mesh["weights"], atol=1e-3)


def test_a_clip_shows_each_frame(face, moving):
    """At its times the animated nodes and weights are those of a file of that frame alone."""
    times = np.array([10.0, 10.04, 10.2])
    read = Glb(glb(face, frames=Frames(times, moving)))
    (clip,) = read.json["animations"]
    clocks = {sampler["input"] for sampler in clip["samplers"]}
    assert len(clocks) == 1
    np.testing.assert_allclose(read.array(clocks.pop()), times - 10, atol=1e-6)
    for row in range(3):
        weights, nodes = read.moment(row)
        state = state_of(face.head, "expression", moving)
        np.testing.assert_allclose(weights, state.weights[row], atol=1e-6)
        turns = dict(zip(JOINTS, state.turns[row], strict=True))
        rotations = {name: quaternions(turn) for name, turn in turns.items()}
        pose = {read.node("head_pose"): nodes[read.node("head_pose")]}
        expected = read.vertices(state.weights[row], rotations, pose)
        np.testing.assert_allclose(read.vertices(weights, nodes=nodes), expected, atol=EXACT)
    np.testing.assert_allclose(read.vertices(*_moment(read, 0)), read.vertices(), atol=EXACT)


def test_frames_of_another_face_are_refused(face, moving):
    fewer = moving.replace(expression=moving.expression[:, :-1])
    with pytest.raises(ValueError, match="other numbers of expression components"):
        glb(face, frames=Frames(np.arange(3.0), fewer))


def _moment(read, row):
    weights, nodes = read.moment(row)
    return weights, None, nodes


def test_a_face_that_comes_nearer_keeps_its_size_and_place(plain, face, moving):
    """The camera of frame 1 is twice as large: the middle of the face is where it is seen."""
    camera = np.array(moving.camera)
    camera[1] = [2 * camera[0, 0], 0.02, -0.03]
    pose = np.repeat(moving.pose[:1], 3, axis=0)
    read = Glb(glb(face, frames=Frames(np.arange(3.0), moving.replace(camera=camera, pose=pose))))
    middle = person_of(plain, face.result.coefficients["shape"]).middle
    turn, root = rodrigues(jnp.asarray(pose[0])), np.zeros(3)
    root = person_of(plain, face.result.coefficients["shape"]).joints[0]
    placed = np.asarray(turn) @ (middle - root) + root
    moment = read.moment(1)[1][read.node("head_pose")]
    np.testing.assert_allclose(moment["rotation"], quaternions(pose[0]), atol=1e-6)
    shift = np.asarray(turn) @ middle + moment["translation"]
    np.testing.assert_allclose(shift[:2], 2 * (placed[:2] + camera[1, 1:]), atol=1e-5)


def test_materials_share_vertices_and_the_picture(two_materials, moving):
    bundle = with_texture(bundle_of(two_materials, moving))
    read = Glb(glb(bundle))
    assert [each["name"] for each in read.json["materials"]] == ["M_Face", "M_Eyes"]
    rows = person_of(two_materials, bundle.result.coefficients["shape"]).rows
    faces = np.asarray(two_materials.faces)
    found = rows[read.triangles]
    np.testing.assert_array_equal(found, np.concatenate([faces[::2], faces[1::2]]))
    uv = np.asarray(two_materials.uv)[np.asarray(two_materials.uv_faces)[::2]]
    stored = read.attribute("TEXCOORD_0")[read.triangles[: len(uv)]]
    np.testing.assert_allclose(stored, uv * (1, -1) + (0, 1), atol=1e-6)
    (image,) = read.json["images"]
    with Image.open(io.BytesIO(read.view(image["bufferView"]))) as picture:
        assert picture.format == "JPEG" and picture.size == (_SIDE, _SIDE)


def test_normals_are_those_of_the_neutral_surface(procedural):
    """Of a triangle's corners, the mean normal is near that of the triangle."""
    read = Glb(glb(procedural[0]))
    points, normals = read.attribute("POSITION"), read.attribute("NORMAL")
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1, atol=1e-6)
    a, b, c = np.moveaxis(points[read.triangles].astype(float), 1, 0)
    flat = np.cross(b - a, c - a)
    flat /= np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-30)
    cosine = np.sum(flat * normals[read.triangles].mean(axis=1), axis=1)
    assert np.median(cosine) > 0.98 and np.mean(cosine > 0.5) > 0.99


def test_a_head_without_jaw_and_eyes_has_fewer_joints(plain, moving):
    head = with_joints(plain, ("root", "neck"))
    bundle = with_texture(bundle_of(head, moving))
    read = Glb(glb(bundle, frames=Frames(np.arange(3.0), moving)))
    (skin,) = read.json["skins"]
    assert [read.json["nodes"][node]["name"] for node in skin["joints"]] == ["root", "neck"]
    weights = np.full(8, 0.5)
    turns = np.float32([[0, 0, 0], [0.1, 0.2, 0.3]])
    nodes = {read.node("head_pose"): {"rotation": (0, 0, 0, 1), "translation": (0, 0, 0)}}
    found = read.vertices(weights, {"neck": quaternions(turns[1])}, nodes)
    shape = bundle.result.coefficients["shape"]
    expected = expected_corners(head, shape, "expression", weights, turns)
    np.testing.assert_allclose(found, expected, atol=EXACT)


def test_the_strongest_four_joints_move_a_vertex():
    weights = np.float32([[0.1, 0.2, 0.3, 0.15, 0.25], [0, 0, 0, 1, 0]])
    joints, shares = strongest(weights)
    assert joints.tolist() == [[2, 4, 1, 3], [3, 0, 0, 0]]
    np.testing.assert_allclose(shares[0], np.float32([0.3, 0.25, 0.2, 0.15]) / 0.9, atol=1e-7)
    joints, shares = strongest(np.float32([[0.25, 0.75]]))
    assert joints.tolist() == [[1, 0, 0, 0]] and shares.tolist() == [[0.75, 0.25, 0, 0]]


def test_kinds_of_morph_targets(tiny_head):
    assert choose_morphs(tiny_head) == "expression"
    assert choose_morphs(procedural_head()) == "arkit"
    assert choose_morphs(procedural_head(), "expression") == "expression"
    with pytest.raises(UserError, match="head random has no ARKit shapes; take expression"):
        choose_morphs(tiny_head, "arkit")
    with pytest.raises(UserError, match="morphs=phonemes: choose among arkit, expression"):
        choose_morphs(tiny_head, "phonemes")


def test_files_of_one_face_are_equal(face):
    assert glb(face) == glb(face)


def test_what_flame_does_and_a_file_does_not(procedural):
    """Correctives of the jaw, joints that follow expressions: below these distances."""
    bundle, _ = procedural
    known = {name: jnp.asarray(value)[None] for name, value in bundle.result.coefficients.items()}
    upright = FlameCoefficients(**known | {"pose": jnp.zeros((1, 3)), "neck": jnp.zeros((1, 3))})
    posed = np.asarray(jax.jit(flame)(bundle.head, upright).vertices[0])
    read = Glb(glb(bundle, "expression"))
    nodes = {read.node("head_pose"): {"rotation": (0, 0, 0, 1), "translation": (0, 0, 0)}}
    found = read.vertices(rotations={"neck": np.array([0, 0, 0, 1])}, nodes=nodes)
    off = np.linalg.norm(found - posed[person_of(bundle.head, known["shape"][0]).rows], axis=1)
    assert off.mean() < 1e-4 and off.max() < 1.5e-3


@pytest.mark.skipif(bool(why_absent()), reason=why_absent())
def test_the_validator_has_nothing_to_say(face, procedural, two_materials, moving, tmp_path):
    """Still and moving, with ARKit's names and without, with and without a texture."""
    bundle, coefficients = procedural
    bare = bundle_of(two_materials, moving)
    vars(bare)["texture"] = None
    contents = {
        "own": glb(face),
        "arkit": glb(bundle),
        "clip": glb(face, frames=Frames(np.arange(3.0), moving)),
        "arkit clip": glb(bundle, frames=Frames(np.array([0.0, 0.1]), coefficients)),
        "bare": glb(bare),
    }
    for name, content in contents.items():
        file = tmp_path / f"{name}.glb"
        file.write_bytes(content)
        assert issues(file) == [], name
