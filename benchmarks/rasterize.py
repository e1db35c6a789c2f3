"""Rasteriser, interpolation and outlines: images per second, memory, compile time, native floor.

    python -m benchmarks.rasterize --json OUT

All variants of a batch size run in turn, round after round, so that a busy machine slows all of
them: compare inside one batch size only. A variant's time is the median over the rounds.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Collection
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from benchmarks import figures, machine
from benchmarks.heads import posed
from benchmarks.native import triangle_loop
from benchmarks.results import save
from benchmarks.timing import Spent, in_turns
from fields_jax import cli
from fields_jax.flame.io import resolve_head
from fields_jax.render import antialias, interpolate, rasterize
from fields_jax.render.camera import to_pixels

_ATTRIBUTES = 6
_TEST_FLOPS = 20  # of a face tested at a pixel: three edges, a depth, a comparison


def define_flags() -> None:
    """The flags of the command."""
    flags.DEFINE_string("json", "", "file for the results")
    flags.DEFINE_string("head", "", "head .npz (default: the procedural one)")
    flags.DEFINE_integer("size", 224, "pixels along a side", lower_bound=1)
    flags.DEFINE_list("batches", ["1", "8", "64"], "batch sizes")
    flags.DEFINE_integer("rounds", 5, "runs of every variant", lower_bound=1)
    flags.DEFINE_integer(
        "reference_images", 1, "images of the reference backend per run", lower_bound=1
    )


class Variant(NamedTuple):
    """One thing to time: a call that blocks, its number of images, and facts from compiling it."""

    call: Callable[[], object]
    images: int
    figures: dict[str, float]
    bytes_moved: float  # 0 if there is no lower bound to compare with


def compiled(function: Callable, images: int, bytes_moved: float, *arrays) -> Variant:
    """A jitted function of arrays, compiled here, with its memory and compile time."""
    program = figures.compiled(function, *arrays)
    facts = {
        "temporary_mib": 2**10 * program.temporary_gib,
        "compile_s": program.compile_seconds,
    }
    call = partial(lambda *a: jax.block_until_ready(program.run(*a)), *arrays)
    return Variant(call, images, facts, bytes_moved)


class Work(NamedTuple):
    """A function to compile: its arrays, the images it draws, and the least bytes it moves."""

    function: Callable
    images: int
    bytes_moved: float  # 0 if there is no lower bound to compare with
    arrays: tuple[jax.Array, ...]


def variants(
    head, batch: int, size: int, names: Collection[str] = (), slow: int = 1
) -> dict[str, Variant]:
    """What is timed at one batch size, compiled.

    Args:
      head, batch, size, slow: as of `work`.
      names: of the variants; none: all.
    """
    found = work(head, batch, size, slow)
    return {name: compiled(*found[name][:3], *found[name].arrays) for name in names or found}


def work(head, batch: int, size: int, slow: int = 1) -> dict[str, Work]:
    """What can be timed at one batch size.

    Args:
      head: whose mesh is drawn.
      batch: images.
      size: pixels along a side.
      slow: images of the reference backend.
    """
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

    def whole(vertices):
        return rasterize(vertices, faces, size)

    def forward(vertices, attributes):
        fragments = whole(vertices)
        return fragments, interpolate(fragments, vertices, faces, attributes)

    def forward_backward(vertices, attributes, cotangent):
        image, pull = jax.vjp(lambda *args: forward(*args)[1], vertices, attributes)
        return image, pull(cotangent)

    def outline(vertices):
        fragments = rasterize(vertices, faces, size)
        mask = (fragments.face_index >= 0).astype(jnp.float32)[..., None]
        return jnp.sum(antialias(mask, fragments, vertices, faces) ** 2)

    few = min(batch, slow)
    gradient = (vertices, attributes, jnp.ones((batch, size, size, _ATTRIBUTES)))
    there_and_back = 2 * (read + attributes.nbytes) + 2 * (ids + painted)
    return {
        "ids": Work(index, batch, read + ids, (vertices,)),
        "ids, culled": Work(partial(index, cull=True), batch, read + ids, (vertices,)),
        "ids, sorted": Work(partial(index, backend="sorted"), batch, read + ids, (vertices,)),
        "ids, reference": Work(partial(index, backend="reference"), few, 0, (vertices[:few],)),
        "ids, barycentric, depth": Work(whole, batch, read + ids + surface, (vertices,)),
        "forward": Work(forward, batch, read + ids + surface + painted, (vertices, attributes)),
        "forward+backward": Work(forward_backward, batch, there_and_back, gradient),
        "outline": Work(outline, batch, 0, (vertices,)),
        "outline, forward+backward": Work(jax.value_and_grad(outline), batch, 0, (vertices,)),
    }


def native(head, batch: int, size: int) -> dict[str, Variant]:
    """The C++ loop on the same vertices; empty, with a message, where no compiler is."""
    loop = triangle_loop()
    if loop is None:
        print("no C++ compiler: the native floor is left out")
        return {}
    points, faces = _pixels(head, batch, size), np.asarray(head.faces)
    return {
        name: Variant(partial(loop, points, faces, (size, size), cull), batch, {}, 0)
        for name, cull in (("ids, native", False), ("ids, native, culled", True))
    }


def _pixels(head, batch: int, size: int) -> np.ndarray:
    """The vertices of the posed heads in pixels, and their depths: [B, V, 3]."""
    points = jnp.asarray(posed(np.asarray(head.template, np.float64), batch))
    return np.asarray(to_pixels(points, (size, size)))


def tests(head, batch: int, size: int) -> int:
    """Pixels in the bounding boxes of all faces: what a loop over triangles has to test."""
    points = _pixels(head, batch, size)[..., :2][:, np.asarray(head.faces)]
    low = np.ceil(points.min(axis=2)).clip(0)
    high = np.floor(points.max(axis=2)).clip(max=size - 1)
    return int((high - low + 1).clip(0).prod(axis=-1).sum())


def measure(head, batch: int, size: int, rounds: int) -> list[figures.Figure]:
    """Face indices against the C++ loop and the reference backend, and what gradients add.

    Args:
      head: whose mesh is drawn.
      batch: images.
      size: pixels along a side.
      rounds: timed runs of each.
    """
    names = ("ids", "ids, culled", "ids, reference", "forward+backward")
    found = native(head, batch, size) | variants(head, batch, size, names)
    spent = in_turns({name: variant.call for name, variant in found.items()}, rounds)
    others = {
        "ids": {"C++ loop, 1 thread": "ids, native", "reference backend": "ids, reference"},
        "ids, culled": {"C++ loop, 1 thread": "ids, native, culled"},
        "forward+backward": {"face indices alone": "ids"},
    }
    gflop = 1e-9 * _TEST_FLOPS * tests(head, batch, size)

    def each(name: str) -> float:
        return spent[name].wall * batch / found[name].images

    return [
        figures.Figure(
            f"{name}, {size} px, batch {batch}",
            *spent[name],
            items=batch,
            against={label: each(other) for label, other in pairs.items() if other in spent},
            gflop=gflop,
            gbytes=1e-9 * found[name].bytes_moved,
        )
        for name, pairs in others.items()
    ]


def described(
    found: dict[str, Variant], spent: dict[str, Spent], bandwidth: float
) -> dict[str, dict[str, float]]:
    """Rates, times and facts of the variants; times over those of moving their bytes."""
    results = {}
    for name, variant in found.items():
        seconds = spent[name].wall
        rate = {"images_per_s": variant.images / seconds, "ms": 1e3 * seconds}
        if variant.bytes_moved:
            rate["over_byte_floor"] = seconds / (variant.bytes_moved / bandwidth)
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
    chosen = flags.FLAGS
    head, size = resolve_head(chosen.head), chosen.size
    report = {
        "device": jax.devices()[0].device_kind,
        "machine": platform.processor() or platform.machine(),
        "jax": jax.__version__,
        "size": size,
        "faces": len(head.faces),
        "batches": {},
    }
    bandwidth = machine.copy_speed(256)
    for batch in map(int, chosen.batches):
        found = native(head, batch, size) | variants(
            head, batch, size, slow=chosen.reference_images
        )
        spent = in_turns({name: variant.call for name, variant in found.items()}, chosen.rounds)
        results = described(found, spent, bandwidth)
        report["batches"][batch] = {"variants": results, "ratios": ratios(results)}
        print(f"\nbatch {batch}, {size} pixels, {report['faces']} faces, {report['device']}")
        for name, facts in results.items():
            shown = "  ".join(f"{key} {value:.4g}" for key, value in facts.items())
            print(f"  {name:28} {shown}")
        for name, value in report["batches"][batch]["ratios"].items():
            print(f"  {name}: {value:.3g}")
    save(chosen.json, report)


if __name__ == "__main__":
    define_flags()
    cli.run(main)
