"""The networks' forward passes and training steps, in turns with the reference's in torch.

    python -m benchmarks.networks --json OUT
    python -m benchmarks.networks --sizes=64:16 --networks=encoders --rounds=10

A training step is a forward and a backward pass in training mode and Adam's update of every
parameter; the loss is the sum of the mean squares of the outputs. The encoders are those of pose,
shape and expression, all of them trained, as in stage 1. Both sides use all cores; torch is left
out where it is not installed.
"""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from ml_collections import ConfigDict

from benchmarks import machine
from benchmarks.figures import Figure, Program, compiled
from benchmarks.results import save
from benchmarks.timing import in_turns
from configs import stage1
from fields_jax.cli import run
from fields_jax.models.fields import FieldsModel, build_model, init_variables
from fields_jax.training.optim import make_optimizer, update

FORWARD, STEP = "forward", "training step"
NETWORKS = {
    "encoders": ("pose_encoder", "shape_encoder", "expression_encoder"),
    "synthesizer": ("synthesizer",),
}
Call = Callable[[], Any]


def define_flags() -> None:
    """The flags of the command."""
    flags.DEFINE_string("json", "", "file for the results")
    flags.DEFINE_list("sizes", ["64:16", "224:8"], "image sizes and batch sizes")
    flags.DEFINE_list("networks", list(NETWORKS), "which to time")
    flags.DEFINE_integer("rounds", 5, "timed runs of every variant", lower_bound=1)


def main(_: list[str]) -> None:
    """The command; results are written after each measurement."""
    chosen = flags.FLAGS
    found: list[dict[str, Any]] = []
    report = {"machine": machine.describe(), "load": [machine.load()], "figures": found}
    speeds = machine.speeds()
    for text in chosen.sizes:
        size, batch = map(int, text.split(":"))
        for network in chosen.networks:
            config = at_size(stage1.get_config("full"), size, batch)
            for figure in measure(config, network, chosen.rounds):
                found.append(figure.report(speeds))
                print(json.dumps(found[-1], indent=1), flush=True)
                report["load"].append(machine.load())
                save(chosen.json, report)


def at_size(config: ConfigDict, size: int, batch: int) -> ConfigDict:
    """The config for images and batches of another size."""
    config.image_size, config.batch_size = size, batch
    return config


def measure(config: ConfigDict, network: str, rounds: int) -> list[Figure]:
    """The forward pass and the training step of a network.

    Args:
      config: `model`, `image_size`, `batch_size` and `optim` are read; torch's networks always have
        the reference's widths.
      network: a key of `NETWORKS`.
      rounds: timed runs of each.
    """
    size, batch = config.image_size, config.batch_size
    programs = jax_programs(config, network)
    others: dict[str, Call] = {}
    if importlib.util.find_spec("torch"):
        from benchmarks.torch_networks import torch_calls

        others = torch_calls(network, size, batch, "cpu", os.cpu_count() or 1)
    found = []
    for kind, (program, call) in programs.items():
        calls = {"jax": call} | ({"torch": others[kind]} if others else {})
        spent = in_turns(calls, rounds)
        found.append(
            program.figure(
                f"{network}, {kind}, {size} px, batch {batch}",
                spent.pop("jax"),
                items=batch,
                against={name: other.wall for name, other in spent.items()},
                note="" if others else "torch is not installed",
            )
        )
    return found


def jax_programs(config: ConfigDict, network: str) -> dict[str, tuple[Program, Call]]:
    """The compiled forward pass and training step, with calls that run them and block."""
    model = build_model(config)
    variables = init_variables(model, jax.random.key(0))
    inputs = jax.device_put(tuple(map(jnp.asarray, random_inputs(config, network))))
    params, stats = (
        {name: variables[kind][name] for name in NETWORKS[network]}
        for kind in ("params", "batch_stats")
    )
    optimizer = make_optimizer(params, config.optim.rules.to_dict())
    moments = {name: optimizer[name].init(tree) for name, tree in params.items()}
    forward = compiled(
        lambda params, stats, *inputs: outputs_of(
            model, network, {"params": params, "batch_stats": stats}, inputs
        ),
        *(params, stats, *inputs),
    )
    step = compiled(
        jax.jit(training_step(model, network, optimizer), donate_argnums=0),
        *((params, stats, moments), inputs),
    )
    # The step donates its state: the forward pass needs arrays of its own.
    kept = jax.tree.map(jnp.copy, (params, stats))
    state = [(params, stats, moments)]

    def train() -> None:
        state[0] = jax.block_until_ready(step.run(state[0], inputs))

    def read() -> None:
        jax.block_until_ready(forward.run(*kept, *inputs))

    return {FORWARD: (forward, read), STEP: (step, train)}


def training_step(model: FieldsModel, network: str, optimizer: Any) -> Callable[..., Any]:
    """A function of (parameters, statistics, moments) and inputs to the next of them."""

    def step(state, inputs):
        params, stats, moments = state
        gradient = jax.grad(partial(mean_squares, model, network), has_aux=True)
        gradients, stats = gradient(params, stats, inputs)
        params, moments = update(optimizer, gradients, params, moments, jnp.float32(1))
        return params, stats, moments

    return step


def mean_squares(
    model: FieldsModel, network: str, params: Any, stats: Any, inputs: tuple[jax.Array, ...]
) -> tuple[jax.Array, Any]:
    """The loss in training mode, and the new batch statistics."""
    variables = {"params": params, "batch_stats": stats}
    outputs, updates = outputs_of(model, network, variables, inputs, NETWORKS[network])
    squares = [jnp.mean(jnp.square(x)) for x in jax.tree.leaves(outputs)]
    return sum(squares), updates["batch_stats"]


def outputs_of(
    model: FieldsModel,
    network: str,
    variables: Any,
    inputs: tuple[jax.Array, ...],
    train: tuple[str, ...] = (),
) -> Any:
    """What the networks return; with `train`, and the new batch statistics."""

    def read(model, *inputs):
        if network == "synthesizer":
            return model.synthesize(*inputs, train)
        pose = model.pose_encoder(*inputs, "pose_encoder" in train)
        return pose, model.encode_face(*inputs, train)

    return model.apply(variables, *inputs, method=read, mutable=["batch_stats"] if train else False)


def random_inputs(config: ConfigDict, network: str) -> tuple[np.ndarray, ...]:
    """Images for the encoders; geometry, masked images and tokens for the synthesiser."""
    rng = np.random.default_rng(0)
    side, batch = config.image_size, config.batch_size
    image = rng.random((batch, side, side, 3), np.float32)
    if network != "synthesizer":
        return (image,)
    geometry = rng.random((batch, side, side, 1), np.float32)
    return geometry, image, rng.standard_normal((batch, 4, config.model.token_dim), np.float32)


if __name__ == "__main__":
    define_flags()
    run(main)
