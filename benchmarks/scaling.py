"""Estimates the speed on more chips from a compiler's figures: `python -m benchmarks.scaling`.

Reads docs/scaling.json, reports of `python -m benchmarks.step --notime`, and writes
docs/scaling.md. It is a model, whose assumptions are the constants below.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from absl import flags

from benchmarks.step import PEAKS, iteration_total
from fields_jax.cli import run
from fields_jax.disk import writing
from fields_jax.files import read_json, write_whole
from fields_jax.tools.targets import GPUS

FOLDER = Path(__file__).parents[1] / "docs"
_PROGRAMS = 3  # of a phase with a cycle; a report of fewer has no estimate


@dataclasses.dataclass(frozen=True)
class Chip:
    """A device, from its maker's pages.

    Attributes:
      name: for the tables.
      peaks: FLOP/s by the type of the networks; float32 is multiplied in fewer bits by default.
      memory, memory_gib: bytes/s of its memory, and its size.
      links: bytes/s out of it to the others.
      counts: of devices that are estimated.
    """

    name: str
    peaks: Mapping[str, float]
    memory: float
    memory_gib: int
    links: float
    counts: tuple[int, ...]


_V5E, _H100 = PEAKS["v5e"], GPUS["h100"]
# By a part of what a report calls the kind of its devices.
CHIPS = {
    # Half of the 1600 Gbit/s of its interconnect leave a chip.
    "TPU v5 lite": Chip(
        "TPU v5e", dict(bfloat16=_V5E, float32=_V5E), 819e9, 16, 100e9, (1, 8, 64, 256)
    ),
    # Half of NVLink's 900 GB/s; between hosts each cluster has links of its own.
    "H100": Chip(
        "H100",
        dict(bfloat16=PEAKS["H100"], float32=495e12),
        1e9 * _H100.speed,
        _H100.memory,
        450e9,
        (1, 8),
    ),
}
# Ours; nothing here was measured on a TPU or a GPU.
ATTAINED = 0.4  # fraction of the peak and of the HBM's speed that a step attains
LATENCY = 5e-6  # seconds per collective besides its bytes, and a tenth of it for each hop
HOSTED = 8  # chips per host, which has 112 cores
READS = 56 * 335  # images/s per host: half of its cores, each as fast as one measured here


def define_flags() -> None:
    """The flags of the command."""
    flags.DEFINE_string("figures", str(FOLDER / "scaling.json"), "reports of benchmarks.step")
    flags.DEFINE_string("out", str(FOLDER / "scaling.md"), "page to write")


def main(_: list[str]) -> None:
    """The command."""
    chosen = flags.FLAGS
    reports = read_json(chosen.figures, kind=list)
    with writing(chosen.out, instead="another --out"):
        write_whole(chosen.out, page(reports))


def chip_of(report: dict[str, Any]) -> Chip | None:
    """The chip that a report was compiled for; None for others, such as a CPU."""
    return next((chip for kind, chip in CHIPS.items() if kind in report["kind"]), None)


def estimate(report: dict[str, Any], chips: int) -> dict[str, float]:
    """Seconds and images a second of an iteration on so many chips, each with the report's batch.

    compute = max(FLOPs / (ATTAINED peak), traffic / (ATTAINED memory))
    reduce  = 2 (n - 1) / n S / links + C LATENCY (1 + hops / 10), hops = 2 (sqrt(n) - 1)
    with S the bytes and C the number of the collectives; none of it is hidden behind compute.
    """
    chip = chip_of(report)
    total = {
        key: iteration_total(report["programs"], key)
        for key in ("gflops", "memory_traffic_gbytes", "collective_mbytes", "collectives")
    }
    compute = max(
        1e9 * total["gflops"] / (ATTAINED * chip.peaks[report["dtype"]]),
        1e9 * total["memory_traffic_gbytes"] / (ATTAINED * chip.memory),
    )
    hops = 2 * (chips**0.5 - 1)
    reduce = 2 * (chips - 1) / chips * 1e6 * total["collective_mbytes"] / chip.links
    reduce += total["collectives"] * LATENCY * (1 + hops / 10) if chips > 1 else 0.0
    seconds = compute + reduce
    images = chips * report["batch_per_device"] / seconds
    reads = READS * -(-chips // HOSTED)
    return {
        "compute": compute,
        "reduce": reduce,
        "images": images,
        "read": reads,
        "efficiency": compute / seconds,
    }


def page(reports: list[dict[str, Any]]) -> str:
    """The page as Markdown."""
    return "\n".join([_HEAD, *_figures(reports), _MODEL, *_estimates(reports), _FOOT])


def _figures(reports: list[dict[str, Any]]) -> list[str]:
    lines = [
        "| compiled for | devices | code | networks in | images per device | program | GFLOP | "
        "GB accessed | GB to and from memory | memory, GiB | collectives | their MB |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for report in reports:
        for name, p in report["programs"].items():
            lines.append(
                f"| {report['kind']} | {report['devices']} | {_code(report)} | {report['dtype']} "
                f"| {_images(report)} | {name} "
                f"| {p['gflops']:,.0f} | {_or_dash(p['gbytes_accessed'])} "
                f"| {p['memory_traffic_gbytes']:,.1f} | {p['memory_gib']:.2f} | {p['collectives']} "
                f"| {p['collective_mbytes']:.1f} |"
            )
    return lines


def _or_dash(gbytes: float) -> str:
    """The compiler of GPUs that are not there counts nothing."""
    return f"{gbytes:,.1f}" if gbytes else "-"


def _code(report: dict[str, Any]) -> str:
    """Which networks were compiled: those of today, or of before a change that the page tells."""
    return report.get("code", "today's")


def _images(report: dict[str, Any]) -> str:
    """Images of a device for each update, and in how many parts it takes them."""
    whole, parts = report["batch_per_device"], report.get("accumulate", 1)
    return f"{whole}" if parts == 1 else f"{whole} = {parts} x {whole // parts}"


def _estimates(reports: list[dict[str, Any]]) -> list[str]:
    lines = [
        "| chip | code | networks in | images per chip | chips | compute, ms | collectives, ms | "
        "efficiency | images/s | pipeline, images/s | limited by |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for report in [r for r in reports if len(r["programs"]) == _PROGRAMS]:
        chip = chip_of(report)
        for chips in chip.counts if chip else ():
            e = estimate(report, chips)
            limit = "input pipeline" if e["read"] < e["images"] else "chips"
            lines.append(
                f"| {chip.name} | {_code(report)} | {report['dtype']} | {_images(report)} "
                f"| {chips} | {1e3 * e['compute']:.0f} | {1e3 * e['reduce']:.1f} | "
                f"{100 * e['efficiency']:.0f} % | {e['images']:,.0f} | {e['read']:,.0f} | {limit} |"
            )
    return lines


def _chip_row(chip: Chip) -> str:
    peaks = ", ".join(f"{chip.peaks[name] / 1e12:.0f}" for name in ("bfloat16", "float32"))
    memory = f"{chip.memory / 1e9:,.0f}, {chip.memory_gib}"
    return f"| {chip.name} | {peaks} | {memory} | {chip.links / 1e9:.0f} |"


_HEAD = """# What 8, 64 and 256 chips would give

**A model, not a measurement.** No TPU or GPU was at hand. The first table is what XLA's compilers
say of the full-size step of stage 2, phase B (224 px), for devices of the kind named; the second
follows from its rows of accelerators by the formulas between them. `python -m benchmarks.scaling`
writes this page from docs/scaling.json, a list of what

    python -m benchmarks.step --notime --topology=v5e:2x2 --json=OUT

writes, which takes from a quarter to three quarters of an hour for each program, with
`--topology=h100:2` two to six minutes, and with `--topology=cpu` one or two (with
XLA_FLAGS=--xla_backend_optimization_level=0). FLOPs and the gradients' bytes are the same for all;
bytes are not, since CPUs fuse other operations and keep
nothing on a chip, and the number of collectives differs, since each compiler merges some. An
iteration is the reconstruction and one of the two turns of the cycle; figures are per device. "GB
accessed" is the compiler's count, which takes in what stays on the chip; "GB to and from memory" is
read off the compiled program (fields_jax/tools/hlo.py): operands and results of every fusion that
do not stay there, without what TPUs add to fill whole tiles (a layout whose innermost axis is a
batch of 64 images moves twice as much); of an operand that is sliced, slices count in the rows of
the H100 and the whole in the others, which were compiled before. Both count the rasteriser's loops
once. GPUs' convolutions and products are those of cuDNN and cuBLAS, whose work space is not in the
memory; the H100 launches some 4,800 kernels in the reconstruction, 5,100 before images were pooled
and enlarged without scatters and copies, and moves 4 % fewer bytes than then. What was measured,
on a CPU, is in [performance.md](performance.md); `python -m benchmarks.accelerator` measures a TPU
or GPU.

"Former" is the code of before normalisations had gradients of their own; not all of its rows were
compiled again. An iteration of 16 images moves 22.6 GB now for 28.2, a fifth less, and the
model's 186 images/s a chip become 232. At 64 images the synthesiser's turn moves 41.9 GB for 61.9
and the encoders' 14.7 for 20.4. The reconstruction undivided was a step back (98.9 GB for 74.0,
15.98 GiB of the 16): near the end of the memory the compiler recomputes. In four parts
(`--config.accumulate=4`) it takes 7.2 GiB; one part moves 15.6 GB with the update, of which the
update, compiled alone, is 2.8 (2.5 is the least: parameters, moments and gradients, each read, and
all but the last written), so that 64 images move 54 GB at most. An iteration of 64 then moves 82 GB
for the former 115, seven tenths, and the model would say 255 images/s a chip for 182. Of the 15.6
the synthesiser moves 6.4, encoders 1.2, and what is no module of the model, such as losses,
rasteriser, sums of gradients and update, 8.0.

Without weights the perceptual and the emotion-feature loss are off, and so they are in all these
programs. VGG16 and its gradient add 1,308 GFLOP and 5.9 GB to the reconstruction of 16 images
(compiled alone), ResNet-50 382 GFLOP and 1.8 GB, and the second painting that its loss looks at a
forward pass of the synthesiser. They stay in float32, on TPUs as three products of bfloat16 where
one would do, on GPUs in TF32: with pictures as near each other as those of training (0.03 to 0.1
apart), bfloat16 changes the gradient of a random VGG16 by 0.19 to 0.29 of its size.
"""

_MODEL = f"""
- compute = max(FLOPs / ({ATTAINED} peak), GB to and from memory / ({ATTAINED} speed of memory)), \
mean of the two turns
- collectives = 2 (n-1)/n x their bytes / speed of the links + their number x \
{1e6 * LATENCY:.0f} us x (1 + hops/10), hops = 2 (sqrt(n) - 1), nothing hidden behind compute
- efficiency = compute / (compute + collectives); images/s = n x images per chip / their sum
- input pipeline = {READS:,} images/s for each host of {HOSTED} chips: 335 for each of half its \
112 cores, measured on two of another machine; `python -m benchmarks.pipeline` says it of a host

Peaks, memories and links are of the makers' pages; the share of {ATTAINED} and the latency are \
guesses.

| chip | TFLOP/s for bfloat16, float32 | GB/s and GiB of memory | GB/s of links |
|---|---|---|---|
{chr(10).join(map(_chip_row, CHIPS.values()))}
"""

_FOOT = """
The gradients of all trained networks and the sums of synchronised batch normalisation are what
travels; the first grow with the networks and not with the batch, the second are many and small, so
that their latency counts. More images per chip dilute both. Where the input pipeline limits, more
hosts, a smaller share of augmentation on the CPU, or crops stored at their final size help.
"""


if __name__ == "__main__":
    define_flags()
    run(main)
