"""Which head the coefficients of a set are of: said by the set, compared before training."""

from __future__ import annotations

import json

import pytest
from etils import epath
from ml_collections import ConfigDict

from configs import stage1, stage2
from data_pipelines import heads
from data_pipelines.reading import mixture
from fields_jax.errors import UserError
from fields_jax.training.setup import make_phases
from tests.support.heads import random_head

HEAD = random_head().replace(name="one", version="1", sha256="1" * 64)
OTHER = HEAD.replace(name="other", version="2", sha256="2" * 64)


def write_set(folder, head, *, learnt, **more):
    folder.mkdir(parents=True)
    (folder / "dataset_info.json").write_text("{}")
    told = {"labels_of": head.identity, "learnt": learnt, **more}
    (folder / heads.METADATA).write_text(json.dumps(told))
    return epath.Path(folder)


def test_a_set_of_the_same_head_or_of_none_is_taken(tmp_path):
    same = write_set(tmp_path / "same", HEAD, learnt=True)
    silent = epath.Path(tmp_path / "silent")
    silent.mkdir()
    assert heads.labels_of(silent) is None
    assert heads.labels_of(same) == (HEAD.identity, True, False)
    assert heads.compare([same, silent], HEAD, learnt=True) == []


def test_coefficients_of_another_head_are_refused_where_they_are_learnt(tmp_path):
    other = write_set(tmp_path / "other", OTHER, learnt=True)
    line = (
        r"other tells coefficients of the head other 2 \(222222222222\), .* train is one 1 \(1111"
    )
    with pytest.raises(UserError, match=line + r".*--head=HEAD.npz --out=DIR"):
        heads.compare([other], HEAD, learnt=True)
    (warning,) = heads.compare([other], HEAD, learnt=False)
    assert "of the head other 2" in warning and "one 1" in warning
    evaluated = write_set(tmp_path / "evaluated", OTHER, learnt=False)
    assert len(heads.compare([evaluated], HEAD, learnt=True)) == 1


def test_fitted_coefficients_of_another_head_are_refused_only_if_they_are_learnt(tmp_path):
    fitted = write_set(tmp_path / "fitted", OTHER, learnt=True, fitted=True)
    (warning,) = heads.compare([fitted], HEAD, learnt=True)
    assert "of the head other 2" in warning
    with pytest.raises(UserError, match="of the head other 2"):
        heads.compare([fitted], HEAD, learnt=True, fits_learnt=True)


@pytest.mark.parametrize("told", ["one", {"name": "one"}, {"name": 1, "version": "", "sha256": ""}])
def test_damaged_metadata_are_named(tmp_path, told):
    (tmp_path / heads.METADATA).write_text(json.dumps({"labels_of": told}))
    with pytest.raises(UserError, match=r"metadata.json: labels_of is .*, no head"):
        heads.labels_of(epath.Path(tmp_path))


def test_sets_of_a_mixture_are_found(tmp_path):
    write_set(tmp_path / "dots/a/1.0.0", HEAD, learnt=True)
    write_set(tmp_path / "dots/a/1.2.0", OTHER, learnt=False)
    config = ConfigDict({"root": str(tmp_path)})
    (warning,) = mixture.compare_heads(config, ["dots/a", "dots/none"], HEAD)
    assert "1.2.0 tells coefficients" in warning


def test_stage_2_learns_coefficients_and_stage_1_does_not():
    for stage, learns in ((stage1, [False]), (stage2, [True, True])):
        phases = make_phases(stage.get_config(), [])
        assert [phase.learns_coefficients for phase in phases] == learns
