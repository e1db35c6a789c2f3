"""The benchmark of human heads, on a head whose people and movements are its own."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import head_realism
from fields_jax.flame.procedural import procedural_head


@pytest.fixture(scope="module")
def head():
    return procedural_head()


def test_a_head_explains_its_own_shapes(head):
    found = head_realism.movements(head, head)
    assert 40 < len(found["share"]) < 52 and "tongueOut" not in found["share"]
    made_of_movements = [share for name, share in found["share"].items() if name != "mouthClose"]
    assert min(made_of_movements) > 0.99
    assert found["share"]["mouthClose"] > 0.7  # with the open jaw
    assert found["least"] <= found["mean"] <= 1


def test_movements_of_another_kind_are_not_explained(head):
    rng = np.random.default_rng(0)
    other = head.replace(arkit_basis=2e-3 * rng.normal(size=head.arkit_basis.shape))
    assert max(head_realism.movements(head, other)["share"].values()) < 0.5


def test_regions_share_the_face_out(head):
    regions = head_realism.face_regions(head)
    rows = np.concatenate(list(regions.values()))
    assert len(np.unique(rows)) == len(rows)
    assert set(rows.tolist()) <= set(np.asarray(head.face_vertices).tolist())
    assert min(map(len, regions.values())) > 40
    height = {name: np.asarray(head.template)[rows, 1].mean() for name, rows in regions.items()}
    order = ("forehead", "brows", "eyes", "nose", "lips", "chin")
    assert (np.diff([height[name] for name in order]) < 0).all()


def test_a_person_is_scanned_from_the_front(head):
    person = head_realism.draw_person(head, np.random.default_rng(0), 3)
    assert person.frames.shape == (4, len(head.template), 3) and person.names[0] == "rest"
    assert np.abs(person.frames[1:] - person.frames[0]).max((1, 2)).min() > 1e-3
    seen = head_realism._scanned(head)
    assert np.isin(np.asarray(head.regions["nose"]), seen).mean() > 0.8
    assert not np.isin(np.asarray(head.regions["left_eyeball"]), seen).any()
    assert np.asarray(head.template)[seen, 2].min() > -0.12  # not from behind
