"""From configs/ablation.py to runs: each arm differs from the full recipe in what it says."""

from __future__ import annotations

import importlib.util
import json

import pytest
from ml_collections import ConfigDict

from configs import ablation
from fields_jax.ablation import plan
from fields_jax.ablation.jobs import Job
from fields_jax.ablation.sweep import FULL, NETWORK, START, Sweep, read_sweep
from fields_jax.errors import UserError
from fields_jax.workdir import schema


def read(variant="synthetic", **options) -> Sweep:
    config = ablation.get_config(variant)
    config.lock()  # as flags do
    return read_sweep(config, "OUT", **options)


def flat(config, path="") -> dict:
    found = {}
    for key, value in config.items():
        where = f"{path}.{key}" if path else key
        found |= flat(value, where) if isinstance(value, dict) else {where: value}
    return found


def changes(sweep: Sweep, arm: str) -> dict:
    """What an arm's config has in another way than the full recipe, None for what it lacks."""
    own, full = (
        flat(next(run for run in sweep.runs if run.name == f"{name}-0").config.to_dict())
        for name in (arm, FULL)
    )
    keys = own.keys() | full.keys()
    return {key: own.get(key) for key in keys if own.get(key) != full.get(key)}


def test_every_arm_takes_away_what_it_says():
    sweep = read()
    assert set(sweep.arms) == {
        *("full", "no_gt", "no_emo", "no_base", "hard_classes", "beta_detached", "2d_only")
    }
    losses = "phases.A.losses."
    encoders = ("expression_encoder", "shape_encoder")
    gt = dict.fromkeys((f"{losses}{name}" for name in ablation.GT), 0.0)
    emotion = dict.fromkeys((f"{losses}{name}" for name in ablation.EMOTION), 0.0)
    base = dict.fromkeys((f"{losses}{name}" for name in ablation.BASE), 0.0)
    assert changes(sweep, "no_gt") == gt
    assert changes(sweep, "no_emo") == emotion | {"phases.A.train": encoders}
    assert changes(sweep, "no_base") == base
    assert changes(sweep, "hard_classes") == {"losses.emotion_targets": "hard"}
    assert changes(sweep, "beta_detached") == {"model.emotion_detach_shape": True}
    assert changes(sweep, "2d_only") == gt | emotion | {"phases.A.train": encoders}


def test_one_step_has_as_many_examples_in_one_phase():
    sweep = read("joint")
    steps = {run.arm: run.steps for run in sweep.runs}
    assert steps["one_step"] == steps["full"]
    config = next(run for run in sweep.runs if run.arm == "one_step").config
    assert list(config.phases) == ["B"] and set(config.phases.B.rates.values()) == {1.0}
    assert "one_step" not in read().arms  # there is no phase B to do without phase A


def with_external(**changes) -> ConfigDict:
    config = ablation.get_config("joint")
    config.update(changes)
    return config


def test_the_external_arm_compares_a_network_that_is_named():
    sweep = read_sweep(with_external(external="resnet"), "OUT")
    found = changes(sweep, "external")
    assert found["losses.emotion_feature_weights"] == "resnet"
    assert all(found[f"phases.{phase}.losses.emotion"] == 0 for phase in "AB")
    weights = {run.config.losses.emotion_feature_weights for run in sweep.runs if run.arm == FULL}
    assert weights == {""} and sweep.networks == ()
    jobs = {job.name: job for job in plan.plan_jobs(sweep, "OUT")}
    assert jobs["external-0"].after == ("start-0",)
    assert "external" not in read("full").arms  # 224 pixels: EMOCA's network, or none
    assert "external" not in read().arms  # there is no phase B to paint in


def test_without_one_the_external_arm_trains_its_network_first():
    sweep = read("joint", data_root="DIR")
    assert [run.name for run in sweep.networks] == [f"{NETWORK}-{seed}" for seed in (0, 1, 2)]
    assert all(run.config.data.root == "DIR" for run in sweep.networks)
    assert {run.config.image_size for run in (*sweep.networks, *sweep.runs)} == {64}
    work = plan.plan_jobs(sweep, "OUT")
    assert [job.name for job in work[:4]] == [*(run.name for run in sweep.networks), "start-0"]
    jobs = {job.name: job for job in work}
    assert jobs["external-1"].after == ("start-1", f"{NETWORK}-1")
    assert jobs["full-1"].after == ("start-1",) and jobs[f"{NETWORK}-1"].after == ()
    (command,) = jobs[f"{NETWORK}-1"].commands
    assert command.arguments[1:] == [
        *("-m", f"fields_jax.{NETWORK}", f"--config=OUT/runs/{NETWORK}-1/config.py"),
        f"--out=OUT/runs/{NETWORK}-1/network",
    ]
    assert command.given["config"]["seed"] == 1 and command.given["config"]["steps"] > 0
    external = next(run for run in sweep.runs if run.name == "external-1")
    assert external.config.losses.emotion_feature_weights == f"OUT/runs/{NETWORK}-1/network"
    # Another place of the folder makes no other run.
    elsewhere = read_sweep(with_external(), "IN", data_root="DIR")
    moved = {job.name: job for job in plan.plan_jobs(elsewhere, "IN")}
    assert moved["external-1"].commands[0].given == jobs["external-1"].commands[0].given
    assert read("joint", arms="no_gt").networks == ()


def test_the_emotion_networks_config_is_written_beside_it(tmp_path):
    sweep = read_sweep(with_external(seeds=(4,)), str(tmp_path), arms="external")
    plan.write_configs(sweep, str(tmp_path))
    text = (tmp_path / "runs" / f"{NETWORK}-4" / plan.CONFIG).read_text()
    scope: dict = {}
    exec(text, scope)
    assert scope["get_config"]().to_dict() == sweep.networks[0].config.to_dict()


def test_seeds_share_their_start():
    sweep = read()
    assert [run.name for run in sweep.runs[:3]] == ["start-0", "start-1", "start-2"]
    for run in sweep.runs[3:]:
        assert run.config.seed == run.seed
        assert run.config.init_from == f"OUT/runs/start-{run.seed}/train"
    jobs = {job.name: job for job in plan.plan_jobs(sweep, "OUT", "faces")}
    assert jobs["no_gt-1"].after == ("start-1",) and jobs["start-1"].after == ()
    names = [command.name for command in jobs["no_gt-1"].commands]
    assert names == ["train", "evaluate", "probe", "photographs"]
    config = ablation.get_config()
    config.init_from = "given"
    alone = read_sweep(config, "OUT")
    assert START not in {run.arm for run in alone.runs}
    assert {run.config.init_from for run in alone.runs} == {"given"}
    assert all(job.after == () for job in plan.plan_jobs(alone, "OUT"))


@pytest.mark.parametrize("variant", ablation.VARIANTS)
def test_every_config_can_be_trained(variant):
    for run in read(variant, data_root="DIR", head="HEAD.npz").runs:
        schema.check(run.config.to_dict())
        assert run.config.data.root == "DIR" and run.config.head == "HEAD.npz"


def test_quick_is_small():
    sweep = read(quick=True)
    assert list(sweep.arms) == ["full", "no_gt", "no_emo"] and sweep.seeds == (0,)
    assert {run.steps for run in sweep.runs} == {150, 75} and sweep.quick
    assert list(read(quick=True, arms="no_base").arms) == ["full", "no_base"]


def test_a_config_beside_a_run_gives_the_run(tmp_path):
    sweep = read_sweep(ablation.get_config(), str(tmp_path), arms="no_emo")
    plan.write_configs(sweep, str(tmp_path))
    for run in sweep.runs:
        file = tmp_path / "runs" / run.name / plan.CONFIG
        spec = importlib.util.spec_from_file_location("written", file)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        assert module.get_config().to_dict() == run.config.to_dict()


def learnt(sweep: Sweep, out="OUT") -> dict:
    jobs: dict[str, Job] = {job.name: job for job in plan.plan_jobs(sweep, out)}
    return jobs["no_gt-0"].commands[0].given


def test_only_what_is_learnt_makes_another_run():
    config = ablation.get_config()
    before = learnt(read_sweep(config, "OUT"))
    config.base.log.every, config.base.guard.spike = 7, 3.0
    assert learnt(read_sweep(config, "OTHER"), "OTHER") == before
    config.base.phases.A.losses.emotion = 9.0
    assert learnt(read_sweep(config, "OUT"))["config"] != before["config"]
    config.init_from = "given"
    assert learnt(read_sweep(config, "OUT"))["start"] == "given"
    assert json.loads(json.dumps(before)) == before


def test_another_stage_1_or_emotion_network_makes_another_run():
    """Arms that started from what is no longer there must not be scored beside the new one."""

    def given(change=None):
        config = with_external()
        if change:
            change(config)
        jobs = plan.plan_jobs(read_sweep(config, "OUT", arms="no_gt,external"), "OUT")
        return {job.name: job.commands[0].given for job in jobs}

    def longer(config):
        config.start.steps_scale = 2.0

    def slower(config):
        config[NETWORK].steps += 1

    before, other_start, other_network = given(), given(longer), given(slower)
    assert {name for name in before if other_start[name] != before[name]} == {
        name for name in before if not name.startswith(NETWORK)
    }
    assert {name for name in before if other_network[name] != before[name]} == {
        name for name in before if name.startswith((NETWORK, "external"))
    }


def test_mistakes_in_a_sweep_are_named():
    def refused(change, **options):
        config = ablation.get_config()
        change(config)
        with pytest.raises(UserError) as caught:
            read_sweep(config, "OUT", **options)
        return str(caught.value)

    def none(config):
        pass

    assert "unknown arm 'no_such'; known: 2d_only, beta_detached" in refused(none, arms="no_such")

    def misspelt(config):
        config.arms.no_gt.changes.losses = {"emotoin_targets": "hard"}

    assert "arm no_gt: unknown key config.losses.emotoin_targets" in refused(misspelt)

    def wrong(config):
        config.arms.no_gt.changes.losses = {"emotion_targets": "soft"}

    assert "arm no_gt: unknown config.losses.emotion_targets 'soft'" in refused(wrong)

    def phases(config):
        config.arms.no_gt.phases = ("B",)

    assert "arm no_gt keeps phase 'B', which base does not have" in refused(phases)

    def twice(config):
        config.seeds = (1, 1)

    assert "sweep.seeds is (1, 1): name different whole numbers" in refused(twice)

    def fullness(config):
        del config.arms.full

    assert "sweep.arms has no full" in refused(fullness)

    def keys(config):
        del config.tests

    assert "sweep.tests is missing" in refused(keys)
