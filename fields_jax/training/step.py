"""The training step: a reconstruction update and, in a phase with a cycle, a cycle update.

One pure per-device function with an axis name; `training.parallel` maps it. Losses are global
(psum of sums over psum of counts) before they are differentiated, and gradients are averaged
after, so that any number of devices gives the gradients of one.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from fields_jax.losses import registry
from fields_jax.losses.registry import Evidence, Part, evaluate_losses
from fields_jax.training.accumulate import over_parts, total_over
from fields_jax.training.forward import perturbed_face, read_affect, reconstruct
from fields_jax.training.optim import running_mean, schedule_factor, update
from fields_jax.training.recipe import Assets, Phase, Recipe
from fields_jax.types import FieldsOutput, TrainState

PyTree = Any
Metrics = dict[str, jax.Array]
TURNS = ("synthesizer", "encoders")


def train_step(
    state: TrainState,
    batch: Mapping[str, Array],
    rng: jax.Array,
    assets: Assets,
    *,
    recipe: Recipe,
    phase: Phase,
    turn: str | None,
    axis_name: str,
) -> tuple[TrainState, Metrics]:
    """One whole iteration: a reconstruction step, then, in a phase with a cycle, a cycle step.

    The loop maps the two halves by themselves: they then compile once each, where this function
    compiles the reconstruction again for each turn.

    Args:
      state: before the iteration.
      batch: this device's examples (fields_jax/batch.py).
      rng: the run's key; folded with the step here.
      assets: constant arrays.
      recipe, phase: static choices.
      turn: who learns in the cycle step, one of `TURNS`; None in a phase without cycle.
      axis_name: the mapped axis.

    Returns:
      The next state and the metrics, both the same on every device.
    """
    bound = dict(recipe=recipe, phase=phase, axis_name=axis_name)
    state, metrics, output = reconstruction_step(state, batch, rng, assets, **bound)
    if phase.cycle:
        state, metrics = cycle_step(state, batch, output, metrics, rng, assets, turn=turn, **bound)
    return state, metrics


def metric_names(phases: Sequence[Phase]) -> list[str]:
    """Every metric that a step of some phase gives, as training logs it."""
    found = {"loss": None}
    for phase in phases:
        cycle = registry.CYCLE if phase.cycle else frozenset()
        terms = [name for name in phase.weights if name in cycle or name not in registry.CYCLE]
        found |= dict.fromkeys(f"loss/{name}" for name in terms)
        found |= dict.fromkeys(f"gradient_norm/{name}" for name in phase.train)
        if phase.cycle:
            learners = ("synthesizer", *_readers(phase))
            found |= dict.fromkeys(f"gradient_norm/cycle_{name}" for name in learners)
            found["cycle_loss"] = None
    return [*found, "schedule_factor", "finite", "bad_steps"]


def reconstruction_step(
    state: TrainState,
    batch: Mapping[str, Array],
    rng: jax.Array,
    assets: Assets,
    *,
    recipe: Recipe,
    phase: Phase,
    axis_name: str,
) -> tuple[TrainState, Metrics, FieldsOutput]:
    """Updates the networks of the phase; an update that is not finite is skipped.

    Returns:
      The next state, the metrics, and this device's outputs from before the update: the cycle
      takes its targets from them, as SMIRK does.
    """
    key = jax.random.fold_in(rng, state.step)
    gradients, (output, stats, metrics) = reconstruction_gradients(
        state, _as_floats(batch), key, assets, recipe=recipe, phase=phase, axis_name=axis_name
    )
    state, metrics = _advance(state, gradients, stats, metrics, recipe, phase)
    if not phase.cycle:
        state, metrics = _count(state, metrics, recipe.ema)
    return state, metrics, output


def cycle_step(
    state: TrainState,
    batch: Mapping[str, Array],
    output: FieldsOutput,
    metrics: Metrics,
    rng: jax.Array,
    assets: Assets,
    *,
    recipe: Recipe,
    phase: Phase,
    turn: str,
    axis_name: str,
) -> tuple[TrainState, Metrics]:
    """Updates the synthesiser or the encoders by the cycle and ends the iteration.

    Args:
      state, metrics, output: as `reconstruction_step` returned them.
      turn: one of `TURNS`.

    Returns:
      The next state and the metrics of both steps.
    """
    key = jax.random.fold_in(rng, state.step)
    bound = dict(recipe=recipe, phase=phase, axis_name=axis_name)
    gradients, (stats, found) = cycle_gradients(
        state, _as_floats(batch), output, key, assets, turn=turn, **bound
    )
    if turn == "synthesizer":
        clip = optax.clip_by_global_norm(recipe.synthesizer_clip)
        gradients = clip.update(gradients, clip.init(gradients))[0]
    state, found = _advance(state, gradients, stats, found, recipe, phase, prefix="cycle_")
    metrics = metrics | found | {"finite": metrics["finite"] & found["finite"]}
    return _count(state, metrics, recipe.ema)


def reconstruction_gradients(
    state: TrainState,
    batch: Mapping[str, Array],
    key: jax.Array,
    assets: Assets,
    *,
    recipe: Recipe,
    phase: Phase,
    axis_name: str,
) -> tuple[dict[str, PyTree], tuple[FieldsOutput, PyTree, Metrics]]:
    """Gradients of the reconstruction loss for the networks of the phase.

    Returns:
      ({network: gradients}, (outputs with gradients stopped, new batch statistics, metrics)).
    """
    weights = {name: weight for name, weight in phase.weights.items() if name not in registry.CYCLE}
    weights = _shake(weights, key) if recipe.shake else weights
    total = total_over(axis_name)
    trained = {name: state.params[name] for name in phase.train}

    def of_part(part: Part | None, batch: Mapping[str, Array]):
        def loss_fn(trained):
            variables = {"params": {**state.params, **trained}, "batch_stats": state.batch_stats}
            evidence, stats = reconstruct(
                variables, state.base, batch, assets, recipe, phase, weights, key, axis_name, part
            )
            loss, values = evaluate_losses(weights, evidence, total)
            return loss, (jax.lax.stop_gradient(evidence.output), stats, (loss, values))

        return jax.grad(loss_fn, has_aux=True)(trained)

    bound = dict(total=total, trained=trained, stats=state.batch_stats, count=recipe.accumulate)
    if recipe.accumulate > 1 and registry.NEED_MOMENTS & weights.keys():
        variables = {"params": state.params, "batch_stats": state.batch_stats}
        bound["predict"] = functools.partial(read_affect, variables, recipe=recipe, phase=phase)
    gradients, (output, stats, (loss, values)) = over_parts(of_part, batch, (batch,), **bound)
    metrics = {"loss": loss} | {f"loss/{name}": value for name, value in values.items()}
    return jax.lax.pmean(gradients, axis_name), (output, stats, metrics)


def cycle_gradients(
    state: TrainState,
    batch: Mapping[str, Array],
    output: FieldsOutput,
    key: jax.Array,
    assets: Assets,
    *,
    recipe: Recipe,
    phase: Phase,
    turn: str,
    axis_name: str,
) -> tuple[dict[str, PyTree], tuple[PyTree, Metrics]]:
    """Gradients of the cycle loss for the synthesiser or for the encoders.

    A perturbed face is rendered and synthesised, and the encoders read it back. In the
    synthesiser's turn all encoders run in eval mode; in the encoders' turn the synthesiser does,
    and its image is detached. Shape counts in the synthesiser's turn only.

    Args:
      output: what the networks said of the images, gradients stopped.
      turn: one of `TURNS`.

    Returns:
      ({network: gradients}, (new batch statistics, metrics)).
    """
    learners = ("synthesizer",) if turn == "synthesizer" else _readers(phase)
    weights = {name: weight for name, weight in phase.weights.items() if name in registry.CYCLE}
    if turn == "encoders":
        weights.pop("cycle_shape", None)
    model, total = recipe.model, total_over(axis_name)
    trained = {name: state.params[name] for name in learners}
    expressions = jax.lax.all_gather(output.coefficients.expression, axis_name, tiled=True)

    def of_part(part: Part | None, batch: Mapping[str, Array], output: FieldsOutput):
        perturbed, geometry, masked = perturbed_face(
            batch, output.coefficients, expressions, key, assets, recipe, axis_name, part
        )

        def loss_fn(trained):
            variables = {"params": {**state.params, **trained}, "batch_stats": state.batch_stats}
            image, updates = model.apply(
                variables,
                geometry,
                masked,
                output.tokens,
                train=[name for name in learners if name == "synthesizer"],
                method="synthesize",
                mutable=["batch_stats"],
            )
            if turn == "encoders":
                image = jax.lax.stop_gradient(image)
            # Running statistics describe real images: those of synthetic ones are dropped.
            read = dict(train=learners, mutable=["batch_stats"])
            (shape, expression, eyelid, jaw), _ = model.apply(
                variables, image, method="encode_face", **read
            )
            tokens = None
            if "cycle_token" in weights:
                tokens, _ = model.apply(variables, image, method="encode_tokens", **read)
            evidence = Evidence(
                batch=batch,
                settings=recipe.settings,
                head=assets.head,
                gram=assets.gram,
                part=part,
                cycle=perturbed.replace(shape=shape, expression=expression, eyelid=eyelid, jaw=jaw),
                perturbed=perturbed,
                cycle_tokens=tokens,
                cycle_tokens_target=output.tokens,
            )
            loss, values = evaluate_losses(weights, evidence, total)
            return loss, (None, updates["batch_stats"], (loss, values))

        return jax.grad(loss_fn, has_aux=True)(trained)

    bound = dict(total=total, trained=trained, stats=state.batch_stats, count=recipe.accumulate)
    gradients, (_, stats, (loss, values)) = over_parts(of_part, batch, (batch, output), **bound)
    metrics = {"cycle_loss": loss} | {f"loss/{name}": value for name, value in values.items()}
    return jax.lax.pmean(gradients, axis_name), (stats, metrics)


def _readers(phase: Phase) -> tuple[str, ...]:
    """Networks that learn in the encoders' turn."""
    return tuple(n for n in ("expression_encoder", "token_encoder") if n in phase.train)


def _as_floats(batch: Mapping[str, Array]) -> dict[str, Array]:
    return registry.clear_absent(batch) | {"image": batch["image"].astype(jnp.float32) / 255}


def _advance(
    state: TrainState,
    gradients: dict[str, PyTree],
    stats: PyTree,
    metrics: Metrics,
    recipe: Recipe,
    phase: Phase,
    prefix: str = "",
) -> tuple[TrainState, Metrics]:
    """Applies an update if its loss and gradients are finite."""
    factor = schedule_factor(state.step, start=phase.start, length=phase.steps, **recipe.schedule)
    norms = {f"gradient_norm/{prefix}{k}": optax.tree.norm(v) for k, v in gradients.items()}
    finite = jnp.all(jnp.isfinite(jnp.stack([metrics[f"{prefix}loss"], *norms.values()])))
    if recipe.clip:
        clip = optax.clip_by_global_norm(recipe.clip)
        gradients = clip.update(gradients, clip.init(gradients))[0]
    params, opt_state = update(
        recipe.optimizer, gradients, state.params, state.opt_state, factor, phase.rates
    )
    new = state.replace(params=params, opt_state=opt_state, batch_stats=stats)
    kept = jax.tree.map(lambda n, o: jnp.where(finite, n, o), new, state)
    return kept, metrics | norms | {"schedule_factor": factor, "finite": finite}


def _count(state: TrainState, metrics: Metrics, decay: float) -> tuple[TrainState, Metrics]:
    """Ends an iteration: counters, and the running mean of the parameters where one is kept."""
    bad_steps = jnp.where(metrics["finite"], 0, state.bad_steps + 1)
    if state.ema is not None:
        state = state.replace(ema=running_mean(state.ema, state.params, state.step, decay))
    state = state.replace(step=state.step + 1, bad_steps=bad_steps)
    return state, metrics | {"bad_steps": bad_steps}


def _shake(weights: dict[str, float], key: jax.Array) -> dict[str, Any]:
    """Random weights for the valence and arousal terms that keep their sum (EmoNet)."""
    names = [name for name in registry.VALENCE_AROUSAL if name in weights]
    draw = jax.random.uniform(jax.random.fold_in(key, 1), (len(names),))
    scale = sum(weights[name] for name in names) / jnp.sum(draw)
    return weights | {name: scale * draw[i] for i, name in enumerate(names)}
