"""ICT-FaceKit's model as a head: on a small clone, and on the real one where there is one.

FIELDS_JAX_ICT names the folder of a clone of github.com/ICT-VGL/ICT-FaceKit.
"""

from __future__ import annotations

import os

import jax.numpy as jnp
import numpy as np
import pytest

from fields_jax import arkit
from fields_jax.convert.ict import DEFAULT_PARTS, convert_ict
from fields_jax.convert.ict_clone import EXPRESSIONS, OWN
from fields_jax.errors import UserError
from fields_jax.flame import flame
from fields_jax.flame.io import load_flame
from fields_jax.types import JOINTS, PARTS, FlameCoefficients, FlameModel
from tests.support.ict_clones import TRAVEL, points_of

REAL = os.environ.get("FIELDS_JAX_ICT", "")
real_only = pytest.mark.skipif(not REAL, reason="FIELDS_JAX_ICT names no clone of ICT-FaceKit")


def posed(
    head: FlameModel, *, shape=(0,), expression=(0,), jaw=(0, 0, 0), eyelid=(0, 0), eyes=None
):
    """The vertices of one person, metres."""
    rows = [
        jnp.array([value], jnp.float32)
        for value in (shape, expression, jaw, eyelid, np.zeros(3), [8.0, 0, 0])
    ]
    names = ("shape", "expression", "jaw", "eyelid", "pose", "camera")
    eyes = None if eyes is None else jnp.array([eyes], jnp.float32)
    return np.asarray(
        flame(head, FlameCoefficients(**dict(zip(names, rows, strict=True)), eyes=eyes)).vertices[0]
    )


def kept(small) -> np.ndarray:
    """The model's vertices in the head: all but the lashes."""
    return np.arange(small.layout.size - 4)


def test_coefficients_make_the_shapes_of_the_model(small, ict_head):
    rest = small.neutral[kept(small)]
    np.testing.assert_allclose(posed(ict_head), rest, atol=1e-7)
    for name in ("browDown_L", "mouthStretch_R"):
        weights = 0.7 * (np.array(EXPRESSIONS) == name)
        moved = rest + 0.7 * small.shapes[name][kept(small)]
        np.testing.assert_allclose(posed(ict_head, expression=weights), moved, atol=1e-7)
    moved = rest - 2 * small.shapes["identity003"][kept(small)]
    np.testing.assert_allclose(posed(ict_head, shape=[0, 0, 0, -2]), moved, atol=1e-7)
    for side, eyelid in (("L", (1, 0)), ("R", (0, 1))):
        moved = rest + small.shapes[f"eyeBlink_{side}"][kept(small)]
        np.testing.assert_allclose(posed(ict_head, eyelid=eyelid), moved, atol=1e-7)


def test_the_jaw_at_its_travel_is_jaw_open(small, ict_head):
    moved = small.neutral + small.shapes["jawOpen"]
    travel = float(ict_head.priors["jaw"].upper[0])
    assert travel == pytest.approx(TRAVEL, abs=1e-4)
    found = posed(ict_head, jaw=(travel, 0, 0))
    np.testing.assert_allclose(found, moved[kept(small)], atol=2e-6)


def test_half_way_the_lower_teeth_are_still_rigid(small, ict_head):
    rows = small.layout.rows("lower_teeth")
    half = posed(ict_head, jaw=(TRAVEL / 2, 0, 0))[rows]
    gaps = [np.linalg.norm(p[:, None] - p[None], axis=-1) for p in (half, small.neutral[rows])]
    np.testing.assert_allclose(*gaps, atol=2e-6)
    upper = small.layout.rows("upper_teeth")
    np.testing.assert_allclose(posed(ict_head, jaw=(0.3, 0, 0))[upper], small.neutral[upper])


def test_eyeballs_turn_about_their_centres(small, rig, ict_head):
    turned = posed(ict_head, eyes=(0, 0.4, 0, 0.2, 0, 0))
    for side, forward in (("left", (1, 0)), ("right", (0, -1))):  # outward, and down
        rows = small.layout.eyeball(side)
        rest = small.neutral[rows]
        centre = rig.joints[JOINTS.index(f"{side}_eye")]
        radius = [np.linalg.norm(p - centre, axis=1) for p in (turned[rows], rest)]
        np.testing.assert_allclose(*radius, atol=1e-6)
        pupil = rest[:, 2].argmax()
        step = (turned[rows] - rest)[pupil]
        assert step[0] * forward[0] + step[1] * forward[1] > 0.002
    skin = small.layout.rows("face")
    np.testing.assert_allclose(turned[skin], small.neutral[skin], atol=1e-7)


def test_movements_that_others_make_too_are_held_still(ict_head):
    assert ict_head.expression_names[: len(OWN)] == OWN
    prior = ict_head.priors["expression"]
    held = np.asarray(prior.upper) == np.asarray(prior.lower)
    np.testing.assert_array_equal(held, ~np.isin(EXPRESSIONS, OWN))
    assert (np.asarray(prior.upper)[~held] == 1).all() and (np.asarray(prior.deviation) > 0).all()
    np.testing.assert_array_equal(ict_head.priors["jaw"].upper[1:], 0)
    assert ict_head.priors["shape"].mean.shape == (100,)


def test_arkit_shapes_are_those_of_the_model(small, ict_head):
    basis = np.asarray(ict_head.arkit_basis)

    def column(name):
        return basis[..., arkit.NAMES.index(name)]

    halves = sum(small.shapes[f"cheekPuff_{side}"] for side in "LR")[kept(small)]
    np.testing.assert_allclose(column("cheekPuff"), halves, atol=1e-7)
    jaw = small.shapes["jawOpen"][kept(small)]
    np.testing.assert_allclose(column("jawOpen"), jaw, atol=1e-7)
    np.testing.assert_array_equal(column("tongueOut"), 0)
    others = np.delete(basis, arkit.NAMES.index("tongueOut"), axis=-1)
    assert (np.abs(others).max(axis=(0, 1)) > 1e-4).all()
    for side, outward in (("Left", 1), ("Right", -1)):
        rows = small.layout.eyeball(side.lower())
        pupil = rows[small.neutral[rows, 2].argmax()]
        for name, axis, sign in (
            ("In", 0, -outward),
            ("Out", 0, outward),
            ("Up", 1, 1),
            ("Down", 1, -1),
        ):
            assert sign * column(f"eyeLook{name}{side}")[pupil, axis] > 0.003, (name, side)


def test_every_expression_is_one_of_arkits():
    names = {arkit.own_name(name) for name in EXPRESSIONS}
    assert names == set(arkit.NAMES) - {"tongueOut"}
    assert (
        arkit.own_name("browInnerUp_L") == "browInnerUp" and arkit.own_name("jawLeft") == "jawLeft"
    )
    assert arkit.own_name("mouthSmile_R") == "mouthSmileRight"


def test_a_head_says_what_it_is(small, ict_head):
    assert (ict_head.name, ict_head.version) == ("ICT-FaceKit", "Light")
    assert ict_head.joint_names == JOINTS and ict_head.parents == (-1, 0, 1, 1, 1)
    assert ict_head.material_names == ("M_Face", "M_Teeth")
    names = {PARTS[row] for row in np.unique(np.asarray(ict_head.face_parts))}
    assert names == set(DEFAULT_PARTS)
    static = points_of(ict_head, "static_68")
    np.testing.assert_allclose(static, small.neutral[small.landmarks_68], atol=1e-7)
    np.testing.assert_array_equal(points_of(ict_head, "static_51"), static[17:])
    assert len(ict_head.regions["boundary"]) == len(small.head.regions["boundary"])
    assert ict_head.uv.min() >= 0 and ict_head.uv.max() <= 1


def test_triangles_face_outward(small, ict_head):
    """The volume that the head's surfaces enclose is positive for teeth, balls and skin alike."""
    corners = np.asarray(ict_head.template)[np.asarray(ict_head.faces)]
    parts = np.asarray(ict_head.face_parts)
    for name in ("skin", "eyes", "teeth"):
        chosen = corners[parts == PARTS.index(name)]
        chosen = chosen - chosen.reshape(-1, 3).mean(0)
        volume = np.einsum("fk,fk->", chosen[:, 0], np.cross(chosen[:, 1], chosen[:, 2])) / 6
        assert volume > 1e-7, name


def test_only_the_parts_that_are_asked_for(small, clone, tmp_path, ict_folder):
    target = str(tmp_path / "skin.npz")
    made = convert_ict(str(ict_folder), target, "lashes, skin", small.layout)
    head = load_flame(target)
    assert made.parts == ("skin", "lashes") and made.sha256 == head.sha256
    assert head.joint_names == JOINTS[:3]  # no eyes, no joints of theirs
    assert head.pose_basis.shape[-1] == 18 and "left_eyeball" not in head.regions
    travel = float(head.priors["jaw"].upper[0])
    used = np.unique(clone.faces[np.isin(clone.face_parts, [0, PARTS.index("lashes")])])
    moved = (small.neutral + small.shapes["jawOpen"])[used]
    np.testing.assert_allclose(posed(head, jaw=(travel, 0, 0)), moved, atol=2e-6)


@pytest.mark.parametrize(
    ("parts", "complaint"),
    [("skin,ears", "--parts names 'ears': choose among skin, eyes"), ("eyes", "no skin")],
)
def test_parts_that_do_not_exist_are_refused(tmp_path, parts, complaint):
    with pytest.raises(UserError, match=complaint):
        convert_ict(str(tmp_path), str(tmp_path / "head.npz"), parts)
    assert not (tmp_path / "head.npz").exists()


@real_only
@pytest.mark.slow
def test_the_published_model(tmp_path):
    target = str(tmp_path / "ict.npz")
    made = convert_ict(REAL, target)
    head = load_flame(target)
    assert (made.vertices, made.faces) == (24_591, 48_836)
    assert np.degrees(made.travel) == pytest.approx(25.33, abs=0.01)
    jaw_open = np.asarray(head.arkit_basis)[..., arkit.NAMES.index("jawOpen")]
    open_ = posed(head, jaw=(made.travel, 0, 0))
    np.testing.assert_allclose(open_, np.asarray(head.template) + jaw_open, atol=3e-6)
    # No landmark of a lip lies on the other one: upper lips stay, lower ones drop by over 2 cm.
    table = head.landmarks_203
    corners = np.asarray(head.faces)[np.asarray(table.face_index)]
    drop = (np.linalg.norm(jaw_open, axis=1)[corners] * np.asarray(table.barycentric)).sum(1)
    assert drop[50:64].max() < 0.012 and drop[67:82].min() > 0.024
    assert drop[86:95].max() < 0.008 and drop[98:107].min() > 0.024
    inner = points_of(head, "static_51")[[36 - 17, 45 - 17]]
    assert np.linalg.norm(inner[0] - inner[1]) == pytest.approx(0.09, abs=0.02)
