"""What the ledger measures, part by part; each has a small form for trying it out."""

from __future__ import annotations

import functools
import importlib.util
import tempfile
from collections.abc import Callable

from benchmarks import networks, overhead, rasterize, reconstruct, scan_fit, starting, step
from benchmarks.figures import Figure
from benchmarks.timing import Spent, in_turns
from configs import stage1, stage2
from fields_jax.errors import UserError
from fields_jax.fitting.scan import ScanFitter
from fields_jax.flame.procedural import procedural_head

head = functools.cache(procedural_head)


def rasterizer(quick: bool) -> list[Figure]:
    """Face indices and gradients against the C++ loop and the reference backend."""
    return rasterize.measure(head(), *((2, 64, 1) if quick else (8, 224, 7)))


def encoders(quick: bool) -> list[Figure]:
    """The encoders' forward pass and training step against torch's."""
    return _network("encoders", quick)


def synthesizer(quick: bool) -> list[Figure]:
    """The synthesiser's forward pass and training step against torch's."""
    return _network("synthesizer", quick)


def _network(name: str, quick: bool) -> list[Figure]:
    found = []
    for size, batch, rounds in ((32, 2, 1),) if quick else ((64, 16, 7), (224, 8, 3)):
        config = networks.at_size(stage1.get_config("full"), size, batch)
        if quick:
            config.model.update(encoder_width=0.25, encoder_depth=0.25, synthesizer_width=4)
        found += networks.measure(config, name, rounds)
    return found


def demo(quick: bool) -> list[Figure]:
    """A step of each phase of the demo, and what compiling phase B takes."""
    found = []
    phases = ((stage1, "pretrain"), (stage2, "A"), (stage2, "B"))
    for module, name in phases[:1] if quick else phases:
        config = module.get_config("synthetic")
        steps = config.phases[name].steps
        if quick:
            config.image_size, config.batch_size = 32, 4
            config.model.update(encoder_width=0.25, encoder_depth=0.25)
        ready = step.prepare(config, head(), name)
        each = 2  # steps of a run, so that both turns of the cycle count
        spent = in_turns({name: functools.partial(ready.iterate, each)}, 2 if quick else 15)[name]
        spent = Spent(*(seconds / each for seconds in spent))
        first, *turns = ready.programs.values()
        share = 1 / max(len(turns), 1)
        found.append(
            Figure(
                f"stage {config.stage}, phase {name}, a step of {config.batch_size} images",
                *spent,
                items=config.batch_size,
                gflop=first.gflop + share * sum(p.gflop for p in turns),
                gbytes=first.gbytes + share * sum(p.gbytes for p in turns),
                note=f"{steps:,} steps of the demo: {steps * spent.wall / 60:.1f} min",
            )
        )
        if turns:
            found += [
                Figure(f"compiling {program} of phase {name}", compiled.compile_seconds)
                for program, compiled in ready.programs.items()
            ]
    return found


def pipeline(quick: bool) -> list[Figure]:
    """The data pipeline against decoding and resizing alone."""
    if importlib.util.find_spec("tensorflow") is None:
        raise UserError("tensorflow is not installed")
    from benchmarks.pipeline import figures

    config = stage2.get_config("full")
    config.data.root = ""
    config.image_size = 64 if quick else config.image_size
    return figures(config, *((64, 1) if quick else (1280, 3)))


def loop(quick: bool) -> list[Figure]:
    """The training loop against a bare loop over the same step."""
    config = stage2.get_config("synthetic")
    steps, rounds = (2, 1) if quick else (200, 2)
    if quick:
        config.image_size, config.batch_size = 32, 4
        config.model.update(encoder_width=0.25, encoder_depth=0.25, synthesizer_width=4)
    with tempfile.TemporaryDirectory() as folder:
        report = overhead.measure(config, head(), f"{folder}/run", steps, rounds)
    return [
        Figure(
            "training loop, a step of phase A",
            report["step_seconds"]["loop"],
            report["step_cpu_seconds"]["loop"],
            items=config.batch_size,
            against={"bare loop": report["step_seconds"]["bare"]},
            note=f"log every {report['log_every']} steps, checkpoint every {steps}; "
            f"CPU time {100 * report['overhead_cpu']:+.1f} %",
        )
    ]


def scans(quick: bool) -> list[Figure]:
    """Fitting scans of one subject at a known identity."""
    fitter = ScanFitter(head(), n_shape=8 if quick else 100)
    report = scan_fit.measure(head(), fitter, 2, 4 if quick else 24, 0.25)
    finding = report["identity_seconds"]
    return [
        Figure(
            "fitting a scan, identity known",
            1 / report["scans_per_second"],
            items=1,
            note=f"finding the identity first: {finding:.1f} s for each subject",
        )
    ]


def reconstruction(quick: bool) -> list[Figure]:
    """Image to coefficients and mesh, and the synthesiser, against torch's networks."""
    config, found = stage2.get_config("full"), []
    if quick:
        config.image_size = 32
        config.model.update(encoder_width=0.25, encoder_depth=0.25, synthesizer_width=4)
    for batch in (1,) if quick else (1, 16):
        found += reconstruct.figures(config, head(), batch, 1 if quick else 5)
        found.append(reconstruct.packaged(batch, 1 if quick else 5))
    return found


def starts(quick: bool) -> list[Figure]:
    """Seconds until commands do their work."""
    return starting.measure(starting.COMMANDS[:1] if quick else starting.COMMANDS, work=not quick)


# By name, in the order in which they are measured and shown.
PARTS: dict[str, Callable[[bool], list[Figure]]] = {
    "rasterizer": rasterizer,
    "encoders": encoders,
    "synthesizer": synthesizer,
    "demo": demo,
    "loop": loop,
    "pipeline": pipeline,
    "reconstruct": reconstruction,
    "scan_fit": scans,
    "starting": starts,
}
