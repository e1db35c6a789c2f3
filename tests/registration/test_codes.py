"""Codes by the names that other programs give them."""

from __future__ import annotations

import numpy as np
import pytest

from fields_jax.errors import UserError
from fields_jax.registration.codes import joined, read_codes

RNG = np.random.default_rng(0)


def rows(count, *sizes):
    return [RNG.standard_normal((count, size)).astype(np.float32) for size in sizes]


def test_smirk_and_teaser(tiny_head):
    shape, expression, jaw, lids, pose, camera = rows(4, 5, 6, 3, 2, 3, 3)
    found = read_codes(
        dict(
            shape_params=shape,
            expression_params=expression,
            jaw_params=jaw,
            eyelid_params=lids,
            pose_params=pose,
            cam=camera,
            token=np.zeros((4, 4, 256)),
        ),
        "smirk.npz",
        tiny_head,
    )
    assert found.count == 4 and not found.single
    faces = joined([found])
    for name, array in zip(
        ("shape", "expression", "jaw", "eyelid", "pose", "camera"),
        (shape, expression, jaw, lids, pose, camera),
        strict=True,
    ):
        np.testing.assert_array_equal(getattr(faces, name), array)
    assert faces.neck is None and faces.eyes is None


@pytest.mark.parametrize("names", [("shape", "exp", "pose"), ("shapecode", "expcode", "posecode")])
def test_deca_and_emoca_have_the_jaw_behind_the_head(tiny_head, names):
    shape, expression, pose = rows(2, 7, 6, 6)
    found = read_codes(dict(zip(names, (shape, expression, pose), strict=True)), "d", tiny_head)
    faces = joined([found])
    np.testing.assert_array_equal(np.concatenate([faces.pose, faces.jaw], 1), pose)
    np.testing.assert_array_equal(faces.eyelid, 0)
    np.testing.assert_array_equal(faces.camera, [[1, 0, 0]] * 2)


def test_one_shape_serves_all_rows_and_files_are_joined(tiny_head):
    (shape,), (expression,) = rows(1, 5), rows(3, 4)
    several = read_codes(dict(shape=shape[0], exp=expression), "a", tiny_head)
    one = read_codes(dict(shape=np.ones(7), exp=np.ones(6), neck_pose=np.ones(3)), "b", tiny_head)
    assert (several.count, several.single, one.count, one.single) == (3, False, 1, True)
    faces = joined([several, one])
    assert faces.shape.shape == (4, 7) and faces.expression.shape == (4, 6)
    np.testing.assert_array_equal(faces.shape[:3, :5], np.repeat(shape, 3, axis=0))
    np.testing.assert_array_equal(faces.shape[:3, 5:], 0)
    np.testing.assert_array_equal(faces.neck, [[0, 0, 0]] * 3 + [[1, 1, 1]])


SOUND = dict(shape=np.zeros(7), exp=np.zeros(6))


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        (dict(exp=np.zeros(7)), "the expression has 7 numbers, head random only 6"),
        (dict(shape=np.zeros((2, 9))), "the shape has 9 numbers"),
        (dict(jaw=np.zeros(4)), "the jaw has 4 numbers, expected 3"),
        (dict(exp=np.full(6, np.nan)), "'exp' holds numbers that are not finite"),
        (dict(exp=np.zeros((2, 3, 6))), r"'exp' has shape \(2, 3, 6\)"),
        (dict(exp=np.zeros(0)), "'exp' has shape"),
        (dict(exp=np.zeros(6, bool)), "'exp' has shape .* of bool"),
        (dict(expcode=np.zeros(6)), "both 'exp' and 'expcode'"),
        (dict(pose=np.zeros(6), jaw=np.zeros(3)), "a jaw by itself and one behind"),
        (dict(shape=np.zeros((2, 7)), exp=np.zeros((3, 6))), "2 rows of shape, 3 of others"),
    ],
)
def test_others_are_refused_by_file_and_field(tiny_head, changed, complaint):
    with pytest.raises(UserError, match=rf"^faces\.npz.*{complaint}"):
        read_codes(SOUND | changed, "faces.npz", tiny_head)


@pytest.mark.parametrize("name", SOUND)
def test_shape_and_expression_are_needed(tiny_head, name):
    rest = {key: value for key, value in SOUND.items() if key != name}
    with pytest.raises(UserError, match=r"^faces\.npz has no (shape|expression)"):
        read_codes(rest, "faces.npz", tiny_head)
