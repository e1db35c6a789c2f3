"""ARKit's shapes of the procedural head, against its joints, its lids and anatomy."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from fields_jax import arkit
from fields_jax.flame import flame
from fields_jax.flame.procedural import procedural_head
from fields_jax.flame.procedural.mesh import head_mesh
from fields_jax.types import FlameCoefficients

SIDED = [name.removesuffix("Left") for name in arkit.NAMES if name.endswith("Left")]
SIDEWAYS = ("jaw", "mouth")  # jawLeft, mouthLeft: directions, not sides


@pytest.fixture(scope="module")
def head():
    return procedural_head()


@pytest.fixture(scope="module")
def shapes(head):
    """Displacement in metres by name."""
    basis = np.asarray(head.arkit_basis, np.float64)
    assert basis.shape == (len(head.template), 3, 52)
    return {name: basis[..., k] for k, name in enumerate(arkit.NAMES)}


def landmarks(head, field):
    points = np.asarray(head.template, np.float64) + field
    corners = points[np.asarray(head.faces)[np.asarray(head.static_68.face_index)]]
    return np.einsum("lc,lcd->ld", np.asarray(head.static_68.barycentric), corners)


def moved(head, shapes, name):
    return landmarks(head, shapes[name]) - landmarks(head, 0)


def test_every_shape_moves_the_face_but_the_tongue(shapes):
    for name, field in shapes.items():
        size = np.linalg.norm(field, axis=1).max()
        assert (size == 0) if name == "tongueOut" else (2e-3 < size < 50e-3), name


@pytest.mark.parametrize("stem", SIDED)
def test_right_is_the_mirror_image_of_left(shapes, stem):
    mirrored = shapes[f"{stem}Left"][head_mesh().mirror] * [-1, 1, 1]
    np.testing.assert_allclose(shapes[f"{stem}Right"], mirrored, atol=1e-6)


@pytest.mark.parametrize("stem", [stem for stem in SIDED if stem not in SIDEWAYS])
def test_a_side_moves_that_side(shapes, head, stem):
    size = np.linalg.norm(shapes[f"{stem}Left"], axis=1)
    x = np.asarray(head.template)[:, 0]
    whole = stem == "mouthPress"  # which raises the chin a little
    assert size[x < -0.01].max() < (0.3 if whole else 0.15) * size.max()


def test_an_open_jaw_is_that_of_the_joint(head, shapes):
    coefficients = FlameCoefficients(
        *(jnp.zeros((1, size)) for size in (1, 1)),
        jaw=jnp.array([[0.4, 0, 0]]),
        eyelid=jnp.zeros((1, 2)),
        pose=jnp.zeros((1, 3)),
        camera=jnp.array([[1.0, 0, 0]]),
    )
    posed = np.asarray(flame(head, coefficients).vertices[0])
    np.testing.assert_allclose(
        np.asarray(head.template) + shapes["jawOpen"], posed, rtol=0, atol=2e-6
    )


def test_a_blink_is_that_of_the_eyelids(head, shapes):
    for name, lid in zip(("eyeBlinkLeft", "eyeBlinkRight"), head.eyelid_basis, strict=True):
        np.testing.assert_allclose(shapes[name], np.asarray(lid), rtol=0, atol=1e-8)


def test_a_closing_mouth_meets_over_an_open_jaw(head, shapes):
    opened = landmarks(head, shapes["jawOpen"])
    closed = landmarks(head, shapes["jawOpen"] + shapes["mouthClose"])
    for upper, lower in ((61, 67), (62, 66), (63, 65)):
        assert np.linalg.norm(opened[upper] - opened[lower]) > 10e-3
        assert np.linalg.norm(closed[upper] - closed[lower]) < 1e-3
    assert closed[8, 1] < landmarks(head, 0)[8, 1] - 15e-3  # the chin stays down


@pytest.mark.parametrize(
    ("name", "axis", "sign"),
    [("In", 0, -1), ("Out", 0, 1), ("Up", 1, 1), ("Down", 1, -1)],
)
def test_eyes_look_where_they_say(head, shapes, name, axis, sign):
    points = np.asarray(head.template, np.float64)
    ball = np.asarray(head.regions["left_eyeball"])
    centre = (points[ball].max(0) + points[ball].min(0)) / 2
    front = ball[points[ball, 2].argmax()]
    field = shapes[f"eyeLook{name}Left"]
    assert 4e-3 < sign * field[front, axis] < 8e-3
    radius = np.linalg.norm(points[ball] + field[ball] - centre, axis=1)
    np.testing.assert_allclose(radius, np.linalg.norm(points[ball] - centre, axis=1), atol=1e-7)


@pytest.mark.parametrize("name", [name for name in arkit.NAMES if name.startswith("eye")])
def test_lids_clear_the_eyeball(head, shapes, name):
    side = "left" if name.endswith("Left") else "right"
    points = np.asarray(head.template, np.float64)
    ball = points[np.asarray(head.regions[f"{side}_eyeball"])]
    centre = (ball.max(0) + ball.min(0)) / 2
    radius = np.linalg.norm(ball - centre, axis=1).max()
    lids = np.asarray(head.regions[f"{side}_eye_region"])
    for amount in (0.25, 0.5, 0.75, 1):
        distance = np.linalg.norm(points[lids] + amount * shapes[name][lids] - centre, axis=1)
        assert distance.min() >= radius - 1e-6


def test_movements_go_the_right_way(head, shapes):
    def move(name):
        return moved(head, shapes, name)

    assert move("mouthSmileLeft")[54, 1] > 4e-3 < move("mouthSmileLeft")[54, 0]
    assert move("mouthFrownLeft")[54, 1] < -3e-3
    assert move("mouthPucker")[54, 0] < -4e-3 and move("mouthPucker")[51, 2] > 3e-3
    assert move("mouthFunnel")[62, 1] > 2e-3 > -2e-3 > move("mouthFunnel")[66, 1]
    assert move("mouthLeft")[51, 0] > 5e-3 and move("mouthRight")[51, 0] < -5e-3
    assert move("jawLeft")[8, 0] > 4e-3 and move("jawForward")[8, 2] > 4e-3
    assert move("mouthRollLower")[66, 2] < -5e-3 and move("mouthRollUpper")[62, 2] < -5e-3
    assert move("mouthShrugLower")[8, 1] > 2e-3
    assert move("mouthUpperUpLeft")[52, 1] > 3e-3 and move("mouthLowerDownLeft")[56, 1] < -3e-3
    assert move("browInnerUp")[[21, 22], 1].min() > 3e-3
    assert move("browOuterUpLeft")[25, 1] > 3e-3 and move("browDownLeft")[24, 1] < -2e-3
    assert move("noseSneerLeft")[35, 1] > 2e-3
    assert move("eyeWideLeft")[44, 1] > 1e-3 and move("eyeSquintLeft")[46, 1] > 0.5e-3
