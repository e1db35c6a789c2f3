"""What `benchmarks.accelerator` measures, the most important first."""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from benchmarks import networks, rasterize, step
from benchmarks.figures import Figure, Program, compiled
from benchmarks.machine import Speeds
from benchmarks.timing import Spent, steady
from fields_jax.errors import UserError
from fields_jax.flame import flame
from fields_jax.flame.landmark_head import with_components
from fields_jax.models import convolution, layers
from fields_jax.models.encoders import CAMERA_SCALE
from fields_jax.models.fields import FieldsModel, build_model, init_variables
from fields_jax.render import geometry_map
from fields_jax.training.compilation import threads_for
from fields_jax.training.optim import make_optimizer, update
from fields_jax.types import FlameCoefficients, FlameModel

Row = dict[str, Any]
_DRAWN = {"ids": "ids", "forward": "interpolated", "forward+backward": "with gradients"}


# Shape of the kernel, if there is one, and functions of image and kernel.
_FORMS: tuple[tuple[tuple[int, ...], tuple[Callable, ...]], ...] = (
    (
        (3, 3, 1, 64),
        tuple(
            partial(form, stride=1)
            for form in (convolution.depthwise_conv_by_groups, convolution.depthwise_conv_by_shifts)
        ),
    ),
    ((1, 1, 64, 64), (convolution.pointwise_conv_by_conv, convolution.pointwise_conv_by_matmul)),
    ((2, 2, 64, 32), (layers.up_conv_by_conv, layers.up_conv_by_matmul)),
    ((), (layers.max_pool_by_window, layers.max_pool_by_pairs)),
    ((), (layers.upsample_by_conv, layers.upsample_by_gathering, layers.upsample_by_pairs)),
)


@dataclasses.dataclass(frozen=True)
class Sizes:
    """How large everything is.

    Attributes:
      matmul, copy_mib: of the products and copies whose speeds are the limits.
      sides: of the images that are drawn, pixels.
      drawn: images that are drawn at once.
      steps: (dtype, images, phase) of training steps, the most important first.
      read: (dtype, images) of the encoders' inference.
      repeats: steps that are timed.
    """

    matmul: int
    copy_mib: int
    sides: tuple[int, ...]
    drawn: tuple[int, ...]
    steps: tuple[tuple[str, int, str], ...]
    read: tuple[tuple[str, int], ...]
    repeats: int


FULL = Sizes(
    matmul=8192,
    copy_mib=1024,
    sides=(224, 512),
    drawn=(8, 64, 1),
    steps=(
        ("bfloat16", 64, "B"),
        ("float32", 16, "B"),
        ("bfloat16", 16, "B"),
        ("float32", 64, "B"),
        ("bfloat16", 64, "A"),
    ),
    read=(("bfloat16", 64), ("float32", 64), ("bfloat16", 1), ("bfloat16", 256), ("float32", 1)),
    repeats=10,
)
SMALL = Sizes(
    matmul=256,
    copy_mib=4,
    sides=(32,),
    drawn=(2,),
    steps=(("float32", 4, "A"),),
    read=(("float32", 2),),
    repeats=2,
)


@dataclasses.dataclass(frozen=True)
class Bench:
    """What the jobs share.

    Attributes:
      config: of stage 2, at the size that is to be measured.
      head: the FLAME model.
      sizes: how large everything is.
      speeds: limits of the device, by type.
    """

    config: ConfigDict
    head: FlameModel
    sizes: Sizes
    speeds: dict[str, Speeds]

    def sized(self, dtype: str, images: int) -> ConfigDict:
        """A copy of the config for another type and batch."""
        config = ConfigDict(self.config.to_dict())
        config.model.dtype, config.batch_size = dtype, images
        return config

    def row(self, name: str, program: Program, seconds: float, dtype: str, **more: Any) -> Row:
        """A result, with limits and memory."""
        figure = program.figure(name, Spent(seconds, 0.0), **more)
        return figure.report(self.speeds[dtype]) | {
            "compile_seconds": program.compile_seconds,
            "temporary_gib": program.temporary_gib,
        }


@dataclasses.dataclass(frozen=True)
class Job:
    """A name, and a function whose results are written one by one."""

    name: str
    rows: Callable[[], Iterator[Row]]


def jobs(bench: Bench) -> list[Job]:
    """All jobs, the most important first."""
    sizes = bench.sizes
    draw = [Job(f"rasterizer, {side} px", partial(drawing, bench, side)) for side in sizes.sides]
    steps = [
        Job(f"step of phase {phase}, {dtype}, {images}", partial(stepping, bench, *each))
        for each in sizes.steps
        for dtype, images, phase in (each,)
    ]
    dtypes = dict.fromkeys((dtype, images) for dtype, images, _ in sizes.steps[:2])
    parts = [
        Job(f"parts of a step, {dtype}, {images}", partial(step_parts, bench, dtype, images))
        for dtype, images in dtypes
    ]
    others = [
        Job("nvdiffrast", partial(beside_nvdiffrast, bench)),
        Job("torch", partial(beside_torch, bench)),
    ]
    read = [Job("inference", partial(inference, bench)), Job("forms", partial(forms, bench))]
    return [
        *(draw[0], steps[0], *read, parts[0], *steps[1:2], *others),
        *(*draw[1:], *steps[2:], *parts[1:]),
    ]


def drawing(bench: Bench, side: int) -> Iterator[Row]:
    """The rasteriser; its limit is the least bytes that must move."""
    for batch in bench.sizes.drawn:
        found = rasterize.work(bench.head, batch, side)
        for name, label in _DRAWN.items():
            work = found[name]
            program = compiled(work.function, *work.arrays)
            seconds = steady(partial(program.run, *work.arrays))
            least = dict(gflop=0.0, gbytes=work.bytes_moved / 1e9, items=batch)
            yield bench.row(f"{label}, batch {batch}", program, seconds, "float32", **least)


def stepping(bench: Bench, dtype: str, images: int, phase: str) -> Iterator[Row]:
    """Every program of a phase, and its iteration, with so many images on each device."""
    images *= jax.device_count()
    ready = step.prepare(bench.sized(dtype, images), bench.head, phase, threads_for(3))
    found = step.measure(ready, bench.sizes.repeats)
    rows = [
        bench.row(name, ready.programs[name], seconds, dtype, items=images)
        for name, seconds in found["parts_seconds"].items()
    ]
    yield from rows
    first, *turns = ready.programs.values()
    share = 1 / max(len(turns), 1)
    gflop = first.gflop + share * sum(program.gflop for program in turns)
    gbytes = first.gbytes + share * sum(program.gbytes for program in turns)
    whole = Figure("iteration", found["step_seconds"], 0.0, images, gflop=gflop, gbytes=gbytes)
    kind = jax.devices()[0].device_kind
    peak = next((top for name, top in step.PEAKS.items() if name in kind), None)
    attained = 1e9 * gflop / whole.seconds
    yield whole.report(bench.speeds[dtype]) | {
        "share_of_bf16_peak": attained / peak if peak else None,
        "share_of_matmul": attained / bench.speeds[dtype].flops,
        "peak_memory_gib": peak_memory(),
    }


def peak_memory() -> float | None:
    """GiB of the first device at the highest since the process began; None if it does not say."""
    stats = jax.local_devices()[0].memory_stats() or {}
    peak = stats.get("peak_bytes_in_use")
    return None if peak is None else peak / 2**30


def inference(bench: Bench) -> Iterator[Row]:
    """All encoders and the emotion head on 8-bit images."""
    for dtype, images in bench.sizes.read:
        model = build_model(bench.sized(dtype, images))
        variables = jax.device_put(init_variables(model, jax.random.key(0)))
        side = bench.config.image_size
        image = jnp.zeros((images, side, side, 3), jnp.uint8)

        def read(variables, image, model=model):
            return model.apply(variables, image.astype(jnp.float32) / 255)

        program = compiled(read, variables, image)
        seconds = steady(partial(program.run, variables, image))
        yield bench.row(f"{dtype}, batch {images}", program, seconds, dtype, items=images)


def step_parts(bench: Bench, dtype: str, images: int) -> Iterator[Row]:
    """The parts of a training step one by one."""

    def row(name: str, function: Callable, *arguments: Any) -> Row:
        program = compiled(function, *arguments)
        seconds = steady(partial(program.run, *arguments))
        return bench.row(name, program, seconds, dtype, items=images)

    config, head = bench.sized(dtype, images), bench.head
    model = build_model(config)
    variables = init_variables(model, jax.random.key(0))
    head = jax.device_put(with_components(head, model.n_shape, model.n_expression))
    for network, names in networks.NETWORKS.items():
        inputs = tuple(map(jnp.asarray, networks.random_inputs(config, network)))
        params, rest = _split(variables, names)
        loss = partial(networks.mean_squares, model, network)
        yield row(f"{network}, forward", loss, params, rest, inputs)
        gradient = jax.value_and_grad(loss, has_aux=True)
        yield row(f"{network}, forward+backward", gradient, params, rest, inputs)

    coefficients = resting(model, images)
    yield row("FLAME", flame, head, coefficients)
    vertices, camera = jax.jit(flame)(head, coefficients).vertices, coefficients.camera

    def render(vertices, camera, head):
        return geometry_map(head, vertices, camera, config.image_size)[0].mean()

    yield row("render", render, vertices, camera, head)
    both = jax.grad(render, argnums=(0, 1))
    yield row("render, forward+backward", both, vertices, camera, head)

    params = variables["params"]
    optimizer = make_optimizer(params, config.optim.rules.to_dict())
    moments = {name: optimizer[name].init(tree) for name, tree in params.items()}

    def move(gradients, params, moments):
        return update(optimizer, gradients, params, moments, jnp.float32(1))

    yield row("optimiser, all networks", move, params, params, moments)


def forms(bench: Bench) -> Iterator[Row]:
    """Every form of the layers that have several, of which `platforms.per_platform` takes one."""
    side, images = bench.config.image_size // 4, max(bench.sizes.drawn)
    for dtype in dict.fromkeys(dtype for dtype, _ in bench.sizes.read):
        x = jnp.ones((images, side, side, 64), dtype)
        for kernel, choices in _FORMS:
            arrays = (x, jnp.ones(kernel, dtype)) if kernel else (x,)
            for choice in choices:

                def gradients(*arrays, choice=choice):
                    result, pull = jax.vjp(choice, *arrays)
                    return pull(result)

                program = compiled(gradients, *arrays)
                seconds = steady(partial(program.run, *arrays))
                label = f"{getattr(choice, 'func', choice).__name__}, {dtype}"
                yield bench.row(label, program, seconds, dtype, items=images)


def resting(model: FieldsModel, images: int) -> FlameCoefficients:
    """Coefficients of faces at rest that fill their images."""
    sizes = dict(shape=model.n_shape, expression=model.n_expression, jaw=3, eyelid=2, pose=3)
    zeros = {name: jnp.zeros((images, size)) for name, size in sizes.items()}
    camera = jnp.tile(jnp.array([CAMERA_SCALE, 0.0, 0.0]), (images, 1))
    return FlameCoefficients(**zeros, camera=camera)


def _split(variables: dict, names: tuple[str, ...]) -> tuple[dict, dict]:
    """Parameters and batch statistics of some networks."""
    return tuple({k: variables[kind][k] for k in names} for kind in ("params", "batch_stats"))


def beside_torch(bench: Bench) -> Iterator[Row]:
    """Ours beside the reference's networks in torch, on the same GPU.

    Raises:
      UserError: no GPU, or no torch that can use it.
    """
    _require("torch")
    from benchmarks.torch_networks import torch_calls

    for dtype in ("bfloat16", "float32"):
        images = max(images for _, images, _ in bench.sizes.steps)
        config = bench.sized(dtype, images)
        for network in networks.NETWORKS:
            others = torch_calls(network, config.image_size, images, "cuda", dtype=dtype)
            for kind, (program, call) in networks.jax_programs(config, network).items():
                seconds = [_blocking(each) for each in (call, others[kind])]
                name = f"{network}, {kind}, {dtype}, batch {images}"
                more = dict(items=images, against={"torch": seconds[1]})
                yield bench.row(name, program, seconds[0], dtype, **more)


def beside_nvdiffrast(bench: Bench) -> Iterator[Row]:
    """Nvdiffrast on the meshes, images and attributes of `drawing`.

    Raises:
      UserError: no GPU, or no torch or nvdiffrast that can use it.
    """
    _require("torch", "nvdiffrast")
    from benchmarks.nvdiffrast_calls import calls

    for side in bench.sizes.sides:
        for batch in bench.sizes.drawn:
            arrays = map(np.asarray, rasterize.work(bench.head, batch, side)["forward"].arrays)
            found = calls(*arrays, np.asarray(bench.head.faces), side)
            for name, call in found.items():
                label = f"{_DRAWN[name]}, {side} px, batch {batch}"
                figure = Figure(label, _blocking(call), items=batch)
                yield figure.report(bench.speeds["float32"])


def _require(*packages: str) -> None:
    if jax.default_backend() != "gpu":
        raise UserError("there is no GPU")
    for package in packages:
        if importlib.util.find_spec(package) is None:
            raise UserError(f"{package} is not installed")
    import torch

    if not torch.cuda.is_available():
        raise UserError("this torch has no CUDA")


def _blocking(call: Callable[[], Any]) -> float:
    """Seconds of a call that blocks by itself."""
    call()
    return steady(call)
