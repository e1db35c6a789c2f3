"""`convert arkit`: shapes added to head files."""

from __future__ import annotations

import numpy as np
import pytest

from fields_jax.arkit import NAMES
from fields_jax.convert.arkit import convert_arkit
from fields_jax.errors import MissingFile, UserError
from fields_jax.flame.io import load_flame, read_arrays, save_flame
from fields_jax.flame.procedural import procedural_head
from fields_jax.registration import heads
from fields_jax.registration.surfaces import Settings
from tests.support.registered import small_head


@pytest.fixture
def files(tmp_path):
    """A head without shapes, and the same by another name with them."""
    bare = small_head().replace(name="bare")
    giver = small_head().replace(
        name="giver", sha256="1" * 64, arkit_basis=procedural_head().arkit_basis
    )
    paths = tmp_path / "giver.npz", tmp_path / "bare.npz"
    for path, head in zip(paths, (giver, bare), strict=True):
        save_flame(str(path), head)
    return tuple(map(str, paths))


def test_the_table_is_added_and_nothing_else_changes(files):
    source, target = files
    before, meta = read_arrays(target)
    said = str(convert_arkit(source, target))
    assert said == ("ARKit's shapes of giver join head bare; it has nothing for tongueOut to move")
    after, same = read_arrays(target)
    assert same == meta and set(after) == {*before, "arkit_basis"}
    for key, array in before.items():
        np.testing.assert_array_equal(after[key], array)
    moves = np.asarray(load_flame(target).arkit_basis).any((0, 1))
    assert [name for name, any_ in zip(NAMES, moves, strict=True) if not any_] == ["tongueOut"]
    assert str(convert_arkit(source, target)).startswith(
        "ARKit's shapes of giver replace those of head bare"
    )


def test_a_clone_gives_its_shapes(files, ict_folder, small, monkeypatch):
    whole = heads.register_both
    quick = Settings(lengths=(20.0,), rounds=1)
    monkeypatch.setattr(heads, "register_both", lambda *pair: whole(*pair[:2], quick))
    target = files[1]
    added = convert_arkit(str(ict_folder), target, small.layout)
    assert added.source == "ICT-FaceKit" and not added.replaced
    # The clone is of the head's own vertices.
    basis = np.asarray(load_flame(target).arkit_basis)[small.order]
    frown = small.shapes["mouthFrown_L"][: len(small.order)]
    face = np.isin(small.order, np.asarray(small.head.face_vertices))
    off = np.linalg.norm(basis[..., NAMES.index("mouthFrownLeft")] - frown, axis=1)[face]
    assert np.median(off) < 0.1 * np.linalg.norm(frown[face], axis=1).max()


def test_mistakes_are_one_line_and_leave_the_head_alone(files, tmp_path):
    source, target = files
    before = (tmp_path / "bare.npz").read_bytes()
    nowhere = str(tmp_path / "none.npz")
    with pytest.raises(MissingFile, match=r"none.npz does not exist: name a clone"):
        convert_arkit(nowhere, target)
    with pytest.raises(MissingFile, match=r"none.npz does not exist"):
        convert_arkit(source, nowhere)
    with pytest.raises(UserError, match="the procedural head has ARKit's shapes already"):
        convert_arkit(source, "")
    with pytest.raises(UserError, match=r"bare.npz holds the head bare, which has no ARKit shapes"):
        convert_arkit(target, source)
    with pytest.raises(UserError, match="are the same head, giver"):
        convert_arkit(source, source)
    with pytest.raises(MissingFile, match=r"has no vertex_indices.json"):
        convert_arkit(str(tmp_path), target)
    assert (tmp_path / "bare.npz").read_bytes() == before
