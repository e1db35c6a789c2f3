"""The training step: a reconstruction update and, in a phase with a cycle, a cycle update.

Pure per-device functions with an axis name; `training.programs` maps them and runs one after the
other. Losses are global (psum of sums over psum of counts) before they are differentiated, and
gradients are averaged after, so that any number of devices gives the gradients of one.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import chex
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from fields_jax.losses import registry
from fields_jax.losses.evidence import Evidence, Part, clear_absent
from fields_jax.losses.registry import evaluate_losses
from fields_jax.training.accumulate import over_parts
from fields_jax.training.forward import Examples, gather_evidence, perturbed_face, read_affect
from fields_jax.training.optim import running_mean, schedule_factor, update
from fields_jax.training.recipe import TURNS, Assets, Context, Phase
from fields_jax.types import FieldsOutput, FlameCoefficients, TrainState

PyTree = Any
Metrics = dict[str, jax.Array]


def reconstruction_step(
    state: TrainState,
    batch: Mapping[str, Array],
    rng: jax.Array,
    assets: Assets,
    *,
    context: Context,
) -> tuple[TrainState, Metrics, FieldsOutput | None]:
    """Updates the networks of the phase; an update that is not finite is skipped.

    Args:
      state: before the iteration.
      batch: this device's examples (fields_jax/batch.py).
      rng: the run's key; folded with the step here.
      assets: constant arrays.
      context: static choices.

    Returns:
      The next state and the metrics, both the same on every device, and what the cycle takes its
      targets from, as SMIRK does: this device's outputs from before the update. None in a phase
      without a cycle, so that networks whose outputs no loss looks at are not run.
    """
    key = jax.random.fold_in(rng, state.step)
    gradients, (output, stats, metrics) = reconstruction_gradients(
        state, _as_floats(batch), key, assets, context=context
    )
    state, metrics = _advance(state, gradients, stats, metrics, context)
    if context.phase.cycle:
        return state, metrics, output
    return *_count(state, metrics, context.recipe.ema), None


def cycle_step(
    state: TrainState,
    batch: Mapping[str, Array],
    output: FieldsOutput,
    metrics: Metrics,
    rng: jax.Array,
    assets: Assets,
    *,
    context: Context,
) -> tuple[TrainState, Metrics]:
    """Updates the synthesiser or the encoders, as `context.turn` says, and ends the iteration.

    It takes many arguments because some are split over the devices and others replicated.

    Args:
      state, metrics, output: as `reconstruction_step` returned them.
      batch, rng, assets, context: as there.

    Returns:
      The next state and the metrics of both steps.
    """
    key, recipe = jax.random.fold_in(rng, state.step), context.recipe
    gradients, (stats, found) = cycle_gradients(
        state, _as_floats(batch), output, key, assets, context=context
    )
    if context.turn == "synthesizer":
        clip = optax.clip_by_global_norm(recipe.synthesizer_clip)
        gradients = clip.update(gradients, clip.init(gradients))[0]
    state, found = _advance(state, gradients, stats, found, context, prefix="cycle_")
    metrics = metrics | found | {"finite": metrics["finite"] & found["finite"]}
    return _count(state, metrics, recipe.ema)


def metric_names(phases: Sequence[Phase]) -> list[str]:
    """Every metric that a step of some phase gives, as training logs it."""
    found = {"loss": None}
    for phase in phases:
        turns = (None, *TURNS) if phase.cycle else (None,)
        terms = {name for turn in turns for name in phase.terms(turn)}
        found |= dict.fromkeys(f"loss/{name}" for name in phase.weights if name in terms)
        found |= dict.fromkeys(f"gradient_norm/{name}" for name in phase.train)
        if phase.cycle:
            learners = [name for turn in TURNS for name in phase.learners(turn)]
            found |= dict.fromkeys(f"gradient_norm/cycle_{name}" for name in learners)
            found["cycle_loss"] = None
    return [*found, "schedule_factor", "finite", "bad_steps"]


def reconstruction_gradients(
    state: TrainState,
    batch: Mapping[str, Array],
    key: jax.Array,
    assets: Assets,
    *,
    context: Context,
) -> tuple[dict[str, PyTree], tuple[FieldsOutput, PyTree, Metrics]]:
    """Gradients of the reconstruction loss for the networks of the phase.

    Returns:
      ({network: gradients}, (outputs with gradients stopped, new batch statistics, metrics)).
    """
    recipe, phase = context.recipe, context.phase
    weights = phase.terms()
    needs = registry.needs(weights)
    weights = _shake(weights, key) if recipe.shake else weights
    trained = {name: state.params[name] for name in phase.learners()}

    def of_part(part: Part | None, batch: Mapping[str, Array]):
        def loss_fn(trained):
            variables = {"params": {**state.params, **trained}, "batch_stats": state.batch_stats}
            examples = Examples(batch, key, part)
            evidence, stats = gather_evidence(
                variables, state.base, examples, assets, context, needs
            )
            loss, values = evaluate_losses(weights, evidence, context.total)
            return loss, (jax.lax.stop_gradient(evidence.output), stats, (loss, values))

        return jax.grad(loss_fn, has_aux=True)(trained)

    predict = None
    if recipe.accumulate > 1 and "moments" in needs:
        variables = {"params": state.params, "batch_stats": state.batch_stats}
        predict = functools.partial(read_affect, variables, context=context)
    gradients, (output, stats, (loss, values)) = over_parts(
        of_part,
        batch,
        (batch,),
        context=context,
        before=(trained, state.batch_stats),
        predict=predict,
    )
    metrics = {"loss": loss} | {f"loss/{name}": value for name, value in values.items()}
    return context.mean(gradients), (output, stats, metrics)


def cycle_gradients(
    state: TrainState,
    batch: Mapping[str, Array],
    output: FieldsOutput,
    key: jax.Array,
    assets: Assets,
    *,
    context: Context,
) -> tuple[dict[str, PyTree], tuple[PyTree, Metrics]]:
    """Gradients of the cycle loss for the synthesiser or for the encoders.

    A perturbed face is rendered and synthesised, and the encoders read it back. In the
    synthesiser's turn all encoders run in eval mode; in the encoders' turn the synthesiser does,
    and its image is detached. Shape counts in the synthesiser's turn only.

    Args:
      state: before the step.
      batch: this device's examples, images as float.
      output: of the networks for the images, gradients stopped.
      key: of this step.
      assets, context: what the step is bound to.

    Returns:
      ({network: gradients}, (new batch statistics, metrics)).
    """
    weights = context.phase.terms(context.turn)
    trained = {name: state.params[name] for name in context.phase.learners(context.turn)}
    psi = output.coefficients.expression
    expressions = jax.lax.all_gather(psi, context.axis_name, tiled=True)

    def of_part(part: Part | None, batch: Mapping[str, Array], output: FieldsOutput):
        perturbed, *painted = perturbed_face(
            Examples(batch, key, part), output.coefficients, expressions, assets, context
        )

        def loss_fn(trained):
            variables = {"params": {**state.params, **trained}, "batch_stats": state.batch_stats}
            inputs = (*painted, output.tokens)
            found, tokens, stats = _read_back(variables, inputs, perturbed, context)
            evidence = Evidence(
                batch=batch,
                settings=context.recipe.settings,
                head=assets.head,
                gram=assets.gram,
                shape_gram=assets.shape_gram,
                part=part,
                cycle=found,
                perturbed=perturbed,
                cycle_tokens=tokens,
                cycle_tokens_target=output.tokens,
            )
            loss, values = evaluate_losses(weights, evidence, context.total)
            return loss, (None, stats, (loss, values))

        return jax.grad(loss_fn, has_aux=True)(trained)

    gradients, (_, stats, (loss, values)) = over_parts(
        of_part,
        batch,
        (batch, output),
        context=context,
        before=(trained, state.batch_stats),
    )
    metrics = {"cycle_loss": loss} | {f"loss/{name}": value for name, value in values.items()}
    return context.mean(gradients), (stats, metrics)


def _read_back(
    variables: PyTree,
    inputs: tuple[Array, Array, Array | None],
    perturbed: FlameCoefficients,
    context: Context,
) -> tuple[FlameCoefficients, Array | None, PyTree]:
    """Synthesises the perturbed face and reads it again.

    Args:
      variables: of all networks.
      inputs: of the synthesiser: geometry map, masked image and tokens.
      perturbed: of that face; pose and camera are not read again.
      context: what the step is bound to.

    Returns:
      The coefficients and the tokens (None where no term looks at them) of the image, and the new
      batch statistics.
    """
    model, learners = context.recipe.model, context.phase.learners(context.turn)
    image, updates = model.apply(
        variables,
        *inputs,
        train=[name for name in learners if name == "synthesizer"],
        method="synthesize",
        mutable=["batch_stats"],
    )
    if context.turn == "encoders":
        image = jax.lax.stop_gradient(image)
    # Running statistics shall describe real images: updates by synthetic ones are dropped.
    read = dict(train=learners, mutable=["batch_stats"])
    (shape, expression, eyelid, jaw), _ = model.apply(
        variables, image, method="encode_face", **read
    )
    tokens = None
    if "tokens" in registry.needs(context.phase.terms(context.turn)):
        tokens, _ = model.apply(variables, image, method="encode_tokens", **read)
    found = perturbed.replace(shape=shape, expression=expression, eyelid=eyelid, jaw=jaw)
    return found, tokens, updates["batch_stats"]


def _as_floats(batch: Mapping[str, Array]) -> dict[str, Array]:
    chex.assert_equal_shape_prefix(list(batch.values()), 1)  # all are of the same examples
    return clear_absent(batch) | {"image": batch["image"].astype(jnp.float32) / 255}


def _advance(
    state: TrainState,
    gradients: dict[str, PyTree],
    stats: PyTree,
    metrics: Metrics,
    context: Context,
    prefix: str = "",
) -> tuple[TrainState, Metrics]:
    """Applies an update if its loss and gradients are finite and the run is not over.

    A run ends when the metrics of one bad step too many are read. By then the next step is already
    running: it must not change the parameters, with which the guard looks for the bad examples.
    """
    recipe, phase = context.recipe, context.phase
    factor = schedule_factor(state.step, start=phase.start, length=phase.steps, **recipe.schedule)
    norms = {f"gradient_norm/{prefix}{k}": optax.tree.norm(v) for k, v in gradients.items()}
    over = jnp.where(state.bad_steps > recipe.max_bad_steps, jnp.nan, 0.0)
    finite = jnp.all(jnp.isfinite(jnp.stack([metrics[f"{prefix}loss"], *norms.values(), over])))
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
    names = [
        k for k, term in registry.TERMS.items() if term.over == registry.AFFECT and k in weights
    ]
    draw = jax.random.uniform(jax.random.fold_in(key, 1), (len(names),))
    scale = sum(weights[name] for name in names) / jnp.sum(draw)
    return weights | {name: scale * draw[i] for i, name in enumerate(names)}
