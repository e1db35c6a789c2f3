"""The table of what each key of a config may be."""

from __future__ import annotations

import json
import math

import pytest

from configs import stage1, stage2
from fields_jax.errors import UserError
from fields_jax.workdir import schema


def config(stage=stage2, variant="synthetic"):
    return stage.get_config(variant).to_dict()


def changed(key, value):
    made = config()
    *groups, name = key.split(".")
    group = made
    for part in groups:
        group = group[part]
    group[name] = value
    return made


@pytest.mark.parametrize("stage", [stage1, stage2], ids=["stage 1", "stage 2"])
@pytest.mark.parametrize("variant", ["synthetic", "full"])
def test_the_shipped_configs_have_a_rule_for_each_key(stage, variant):
    schema.check(config(stage, variant))
    # So do those that a workdir has kept, in which tuples are lists.
    schema.check(json.loads(stage.get_config(variant).to_json()))


NOT = {
    "seed": (1.0, "1", True, 2**31),
    "image_size": (0, 31, "64", None),
    "batch_size": (0, -8, 8.0),
    "parallel": ("pjit", 1, ["pmap"]),
    "remat": (1, "yes", None),
    "head": (5, None, "a\0b"),
    "steps_scale": (0, -1.0, math.inf, math.nan, "1", 10**400, 1e30),
    "ema": (1.0, -0.1, math.nan),
    "profile": ((100,), 100, (0, -1), "(0,1)", (0.0, 1.0)),
    "stage": (3, "1", True, 1.0),
    "model.dtype": ("float16", None),
    "model.encoder_width": (0, math.inf),
    "model.expression_bounds": ([1, 2], [(1, 2, 3)], ["ab"]),
    "model.emotion_hidden": (512, (512, 0), ("512",)),
    "losses.gt_metric": ("mm",),
    "losses.class_weights": ((1.0,) * 7, (math.nan,) * 8, 1.0),
    "losses.region_growth": (0.5, (0.5,), (0.5, -0.2), (0.5, 0.2, 0.1)),
    "losses.dilation": (-0.1, 1.5),
    "cycle.jaw_noise": (0.2, (0.2, 0.2)),
    "skin.drop": (1.5,),
    "data.root": ("", " ", None),
    "data.crop_scale": (1.4, (1.4,), (1.5, 1.3), (0, 1), (1.3, "1.5"), (1.3, math.inf)),
    "data.eval_crop_scale": (0, -1, (1.4, 1.4)),
    "data.augment.blur": ((3, 6), (7, 3), 3, (3, 99)),
    "data.augment.gamma": ((120, 80), (0, 100)),
    "data.augment.p_flip": (1.5, -0.1, "0.5", True),
    "data.augment.zoom": (1.0,),
    "data.threads": (-1, 0.5),
    "data": (5, None),
    "optim.clip": (-1, math.nan),
    "optim.final": (2,),
    "optim.rules": ({}, 5),
    "optim.rules.heads.lr": (-1e-3, math.inf, math.nan, "1e-3"),
    "optim.rules.heads.b1": (1.0,),
    "optim.rules.heads.match": ("(", 5),
    "guard.spike": (-1,),
    "log.every": (0, 2.5),
    "checkpoint.keep": (0,),
    "checkpoint.best_mode": ("most",),
    "evaluation.batch_size": (0,),
    "phases": ({}, []),
    "phases.A.steps": (-1, 1e3, 2**31),
    "phases.A.train": ("emotion_head", (), ("decoder",), ("emotion_head",) * 2, 5),
    "phases.A.rates": ({"emotion_head": -1},),
    "phases.A.losses": ({"l1": math.nan}, {"l1": "1"}, []),
    "phases.A.cycle": (0,),
}


@pytest.mark.parametrize(("key", "value"), [(k, v) for k, values in NOT.items() for v in values])
def test_a_wrong_value_is_refused_by_name_in_one_line(key, value):
    with pytest.raises(UserError, match=rf"^[^\n]*config\.{key.split('.')[0]}[^\n]*$") as caught:
        schema.check(changed(key, value))
    assert len(str(caught.value)) < 260
    if key not in ("steps_scale", "phases.A.steps", "data.augment.blur"):  # two rules look at them
        assert f"config.{key}" in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("seed", -1),
        ("data.augment.noise_variance", (10, 10)),
        ("losses.region_growth", [0, 2]),
        ("optim.rules.heads.lr", 0),
        ("profile", (100, 5)),
        ("data.threads", 0),
        ("model.emotion_hidden", ()),
        ("phases.A.steps", 0),
    ],
)
def test_values_at_the_ends_are_taken(key, value):
    schema.check(changed(key, value))


def test_keys_that_are_missing_or_unknown_are_named():
    made = config()
    del made["data"]["augment"]["p_flip"]
    with pytest.raises(UserError, match=r"^config\.data\.augment\.p_flip is missing$"):
        schema.check(made)
    with pytest.raises(UserError, match=r"^unknown key config\.data\.crop_scal: remove it$"):
        schema.check(changed("data.crop_scal", 1))


def test_the_config_of_a_trained_model_may_be_older_but_not_wrong():
    made = config()
    del made["skin"], made["guard"], made["data"]["balanced"]
    made["of a later version"] = {"x": 1}
    schema.check_trained(made, "run/config.json")
    with pytest.raises(UserError, match=r"run/config.json: config\.losses\.dilation is missing"):
        schema.check_trained(made | {"losses": {}}, "run/config.json")
    with pytest.raises(UserError, match=r"run/config.json: unknown config\.model\.dtype 'x'"):
        schema.check_trained(changed("model.dtype", "x"), "run/config.json")
