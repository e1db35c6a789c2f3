"""Clones of ICT-FaceKit: what is read of them, and what is refused."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from fields_jax.convert.ict_clone import EXPRESSIONS, LAYOUT, OWN, TWICE, read_clone
from fields_jax.errors import MissingFile, UserError
from fields_jax.types import PARTS


def test_the_published_model_is_described_without_gaps():
    starts = [piece.start for piece in LAYOUT.pieces]
    assert starts == [0, *(piece.stop for piece in LAYOUT.pieces[:-1])]
    assert LAYOUT.size == 26_719
    assert len(EXPRESSIONS) == len(set(EXPRESSIONS)) == 53 == len(OWN) + len(TWICE)
    assert {piece.part for piece in LAYOUT.pieces} == set(PARTS)


def test_shapes_become_displacements_in_metres(small, clone):
    np.testing.assert_allclose(clone.neutral, small.neutral, atol=1e-9)
    for name in ("mouthFunnel", "jawOpen"):
        np.testing.assert_allclose(clone.expression[name], small.shapes[name], atol=1e-8)
    np.testing.assert_allclose(clone.identity[..., 7], small.shapes["identity007"], atol=1e-8)
    assert tuple(clone.expression) == EXPRESSIONS


def test_triangles_know_their_part(small, clone):
    quads = (small.polygons[:, 3] >= 0).sum()
    assert len(clone.faces) == len(small.polygons) + quads
    teeth = clone.faces[clone.face_parts == PARTS.index("teeth")]
    assert set(np.unique(teeth)) == set(small.layout.rows("upper_teeth", "lower_teeth"))
    assert (clone.face_parts == PARTS.index("lashes")).sum() == 2
    # Triangles that join skin and mouth belong to the mouth, the later piece.
    lining = clone.faces[clone.face_parts == PARTS.index("gums")]
    assert np.isin(lining, small.layout.rows("face")).any()


def test_the_folder_of_the_model_may_be_named_itself(small, ict_folder, clone):
    again = read_clone(ict_folder / "FaceXModel", small.layout)
    assert again.sha256 == clone.sha256


def damaged(ict_folder, tmp_path, name, change):
    """The clone with one file changed; the others are the same files."""
    place = tmp_path / "FaceXModel"
    shutil.copytree(ict_folder / "FaceXModel", place, copy_function=_link)
    text = (place / name).read_text()
    (place / name).unlink()
    if (new := change(text)) is not None:
        (place / name).write_text(new)
    return tmp_path


def _link(source, target):
    import os

    os.link(source, target)


@pytest.mark.parametrize(
    ("name", "change", "complaint"),
    [
        ("identity042.obj", lambda text: None, "has no identity042.obj: name the folder of a"),
        ("vertex_indices.json", lambda text: None, "has no vertex_indices.json"),
        ("identity000.obj", lambda text: text[: len(text) // 3], "identity000.obj"),
        ("jawOpen.obj", lambda text: text[:-3000], "jawOpen.obj is cut short"),
        ("jawOpen.obj", lambda text: text.replace("v 0", "v 900", 1), "a vertex 9.*cm from"),
        ("vertex_indices.json", lambda text: text[:-5], "vertex_indices.json is no JSON"),
        (
            "vertex_indices.json",
            lambda text: json.dumps(json.loads(text) | {"expressions": ["smile"]}),
            "'expressions' is not the list of the 53",
        ),
        (
            "vertex_indices.json",
            lambda text: json.dumps(json.loads(text) | {"idx_to_landmark_verts": [1, 2]}),
            "expected 68 vertices",
        ),
    ],
)
def test_missing_cut_and_foreign_files_are_refused_by_name(
    ict_folder, small, tmp_path, name, change, complaint
):
    folder = damaged(ict_folder, tmp_path, name, change)
    with pytest.raises(UserError, match=complaint) as refused:
        read_clone(folder, small.layout)
    assert name in str(refused.value)


def test_another_model_is_refused(ict_folder):
    with pytest.raises(UserError, match=r"generic_neutral_mesh.obj has \d+ vertices.*26719"):
        read_clone(ict_folder)


def test_a_folder_without_the_model_is_refused(tmp_path):
    with pytest.raises(
        MissingFile, match=r"has no vertex_indices.json: name the folder of a clone"
    ):
        read_clone(tmp_path)
