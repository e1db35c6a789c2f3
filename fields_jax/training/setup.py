"""From a config to what the step needs: phases, optimiser, loss settings, constant arrays."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
from ml_collections import ConfigDict

from fields_jax.errors import UserError, quoted
from fields_jax.flame.landmark_head import landmark_head, with_components
from fields_jax.flame.model import face_centre
from fields_jax.flame.priors import expression_bounds, is_standard
from fields_jax.losses import registry
from fields_jax.losses.cycle import GROUPS, CycleSettings
from fields_jax.losses.evidence import LossSettings, basis_gram
from fields_jax.models.fields import NETWORKS, build_model, variable_shapes
from fields_jax.models.perceptual import VGG16Features
from fields_jax.render import make_masking
from fields_jax.training.emotion_network import read_features
from fields_jax.training.optim import make_optimizer
from fields_jax.training.recipe import Assets, Phase, Recipe
from fields_jax.training.step import metric_names
from fields_jax.types import FlameModel
from fields_jax.workdir import schema
from fields_jax.workdir.inference import read_frozen


@dataclasses.dataclass(frozen=True)
class Plan:
    """All static parts of a run.

    Attributes:
      phases: in order.
      recipe: collaborators of the step.
      assets: constant arrays of the step.
      keep_base: whether the initial encoders are kept as the base model.
      notes: what the user should know before training starts.
    """

    phases: tuple[Phase, ...]
    recipe: Recipe
    assets: Assets
    keep_base: bool
    notes: tuple[str, ...]


def plan(config: ConfigDict, head: FlameModel) -> Plan:
    """Checks a config against itself and the head and builds everything the step is bound to.

    Writes the head's bounds into `config.model.expression_bounds`, and the middle of its face into
    `config.model.face_centre`, so that whoever reads the networks later keeps them without the
    head.

    Raises:
      UserError: naming the key and the remedy.
    """
    _check(config)
    config.model.expression_bounds = expression_bounds(head, config.model.n_expression)
    config.model.face_centre = face_centre(head)
    model = build_model(config, axis_name="batch")
    notes: list[str] = []
    phases = make_phases(config, notes)
    _check_best(config, phases)
    needs = registry.needs(name for phase in phases for name in phase.weights)
    shapes = variable_shapes(model)
    perceptual = read_emotion = emotion_features = None
    if "features" in needs:
        perceptual = read_frozen(config.losses.perceptual_weights, "VGG16")
    if "emotion_features" in needs:
        read_emotion, emotion_features = read_features(config)
    templates = head.expression_templates
    if templates is None and any(phase.cycle for phase in phases):
        notes.append("the head has no expression templates: the cycle draws from the batch")
    size = config.model.n_expression
    recipe = Recipe(
        model=model,
        optimizer=make_optimizer(shapes["params"], config.optim.rules.to_dict()),
        settings=LossSettings(
            gt_metric=config.losses.gt_metric,
            landmark_metric=config.losses.landmark_metric,
            emotion_targets=config.losses.emotion_targets,
            intensity_weighting=config.losses.intensity_weighting,
            class_weights=tuple(config.losses.class_weights),
            va_min_count=config.losses.va_min_count,
            region_growth=tuple(config.losses.region_growth),
            fitted_weight=config.losses.fitted_weight,
            fitted_scale=config.losses.fitted_scale,
            scaled=tuple(n for n in ("shape", "expression") if not is_standard(head.priors[n])),
        ),
        cycle=CycleSettings(
            noise=config.cycle.noise,
            limit=config.cycle.limit,
            jaw_noise=tuple(config.cycle.jaw_noise),
            jaw_limit=config.cycle.jaw_limit,
            eyelid_noise=config.cycle.eyelid_noise,
        ),
        schedule=dict(
            period=config.optim.period, warmup=config.optim.warmup, final=config.optim.final
        ),
        shake=config.losses.va_weights == "shake",
        masking=make_masking(config),
        synthesizer_clip=config.cycle.synthesizer_clip,
        perceptual=VGG16Features().apply if perceptual is not None else None,
        emotion_features=read_emotion,
        clip=config.optim.clip,
        ema=config.ema,
        accumulate=config.accumulate,
        max_bad_steps=config.guard.max_bad_steps,
    )
    trimmed = with_components(head, config.model.n_shape, size)
    assets = Assets(
        head=trimmed,
        landmark_head=landmark_head(trimmed),
        gram=basis_gram(head, "expression", size),
        shape_gram=basis_gram(head, "shape", config.model.n_shape),
        templates=None if templates is None else templates[:, :size],
        perceptual=perceptual,
        emotion_features=emotion_features,
    )
    return Plan(phases, recipe, assets, "base" in needs, tuple(notes))


def make_phases(config: ConfigDict, notes: list[str]) -> tuple[Phase, ...]:
    """The phases of a config, without terms whose inputs it lacks and networks it does not have.

    `notes` gets a line for each such group of terms.

    A phase of 0 steps is left out.

    Without `init_from`, stage 2 has no base model to stay near and no pose encoder to freeze: the
    base terms are dropped and the pose encoder is trained (our reading of FIELDS).
    """
    from_scratch = config.stage == 2 and not config.init_from
    absent = _absent_terms(config)
    dropped = frozenset(registry.needing("base") if from_scratch else ()).union(*absent.values())
    lacking = ("token_encoder",) if config.model.synthesizer == "smirk" else ()
    phases, start = [], 0
    for name in sorted(config.phases):
        phase = config.phases[name]
        if not (steps := schema.phase_steps(phase.steps, config.steps_scale)):
            continue
        registry.check_names(phase.losses)
        weights = {k: float(w) for k, w in phase.losses.items() if w and k not in dropped}
        train = tuple(network for network in phase.train if network not in lacking)
        if from_scratch and "pose_encoder" not in train:
            train += ("pose_encoder",)
        if phase.cycle and "synthesizer" not in train:
            raise UserError(
                f"config.phases.{name}.cycle trains the synthesizer in turns: name it in "
                f"config.phases.{name}.train, or set the cycle to False"
            )
        rates = dict(phase.rates)
        if unknown := sorted(rates.keys() - set(NETWORKS)):
            raise UserError(
                f"unknown network {unknown[0]!r} in config.phases.{name}.rates; "
                f"known: {', '.join(NETWORKS)}"
            )
        phases.append(Phase(name, start, steps, train, bool(phase.cycle), weights, rates))
        start += steps
    if not phases:
        raise UserError("every phase of config.phases has 0 steps: nothing would be trained")
    done = [config.phases[phase.name] for phase in phases]
    asked = {name for phase in done for name, w in phase.losses.items() if w}
    notes += [note for note, terms in absent.items() if terms & asked]
    if from_scratch:
        notes.append(
            "stage 2 without --config.init_from: starts from scratch, trains the pose encoder too, "
            "base-model regularisation is off"
        )
    return tuple(phases)


def _absent_terms(config: ConfigDict) -> dict[str, frozenset[str]]:
    """Terms whose inputs the config lacks, by the note that says so."""
    absent = {}
    if not config.losses.perceptual_weights:
        absent[
            "perceptual loss is off: no weights; convert VGG16 and name it by "
            "--config.losses.perceptual_weights=DIR"
        ] = registry.needing("features")
    if not config.losses.emotion_feature_weights:
        absent[
            "emotion_feature loss is off: no weights; convert EMOCA's ResNet-50 or train a network "
            "by `python -m fields_jax.emotion_network`, and name it by "
            "--config.losses.emotion_feature_weights=DIR"
        ] = registry.needing("emotion_features")
    if config.model.synthesizer == "smirk":
        absent[
            "losses token and cycle_token are off and no token encoder is trained: "
            "config.model.synthesizer=smirk has no tokens"
        ] = registry.needing("tokens")
    return absent


def describe(phase: Phase) -> str:
    """One line that says what a phase does."""
    cycle = ""
    if phase.cycle:
        cycle = ", with the cycle in turns: synthesizer at even steps, encoders at odd ones"
    rates = {name: f" at {share:g} of its rate" for name, share in phase.rates.items()}
    trained = ", ".join(name + rates.get(name, "") for name in phase.train)
    frozen = ", ".join(name for name in NETWORKS if name not in phase.train) or "nothing"
    end = phase.end
    return (
        f"phase {phase.name}: steps {phase.start}..{end}{cycle}; trains {trained}; "
        f"freezes {frozen}; losses {', '.join(f'{k} x {w:g}' for k, w in phase.weights.items())}"
    )


def check_same_shapes(expected: Any, found: Any, name: str) -> None:
    """Refuses a tree whose leaves or shapes differ.

    Raises:
      UserError: naming the first leaf that differs.
    """

    def by_path(tree):
        return {
            jax.tree_util.keystr(path): leaf.shape
            for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
        }

    want, have = by_path(expected), by_path(found)
    for path in sorted(want.keys() | have.keys()):
        if want.get(path) != have.get(path):
            raise UserError(
                f"{name}{path} has shape {have.get(path)}, this config needs {want.get(path)}; "
                "use the config.model the checkpoint was made with"
            )


def _check(config: ConfigDict) -> None:
    schema.check(config.to_dict())
    devices = jax.device_count()
    if config.batch_size % (devices * config.accumulate):
        raise UserError(
            f"config.batch_size {config.batch_size} is not divisible by {devices} devices x "
            f"config.accumulate {config.accumulate}"
        )
    cycles = any(phase.cycle and phase.steps for phase in config.phases.values())
    if cycles and config.batch_size % GROUPS:
        raise UserError(
            f"config.batch_size {config.batch_size} is not divisible by the cycle's {GROUPS} groups"
        )


def _check_best(config: ConfigDict, phases: tuple[Phase, ...]) -> None:
    """Refuses a metric for the best checkpoint that no step computes."""
    metric, known = config.checkpoint.best_metric, metric_names(phases)
    if metric and metric not in known:
        raise UserError(
            f"unknown config.checkpoint.best_metric {quoted(metric)}; known: {', '.join(known)}"
        )
