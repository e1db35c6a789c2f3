"""Shapes carried to heads on which they are known."""

from __future__ import annotations

import dataclasses
from functools import cache

import numpy as np
import pytest

from fields_jax.arkit import NAMES
from fields_jax.errors import UserError
from fields_jax.flame.eyes import eyeballs
from fields_jax.flame.procedural import procedural_head
from fields_jax.registration.deformation import with_arkit
from fields_jax.registration.heads import same_vertices
from fields_jax.types import PARTS, FlameModel
from tests.support.registered import small_head, warped

BLINKS = [NAMES.index(f"eyeBlink{side}") for side in ("Left", "Right")]


@cache
def source() -> FlameModel:
    return small_head().replace(arkit_basis=procedural_head().arkit_basis)


def itself(head: FlameModel):
    return same_vertices(np.asarray(head.faces), len(head.template))


def off_mm(found: FlameModel, expected: np.ndarray, shapes=slice(None)) -> np.ndarray:
    """Distances of displaced vertices [V, shapes]."""
    return 1e3 * np.linalg.norm(np.asarray(found.arkit_basis) - expected, axis=1)[:, shapes]


def lids_of(head: FlameModel) -> np.ndarray:
    """All within 3 cm of an eye."""
    joints = (np.asarray(head.joint_regressor) @ np.asarray(head.template))[3:]
    distance = np.linalg.norm(np.asarray(head.template)[:, None] - joints[None], axis=-1)
    return np.flatnonzero(distance.min(1) < 0.03)


def skin_of(head: FlameModel) -> np.ndarray:
    return np.unique(np.asarray(head.faces)[np.asarray(head.face_parts) == PARTS.index("skin")])


def test_a_head_gets_its_own_shapes_back():
    found = with_arkit(small_head(), source(), itself(small_head()), own=False)
    off = off_mm(found, np.asarray(source().arkit_basis))
    # Lids are lifted off the eyeballs here and there.
    assert off.max() < 1.0
    off[lids_of(small_head())] = 0
    # The mouth's lining is narrow folds, some too thin to tell how they turn.
    assert off[skin_of(small_head())].max() < 0.1 and off.max() < 0.4
    assert found.arkit_basis.dtype == np.float32
    np.testing.assert_array_equal(found.arkit_basis[..., NAMES.index("tongueOut")], 0)
    assert small_head().arkit_basis is None


def test_shapes_turn_and_grow_with_the_head():
    cos, sin = np.cos(0.2), np.sin(0.2)
    turn = np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]])
    template = 1.3 * np.asarray(source().template) @ turn.T + [0.1, 1.2, -0.3]
    head = small_head().replace(template=template.astype(np.float32))
    found = with_arkit(head, source(), itself(head), own=False)
    expected = 1.3 * np.einsum("ij,vjc->vic", turn, np.asarray(source().arkit_basis))
    skin = np.setdiff1d(skin_of(head), lids_of(small_head()))
    assert off_mm(found, expected)[skin].max() < 0.1
    balls = np.concatenate(eyeballs(head))
    looks = [NAMES.index(name) for name in NAMES if name.startswith("eyeLook")]
    turned = 1e3 * (np.asarray(found.arkit_basis) - expected)[balls][..., looks]
    assert np.abs(turned).max() < 1e-3


def test_a_wider_mouth_is_closed_as_it_was():
    """On another face lips that a shape brings together, or keeps so, still meet."""
    head = small_head().replace(template=warped(np.asarray(small_head().template, np.float64)))
    head = head.replace(template=np.asarray(head.template, np.float32))
    found = with_arkit(head, source(), itself(head), own=False)
    corners = np.asarray(head.faces)[np.asarray(head.static_68.face_index)]
    weights = np.asarray(head.static_68.barycentric)[..., None]

    def gap(of, name):
        moved = np.asarray(of.template) + np.asarray(of.arkit_basis)[..., NAMES.index(name)]
        points = (moved[corners] * weights).sum(1)
        return 1e3 * np.linalg.norm(points[62] - points[66])

    for name in ("mouthSmileLeft", "browInnerUp", "mouthFrownRight", "mouthDimpleLeft"):
        assert gap(found, name) < gap(source(), name) + 0.6, name
    assert gap(found, "jawOpen") == pytest.approx(gap(source(), "jawOpen"), rel=0.15)


def test_own_jaw_and_lids_are_kept():
    head = small_head().replace(template=warped(np.asarray(small_head().template, np.float64)))
    head = head.replace(template=np.asarray(head.template, np.float32))
    there = with_arkit(head, source(), itself(head), own=False)
    found = with_arkit(head, source(), itself(head))
    lids = np.moveaxis(np.asarray(head.eyelid_basis), 0, -1)
    assert off_mm(found, np.asarray(found.arkit_basis) * 0, BLINKS).max() > 3
    assert 1e3 * np.abs(np.asarray(found.arkit_basis)[..., BLINKS] - lids).max() < 0.5
    rows = [NAMES.index(name) for name in ("jawOpen", "mouthClose")]
    both = np.asarray(there.arkit_basis)[..., rows].sum(-1)
    np.testing.assert_allclose(np.asarray(found.arkit_basis)[..., rows].sum(-1), both, atol=1e-6)
    opened = np.asarray(found.arkit_basis)[..., rows[0]]
    jaw = np.asarray(head.skin_weights)[:, head.joint("jaw")]
    chin = jaw > 0.999  # turns as one, but for the correctives
    rest = np.asarray(head.template)[chin]
    ends = rest, rest + opened[chin]
    lengths = [np.linalg.norm(np.diff(points, axis=0), axis=1) for points in ends]
    assert chin.sum() > 20 and np.abs(opened[chin]).max() > 0.01
    np.testing.assert_allclose(*lengths, atol=2e-3)


def test_eyeballs_turn_about_the_head_s_own_joints():
    head = small_head().replace(template=warped(np.asarray(small_head().template, np.float64)))
    head = head.replace(template=np.asarray(head.template, np.float32))
    found = np.asarray(with_arkit(head, source(), itself(head)).arkit_basis)
    joints = np.asarray(head.joint_regressor) @ np.asarray(head.template)
    for rows, role, name in zip(
        eyeballs(head), ("left_eye", "right_eye"), ("eyeLookInLeft", "eyeLookUpRight"), strict=True
    ):
        moved = found[rows, :, NAMES.index(name)]
        offset = np.asarray(head.template)[rows] - joints[head.joint(role)]
        lengths = np.linalg.norm(offset, axis=1), np.linalg.norm(offset + moved, axis=1)
        np.testing.assert_allclose(*lengths, atol=1e-6)
        assert np.linalg.norm(moved, axis=1).max() > 0.003
        others = [row for row, other in enumerate(NAMES) if not other.startswith("eyeLook")]
        assert np.abs(found[rows][..., others]).max() < 1e-5


def test_teeth_go_with_the_jaw():
    """A box within the mouth, on a head whose source has none; lashes go with the lids."""
    inside = np.asarray(small_head().template)[np.asarray(small_head().regions["mouth_interior"])]
    box = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], np.float32)
    faces = np.array([[0, 1, 3], [4, 6, 7], [0, 4, 5], [2, 3, 7]])
    jaw = np.float32([0, 0, 1, 0, 0])
    head = _with_piece(small_head(), inside.mean(0) + 0.004 * box, faces, jaw, "teeth")
    lid = np.asarray(head.template)[np.asarray(head.eyelid_basis)[0, :, 1].argmin()]
    head = _with_piece(head, lid + [0, 0, 0.002] + 0.001 * box, faces, jaw, "lashes")
    teeth, lashes = np.arange(len(head.template) - 16, len(head.template)).reshape(2, 8)
    count = len(small_head().template)
    same = itself(head)
    confidence = np.where(np.arange(len(head.template)) < count, same.confidence, 0)
    near = dataclasses.replace(same, confidence=confidence)
    near.face_index[count:], near.barycentric[count:] = 0, [1, 0, 0]
    found = np.asarray(with_arkit(head, source(), near, own=False).arkit_basis)
    opened = found[..., NAMES.index("jawOpen")]
    rest = np.asarray(head.template)
    chin = np.flatnonzero(np.asarray(head.skin_weights)[:count, 2] > 0.999)
    fall = opened[chin, 1].mean()
    assert fall < -0.01 and opened[teeth, 1].mean() == pytest.approx(fall, rel=0.4)
    spread = [
        np.linalg.norm(points[:, None] - points[None], axis=-1)
        for points in (rest[teeth], (rest + opened)[teeth])
    ]
    np.testing.assert_allclose(*spread, atol=1e-5)
    others = [row for row, name in enumerate(NAMES) if not name.startswith("jaw")]
    np.testing.assert_array_equal(found[teeth][..., others], 0)
    blink = found[lashes][..., BLINKS]
    assert blink[:, 1, 0].mean() < -0.002 and np.abs(blink[..., 1]).max() < 2e-4


def _with_piece(head, vertices, faces, weights, part) -> FlameModel:
    """The head with some more vertices that nothing but their skinning weights move."""
    count, more = len(head.template), len(vertices)

    def longer(array, rows, axis=0):
        return np.concatenate([np.asarray(array), rows], axis=axis).astype(np.float32)

    fields = {
        name: longer(getattr(head, name), np.zeros((more, *getattr(head, name).shape[1:])))
        for name in ("shape_basis", "expression_basis", "pose_basis")
    }
    return head.replace(
        template=longer(head.template, vertices),
        skin_weights=longer(head.skin_weights, np.tile(weights, (more, 1))),
        joint_regressor=longer(head.joint_regressor, np.zeros((5, more)), axis=1),
        eyelid_basis=longer(head.eyelid_basis, np.zeros((2, more, 3)), axis=1),
        faces=np.concatenate([np.asarray(head.faces), count + faces]).astype(np.int32),
        face_parts=np.concatenate(
            [np.asarray(head.face_parts), np.full(len(faces), PARTS.index(part))]
        ).astype(np.int32),
        **fields,
    )


def test_what_is_unsure_follows_what_is_sure():
    """Half of a cheek is unknown: it moves with what surrounds it."""
    head = small_head()
    same = itself(head)
    smile = NAMES.index("mouthSmileLeft")
    moved = 1e3 * np.asarray(source().arkit_basis)[..., smile]
    middle = np.asarray(head.template)[np.linalg.norm(moved, axis=1).argmax()]
    hole = np.linalg.norm(np.asarray(head.template) - middle, axis=1) < 0.006
    wrong = dataclasses.replace(same, confidence=np.where(hole, 0, same.confidence))
    wrong.face_index[hole] = 0  # of somewhere else
    found = with_arkit(head, source(), wrong, own=False)
    off = off_mm(found, np.asarray(source().arkit_basis))[hole, smile]
    assert hole.sum() > 3 and off.max() < 0.35 * np.linalg.norm(moved[hole], axis=1).max()


def test_mistakes_are_told():
    head, same = small_head(), itself(small_head())
    with pytest.raises(UserError, match="has no ARKit shapes to give"):
        with_arkit(head, head, same)
    short = dataclasses.replace(same, face_index=same.face_index[:-1])
    with pytest.raises(UserError, match="a correspondence of 4"):
        with_arkit(head, source(), short)
    unsure = dataclasses.replace(same, confidence=0 * same.confidence)
    with pytest.raises(UserError, match="no point of the face of head"):
        with_arkit(head, source(), unsure)
