"""Rasteriser, interpolation and outlines: images per second, memory, compile time, native floor.

    python -m benchmarks.rasterize --json OUT

All variants of a batch size run in turn, round after round, so that a busy machine slows all of
them: compare inside one batch size only. A variant's time is the median over the rounds.
"""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from benchmarks.heads import posed
from benchmarks.native import triangle_loop
from benchmarks.results import save
from fields_jax import cli
from fields_jax.flame.io import resolve_head
from fields_jax.render import antialias, interpolate, rasterize
from fields_jax.render.camera import to_pixels

_JSON = flags.DEFINE_string("json", "", "Where to write the results.")
_HEAD = flags.DEFINE_string("head", "", "A head .npz; the procedural head if empty.")
_SIZE = flags.DEFINE_integer("size", 224, "Pixels along a side.", lower_bound=1)
_BATCHES = flags.DEFINE_list("batches", ["1", "8", "64"], "Batch sizes.")
_ROUNDS = flags.DEFINE_integer("rounds", 5, "Runs of every variant.", lower_bound=1)
_SLOW = flags.DEFINE_integer(
    "reference_images", 1, "Images of the reference backend per run.", lower_bound=1
)
_BANDWIDTH = flags.DEFINE_float(
    "bandwidth", 4.3e12, "Bytes per second of the GPU's memory; the default is an H200's copy."
)
_ATTRIBUTES = 6


class Variant(NamedTuple):
    """One thing to time: a call that blocks, its number of images, and facts from compiling it."""

    call: Callable[[], object]
    images: int
    figures: dict[str, float]
    bytes_moved: float  # 0 if there is no lower bound to compare with


def compiled(function: Callable, images: int, bytes_moved: float, *arrays) -> Variant:
    """A jitted function of arrays, compiled here, with its memory and compile time."""
    start = time.perf_counter()
    program = jax.jit(function).lower(*arrays).compile()
    seconds = time.perf_counter() - start
    memory = program.memory_analysis()
    temporary = 0 if memory is None else memory.temp_size_in_bytes
    figures = {"temporary_mib": temporary / 2**20, "compile_s": seconds}
    call = partial(lambda *a: jax.block_until_ready(program(*a)), *arrays)
    return Variant(call, images, figures, bytes_moved)


def variants(head, batch: int, size: int) -> dict[str, Variant]:
    """What is timed at one batch size."""
    faces = np.asarray(head.faces)
    host = posed(np.asarray(head.template, np.float64), batch)
    vertices = jnp.asarray(host)
    attributes = jnp.asarray(np.random.default_rng(1).normal(size=(*host.shape[:2], _ATTRIBUTES)))
    attributes = attributes.astype(jnp.float32)
    pixels = batch * size * size
    read, ids = vertices.nbytes, 4 * pixels
    surface, painted = 16 * pixels, 4 * _ATTRIBUTES * pixels

    def index(vertices, **options):
        return rasterize(vertices, faces, size, **options).face_index

    def forward(vertices, attributes):
        fragments = rasterize(vertices, faces, size)
        return fragments, interpolate(fragments, vertices, faces, attributes)

    def forward_backward(vertices, attributes, cotangent):
        image, pull = jax.vjp(lambda *args: forward(*args)[1], vertices, attributes)
        return image, pull(cotangent)

    def outline(vertices):
        fragments = rasterize(vertices, faces, size)
        mask = (fragments.face_index >= 0).astype(jnp.float32)[..., None]
        return jnp.sum(antialias(mask, fragments, vertices, faces) ** 2)

    few = min(batch, _SLOW.value)
    return {
        "ids": compiled(index, batch, read + ids, vertices),
        "ids, culled": compiled(partial(index, cull=True), batch, read + ids, vertices),
        "ids, sorted": compiled(partial(index, backend="sorted"), batch, read + ids, vertices),
        "ids, reference": compiled(partial(index, backend="reference"), few, 0, vertices[:few]),
        "ids, barycentric, depth": compiled(
            lambda v: rasterize(v, faces, size), batch, read + ids + surface, vertices
        ),
        "forward": compiled(forward, batch, read + ids + surface + painted, vertices, attributes),
        "forward+backward": compiled(
            forward_backward,
            batch,
            2 * (read + attributes.nbytes) + 2 * (ids + painted),
            vertices,
            attributes,
            jnp.ones((batch, size, size, _ATTRIBUTES)),
        ),
        "outline": compiled(outline, batch, 0, vertices),
        "outline, forward+backward": compiled(jax.value_and_grad(outline), batch, 0, vertices),
    }


def native(head, batch: int, size: int) -> dict[str, Variant]:
    """The C++ loop on the same vertices; empty, with a message, where no compiler is."""
    loop = triangle_loop()
    if loop is None:
        print("no C++ compiler: the native floor is left out")
        return {}
    points = np.asarray(
        to_pixels(jnp.asarray(posed(np.asarray(head.template, np.float64), batch)), (size, size))
    )
    faces = np.asarray(head.faces)
    return {
        name: Variant(partial(loop, points, faces, (size, size), cull), batch, {}, 0)
        for name, cull in (("ids, native", False), ("ids, native, culled", True))
    }


def timed(found: dict[str, Variant], rounds: int) -> dict[str, dict[str, float]]:
    """Runs all variants in turn, once to warm up and then `rounds` times."""
    seconds = {name: [] for name in found}
    for turn in range(rounds + 1):
        for name, variant in found.items():
            start = time.perf_counter()
            variant.call()
            if turn:
                seconds[name].append(time.perf_counter() - start)
    results = {}
    for name, variant in found.items():
        median = statistics.median(seconds[name])
        rate = {"images_per_s": variant.images / median, "ms": 1e3 * median}
        if variant.bytes_moved and jax.default_backend() == "gpu":
            rate["over_byte_floor"] = median / (variant.bytes_moved / _BANDWIDTH.value)
        results[name] = rate | variant.figures
    return results


def ratios(results: dict[str, dict[str, float]]) -> dict[str, float]:
    """Ratios of times, which depend less on how busy the machine is."""
    rate = {name: figures["images_per_s"] for name, figures in results.items()}
    found = {
        "ids over reference": rate["ids"] / rate["ids, reference"],
        "forward+backward in id rasters": rate["ids"] / rate["forward+backward"],
        "outline, forward+backward in id rasters": rate["ids"] / rate["outline, forward+backward"],
    }
    if "ids, native" in rate:
        found["ids over native, one thread"] = rate["ids"] / rate["ids, native"]
        found["culled ids over native, one thread"] = (
            rate["ids, culled"] / rate["ids, native, culled"]
        )
    return found


def main(_: list[str]) -> None:
    """Prints a table for every batch size and writes all of it as JSON."""
    head, size = resolve_head(_HEAD.value), _SIZE.value
    report = {
        "device": jax.devices()[0].device_kind,
        "machine": platform.processor() or platform.machine(),
        "jax": jax.__version__,
        "size": size,
        "faces": len(head.faces),
        "batches": {},
    }
    for batch in map(int, _BATCHES.value):
        results = timed(native(head, batch, size) | variants(head, batch, size), _ROUNDS.value)
        report["batches"][batch] = {"variants": results, "ratios": ratios(results)}
        print(f"\nbatch {batch}, {size} pixels, {report['faces']} faces, {report['device']}")
        for name, figures in results.items():
            shown = "  ".join(f"{key} {value:.4g}" for key, value in figures.items())
            print(f"  {name:28} {shown}")
        for name, value in report["batches"][batch]["ratios"].items():
            print(f"  {name}: {value:.3g}")
    save(_JSON.value, report)


if __name__ == "__main__":
    cli.run(main)
