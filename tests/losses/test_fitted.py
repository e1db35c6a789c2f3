"""Coefficients of landmark fits count by weight and certainty, or not at all; exact ones fully."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import stage2
from fields_jax.losses import evidence, registry, terms
from fields_jax.workdir.config import CONFIG_FILE, check_workdir
from tests.losses.test_losses import SETTINGS, make_evidence, value_of

TERMS = ("gt_expression", "gt_jaw", "gt_eyelid", "gt_shape")
RESIDUAL = jnp.asarray([0.0, 0.05, 0.0, 0.1, 0.0, 0.0])
SCALE = 0.05


def with_fits(e, weight, residual=RESIDUAL):
    settings = dataclasses.replace(SETTINGS, fitted_weight=weight, fitted_scale=SCALE)
    return dataclasses.replace(
        e, settings=settings, batch=dict(e.batch) | {"fit_residual": residual}
    )


def values(name, e):
    return np.asarray(registry.TERMS[name].values(e), np.float64)


@pytest.mark.parametrize("name", TERMS)
def test_fits_are_not_learnt_by_default(tiny_head, name):
    e = make_evidence(tiny_head)
    exact = np.asarray(RESIDUAL == 0)
    found = value_of(name, with_fits(e, 0.0))
    assert found == pytest.approx(values(name, e)[exact].mean(), rel=1e-5)
    # A set without fits gives the same bits as a batch from before there were any.
    none = with_fits(e, 0.0, jnp.zeros(6))
    for weight in (0.0, 0.7):
        same = with_fits(e, weight, jnp.zeros(6))
        assert value_of(name, same) == value_of(name, e) == value_of(name, none)


@pytest.mark.parametrize("name", TERMS)
def test_a_fit_counts_by_weight_and_certainty(tiny_head, name):
    e = with_fits(make_evidence(tiny_head), 0.8)
    # Residuals of once and twice the scale: a half and a fifth.
    weights = np.array([1, 0.8 / 2, 1, 0.8 / 5, 1, 1])
    expected = (weights * values(name, e)).sum() / weights.sum()
    assert value_of(name, e) == pytest.approx(expected, rel=1e-5)


def test_labels_that_no_fit_gave_do_not_depend_on_it(tiny_head):
    e = make_evidence(tiny_head)
    for name in ("landmark_105", "emotion", "va_mse"):
        assert value_of(name, with_fits(e, 0.0)) == value_of(name, e)


def test_few_fits_without_exact_labels_stay_weak(tiny_head):
    e = make_evidence(tiny_head)
    flags = {"has_flame": jnp.arange(6) == 1}
    e = dataclasses.replace(e, batch=dict(e.batch) | flags)
    for weight in (0.1, 0.2):
        found = value_of("gt_jaw", with_fits(e, weight))
        assert found == pytest.approx(weight / 2 * values("gt_jaw", e)[1], rel=1e-5)
    assert value_of("gt_jaw", with_fits(e, 0.0)) == 0


def test_an_ignored_fit_may_be_nan(tiny_head):
    e = make_evidence(tiny_head)
    spoilt = dict(e.batch) | {"jaw": e.batch["jaw"].at[1].set(jnp.nan)}
    e = with_fits(dataclasses.replace(e, batch=spoilt), 0.0)
    assert np.isfinite(value_of("gt_jaw", e))


def test_certainty_falls_from_one_to_none():
    found = np.asarray(terms.certainty(jnp.asarray([0.0, 0.05, 1e9]), 0.05))
    np.testing.assert_allclose(found, [1, 0.5, 0], atol=1e-6)


def test_weights_of_parts_add_up(tiny_head):
    batch = with_fits(make_evidence(tiny_head), 0.5).batch
    settings = dataclasses.replace(SETTINGS, fitted_weight=0.5, fitted_scale=SCALE)
    whole = evidence.count_examples(batch, jnp.sum, settings)
    parts = [
        evidence.count_examples({k: v[rows] for k, v in batch.items()}, jnp.sum, settings)
        for rows in (slice(2), slice(2, 6))
    ]
    added = jax.tree.map(jnp.add, *parts)
    assert whole["has_flame"] == pytest.approx(4 + 0.25 + 0.1)
    for flag, value in whole.items():
        assert value == pytest.approx(float(added[flag])), flag


def test_runs_from_before_there_were_fits_go_on(tmp_path):
    config = stage2.get_config()
    before = stage2.get_config().unlock()
    del before.losses.fitted_weight, before.losses.fitted_scale
    (tmp_path / CONFIG_FILE).write_text(before.to_json())
    assert check_workdir(str(tmp_path), config) == []
    config.losses.fitted_weight = 0.5
    (line,) = check_workdir(str(tmp_path), config)
    assert line == "losses.fitted_weight was 0.0, now 0.5"
