"""Google's GNM head, on a file of its layout: the equations of its description are the oracle."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from fields_jax.convert.gnm import convert_gnm
from fields_jax.errors import MissingFile, UserError
from fields_jax.flame import flame
from fields_jax.flame.io import load_flame
from fields_jax.flame.procedural import procedural_head
from fields_jax.geometry.rotations import rodrigues
from fields_jax.types import PARTS, FlameCoefficients
from tests.support.gnm_files import EXPRESSIONS, IDENTITIES, gnm_arrays, write_gnm
from tests.support.ict_clones import points_of


@pytest.fixture(scope="module")
def arrays():
    return gnm_arrays()


@pytest.fixture(scope="module")
def head(arrays, tmp_path_factory):
    folder = tmp_path_factory.mktemp("gnm")
    target = str(folder / "head.npz")
    assert convert_gnm(str(write_gnm(folder, arrays)), target) == "3.0"
    return load_flame(target)


def gnm(arrays, identity, expression, rotations) -> np.ndarray:
    """The published equations: blend shapes, correctives of R - I, skinning about the joints."""
    turns = np.asarray(rodrigues(jnp.array(rotations)), np.float64)
    vertices = arrays["template_vertex_positions"].astype(np.float64)
    vertices = vertices + np.tensordot(identity, arrays["vertex_identity_basis"], 1)
    vertices = vertices + np.tensordot(expression, arrays["expression_basis"], 1)
    feature = (turns - np.eye(3)).reshape(-1)
    vertices = vertices + (feature @ arrays["pose_correctives_regressor"]).reshape(-1, 3)
    joints = arrays["template_joint_positions"].astype(np.float64)
    joints = joints + np.tensordot(identity, arrays["joint_identity_basis"], 1)
    world, place = [turns[0]], [joints[0]]
    for joint, parent in enumerate(arrays["joint_parent_indices"][1:], start=1):
        place.append(place[parent] + world[parent] @ (joints[joint] - joints[parent]))
        world.append(world[parent] @ turns[joint])
    posed = [(vertices - j) @ w.T + p for j, w, p in zip(joints, world, place, strict=True)]
    return np.einsum("jv,jvk->vk", arrays["skinning_weights"], np.array(posed))


def test_the_head_is_gnm_at_any_coefficients(arrays, head):
    rng = np.random.default_rng(1)
    identity, expression = rng.normal(size=IDENTITIES), rng.normal(size=EXPRESSIONS)
    rotations = rng.normal(0, 0.3, (4, 3))
    names = [str(name) for name in arrays["expression_names"]]
    order = [names.index(name) for name in head.expression_names]
    coefficients = FlameCoefficients(
        shape=jnp.array(identity[None], jnp.float32),
        expression=jnp.array(expression[order][None], jnp.float32),
        jaw=jnp.array([[0.4, 0, 0]]),  # of a joint that it lacks
        eyelid=jnp.ones((1, 2)),
        pose=jnp.array(rotations[:1], jnp.float32),
        camera=jnp.array([[8.0, 0, 0]]),
        neck=jnp.array(rotations[1:2], jnp.float32),
        eyes=jnp.array(rotations[2:].reshape(1, 6), jnp.float32),
    )
    found = np.asarray(flame(head, coefficients).vertices[0])
    np.testing.assert_allclose(found, gnm(arrays, identity, expression, rotations), atol=2e-6)


def test_components_that_move_most_come_first(head):
    assert (
        head.expression_names == tuple(f"mouth_{i:03d}" for i in (1, 3, 4, 2, 0))
        or (np.diff(np.square(np.asarray(head.expression_basis)).sum((0, 1))) <= 0).all()
    )


def test_the_head_says_what_it_lacks(head):
    assert head.joint_names == ("root", "neck", "left_eye", "right_eye")
    assert (head.name, head.version, head.joint("jaw")) == ("GNM", "3.0", None)
    for name in ("jaw", "eyelid"):
        np.testing.assert_array_equal(head.priors[name].upper, head.priors[name].lower)
    names = {PARTS[row] for row in np.unique(np.asarray(head.face_parts))}
    assert names == {"skin", "eyes", "gums"}
    assert head.material_names == ("skin", "left_eye", "right_eye")


def test_landmarks_are_in_the_order_of_the_68_points(head):
    known = points_of(procedural_head(), "static_68")
    np.testing.assert_allclose(points_of(head, "static_68"), known, atol=1e-5)
    gap = points_of(head, "landmarks_105") - points_of(procedural_head(), "landmarks_105")
    assert np.linalg.norm(gap, axis=1).max() < 0.001


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"joint_regressor": None}, "lacks 'joint_regressor'"),
        ({"joint_names": np.array(["a", "b", "c", "d"])}, "expected neck, head and the eyes"),
        ({"expression_basis": np.zeros((5, 7, 3))}, r"'expression_basis' has shape \(5, 7, 3\)"),
        ({"triangles": np.zeros((0, 3))}, r"'triangles' has shape \(0, 3\)"),
        ({"triangles": 10**6}, "'triangles' refers to numbers outside"),
        ({"vertex_group_names": np.array(["x", "y", "z", "skin"])}, "no vertex group 'left_eye'"),
        ({"skinning_weights": np.full((4, 3), np.nan)}, "'skinning_weights'"),
    ],
)
def test_other_models_are_refused_by_file_and_array(arrays, tmp_path, change, complaint):
    whole = {k: np.full_like(arrays[k], v) for k, v in change.items() if isinstance(v, int)}
    changed = {k: v for k, v in (arrays | change | whole).items() if v is not None}
    with pytest.raises(UserError, match=complaint) as refused:
        convert_gnm(str(write_gnm(tmp_path, changed)), str(tmp_path / "head.npz"))
    assert "gnm_head.npz" in str(refused.value) and not (tmp_path / "head.npz").exists()


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        (np.zeros((68, 6)), "68 rows of three vertices and their weights"),
        (np.tile([0, 1, 0, 0, 0, 0], (68, 1)), "no face that looks along z"),
        (np.ones((3, 6)), "68 rows"),
    ],
)
def test_other_landmarks_are_refused(arrays, tmp_path, rows, complaint):
    with pytest.raises(UserError, match=complaint):
        convert_gnm(str(write_gnm(tmp_path, arrays, rows)), str(tmp_path / "head.npz"))


def test_missing_files_are_named(tmp_path):
    with pytest.raises(MissingFile, match=r"gnm_head.npz does not exist: fetch it from"):
        convert_gnm(str(tmp_path), str(tmp_path / "head.npz"))
    (tmp_path / "gnm_head.npz").write_bytes(b"")
    with pytest.raises(MissingFile, match=r"head_sparse_68.txt does not exist"):
        convert_gnm(str(tmp_path), str(tmp_path / "head.npz"))


def test_a_folder_may_be_named_from_beside_it(tmp_path, monkeypatch):
    """Short relative paths have few parents, where a clone keeps its landmarks."""
    (tmp_path / "GNM").mkdir()
    (tmp_path / "GNM/gnm_head.npz").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MissingFile, match=r"GNM/head_sparse_68\.txt does not exist"):
        convert_gnm("GNM", "head.npz")
