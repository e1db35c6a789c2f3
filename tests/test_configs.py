"""The shipped configs: the overrides of `:synthetic` are of keys that exist and differ."""

from __future__ import annotations

import functools
import operator

import pytest

from configs import common, embedded, stage1, stage2
from fields_jax.workdir import schema


@pytest.mark.parametrize("stage", [stage1, stage2], ids=["stage 1", "stage 2"])
def test_each_override_names_a_key_and_changes_it(stage):
    full, synthetic = stage.get_config("full"), stage.get_config("synthetic")
    overrides = common.SYNTHETIC | stage.SYNTHETIC
    for key, value in overrides.items():
        *groups, name = key.split(".")
        before, after = (functools.reduce(operator.getitem, groups, c) for c in (full, synthetic))
        assert name in before, f"{key} is no key of the reference"
        assert before[name] != after[name], f"{key} is the reference's"
        found = after[name]
        assert (found.to_dict() if isinstance(value, dict) else found) == value


def test_two_configs_share_nothing_that_can_be_changed():
    changed, other = stage2.get_config("full"), stage2.get_config("full")
    changed.phases.A.losses.emotion = 7.0
    changed.phases.B.rates.synthesizer = 0.5
    assert changed.phases.B.losses.emotion == other.phases.A.losses.emotion == 1.0
    assert other.phases.B.rates.to_dict() == {} == changed.phases.A.rates.to_dict()


def test_the_embedded_model_grows_in_size_alone():
    small, large = (embedded.get_config(size) for size in embedded.SIZES)
    assert (small.image_size, large.image_size) == (64, 96)
    assert small.model.to_dict() == large.model.to_dict()  # one can start from the other
    assert small.phases.joint.losses.keys() == large.phases.joint.losses.keys()
    schema.check(large.to_dict())
    with pytest.raises(ValueError, match=r"unknown config argument '32'; known: 64, 96"):
        embedded.get_config("32")
