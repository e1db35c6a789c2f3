"""What each idea of FIELDS is worth: one recipe, and the same with one of its ideas taken away.

    python -m fields_jax.ablate --sweep=configs/ablation.py --out=runs/ablation
    python -m fields_jax.ablate --sweep=configs/ablation.py:joint --out=runs/ablation-joint
    python -m fields_jax.ablate --sweep=configs/ablation.py:full --data_root=DIR --out=OUT

Every arm is trained from each seed: stage 1 once per seed, then stage 2 of every arm from it, so
that arms of one seed share their start and the order of their examples, and differences hold of
the whole recipe instead of one start. Training sees `synthetic/spont4d` and `synthetic/wild2d`; the
test is on held-out people of all three parts.

`:synthetic` (default) has phase A alone and half of its steps: about five minutes for each arm and
seed on two idle cores.
`:joint` has phase B too and with it the arm `one_step`, whose every step costs as much as one of
phase B: about ten times as long. `:full` is the reference size on licensed data with both phases;
`--sweep.init_from=DIR` starts it at a converted checkpoint in place of stage 1.

With phase B there is also the arm `external`: features of reconstruction and photograph compared,
as SMIRK and TEASER do, in place of L_emo. In `:joint` they are those of a small network that is
trained on the same labels first, once per seed; `--sweep.external=DIR` names another, such as
EMOCA's ResNet-50 as `fields_jax.convert` writes it, which `:full` needs. No other arm has that
loss.

Keys:
  seeds: of the trainings.
  init_from: where all arms start in place of stage 1, a workdir or converted checkpoint; "": there.
  external: a network for the arm of that name; "": the one that `emotion_network` says.
  emotion_network: config of `fields_jax.emotion_network`, or None: the arm needs `external`.
  start, base: configs of stages 1 and 2; all their keys can be set on the command line, such as
    `--sweep.base.phases.A.steps=500`.
  tests: sets, split test.
  probe: its sources, width, steps and patience.
  arms: by name what each says, a sentence; changes, keys of base in groups; phases, those it keeps,
    () for all; external, whether it compares features of such a network.
  quick: what `--quick` takes in place: seeds, arms, steps_scale, probe_steps.
"""

from typing import Any

from ml_collections import ConfigDict

from configs import emotion_network, stage1, stage2
from configs.common import FACE_ENCODERS, nested

VARIANTS = ("synthetic", "joint", "full")
GT = ("gt_expression", "gt_jaw", "gt_eyelid")
EMOTION = ("emotion", "va_mse", "va_pcc", "va_ccc")
BASE = ("base_expression", "base_jaw", "base_shape")

_MIXTURE = "synthetic/wild2d=16,synthetic/spont4d=16"
_TESTS = "synthetic/spont4d,synthetic/wild2d,synthetic/levels"
# Of EMOCA's recipe the width and the length are cut: a few thousand faces, and one probe per run.
_PROBE = dict(sources="synthetic/wild2d", width=256, steps=2000, patience=50)
_PROBE_FULL = dict(sources="affectnet/full", width=2048, steps=0, patience=10)
_QUIET = {"log.images": 0, "checkpoint.keep": 1}
_SILENT = "emotion_head"


def get_config(variant: str = "synthetic") -> ConfigDict:
    """The sweep; `variant` is "synthetic", "joint" or "full".

    Raises:
      ValueError: any other variant.
    """
    if variant not in VARIANTS:
        raise ValueError(f"unknown config argument {variant!r}; known: {', '.join(VARIANTS)}")
    full, joint = variant == "full", variant != "synthetic"
    size = "full" if full else "synthetic"
    start, base = stage1.get_config(size), stage2.get_config(size)
    for config in (start, base):
        config.update_from_flattened_dict(_QUIET)
        if not full:
            config.data.mixture = _MIXTURE
    if not joint:
        del base.phases.B
        base.phases.A.steps //= 2
    return ConfigDict(
        dict(
            variant=variant,
            seeds=(0, 1, 2),
            init_from="",
            external="",
            emotion_network=emotion_network.get_config() if variant == "joint" else None,
            start=start,
            base=base,
            tests="affectnet/full,bp4d/spontaneous" if full else _TESTS,
            probe=_PROBE_FULL if full else _PROBE,
            arms=_arms(base),
            quick=dict(seeds=(0,), arms="full,no_gt,no_emo", steps_scale=0.05, probe_steps=300),
        )
    )


def _arms(base: ConfigDict) -> dict[str, dict[str, Any]]:
    phases = tuple(base.phases)

    def without(*terms: str) -> dict[str, Any]:
        """The terms' weights set to 0, and the emotion head not trained if nothing teaches it."""
        changes: dict[str, Any] = {
            f"phases.{phase}.losses.{term}": 0.0 for phase in phases for term in terms
        }
        if set(EMOTION) <= set(terms):
            for phase in phases:
                kept = tuple(name for name in base.phases[phase].train if name != _SILENT)
                changes[f"phases.{phase}.train"] = kept
        return changes

    arms = {
        "full": _arm("The whole recipe.", {}),
        "no_gt": _arm("Without L_3D-GT: no loss compares with coefficients.", without(*GT)),
        "no_emo": _arm(
            "Without L_emo: no loss reads class, valence or arousal.", without(*EMOTION)
        ),
        "no_base": _arm("Without the base model: nothing holds the encoders.", without(*BASE)),
        "hard_classes": _arm(
            "The class as labelled in place of the intensity-aware target.",
            {"losses.emotion_targets": "hard"},
        ),
        "beta_detached": _arm(
            "L_emo does not move the identity: the head reads a held shape.",
            {"model.emotion_detach_shape": True},
        ),
        "2d_only": _arm(
            "Landmarks, regularisers and the base model: neither L_3D-GT nor L_emo.",
            without(*GT, *EMOTION),
        ),
    }
    if "B" in phases:
        rates = {f"phases.B.rates.{name}": 1.0 for name in (*FACE_ENCODERS, _SILENT)}
        steps = sum(base.phases[phase].steps for phase in phases)
        arms["one_step"] = _arm(
            "No phase A: everything is trained together, on as many examples.",
            {"phases.B.steps": steps} | rates,
            ("B",),
        )
        arms["external"] = _arm(
            "Features of an emotion network outside compared, in place of L_emo and its head.",
            without(*EMOTION),
        ) | {"external": True}
    return arms


def _arm(says: str, changes: dict[str, Any], phases: tuple[str, ...] = ()) -> dict[str, Any]:
    return dict(says=says, changes=nested(changes), phases=phases, external=False)
