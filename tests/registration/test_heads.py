"""Correspondence of whole heads: checked, and kept in a folder."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from fields_jax.errors import UserError
from fields_jax.files import read_npz, write_npz
from fields_jax.registration import heads
from fields_jax.registration.heads import check, correspond, same_vertices
from fields_jax.registration.matching import match, oriented
from fields_jax.registration.surfaces import Settings, carry
from tests.support.registered import small_head

QUICK = Settings(lengths=(20.0,), rounds=1)


@pytest.fixture
def quick(monkeypatch):
    """Registrations of one round, counted."""
    calls = []

    def counted(source, target, settings):
        calls.append(settings)
        return register(source, target, QUICK)

    register = heads.register_both
    monkeypatch.setattr(heads, "register_both", counted)
    return calls


@pytest.fixture(scope="module")
def pair():
    """A head, and the same with its triangles in another order."""
    head = small_head()
    faces = np.asarray(head.faces)
    order = np.random.default_rng(0).permutation(len(faces))
    place = np.argsort(order)
    sets = {
        name: dataclasses.replace(points, face_index=place[np.asarray(points.face_index)])
        for name in ("static_51", "contour", "static_68", "landmarks_105", "landmarks_203")
        for points in [getattr(head, name)]
    }
    tables = {name: np.asarray(getattr(head, name))[order] for name in ("face_parts", "uv_faces")}
    return head, dataclasses.replace(head, faces=faces[order], sha256="0" * 64, **sets, **tables)


def test_heads_of_the_same_triangles_correspond_vertex_by_vertex(quick):
    head = small_head()
    forward, backward = correspond(head, head)
    assert not quick and forward is backward
    values = np.arange(len(head.template), dtype=float)
    np.testing.assert_array_equal(carry(forward, np.asarray(head.faces), values), values)
    np.testing.assert_array_equal(forward.confidence, 1)


def test_vertices_of_no_triangle_are_nowhere():
    found = same_vertices(np.array([[3, 1, 0]]), 4)
    assert found.confidence.tolist() == [1, 1, 0, 1]
    assert found.barycentric[[0, 1, 3]].argmax(1).tolist() == [2, 1, 0]


def test_a_registration_is_kept_and_serves_both_directions(pair, quick, tmp_path):
    one, two = pair
    first = correspond(one, two, tmp_path)
    again, turned = correspond(one, two, tmp_path), correspond(two, one, tmp_path)
    assert len(quick) == 1 and len(list(tmp_path.iterdir())) == 1
    for name in ("face_index", "barycentric", "confidence"):
        for kept, direction in ((again, first), (turned, first[::-1])):
            for a, b in zip(kept, direction, strict=True):
                np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    own = np.asarray(one.template)
    np.testing.assert_allclose(carry(first.forward, np.asarray(two.faces), own), own, atol=1e-6)
    other = dataclasses.replace(two, sha256=two.sha256[:12] + "f" * 52)
    correspond(one, other, tmp_path)  # a head whose file would have the same name
    assert len(quick) == 2
    # Tables that were added to a head leave its SHA-256.
    middles = np.full_like(two.static_68.barycentric, 1 / 3)
    moved = two.static_68.replace(barycentric=middles)
    correspond(one, dataclasses.replace(two, static_68=moved), tmp_path)
    assert len(quick) == 3


def test_a_damaged_registration_is_named(pair, quick, tmp_path):
    correspond(*pair, tmp_path)
    (path,) = tmp_path.iterdir()
    sound = read_npz(path)
    for name, value in (
        ("forward.face_index", sound["forward.face_index"] + 10**6),
        ("backward.barycentric", np.nan * sound["backward.barycentric"]),
        ("forward.confidence", sound["forward.confidence"][1:]),
    ):
        write_npz(path, sound | {name: value})
        with pytest.raises(UserError, match="delete it"):
            correspond(*pair, tmp_path)
    path.write_bytes(b"no archive")
    with pytest.raises(UserError, match="registration of two heads"):
        correspond(*pair, tmp_path)


def test_a_folder_that_cannot_be_written_keeps_nothing(pair, quick, tmp_path):
    (tmp_path / "file").write_text("")
    for _ in range(2):
        correspond(*pair, tmp_path / "file" / "folder")
    assert len(quick) == 2


def test_wrong_correspondences_are_refused(pair):
    head, _ = pair
    faces, vertices = np.asarray(head.faces), np.asarray(head.template)
    same = same_vertices(faces, len(vertices))
    check(head, head, same)
    with pytest.raises(UserError, match=r"landmark \d+ of the 68 is off"):
        check(head, head, _nearest(vertices * np.float32([-1, 1, 1]), head))
    # Landmarks in place, but a patch of the cheek is turned over where it lies.
    x, y, z = vertices.T
    patch = (np.hypot(x - 0.045, y + 0.02) < 0.025) & (z > 0)
    turned = vertices.copy()
    turned[patch, 0] = 0.09 - turned[patch, 0]
    with pytest.raises(UserError, match="turned over"):
        check(head, head, _nearest(turned, head))


def _nearest(points, head):
    """Where points lie on a head, by distance alone."""
    faces, vertices = np.asarray(head.faces), np.asarray(head.template)
    found = match(oriented(vertices, faces), points, np.zeros_like(points), 0.0, 12)
    same = same_vertices(faces, len(points))
    return dataclasses.replace(
        same, face_index=found.face.astype(np.int32), barycentric=found.barycentric
    )
