"""Shows with error bars what each idea of FIELDS is worth: trains the recipe without it.

    python -m fields_jax.ablate --sweep=configs/ablation.py --out=runs/ablation
    python -m fields_jax.ablate --sweep=configs/ablation.py --out=runs/quick --quick
    python -m fields_jax.ablate --sweep=configs/ablation.py --out=OUT --arms=no_gt,no_emo --jobs=4

Trains every arm of the sweep from every seed, in child processes, scores all on held-out people and
writes OUT/ablation.html, .json, .csv and .tex: the differences of the arms from the full recipe,
with 95 % intervals that resample subjects and seeds. Run again, it goes on where it stopped; runs
that are finished are not made again. OUT/runs/ARM-SEED/log.txt holds what a run said. With
--photographs all arms read photographs with landmarks beside them. --sweep.KEY=VALUE changes a key,
such as --sweep.base.phases.A.steps=500. See docs/evidence.md.
"""

from __future__ import annotations

import platform
from typing import Any

from absl import flags, logging
from etils import epath
from ml_collections import config_flags

from fields_jax.cli import run
from fields_jax.errors import MissingFile, UserError


def define_flags() -> None:
    """The command's flags; called by the command only, so that commands can import one another."""
    config_flags.DEFINE_config_file("sweep", None, "arms and seeds, e.g. configs/ablation.py")
    flags.DEFINE_string("out", "", "folder to write to, and to go on in")
    flags.DEFINE_string("arms", "", "NAME,NAME of the arms beside full (default: all)")
    flags.DEFINE_string("data_root", "", "folder of the sets (default: that of the configs)")
    flags.DEFINE_string("head", "", "head .npz (default: that of the configs)")
    flags.DEFINE_string("photographs", "", "folder of photographs with landmarks beside them")
    flags.DEFINE_integer(
        "jobs", 0, "runs side by side; 0: one, or on CPUs one for two cores", lower_bound=0
    )
    flags.DEFINE_bool("quick", False, "few arms, seeds and steps: shows that it runs, no more")
    flags.DEFINE_bool("dry_run", False, "print what would be run, and stop")


def main(argv: list[str]) -> None:
    """The command."""
    chosen = flags.FLAGS
    if len(argv) > 1:
        raise UserError(f"unexpected argument {argv[1]!r}; see --help")
    if chosen.sweep is None:
        raise UserError("--sweep is missing: name a file, such as --sweep=configs/ablation.py")
    if not chosen.out:
        raise UserError("--out is missing: name the folder to write to")
    import jax

    from fields_jax.ablation import jobs, plan, sweep

    jax.config.update("jax_platforms", "cpu")  # of this process: devices are for the runs
    logging.set_verbosity(logging.WARNING)  # tensorflow_datasets reports every file it opens
    asked = sweep.read_sweep(
        chosen.sweep,
        chosen.out,
        arms=chosen.arms,
        data_root=chosen.data_root,
        head=chosen.head,
        quick=chosen.quick,
    )
    work = plan.plan_jobs(asked, chosen.out, chosen.photographs)
    backend = jobs.backend()
    count = chosen.jobs or jobs.default_count(backend)
    if chosen.dry_run:
        print(_told(asked, count))
        return
    for job in work:
        jobs.check_same(job, job.commands[0].name, job.commands[0].given)
    _check_places(asked, chosen.photographs, chosen.sweep.init_from)
    plan.write_configs(asked, chosen.out)
    _prepare(asked)
    failed = jobs.run_jobs(work, count)
    _report(asked, chosen.out, chosen.photographs, failed, f"{backend}, {count} runs side by side")
    if failed:
        name, reason = next(iter(failed.items()))
        raise UserError(
            f"{len(failed)} of {len(work)} runs failed; {name}: {reason} (more in "
            f"{sweep.folder(chosen.out, name)}/{jobs.LOG}); run the same command again to make them"
        )


def _told(asked: Any, count: int) -> str:
    """What would be run, a line for each run."""
    runs = (*asked.networks, *asked.runs)
    lines = [f"{each.name:<24}{each.steps:>9} steps" for each in runs]
    lines += [f"{name}: {says}" for name, says in asked.arms.items()]
    return "\n".join([*lines, f"{len(runs)} runs, {count} side by side"])


def _check_places(asked: Any, photographs: str, start: str) -> None:
    """Says what is wrong with the files named before anything is made."""
    from fields_jax.flame.io import resolve_head
    from fields_jax.workdir.inference import require_trained

    resolve_head(asked.runs[-1].config.head)
    if photographs and not epath.Path(photographs).is_dir():
        raise MissingFile(f"--photographs={photographs}: no such folder")
    if start:
        require_trained(start)


def _prepare(asked: Any) -> None:
    """Makes the embedded faces that any run needs, before several would at once."""
    from fields_jax import train
    from fields_jax.evaluation import scoring

    mixture = scoring.import_mixture()
    config = asked.runs[-1].config.copy_and_resolve_references()
    names = [name for name, _ in mixture.parse_mixture(config.data.mixture)]
    names += [name.strip() for name in f"{asked.tests},{asked.probe['sources']}".split(",")]
    for each in asked.networks[:1]:
        names += [name for name, _ in mixture.parse_mixture(each.config.data.mixture)]
    config.data.mixture = ",".join(f"{name}=1" for name in dict.fromkeys(names))
    train.prepare_data(config)


def _report(asked: Any, out: str, photographs: str, failed: dict[str, str], where: str) -> None:
    """Scores what is finished and writes the page."""
    from fields_jax.ablation import plan, sweep
    from fields_jax.evaluation import ablation, ablation_files
    from fields_jax.flame.io import resolve_head
    from fields_jax.report import ablation as page
    from fields_jax.report import runs as stored

    tables: dict[str, dict[int, Any]] = {}
    first: dict[str, Any] = {}
    for each in asked.runs:
        if each.name in failed:
            continue
        trained, here = (str(of(out, each.name)) for of in (sweep.workdir, sweep.folder))
        own = ablation_files.read_run(
            trained, f"{here}/{plan.PROBE}", f"{here}/{plan.PHOTOGRAPHS}" if photographs else ""
        )
        tables.setdefault(each.arm, {})[each.seed] = own
        if each.arm not in first:
            first[each.arm] = stored.load_run(each.arm, trained)
    named = [name for name in (*asked.arms, sweep.START) if name in tables]
    computed = ablation_files.score_runs(
        {name: tables[name] for name in named}, sweep.FULL, samples=ablation.SAMPLES
    )
    shown = [first[name] for name in named]
    stored.check_comparable(shown)
    scores = {
        "format": ablation_files.FORMAT,
        "title": "What each idea is worth: an ablation",
        "says": dict(asked.arms)
        | (
            {sweep.START: "Stage 1, where all arms of a seed start."}
            if sweep.START in named
            else {}
        ),
        "facts": _facts(asked, shown[0], where) | _networks(asked, out, failed),
        "notes": list(_notes(asked)),
        "failed": failed,
        "edges_mm": shown[0].scores["expression"]["edges_mm"],
        **computed,
    }
    head = resolve_head(asked.runs[-1].config.head)
    html = page.render(scores, shown, head)
    print(ablation_files.table(scores), flush=True)
    ablation_files.write(out, scores, html)
    print(f"written: {out}/{ablation_files.PAGE}, .json, .csv and .tex", flush=True)


def _facts(asked: Any, first: Any, where: str) -> dict[str, str]:
    import jax

    from fields_jax import __version__
    from fields_jax.ablation import sweep
    from fields_jax.evaluation import ablation

    config = next(each for each in asked.runs if each.arm == sweep.FULL).config
    phases = ", ".join(f"{name} {phase.steps}" for name, phase in config.phases.items())
    scale = "" if config.steps_scale == 1 else f", times {config.steps_scale:g}"
    sets = ", ".join(f"{name} ({own['n']})" for name, own in first.scores["sources"].items())
    edges = first.scores["expression"]["edges_mm"]
    head = first.scores["head"]
    facts = {
        "Seeds": ", ".join(map(str, asked.seeds)),
        "Trained on": f"{config.data.mixture}, {config.image_size} px",
        "Steps of stage 2": f"{phases}{scale}, batches of {config.batch_size}",
        "Scored on": f"{sets}: {first.scores['groups']} held-out people",
        "Head": f"{head['name']} {head['version']}, {head['sha256'][:12]}",
        "Probe": ", ".join(f"{name} {value}" for name, value in asked.probe.items()),
        "Resampled": f"{ablation.SAMPLES} draws of subjects and seeds",
        "Machine": f"{platform.machine()}, {where}",
        "Versions": f"fields_jax {__version__}, jax {jax.__version__}",
    }
    if edges:
        facts["True intensity"] = (
            f"subtle below {edges[0]:.2f} mm, strong above {edges[1]:.2f} mm: thirds of the test"
        )
    return facts


def _networks(asked: Any, out: str, failed: dict[str, str]) -> dict[str, str]:
    """How good the emotion networks are whose features an arm compares."""
    from fields_jax import emotion_network
    from fields_jax.ablation import sweep
    from fields_jax.workdir.inference import read_meta

    found = [
        f"seed {each.seed}: {emotion_network.told(meta['measured'])}"
        for each in asked.networks
        if each.name not in failed
        for meta, _ in [read_meta(str(sweep.network(out, each.seed)))]
    ]
    return {"Emotion network, held out": "; ".join(found)} if found else {}


def _notes(asked: Any):
    """What a reader must know before believing the table."""
    from fields_jax.ablation import sweep

    arms = [each for each in asked.runs if each.arm != sweep.START]
    if asked.quick:
        yield "This is the quick form: it shows that everything runs; its differences say nothing."
    if len(asked.seeds) < 3:
        yield "Fewer than three seeds: intervals hardly hold how trainings differ."
    if not any(phase.cycle for each in arms for phase in each.config.phases.values()):
        yield (
            "All arms train phase A only: the synthesiser, the losses on images and the expression "
            "cycle take no part."
        )
    if len(arms) < len(asked.runs):
        yield (
            "Stage 1 is trained once per seed, and all arms of a seed start from it with the same "
            "order of examples."
        )
    else:
        yield "All arms start from one checkpoint: intervals do not hold how starts differ."
    if all(name.strip().startswith("synthetic/") for name in asked.tests.split(",")):
        yield (
            "Generated faces: how large a score is depends on their generator; what differs "
            "between recipes is what this page is about."
        )
    if asked.networks:
        yield (
            "The arm external compares features of a small network that was trained on the labels "
            "of the same training set, and not EMOCA's, which saw a million photographs."
        )
    yield (
        "The probe's networks are small and trained once per run: compare arms, not papers. An arm "
        "without L_emo has no head of its own."
    )


if __name__ == "__main__":
    define_flags()
    run(main)
