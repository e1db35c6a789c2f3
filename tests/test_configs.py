"""The shipped configs: the overrides of `:synthetic` are of keys that exist and differ."""

from __future__ import annotations

import functools
import operator

import pytest

from configs import common, stage1, stage2


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
