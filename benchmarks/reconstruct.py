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
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np
from absl import flags
from ml_collections import ConfigDict

import fields_jax
from benchmarks.figures import Figure, Program, compiled
from benchmarks.results import save
from benchmarks.timing import in_turns
from configs import stage2
from fields_jax.cli import run
from fields_jax.flame import flame
from fields_jax.flame.io import resolve_head
from fields_jax.flame.landmark_head import with_components
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
        calls = {k: call for k, (_, call) in programs(config, head, variables, batch).items()}
        calls |= _torch_calls(config.image_size, batch) if has_torch else {}
        spent = in_turns(calls, rounds)
        rates[batch] = {name: batch / seconds.wall for name, seconds in spent.items()}
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


def figures(config: ConfigDict, head: FlameModel, batch: int, rounds: int) -> list[Figure]:
    """Encoding, the whole face and the synthesiser, with torch's time where it is installed.

    Args:
      config, head, rounds: as of `measure`.
      batch: images.
    """
    variables = init_variables(build_model(config), jax.random.key(0))
    found = programs(config, head, variables, batch)
    calls = {name: call for name, (_, call) in found.items()}
    threads = os.cpu_count() or 1
    if importlib.util.find_spec("torch"):
        calls |= _torch_calls(config.image_size, batch, (threads,))
    spent = in_turns(calls, rounds)
    lines = []
    for name, (program, _) in found.items():
        part = name.removeprefix("jax: ")
        other = spent.get(_torch_name(threads, part))
        lines.append(
            program.figure(
                f"{part}, {config.image_size} px, batch {batch}",
                spent[name],
                items=batch,
                against={"torch": other.wall} if other else {},
            )
        )
    return lines


def packaged(count: int, rounds: int) -> Figure:
    """The model in the package, from pictures with boxes to heads with their verdicts.

    Args:
      count: pictures, of noise.
      rounds: as of `measure`.
    """
    model = fields_jax.load()
    pictures = [(255 * picture).astype(np.uint8) for picture in _images(256, count)]
    read = partial(model.reconstruct, pictures, boxes=[(64, 64, 192, 192)] * count)
    spent = in_turns({"read": read}, rounds)["read"]
    name = f"model in the package, {model.size} px, pictures: {count}"
    note = "eleven crops of each face, mesh, verdict"
    return Figure(name, spent.wall, spent.cpu, items=count, note=note)


def programs(
    config: ConfigDict, head: FlameModel, variables: Any, batch: int
) -> dict[str, tuple[Program, Callable[[], Any]]]:
    """The compiled functions, with calls that run them and block."""
    model, size = build_model(config), config.image_size
    head = with_components(head, model.n_shape, model.n_expression)

    def encode(variables, image):
        return model.apply(variables, image)

    def draw(variables, head, image):
        output = model.apply(variables, image)
        vertices = flame(head, output.coefficients).vertices
        return output, vertices, geometry_map(head, vertices, output.coefficients.camera, size)

    def paint(variables, geometry, masked, tokens):
        return model.apply(variables, geometry, masked, tokens, method="synthesize")

    image, geometry = jax.device_put((_images(size, batch), _images(size, batch, 1)))
    variables, head = jax.device_put((variables, head))
    encoder = compiled(encode, variables, image)
    tokens = encoder.run(variables, image).tokens
    painted = (variables, geometry, image, tokens)
    found = {
        ENCODERS: (encoder, (variables, image)),
        FACE: (compiled(draw, variables, head, image), (variables, head, image)),
        SYNTHESIZER: (compiled(paint, *painted), painted),
    }
    return {
        f"jax: {name}": (program, partial(_blocking, program.run, *arguments))
        for name, (program, arguments) in found.items()
    }


def _images(size: int, batch: int, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).random((batch, size, size, channels), np.float32)


def _blocking(run: Callable[..., Any], *arguments: Any) -> Any:
    return jax.block_until_ready(run(*arguments))


def _torch_calls(size: int, batch: int, threads: tuple[int, ...] = ()) -> Calls:
    import torch

    from benchmarks.reference.encoders import Encoders
    from benchmarks.reference.generator import Generator

    encoders, generator = Encoders(tokens=True).eval(), Generator(tokens=True).eval()
    channels_first = (np.moveaxis(_images(size, batch, c), -1, 1).copy() for c in (3, 1))
    image, geometry = map(torch.from_numpy, channels_first)
    tokens = torch.zeros(batch, 4, 256)

    def quietly(count, network, *inputs):
        torch.set_num_threads(count)
        with torch.inference_mode():
            return network(*inputs)

    calls: Calls = {}
    for count in threads or sorted({os.cpu_count() or 1, 1}, reverse=True):
        calls[_torch_name(count, ENCODERS)] = partial(quietly, count, encoders, image)
        painting = partial(quietly, count, generator, geometry, image, tokens)
        calls[_torch_name(count, SYNTHESIZER)] = painting
    return calls


def _torch_name(threads: int, part: str) -> str:
    return f"torch, {threads} thread{'s' if threads > 1 else ''}: {part}"


def _torch_version() -> str:
    import torch

    return torch.__version__


if __name__ == "__main__":
    define_flags()
    run(main)
