"""ARKit's weights of faces that were made by known weights, and the way back."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fields_jax.arkit import NAMES
from fields_jax.errors import UserError
from fields_jax.flame import flame
from fields_jax.flame.eyes import eyeballs
from fields_jax.flame.priors import between
from fields_jax.flame.procedural import procedural_head
from fields_jax.registration import arkit
from fields_jax.registration.arkit import arkit_tables, arkit_weights, from_arkit
from fields_jax.types import FlameCoefficients
from tests.support.heads import random_head

CLOSE = 0.02
MOVING = [row for row, name in enumerate(NAMES) if name != "tongueOut"]


def code(name: str) -> str:
    """A name as ICT-FaceKit writes it."""
    return name.replace("Left", "_L") if name.endswith("Left") else name.replace("Right", "_R")


@pytest.fixture(scope="module")
def named():
    """A head as ICT-FaceKit's: ARKit's shapes are its components, lids and jaw are held."""
    head = procedural_head()
    names = [NAMES[row] for row in MOVING]
    basis = np.array(head.arkit_basis)[..., MOVING]
    basis[np.concatenate(eyeballs(head))] = 0
    held = [name.startswith("eyeBlink") or name == "jawOpen" for name in names]
    upper = 1 - np.array(held, np.float32)
    expression = between(0 * upper, upper, 0 * upper + 0.5)
    sides = ("jawRight", "jawLeft", "mouthRight", "mouthLeft")
    return head.replace(
        expression_basis=basis,
        expression_names=tuple(n if n in sides else code(n) for n in names),
        expression_templates=None,
        priors=head.priors | {"expression": expression},
    )


@pytest.fixture(scope="module")
def tables(named):
    return arkit_tables(named, len(MOVING))


@pytest.fixture(scope="module")
def mixtures():
    """Five weights each; of movements that undo each other only one."""
    rng = np.random.default_rng(0)
    opposed = ("eyeLookDown", "eyeLookIn", "jawRight", "mouthRight")
    allowed = [row for row in MOVING if not NAMES[row].startswith(opposed)]
    weights = np.zeros((40, 52), np.float32)
    for row in weights:
        row[rng.choice(allowed, 5, replace=False)] = rng.uniform(0, 1, 5)
    return weights


def test_a_neutral_face_has_no_weights_to_the_last_bit(named, tables):
    rest = from_arkit(named, np.zeros((3, 52)), tables).coefficients
    # Who someone is, and how they hold their head, is no expression.
    shape = np.random.default_rng(0).standard_normal(rest.shape.shape).astype(np.float32)
    found = arkit_weights(named, rest.replace(shape=shape, pose=rest.pose + 0.3), tables)
    assert (found.weights == 0).all() and (found.error_mm == 0).all()


def test_single_weights_come_back(named, tables):
    for amount in (1.0, 0.5):
        put = amount * np.eye(52, dtype=np.float32)[MOVING]
        found = arkit_weights(named, from_arkit(named, put, tables).coefficients, tables)
        np.testing.assert_allclose(found.weights, put, atol=CLOSE)


def test_mixtures_come_back(named, tables, mixtures):
    faces = from_arkit(named, mixtures, tables).coefficients
    found = arkit_weights(named, faces, tables)
    np.testing.assert_allclose(found.weights, mixtures, atol=CLOSE)


def test_error_is_the_distance_from_the_posed_head(named, tables, mixtures):
    put = mixtures[:4].copy()
    put[:, NAMES.index("jawOpen")] = 0.5
    made = from_arkit(named, put, tables)
    rest = jax.tree.map(np.zeros_like, made.coefficients)
    both = (flame(named, jax.tree.map(jnp.asarray, c)).vertices for c in (made.coefficients, rest))
    moved = np.subtract(*map(np.asarray, both))
    shaped = np.asarray(named.arkit_basis) @ put.T
    off = (moved - np.moveaxis(shaped, -1, 0))[:, np.asarray(named.face_vertices)]
    error = 1e3 * np.sqrt((off**2).sum(-1).mean(-1))
    assert error.max() > 0.05  # the jaw's arcs are no chords
    np.testing.assert_allclose(made.error_mm, error, atol=2e-3)


def test_names_decide_where_components_are_named(named, tables):
    put = np.zeros((1, 52), np.float32)
    amounts = {"jawOpen": 0.5, "eyeBlinkRight": 0.7, "mouthSmileLeft": 0.3, "eyeLookUpLeft": 1}
    for name, amount in amounts.items():
        put[0, NAMES.index(name)] = amount
    made = from_arkit(named, put, tables).coefficients
    component = {name: i for i, name in enumerate(named.expression_names)}
    expected = np.zeros(len(MOVING))
    expected[component["mouthSmile_L"]], expected[component["eyeLookUp_L"]] = 0.3, 1
    np.testing.assert_allclose(made.expression[0], expected)
    np.testing.assert_allclose(made.eyelid[0], [0, 0.7])
    np.testing.assert_allclose(made.jaw[0], [0.5 * float(tables.travel), 0, 0])
    assert made.eyes[0, 0] < -0.2 and np.abs(made.eyes[0, 1:]).max() < 1e-3


def test_other_heads_are_fitted_within_their_bounds():
    head = procedural_head()
    tables = arkit_tables(head, head.expression_basis.shape[-1])
    names = ("jawOpen", "eyeBlinkLeft", "mouthSmileLeft", "browInnerUp", "eyeLookOutRight")
    put = np.eye(52, dtype=np.float32)[[NAMES.index(name) for name in names]]
    made = from_arkit(head, put, tables)
    assert made.error_mm.max() < 0.2
    np.testing.assert_allclose(made.coefficients.jaw[0, 0], float(tables.travel), atol=0.01)
    np.testing.assert_allclose(made.coefficients.eyelid[1], [1, 0], atol=0.05)
    for name in ("jaw", "eyelid", "expression"):
        known, found = head.priors[name], np.asarray(getattr(made.coefficients, name))
        assert (found >= np.asarray(known.lower)).all() and (found <= np.asarray(known.upper)).all()
    found = arkit_weights(head, made.coefficients, tables)
    np.testing.assert_allclose(found.weights, put, atol=CLOSE)


def test_the_jaw_s_turn_is_jaw_open_alone(named, tables):
    rest = jax.tree.map(np.zeros_like, from_arkit(named, np.zeros((2, 52)), tables).coefficients)
    jaw = np.float32([[0.1, 0, 0], [0.3, 0, 0]])
    found = arkit_weights(named, rest.replace(jaw=jaw), tables).weights
    opened = NAMES.index("jawOpen")
    np.testing.assert_allclose(found[:, opened], jaw[:, 0] / float(tables.travel), atol=0.01)
    assert np.delete(found, opened, axis=1).max() < 0.005


def test_clips_are_solved_in_chunks(named, tables, mixtures, monkeypatch):
    faces = from_arkit(named, mixtures, tables).coefficients
    whole = arkit_weights(named, faces, tables)
    monkeypatch.setattr(arkit, "_MOST_FRAMES", 16)
    parts = arkit_weights(named, faces, tables)
    assert parts.weights.shape == (40, 52) and parts.error_mm.shape == (40,)
    np.testing.assert_allclose(parts.weights, whole.weights, atol=2e-3)


def test_mistakes_are_told(named, tables):
    bare = random_head()
    faces = FlameCoefficients(
        shape=np.zeros((1, 2), np.float32),
        expression=np.zeros((1, 2), np.float32),
        jaw=np.zeros((1, 3), np.float32),
        eyelid=np.zeros((1, 2), np.float32),
        pose=np.zeros((1, 3), np.float32),
        camera=np.zeros((1, 3), np.float32),
    )
    with pytest.raises(UserError, match=r"head random has no ARKit shapes.*convert arkit"):
        arkit_weights(bare, faces)
    with pytest.raises(UserError, match="head random has no ARKit shapes"):
        from_arkit(bare, np.zeros((1, 52)))
    with pytest.raises(UserError, match="jaw of the faces holds numbers that are not finite"):
        arkit_weights(named, faces.replace(jaw=np.full((1, 3), np.nan, np.float32)), tables)
    for wrong in (np.zeros(52), np.zeros((1, 51)), np.full((1, 52), np.inf)):
        with pytest.raises(UserError, match="expected finite numbers"):
            from_arkit(named, wrong, tables)
