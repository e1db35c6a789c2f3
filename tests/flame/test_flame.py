"""FLAME against a float64 oracle written as homogeneous 4x4 chains, joint by joint."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from fields_jax.errors import UserError
from fields_jax.flame import flame
from fields_jax.flame.io import load_flame, read_arrays, save_flame, write_arrays
from fields_jax.flame.landmark_head import landmark_head
from fields_jax.flame.landmarks import contour_row
from fields_jax.flame.priors import between, standard_priors
from fields_jax.flame.procedural import procedural_head
from fields_jax.geometry.rotations import rodrigues
from fields_jax.types import JOINTS, PARTS, FlameCoefficients
from tests.support.heads import with_joints


def random_coefficients(rng, head, batch=3, turn=0.4) -> FlameCoefficients:
    def normal(*shape, scale=1.0):
        return (scale * rng.standard_normal((batch, *shape))).astype(np.float32)

    return FlameCoefficients(
        shape=normal(head.shape_basis.shape[-1]),
        expression=normal(head.expression_basis.shape[-1]),
        jaw=normal(3, scale=0.2),
        eyelid=rng.random((batch, 2)).astype(np.float32),
        pose=normal(3, scale=turn),
        camera=np.tile(np.float32([7, 0, 0]), (batch, 1)),
        neck=normal(3, scale=0.2),
        eyes=normal(6, scale=0.2),
    )


def oracle(head, coefficients, row):
    """One head in float64: 4x4 matrices and python loops, scipy's rotations, no shared code."""
    a = jax.tree.map(lambda x: np.asarray(x, np.float64), coefficients)
    head64 = jax.tree.map(lambda x: np.asarray(x).astype(np.float64), head)
    shaped = head64.template.copy()
    for k, value in enumerate(a.shape):
        shaped += value * head64.shape_basis[:, :, k]
    for k, value in enumerate(a.expression):
        shaped += value * head64.expression_basis[:, :, k]
    joints = head64.joint_regressor @ shaped
    vectors = np.concatenate([a.pose, a.neck, a.jaw, a.eyes]).reshape(5, 3)
    rotations = Rotation.from_rotvec(vectors).as_matrix()
    feature = np.concatenate([(rotations[j] - np.eye(3)).ravel() for j in range(1, 5)])
    posed = shaped + (head64.pose_basis.reshape(-1, 36) @ feature).reshape(-1, 3)
    world = []
    for j, parent in enumerate(head.parents):
        local = np.eye(4)
        local[:3, :3] = rotations[j]
        local[:3, 3] = joints[j] - (joints[parent] if parent >= 0 else 0)
        world.append(local if parent < 0 else world[parent] @ local)
    relative = []
    for j in range(5):
        back = np.eye(4)
        back[:3, 3] = -joints[j]
        relative.append(world[j] @ back)
    homogeneous = np.concatenate([posed, np.ones((len(posed), 1))], axis=1)
    vertices = np.empty_like(posed)
    for v in range(len(posed)):
        blend = sum(head64.skin_weights[v, j] * relative[j] for j in range(5))
        vertices[v] = (blend @ homogeneous[v])[:3]
    vertices += a.eyelid[0] * head64.eyelid_basis[0] + a.eyelid[1] * head64.eyelid_basis[1]

    def points(index, weights):
        return np.stack([w @ vertices[head.faces[f]] for f, w in zip(index, weights, strict=True)])

    def embedded(e):
        return points(np.asarray(e.face_index), np.asarray(e.barycentric, np.float64))

    contour = points(head.contour.face_index[row], head.contour.barycentric[row].astype(np.float64))
    return {
        "vertices": vertices,
        "joints": np.stack([w[:3, 3] for w in world]),
        "landmarks_68": np.concatenate([contour, embedded(head.static_51)]),
        "landmarks_68_static": embedded(head.static_68),
        "landmarks_105": embedded(head.landmarks_105),
        "landmarks_203": embedded(head.landmarks_203),
    }


def contour_row_by_hand(root, neck) -> int:
    matrix = (Rotation.from_rotvec(root) * Rotation.from_rotvec(neck)).as_matrix()
    yaw = np.degrees(np.arctan2(-matrix[2, 0], np.sqrt(matrix[0, 0] ** 2 + matrix[1, 0] ** 2)))
    if yaw < -39:
        return 78
    nearest = int(np.round(min(yaw, 39)))
    return nearest if nearest >= 0 else 39 - nearest


def test_equals_the_float64_oracle(tiny_head):
    coefficients = random_coefficients(np.random.default_rng(1), tiny_head, batch=4, turn=0.6)
    result = jax.jit(flame)(tiny_head, coefficients)
    for i in range(4):
        one = jax.tree.map(lambda x, i=i: x[i], coefficients)
        expected = oracle(tiny_head, one, contour_row_by_hand(one.pose, one.neck))
        for name, value in expected.items():
            # Metres: a tenth of a micrometre.
            np.testing.assert_allclose(getattr(result, name)[i], value, atol=1e-7, err_msg=name)


def test_equals_the_float64_oracle_at_reference_size():
    """All 300 shape and 100 expression components of a head of some 5,000 vertices."""
    head = jax.tree.map(np.asarray, procedural_head())
    coefficients = random_coefficients(np.random.default_rng(7), head, batch=2, turn=0.6)
    result = jax.jit(flame)(head, coefficients)
    for i in range(2):
        one = jax.tree.map(lambda x, i=i: x[i], coefficients)
        expected = oracle(head, one, contour_row_by_hand(one.pose, one.neck))
        for name, value in expected.items():
            np.testing.assert_allclose(getattr(result, name)[i], value, atol=1e-6, err_msg=name)


def test_zero_coefficients_give_the_template_exactly(tiny_head):
    zero = jax.tree.map(jnp.zeros_like, random_coefficients(np.random.default_rng(0), tiny_head))
    vertices = flame(tiny_head, zero).vertices
    np.testing.assert_allclose(vertices, np.tile(tiny_head.template, (3, 1, 1)), atol=3e-8)


def test_missing_neck_and_eyes_are_identity(tiny_head):
    full = random_coefficients(np.random.default_rng(2), tiny_head)
    still = full.replace(neck=np.zeros_like(full.neck), eyes=np.zeros_like(full.eyes))
    absent = full.replace(neck=None, eyes=None)
    np.testing.assert_array_equal(
        flame(tiny_head, still).vertices, flame(tiny_head, absent).vertices
    )


def test_fewer_coefficients_mean_zero_for_the_rest(tiny_head):
    full = random_coefficients(np.random.default_rng(3), tiny_head)
    cut = full.replace(expression=full.expression.copy())
    cut.expression[:, 2:] = 0
    short = full.replace(expression=full.expression[:, :2])
    np.testing.assert_allclose(
        flame(tiny_head, cut).vertices, flame(tiny_head, short).vertices, atol=1e-8
    )


def test_eyelids_are_added_after_skinning(tiny_head):
    """The published systems do not rotate the lid offsets with the head."""
    one = random_coefficients(np.random.default_rng(4), tiny_head)
    shut = flame(tiny_head, one.replace(eyelid=np.ones((3, 2), np.float32))).vertices
    open_ = flame(tiny_head, one.replace(eyelid=np.zeros((3, 2), np.float32))).vertices
    expected = np.tile(tiny_head.eyelid_basis.sum(0), (3, 1, 1))
    np.testing.assert_allclose(shut - open_, expected, atol=1e-7)


def test_gradients_equal_finite_differences(tiny_head):
    with jax.enable_x64(True):
        to64 = lambda x: jnp.asarray(np.asarray(x), jnp.float64)  # noqa: E731
        model = jax.tree.map(
            lambda x: to64(x) if np.asarray(x).dtype == np.float32 else jnp.asarray(x), tiny_head
        )
        rng = np.random.default_rng(5)
        start = jax.tree.map(to64, random_coefficients(rng, tiny_head))
        weights = jax.tree.map(
            lambda x: jnp.asarray(rng.standard_normal(x.shape)), flame(model, start)
        )

        @jax.jit
        def score(coefficients):
            products = jax.tree.map(
                lambda a, b: jnp.sum(a * b), flame(model, coefficients), weights
            )
            return sum(jax.tree.leaves(products))

        gradient = jax.jit(jax.grad(score))(start)
        direction = jax.tree.map(lambda x: jnp.asarray(rng.standard_normal(x.shape)), start)
        step = 1e-5
        ahead = score(jax.tree.map(lambda x, d: x + step * d, start, direction))
        behind = score(jax.tree.map(lambda x, d: x - step * d, start, direction))
        products = jax.tree.map(lambda g, d: jnp.sum(g * d), gradient, direction)
        analytic = sum(jax.tree.leaves(products))
        np.testing.assert_allclose((ahead - behind) / (2 * step), analytic, rtol=1e-7)


@pytest.mark.parametrize(
    ("degrees", "row"), [(0, 0), (12.4, 12), (39, 39), (80, 39), (-1, 40), (-39, 78), (-70, 78)]
)
def test_contour_row_by_hand(degrees, row):
    rotation = rodrigues(jnp.asarray([[0.0, np.radians(degrees), 0.0]]))
    assert int(contour_row(rotation)[0]) == row


def test_too_many_coefficients_and_unequal_batches_are_refused(tiny_head):
    one = random_coefficients(np.random.default_rng(6), tiny_head)
    with pytest.raises(ValueError, match="10 coefficients for a head with 6"):
        flame(tiny_head, one.replace(expression=np.zeros((3, 10), np.float32)))
    with pytest.raises(ValueError, match=r"coefficients\.jaw has batch size 2"):
        flame(tiny_head, one.replace(jaw=one.jaw[:2]))
    for name, size in (("neck", 3), ("eyes", 6)):
        with pytest.raises(ValueError, match=rf"coefficients\.{name} has batch size 1"):
            flame(tiny_head, one.replace(**{name: np.zeros((1, size), np.float32)}))


def test_head_file_round_trip_and_refusals(tiny_head, tmp_path):
    path = tmp_path / "head.npz"
    save_flame(str(path), tiny_head)
    again = load_flame(str(path))
    assert jax.tree.structure(again) == jax.tree.structure(tiny_head)
    for a, b in zip(jax.tree.leaves(again), jax.tree.leaves(tiny_head), strict=True):
        np.testing.assert_array_equal(a, b)

    with pytest.raises(FileNotFoundError, match="convert flame"):
        load_flame(str(tmp_path / "none.npz"))
    (tmp_path / "text.npz").write_text("no zip")
    with pytest.raises(ValueError, match="not a head file"):
        load_flame(str(tmp_path / "text.npz"))
    save_flame(str(path), tiny_head.replace(uv=np.zeros((4, 3), np.float32)))
    with pytest.raises(ValueError, match="'uv' has shape"):
        load_flame(str(path))
    broken = tiny_head.template.copy()
    broken[3, 1] = np.nan
    save_flame(str(path), tiny_head.replace(template=broken))
    with pytest.raises(ValueError, match="'template' holds values that are not finite"):
        load_flame(str(path))
    empty, square = (tiny_head.regions | {"neck": np.zeros(n, np.int32)} for n in (0, (2, 2)))
    save_flame(str(path), tiny_head.replace(regions=empty))
    assert not load_flame(str(path)).regions["neck"].size
    save_flame(str(path), tiny_head.replace(regions=square))
    with pytest.raises(UserError, match=r"'regions.neck' has shape \(2, 2\), expected one axis"):
        load_flame(str(path))
    save_flame(str(path), tiny_head)
    arrays, meta = read_arrays(str(path))
    write_arrays(str(path), arrays, meta | {"material_names": 5})
    with pytest.raises(UserError, match="no list of names in material_names"):
        load_flame(str(path))
    save_flame(str(path), tiny_head.replace(parents=(-1, 0, 4, 1, 1)))
    with pytest.raises(ValueError, match="are no tree of 5 joints"):
        load_flame(str(path))


def test_joints_go_by_their_names(tiny_head):
    coefficients = random_coefficients(np.random.default_rng(5), tiny_head)
    order = ("root", "neck", "right_eye", "left_eye", "jaw")
    found = flame(with_joints(tiny_head, order), coefficients)
    expected = flame(tiny_head, coefficients)
    np.testing.assert_allclose(found.vertices, expected.vertices, atol=1e-6)
    np.testing.assert_allclose(found.landmarks_68, expected.landmarks_68, atol=1e-6)


def test_a_head_without_jaw_eyes_or_correctives(tiny_head):
    coefficients = random_coefficients(np.random.default_rng(6), tiny_head)
    still = coefficients.replace(jaw=0 * coefficients.jaw, eyes=None)
    bare = with_joints(tiny_head, ("root", "neck"))
    found = flame(bare, coefficients)
    np.testing.assert_array_equal(found.vertices, flame(bare, still).vertices)
    assert found.joints.shape == (3, 2, 3)
    # The other joints' skin follows the root, so that only a turned neck tells the heads apart.
    calm = still.replace(neck=None)
    expected = flame(tiny_head, calm).vertices
    np.testing.assert_allclose(flame(bare, calm).vertices, expected, atol=1e-6)
    plain = bare.replace(pose_basis=np.zeros((60, 3, 0), np.float32))
    np.testing.assert_allclose(flame(plain, calm).vertices, expected, atol=1e-6)


def test_what_a_head_says_of_itself_is_kept(tiny_head, tmp_path):
    zero, one = np.zeros(6, np.float32), np.ones(6, np.float32)
    said = with_joints(tiny_head, ("root", "neck", "left_eye", "right_eye")).replace(
        priors=tiny_head.priors | {"expression": between(zero, one, 0.4 * one)},
        face_parts=np.arange(90, dtype=np.int32) % len(PARTS),
        materials=np.arange(90, dtype=np.int32) % 2,
        material_names=("cloth", "skin"),
        arkit_basis=np.full((60, 3, 52), 1e-3, np.float32),
    )
    path = str(tmp_path / "head.npz")
    save_flame(path, said)
    again = load_flame(path)
    assert jax.tree.structure(again) == jax.tree.structure(said)
    jax.tree.map(np.testing.assert_array_equal, again, said)


def test_a_head_of_before_is_flames(tiny_head, tmp_path):
    path = str(tmp_path / "head.npz")
    save_flame(path, tiny_head)
    arrays, meta = read_arrays(path)
    eyes = np.unique(tiny_head.faces[:4])
    arrays = {name: a for name, a in arrays.items() if not name.startswith(("priors", "face_par"))}
    meta = {name: value for name, value in meta.items() if name not in ("joint_names",)}
    write_arrays(path, arrays | {"regions.left_eyeball": eyes}, meta)
    again = load_flame(path)
    assert again.joint_names == JOINTS
    jax.tree.map(np.testing.assert_array_equal, again.priors, standard_priors(7, 6))
    assert PARTS[again.face_parts[0]] == "eyes" and PARTS[again.face_parts.min()] == "skin"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(joint_names=("root", "neck", "tail", "left_eye", "right_eye")), "must be one of"),
        (dict(joint_names=("neck", "root", "jaw", "left_eye", "right_eye")), "the root first"),
        (dict(face_parts=np.full(90, 6, np.int32)), "'face_parts' refers to numbers outside 0..5"),
        (dict(materials=np.zeros(90, np.int32)), "'materials' refers to numbers outside"),
        (dict(pose_basis=np.zeros((60, 3, 9), np.float32)), "9 entries for 5 joints"),
        (dict(arkit_basis=np.zeros((60, 3, 51), np.float32)), "'arkit_basis' has shape"),
        (dict(priors={"jaw": between(np.ones(3), np.zeros(3), np.ones(3))}), "lower bounds"),
        (dict(priors={"jaw": between(np.zeros(2), np.ones(2), np.ones(2))}), "has shape"),
    ],
)
def test_a_head_that_contradicts_itself_is_refused(tiny_head, tmp_path, change, message):
    path = str(tmp_path / "head.npz")
    save_flame(path, tiny_head.replace(**change))
    with pytest.raises(UserError, match=message):
        load_flame(path)


def test_landmark_head_is_smaller_and_has_the_same_landmarks_and_joints():
    whole = procedural_head()
    part = landmark_head(whole)
    assert part.template.shape[0] < whole.template.shape[0] / 2
    coefficients = random_coefficients(np.random.default_rng(3), whole)
    expected, found = flame(whole, coefficients), flame(part, coefficients)
    for name in ("joints", "landmarks_68", "landmarks_68_static", "landmarks_105", "landmarks_203"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), atol=2e-7)
