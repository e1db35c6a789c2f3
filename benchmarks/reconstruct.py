"""Image to mesh to image: images per second, side by side with the reference's networks in torch.

    python -m benchmarks.reconstruct --json OUT
    python -m benchmarks.reconstruct --batches=1,16 --rounds=10 --head=HEAD.npz

Networks of the reference's size with random weights, on images of noise. All variants of a batch
size run in turn, round after round, so that a busy machine slows all of them; a variant's time is
the median over the rounds, and the load before and after is written beside it. Torch runs with a
thread for every core and with one: on a busy machine its threads wait for each other. It is left
out where it is not installed.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import numpy as np
from absl import flags
from ml_collections import ConfigDict

from benchmarks.results import save
from configs import stage2
from fields_jax.cli import run
from fields_jax.flame import flame
from fields_jax.flame.io import resolve_head
from fields_jax.models.fields import build_model, init_variables
from fields_jax.render import geometry_map
from fields_jax.types import FlameModel

Calls = dict[str, Callable[[], Any]]
ENCODERS, FACE, SYNTHESIZER = "encoders", "encoders, FLAME, render", "synthesizer"


def define_flags() -> None:
    """The flags of the command."""
    flags.DEFINE_string("json", "", "file for the results")
    flags.DEFINE_string("head", "", "head .npz (default: the procedural one)")
    flags.DEFINE_list("batches", ["1", "16"], "batch sizes")
    flags.DEFINE_integer("rounds", 7, "timed runs of every variant", lower_bound=1)


def main(_: list[str]) -> None:
    """The command."""
    chosen = flags.FLAGS
    config, head = stage2.get_config("full"), resolve_head(chosen.head)
    report = measure(config, head, [int(batch) for batch in chosen.batches], chosen.rounds)
    for batch, rates in report["images_per_second"].items():
        print(f"batch {batch}, {report['image_size']} pixels, {report['device']}")
        for name, rate in rates.items():
            print(f"  {name:36} {rate:8.2f} images/s")
    print(f"torch: {report['torch']}; load {report['load_before']} to {report['load_after']}")
    save(chosen.json, report)


def measure(config: ConfigDict, head: FlameModel, batches: list[int], rounds: int) -> dict:
    """Rates of every variant at every batch size, with what they depend on; ready for JSON.

    Args:
      config: `model` and `image_size` are read; torch's networks always have the reference's size.
      head: the FLAME model.
      batches: batch sizes.
      rounds: timed runs of each variant.
    """
    before = os.getloadavg()
    has_torch = importlib.util.find_spec("torch") is not None
    variables = init_variables(build_model(config), jax.random.key(0))
    rates = {}
    for batch in batches:
        calls = _jax_calls(config, head, variables, batch)
        calls |= _torch_calls(config.image_size, batch) if has_torch else {}
        rates[batch] = {name: batch / seconds for name, seconds in timed(calls, rounds).items()}
    return {
        "images_per_second": rates,
        "image_size": config.image_size,
        "rounds": rounds,
        "device": jax.devices()[0].device_kind,
        "machine": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "load_before": [round(load, 2) for load in before],
        "load_after": [round(load, 2) for load in os.getloadavg()],
        "jax": jax.__version__,
        "torch": _torch_version() if has_torch else "skipped, it is not installed",
    }


def timed(calls: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Median seconds of each call; they run in turn, once to warm up and then `rounds` times."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(rounds + 1):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            if turn:
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def _images(size: int, batch: int, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).random((batch, size, size, channels), np.float32)


def _jax_calls(config: ConfigDict, head: FlameModel, variables: Any, batch: int) -> Calls:
    model, size = build_model(config), config.image_size
    head = head.replace(
        shape_basis=head.shape_basis[..., : model.n_shape],
        expression_basis=head.expression_basis[..., : model.n_expression],
    )

    @jax.jit
    def encode(variables, image):
        return model.apply(variables, image)

    @jax.jit
    def draw(variables, head, image):
        output = model.apply(variables, image)
        vertices = flame(head, output.coefficients).vertices
        return output, vertices, geometry_map(head, vertices, output.coefficients.camera, size)

    @jax.jit
    def paint(variables, geometry, masked, tokens):
        return model.apply(variables, geometry, masked, tokens, method="synthesize")

    image, geometry = jax.device_put((_images(size, batch), _images(size, batch, 1)))
    variables, head = jax.device_put((variables, head))
    tokens = encode(variables, image).tokens
    programs = {
        ENCODERS: partial(encode, variables, image),
        FACE: partial(draw, variables, head, image),
        SYNTHESIZER: partial(paint, variables, geometry, image, tokens),
    }
    return {
        f"jax: {name}": (lambda program=program: jax.block_until_ready(program()))
        for name, program in programs.items()
    }


def _torch_calls(size: int, batch: int) -> Calls:
    import torch

    from benchmarks.reference.encoders import Encoders
    from benchmarks.reference.generator import Generator

    encoders, generator = Encoders(tokens=True).eval(), Generator(tokens=True).eval()
    channels_first = (np.moveaxis(_images(size, batch, c), -1, 1).copy() for c in (3, 1))
    image, geometry = map(torch.from_numpy, channels_first)
    tokens = torch.zeros(batch, 4, 256)

    def quietly(threads, network, *inputs):
        torch.set_num_threads(threads)
        with torch.inference_mode():
            return network(*inputs)

    calls: Calls = {}
    for threads in sorted({os.cpu_count() or 1, 1}, reverse=True):
        name = f"torch, {threads} thread{'s' if threads > 1 else ''}"
        calls[f"{name}: {ENCODERS}"] = partial(quietly, threads, encoders, image)
        painting = partial(quietly, threads, generator, geometry, image, tokens)
        calls[f"{name}: {SYNTHESIZER}"] = painting
    return calls


def _torch_version() -> str:
    import torch

    return torch.__version__


if __name__ == "__main__":
    define_flags()
    run(main)
