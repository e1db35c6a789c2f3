"""Sets of another head than the procedural one; the embedded set itself is in test_synthetic."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tensorflow_datasets as tfds
from etils import epath

from data_pipelines import heads
from data_pipelines.prepare import prepare
from data_pipelines.synthetic.synthetic_dataset_builder import Builder
from fields_jax.errors import UserError
from fields_jax.flame.io import save_flame
from fields_jax.flame.procedural import procedural_head
from tests.support.arkit_heads import SHAPES, arkit_head

OTHER = "other 2 (111111111111)"


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("heads") / "other.npz"
    save_flame(str(path), arkit_head())
    return str(path)


def test_a_set_says_which_head_it_is_of(tmp_path, file):
    own, other, transferred = (
        Builder(data_dir=tmp_path, config="spont4d", size="tiny", **options).info
        for options in ({}, {"head": file}, {"head": file, "labels": "procedural"})
    )
    procedural, there = (head.identity for head in (procedural_head(), arkit_head()))
    said = [info.metadata for info in (own, other, transferred)]
    assert [each["head"] for each in said] == [procedural, there, there]
    assert [each["labels_of"] for each in said] == [procedural, there, procedural]
    assert f"Head: {OTHER}. Coefficients: of {OTHER}." in other.description
    descriptions = {info.description for info in (own, other, transferred)}
    assert len(descriptions) == 3  # and so are the digests of the sets
    assert "Apache" not in other.redistribution_info.license


def test_only_one_part_has_coefficients_to_learn(tmp_path):
    infos = [Builder(data_dir=tmp_path, config=part).info for part in ("spont4d", "levels")]
    assert [info.metadata["learnt"] for info in infos] == [True, False]


def test_a_head_without_arkit_s_shapes_is_refused(tmp_path, file):
    bare = tmp_path / "bare.npz"
    save_flame(str(bare), arkit_head().replace(arkit_basis=None))
    with pytest.raises(UserError, match=rf"no ARKit shapes.*convert arkit ICT-FaceKit {bare}"):
        prepare("synthetic", tmp_path / "data", size="tiny", head=str(bare))
    assert not list((tmp_path / "data").glob("**/*tfrecord*"))


def test_a_set_of_another_head_is_not_taken_for_this_one(tmp_path, file):
    made = Builder(data_dir=tmp_path, config="levels", size="tiny", head=file)
    made.data_path.mkdir(parents=True)
    made.info.set_splits(tfds.core.splits.SplitDict([]))
    made.info.write_to_directory(made.data_path)
    with pytest.raises(UserError, match=r"--head=other 2 .*, not procedural .*another --out"):
        prepare("synthetic/levels", tmp_path, size="tiny")
    with pytest.raises(UserError, match=r"with --labels=head, not procedural"):
        prepare("synthetic/levels", tmp_path, size="tiny", head=file, labels="procedural")
    assert prepare("synthetic/levels", tmp_path, size="tiny", head=file) == [made.data_path]


@pytest.mark.slow
def test_faces_of_another_head_with_labels_of_the_procedural_one(tmp_path, file):
    prepared = {}
    for labels in ("head", "procedural"):
        out = tmp_path / labels
        (folder,) = prepare("synthetic/spont4d", out, size="tiny", head=file, labels=labels)
        rows = tfds.builder_from_directory(folder).as_dataset(split="test").as_numpy_iterator()
        prepared[labels] = {row["id"]: row for row in rows}
        said = json.loads((epath.Path(folder) / heads.METADATA).read_text())["error_mm"]
        assert set(said) == {"train", "test"} and 0 < said["test"]["movement"]["mean"] < 1
        assert ("labels" in said["test"]) == (labels == "procedural")
    own, other = prepared["head"], prepared["procedural"]
    assert len(own) == 8 and set(own) == set(other)
    head = procedural_head()
    basis = np.asarray(head.shape_basis)[np.asarray(head.face_vertices)]
    for name, row in own.items():
        np.testing.assert_array_equal(row["image"], other[name]["image"])
        assert row["has_flame"] and not row["shape"][SHAPES:].any()
        # The first identities are the procedural head's own: the same neutral face.
        there = basis @ row["shape"], basis @ other[name]["shape"]
        apart = 1e3 * np.linalg.norm(there[0] - there[1], axis=-1)
        assert apart.mean() < 0.3 < 1e3 * np.linalg.norm(there[0], axis=-1).mean()
    assert said["test"]["labels"]["mean"] < 0.5
