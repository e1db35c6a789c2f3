"""Faces of the procedural head given to the same head, moved by ARKit's shapes."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from data_pipelines.building.summary import Summary
from data_pipelines.synthetic import casting, movements, pictures, population, samples
from data_pipelines.synthetic.studio import Studio
from fields_jax.errors import UserError
from fields_jax.flame import flame
from fields_jax.flame.procedural import procedural_head
from fields_jax.registration.heads import correspond
from fields_jax.registration.transfer import Transferred
from fields_jax.types import FlameCoefficients
from tests.support.arkit_heads import SHAPES, arkit_head


@pytest.fixture(scope="module")
def other():
    return arkit_head()


@pytest.fixture(scope="module")
def cast(other):
    return casting.Casting(other, correspond(other, procedural_head()))


def draw(part, count, images=8):
    """Samples without looks."""
    names = procedural_head().expression_names
    studio = Studio(names, None, None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(samples, "appearance", lambda rng, surface: None)
        size = samples.Size(8, images)
        return list(itertools.islice(samples.samples(part, "test", size, 0, 0, studio), count))


@pytest.fixture(scope="module")
def drawn():
    return draw("spont4d", 3) + draw("wild2d", 3)


@pytest.fixture(scope="module")
def given(cast, drawn):
    return list(cast(drawn, {}))


def posed(head, performances):
    """Face vertices of the mean person, metres."""
    rows = {
        name: np.stack([getattr(each, name) for each in performances])
        for name in population.Performance._fields
    }
    rest = np.zeros((len(performances), 3), np.float32)
    return flame(head, FlameCoefficients(rest, **rows, pose=rest, camera=rest)).vertices


def test_the_face_does_the_same(given, drawn, other):
    head = procedural_head()
    face = np.asarray(head.face_vertices)
    there = np.asarray(posed(other, [sample.performance for sample in given]))[:, face]
    here = np.asarray(posed(head, [sample.performance for sample in drawn]))[:, face]
    rest = np.asarray(head.template)[face]
    off = np.linalg.norm(there - here, axis=-1).mean(axis=1)
    moved = np.linalg.norm(here - rest[None], axis=-1).mean(axis=1)
    assert off.mean() < 0.5 * moved.mean() and off.max() < 1e-3


def test_a_plain_movement_is_its_shape(cast, drawn):
    names = procedural_head().expression_names
    expression = movements.components(names, {"brow_outer_up_left": 2.0}, 50).astype(np.float32)
    shown = population.Performance(expression, np.array([0.2, 0, 0]), np.array([0.5, 0.0]))
    (sample,) = cast([drawn[0]._replace(performance=shown)], {})
    values = dict(zip(cast._actor.expression_names, sample.performance.expression, strict=True))
    assert values.pop("browOuterUpLeft") == pytest.approx(0.8, abs=0.05)  # 2 of its 2.5 deviations
    assert max(values.values()) < 0.1
    np.testing.assert_allclose(sample.performance.jaw, [0.2, 0, 0], atol=0.02)
    np.testing.assert_allclose(sample.performance.eyelid, [0.5, 0], atol=0.05)


def test_a_neutral_face_stays_neutral(cast, drawn):
    still = population.Performance(*(np.zeros(n, np.float32) for n in (50, 3, 2)))
    (sample,) = cast([drawn[0]._replace(performance=still)], {})
    for values in sample.performance:
        assert not np.any(values)


def test_labels_are_the_head_s_own(given, drawn, other):
    prior = other.priors["expression"]
    for before, after in zip(drawn, given, strict=True):
        shown, kind = after.performance, "" if before.id.startswith("spont4d") else "eval_"
        assert after.shape.shape == (SHAPES,)
        np.testing.assert_allclose(after.shape, 0.5 * before.shape[:SHAPES], rtol=1e-6)
        assert (prior.lower <= shown.expression).all() and (shown.expression <= prior.upper).all()
        told = after.labels[kind + "expression"]
        np.testing.assert_array_equal(told, shown.expression[:50])
        assert not shown.expression[50:].any()
        np.testing.assert_array_equal(after.labels[kind + "jaw"], shown.jaw)
        np.testing.assert_array_equal(after.labels[kind + "eyelid"], shown.eyelid)
        others = set(before.labels) - {kind + name for name in casting.Told._fields}
        assert all(before.labels[name] == after.labels[name] for name in others)
        assert after.id == before.id and after.view is before.view
        if not kind:
            shape = after.labels["shape"]
            np.testing.assert_array_equal(shape[:SHAPES], after.shape)
            assert shape.shape == (300,) and not shape[SHAPES:].any()


def test_errors_are_counted_once_for_each_face(cast, drawn):
    errors = {}
    assert len(list(cast(drawn, errors))) == len(errors["movement"]) == len(drawn)
    said = Summary(errors=errors).errors_mm()
    assert set(said) == {"movement"} and 0 < said["movement"]["mean"] <= said["movement"]["p95"] < 1


def test_free_components_beyond_those_of_a_record_are_not_used(other):
    prior = other.priors["expression"]
    free = other.replace(priors=other.priors | {"expression": prior.replace(upper=prior.lower + 1)})
    assert casting._recorded(free).expression_basis.shape[-1] == 50
    assert len(casting._recorded(free).expression_names) == 50
    assert casting._recorded(other).expression_basis.shape[-1] == 52


def test_a_head_without_arkit_s_shapes_is_refused(other):
    pair = correspond(other, procedural_head())
    with pytest.raises(UserError, match=r"head other has no ARKit shapes.*convert arkit"):
        casting.Casting(other.replace(arkit_basis=None), pair)


def test_labels_of_the_procedural_head_go_subject_by_subject(other, drawn, monkeypatch):
    """What is handed to the transfer, and that its answers come to the right faces."""
    calls = []

    class Transfer:
        def __init__(self, a, b, counts, pair, settings):
            assert (a.sha256, b, tuple(counts)) == (other.sha256, procedural_head(), (52, SHAPES))

        def __call__(self, codes, people):
            calls.append(people)
            error = np.stack([codes.jaw[:, 0], codes.jaw[:, 0] + 1], axis=1)
            wide = np.tile(codes.jaw[:, :1], (1, 50))
            return Transferred(codes.replace(expression=wide, shape=codes.shape + 1), error)

    monkeypatch.setattr(casting, "Transfer", Transfer)
    fresh = casting.Casting(other, correspond(other, procedural_head()), procedural_labels=True)
    errors = {}
    given = list(fresh(drawn, errors))
    (people,) = calls  # filled up to a whole batch
    subjects = [sample.labels["subject"] for sample in drawn]
    assert people.tolist() == subjects + subjects[-1:] * (pictures.BATCH - len(drawn))
    for sample in given:
        kind = "" if sample.id.startswith("spont4d") else "eval_"
        np.testing.assert_array_equal(
            sample.labels[kind + "expression"], np.full(50, sample.performance.jaw[0])
        )
        assert len(sample.performance.expression) == 52  # the picture is of the other head
    jaws = np.array([sample.performance.jaw[0] for sample in given], np.float64)
    said = Summary(errors=errors).errors_mm()["labels"]
    assert said["mean"] == pytest.approx(jaws.mean(), abs=1e-3)
    assert said["p95"] == pytest.approx(jaws.mean() + 1, abs=1e-3)
