"""The page of a report of `benchmarks.ledger`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

_TITLES = {
    "rasterizer": "Rasteriser",
    "encoders": "Encoders",
    "synthesizer": "Synthesiser",
    "demo": "Steps of the demo",
    "loop": "Training loop",
    "pipeline": "Data pipeline",
    "reconstruct": "Reconstruction",
    "scan_fit": "Scan fit",
    "starting": "Starting",
}
_LEADS = {
    "rasterizer": "The procedural head. The limit is the larger of the bytes of vertices, "
    "attributes and images, and 20 operations for each pixel of each face's bounding box, which is "
    "what the C++ loop tests.",
    "encoders": "Pose, shape and expression at the reference's width. A training step is a forward "
    "and a backward pass and Adam's update of every parameter. Of the processor time of a step at "
    "64 px a sampling profiler found 23 % in matrix products, 35 % in elementwise, depthwise and "
    "summing loops, 8 % in packing the operands of products, and most of the rest in scheduling "
    "4,500 small operations (2026-11-30). Four times torch's speed is out of reach for such a "
    "program: products at their limit and Adam's 129 MB at the speed of a copy take most of that.",
    "synthesizer": "TEASER's, at the reference's width; a training step as above.",
    "demo": "A step of each phase of `make demo`, batches at hand; the cycle's two turns count "
    "half each. Until convolutions to images smaller than their kernel became products, those of "
    "the residual backbone's last stage, 2x2 pixels, took nearly half of a step of stage 1. Of the "
    "6,141 fusions of phase B's programs half are the optimiser's: one for each array, each of its "
    "moments and each norm. They take about an eighth of the time of compiling; with the small "
    "arrays joined to one vector they are a third fewer and take twice as long (2026-11-30).",
    "loop": "Log, guards, metrics and checkpoints against a loop that only steps.",
    "pipeline": "Time of an image of the training mixture; decoding and resizing the stored crop "
    "is the least that any pipeline must do.",
    "reconstruct": "Image to coefficients; to mesh and geometry map; and back to an image. Last, "
    "`fields_jax.load().reconstruct` of pictures with boxes.",
    "scan_fit": "Generated scans of 20,000 points. Loops of unknown length: no limit is counted.",
    "starting": "Processes of their own, as a user starts them.",
}


def page(report: Mapping[str, Any]) -> str:
    """The page as Markdown; a remark stands below the table of the machine."""
    lines = [_HEAD, *_machine(report)]
    if remark := report.get("remark"):
        lines += ["", remark]
    for name, figures in report["parts"].items():
        when = report.get("later", {}).get(name)
        lead = f"{_LEADS[name]} {_later(when)}" if when else _LEADS[name]
        lines += ["", f"## {_TITLES[name]}", "", lead, "", *_table(figures)]
    if report["skipped"]:
        lines += ["", "## Skipped", ""]
        lines += [f"- {_TITLES[name]}: {why}" for name, why in report["skipped"].items()]
    return "\n".join(lines) + "\n"


def _machine(report: Mapping[str, Any]) -> Iterator[str]:
    found, limits = report["machine"], report["limits"]
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    loads = (" ".join(map(str, report[key])) for key in ("load_before", "load_after"))
    yield from (
        "| | |",
        "|---|---|",
        f"| date, commit | {found['date']}, {found['git'][:12] or 'none'} |",
        f"| machine | {found['cpu']}, {found['cores']} cores, {found['memory_gib']} GiB |",
        f"| versions | {versions} |",
        f"| load before, after | {', '.join(loads)} |",
        f"| matrix product, all threads | {limits['matmul_gflops']:,.0f} GFLOP/s |",
        f"| copy, all threads | {limits['copy_gbytes_per_second']:.1f} GB/s |",
    )
    if sum(report["load_before"][:1]) > 0.5 * found["cores"]:
        yield ""
        yield (
            "**A draft: the machine was busy.** Times are longer than they need be, and ratios "
            "of what ran in turns say more than times."
        )


def _later(when: Mapping[str, Any]) -> str:
    """Says that a part was measured after the others."""
    return (
        f"Measured again on {when['date']}, commit {when['git'][:12] or 'none'}, when products ran "
        f"at {when['matmul_gflops']:,.0f} GFLOP/s and copies at "
        f"{when['copy_gbytes_per_second']:.1f} GB/s."
    )


def _table(figures: list[Mapping[str, Any]]) -> Iterator[str]:
    columns = {
        "what": lambda f: f["name"],
        "time": lambda f: seconds(f["seconds"]),
        "a second": lambda f: _number(f["per_second"]) if "per_second" in f else "",
        "of others": lambda f: ", ".join(f"{k} {seconds(v)}" for k, v in f["against"].items()),
        "times as fast": lambda f: ", ".join(
            _number(other / f["seconds"]) for other in f["against"].values()
        ),
        "arithmetic": lambda f: _limit(f, "arithmetic"),
        "memory": lambda f: _limit(f, "memory"),
        "times its limit": lambda f: _number(f["times_limit"]) if "times_limit" in f else "",
        "note": lambda f: f["note"],
    }
    rows = [[show(figure) for show in columns.values()] for figure in figures]
    kept = [k for k in range(len(columns)) if any(row[k] for row in rows)]
    names = list(columns)
    for row in ([names[k] for k in kept], ["---"] * len(kept)):
        yield f"| {' | '.join(row)} |"
    for row in rows:
        yield f"| {' | '.join(row[k] or '-' for k in kept)} |"


def _limit(figure: Mapping[str, Any], kind: str) -> str:
    value = figure.get("limit_seconds", {}).get(kind, 0)
    return seconds(value) if value else ""


def seconds(value: float) -> str:
    """A time to three digits in a fitting unit."""
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if value >= size:
            return f"{_number(value / size)} {unit}"
    return f"{_number(1e6 * value)} us"


def _number(value: float) -> str:
    """Three significant digits, and all digits of a large number."""
    places = max(0, 2 - math.floor(math.log10(abs(value)))) if value else 0
    return f"{value:,.{min(places, 4)}f}"


_HEAD = """# How fast it is, and how fast it could be

`python -m benchmarks.ledger --json=docs/performance.json` measures, and with
`--page=docs/performance.md --from=docs/performance.json` writes this page. Each time is a median of
several runs, in turns with those of others in the same table row; compiling, starting to work and
finding the identity of a scan are done once, --help is the faster of two. "Arithmetic" and
"memory" are the least times of the same work on this machine: floating-point operations at the
speed of a large matrix product, and bytes read and written at the speed of a copy, both measured
here; "times its limit" is the time over the larger. Operations and bytes of networks are the
compiler's counts for its own program: bytes that stay in a cache are counted too, so that a
program may be faster than its memory's limit. On accelerators
`python -m benchmarks.accelerator` measures the same, and [scaling.md](scaling.md) says what a
compiler expects of TPUs.
"""
