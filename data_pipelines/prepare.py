"""Writes training sets as TFDS shards.

    python -m data_pipelines.prepare synthetic --out=data
    python -m data_pipelines.prepare synthetic --head=ICT.npz --out=data_ict
    python -m data_pipelines.prepare synthetic --size=wide --out=data
    python -m data_pipelines.prepare synthetic --size=wide --people=20000 --workers=8 --out=data
    python -m data_pipelines.prepare synthetic --size=wide --name=ict --head=ICT.npz
        --labels=procedural --out=data
    python -m data_pipelines.prepare affectnet --source=AFFECTNET --out=data
    python -m data_pipelines.prepare bp4d --source=BP4D --fits=FITS --head=HEAD.npz --out=data
    python -m data_pipelines.prepare faces --source=photographs --out=data
    python -m data_pipelines.prepare faces --source=photographs --fitted --out=data
    python -m data_pipelines.prepare faces --source=RAF-DB --manifest=raf_db.jsonl --name=raf_db
        --out=data
    python -m data_pipelines.prepare affectnet --source=gs://B/AFFECTNET --out=gs://B/data
        --beam_runner=dataflow --beam_options=project=P,region=R,temp_location=gs://B/tmp

What a folder must hold: docs/data_sets.md. Interrupted, the same command goes on where it was, with
any number of --workers. Beside the shards lie prepare_report.html, prepare_report.json and
prepare_rejects.tsv, which names every photograph that was left out, below --source, and why.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import io
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from absl import flags, logging
from etils import epath

from fields_jax.cli import run
from fields_jax.data_sets import SETS, PreparedSet
from fields_jax.disk import check_folder, writing
from fields_jax.errors import MissingFile, UserError, first_line, printable

if TYPE_CHECKING:
    from logging import LogRecord

    import tensorflow_datasets as tfds

_NAMED = 5  # rejects of each reason that the log names; the table beside the set names all


def prepare(
    name: str,
    out: epath.PathLike,
    *,
    source: str = "",
    dry_run: bool = False,
    beam_runner: str = "",
    beam_options: Sequence[str] = (),
    **options: Any,
) -> list[epath.Path]:
    """Makes a set, unless it exists.

    Args:
      name: a key of `SETS`, or with a builder config, "affectnet/full"; without one the layout of
        the source decides (for "synthetic" all configs are made).
      out: TFDS data directory; the set goes to OUT/SET[/CONFIG]/VERSION.
      source: folder of the raw data, for sets that have any.
      dry_run: only report what would be made and what left out.
      beam_runner: let Apache Beam make the shards by this engine, see `cluster.make_shards`.
      beam_options: of its pipeline, "project=NAME".
      **options: handed to the builder, but for "label", which tells an embedded set of another head
        from that of the procedural one, and "workers", how many processes make the shards.

    Returns:
      One folder per builder config.

    Raises:
      UserError: an unknown set, a source that is absent or unusable, or a set that was made with
        other options.
    """
    kind, _, config = name.partition("/")
    if kind not in SETS:
        raise UserError(f"unknown set {name!r}; known: {', '.join(SETS)}")
    made = SETS[kind]
    if made.needs_source and not source:
        raise UserError(f"{kind} needs --source=DIR, the folder of its raw data")
    if source and not (epath.Path(source).is_dir() and any(epath.Path(source).iterdir())):
        raise MissingFile(f"--source={source}: no such folder, or an empty one")
    if dry_run and not made.needs_source:
        raise UserError(f"{kind} has no raw data that a dry run could look at")
    workers = options.pop("workers", _DEFAULTS["workers"])
    if workers < 1:
        raise UserError(f"--workers={workers}: at least one process makes a set")
    if beam_runner and dry_run:
        raise UserError("--beam_runner is for making sets, --dry_run makes none")
    if beam_runner and workers > 1:
        raise UserError(
            "--workers are processes without Beam; those of --beam_runner=direct are asked for by "
            f"--beam_options=direct_running_mode=multi_processing,direct_num_workers={workers}"
        )
    check_folder(out, "another --out")
    logging.get_absl_handler().addFilter(_not_of_tfds)  # the messages of our builders are enough
    from data_pipelines.building import report

    module = importlib.import_module(made.module)
    folders = []
    size, label = options.get("size", _DEFAULTS["size"]), options.pop("label", "")
    named = module.size_configs(size, label) if not (made.needs_source or config) else None
    for chosen in named or _configs(made, module, config, source):
        construct = functools.partial(module.Builder, data_dir=str(out), config=chosen, **options)
        builder = _opened(construct)
        folders.append(epath.Path(builder.data_path))
        if dry_run:
            report.say(builder.examine(epath.Path(source)), _NAMED)
        elif builder.is_prepared():
            _report(builder)
            report.check_options(builder)
            _say(f"{builder.data_path} is there already; remove it to make it anew")
        else:
            if beam_runner:
                _make_by_beam(construct, source, beam_runner, beam_options)
            elif workers > 1:
                _make_by_workers(construct, source, workers)
            _make(builder, source)
    return folders


def _not_of_tfds(line: LogRecord) -> bool:
    return "tensorflow_datasets" not in line.pathname


def _configs(made: PreparedSet, module: Any, config: str, source: str) -> list[Any]:
    """Builder configs to make, as tfds takes them."""
    import tensorflow_datasets as tfds

    if not made.configs:  # any name will do, to tell sets of the same kind apart
        return [tfds.core.BuilderConfig(name=config) if config else None]
    if config:
        if config not in made.configs:
            raise UserError(f"unknown config {config!r}; known: {', '.join(made.configs)}")
        return [config]
    return [module.config_of(epath.Path(source))] if source else list(made.configs)


def _opened(construct: functools.partial) -> tfds.core.DatasetBuilder:
    """The builder, which reads the description of its set if that exists.

    Raises:
      UserError: the description is damaged, or the builder refuses its options.
    """
    try:
        return construct()
    except UserError:
        raise
    except Exception as error:  # tfds raises anything at a damaged description
        made, config = construct.func, construct.keywords["config"]
        name = getattr(config, "name", config) or ""
        folder = epath.Path(construct.keywords["data_dir"]) / made.name / name / str(made.VERSION)
        if not (folder / "dataset_info.json").exists():
            raise
        raise UserError(
            f"{folder}: unreadable description ({first_line(error)}); remove it to make it anew"
        ) from error


def _make_by_beam(construct: Any, source: str, runner: str, options: Sequence[str]) -> None:
    try:
        from data_pipelines.building import cluster
    except ModuleNotFoundError as error:
        if error.name != "apache_beam":
            raise
        raise UserError("--beam_runner needs Apache Beam: pip install -e '.[data,beam]'") from error
    started = time.monotonic()
    count = cluster.make_shards(construct, source, runner, options)
    _say(f"{count} parts made by Beam in {time.monotonic() - started:.0f} s")


def _make_by_workers(construct: Any, source: str, workers: int) -> None:
    from data_pipelines.building.workers import make_shards

    started = time.monotonic()
    count = make_shards(construct, source, workers)
    if count:
        _say(f"{count} parts made by {workers} workers in {time.monotonic() - started:.0f} s")


def _make(builder: tfds.core.DatasetBuilder, source: str) -> None:
    """Writes the shards of one set, and its report."""
    import tensorflow_datasets as tfds

    from data_pipelines.building import report

    tfds.disable_progress_bar()  # the builders say how much is left
    download = tfds.download.DownloadConfig(manual_dir=source or None, try_download_gcs=False)
    with contextlib.redirect_stdout(io.StringIO()):
        builder.download_and_prepare(download_config=download)
    sizes = ", ".join(f"{n} {info.num_examples}" for n, info in builder.info.splits.items())
    report.say(builder.summaries, _NAMED)
    _report(builder)
    _say(f"{builder.data_path}: {sizes}")


def _report(builder: tfds.core.DatasetBuilder) -> None:
    """Writes the report of a complete set that has none yet, as after a full disk."""
    from data_pipelines.building import report

    told = builder.recall()
    if told is not None:
        with writing(builder.data_path, instead="another --out"):
            report.write(builder, told["options"], told["source"])
        builder.remove_leftovers()


def prepare_synthetic(
    out: epath.PathLike, *, size: str = "demo", head: str = ""
) -> list[epath.Path]:
    """Makes the embedded faces where they are absent; `head` is a .npz, or "" the procedural."""
    return prepare("synthetic", out, size=size, head=head)


def _say(line: str) -> None:
    print(printable(line), file=sys.stderr, flush=True)


def main(argv: list[str]) -> None:
    """Entry point; see the module's docstring."""
    # jax notes which accelerators are absent
    logging.set_verbosity(logging.WARNING)
    if len(argv) != 2:
        raise UserError(f"name one set to prepare: {', '.join(SETS)} (see --help)")
    values = flags.FLAGS
    if not (values.out or values.dry_run):
        raise UserError("--out=DIR is required: where prepared sets go (config.data.root)")
    kind = argv[1].split("/")[0]
    embedded = kind in SETS and not SETS[kind].needs_source
    name = f"{kind}/{values.name}" if values.name and not embedded else argv[1]
    out = values.out or tempfile.gettempdir()  # of a dry run, which writes nothing
    prepare(
        name,
        out,
        source=values.source,
        label=values.name if embedded else "",
        dry_run=values.dry_run,
        beam_runner=values.beam_runner,
        beam_options=values.beam_options,
        **_options(kind, values),
    )


def _options(kind: str, values: Any) -> dict[str, Any]:
    """The builder's arguments; a flag that the set does not use is a user's mistake."""
    if kind not in SETS:
        return {}
    known = SETS[kind].flags
    for flag, default in _DEFAULTS.items():
        if flag not in (*known, "workers") and getattr(values, flag) != default:
            users = ", ".join(name for name, made in SETS.items() if flag in made.flags)
            raise UserError(f"--{flag} is not for {kind}; it is for {users}")
    return {flag: getattr(values, flag) for flag in known} | {"workers": values.workers}


_DEFAULTS = dict(
    size="demo",
    people=None,
    seed=0,
    workers=1,
    limit=0,
    threads=0,
    stored_size=256,
    manifest="",
    test_share=0.0,
    fitted=False,
    fits="",
    head="",
    labels="head",
    test_fold=3,
    every=1,
    coded_only=False,
)


def define_flags() -> None:
    """Only when run as a command: `--out` and the like mean other things in other commands."""
    default = _DEFAULTS
    flags.DEFINE_string("source", "", "Folder of the raw data.")
    flags.DEFINE_string(
        "out", "", "TFDS data directory to write to; config.data.root when training."
    )
    flags.DEFINE_string("name", "", "Name of the set, to keep several (faces, synthetic).")
    flags.DEFINE_bool("dry_run", False, "Count and name what would be left out; write nothing.")
    flags.DEFINE_string(
        "beam_runner", "", "Make the parts by Apache Beam: direct, flink, dataflow or its own name."
    )
    flags.DEFINE_list(
        "beam_options", [], "Options of the pipeline: project=NAME,region=NAME,temp_location=gs://X"
    )
    flags.DEFINE_enum(
        "size", default["size"], ["demo", "tiny", "wide"], "What to render (synthetic)."
    )
    flags.DEFINE_integer(
        "people", default["people"], "People in `train`; default: as the size has (synthetic).", 1
    )
    flags.DEFINE_integer("seed", default["seed"], "Of all people and pictures (synthetic).", 0)
    flags.DEFINE_integer("workers", default["workers"], "Processes that make the shards.", 1)
    flags.DEFINE_integer("limit", default["limit"], "Photographs of each split at most; 0: all.", 0)
    flags.DEFINE_integer("threads", default["threads"], "Threads that read; 0: one per core.", 0)
    flags.DEFINE_integer("stored_size", default["stored_size"], "Side of stored crops, pixels.", 32)
    flags.DEFINE_string("manifest", default["manifest"], "Table of photographs and labels (faces).")
    flags.DEFINE_float(
        "test_share", default["test_share"], "Share of the subjects for `test` (faces).", 0, 1
    )
    flags.DEFINE_string("fits", default["fits"], "Folder of FLAME fits of the scans (bp4d).")
    flags.DEFINE_string(
        "head",
        default["head"],
        "Head of the faces or fits; default: procedural (all but affectnet).",
    )
    flags.DEFINE_bool(
        "fitted", default["fitted"], "Label by the landmark fit, for losses.fitted_weight (faces)."
    )
    flags.DEFINE_enum(
        "labels", default["labels"], ["head", "procedural"],
        "Whose coefficients the records tell (synthetic).",
    )  # fmt: skip
    flags.DEFINE_integer(
        "test_fold", default["test_fold"], "Fold for `test`, 0: none (bp4d).", 0, 3
    )
    flags.DEFINE_integer("every", default["every"], "Take each n-th frame (bp4d).", 1)
    flags.DEFINE_bool("coded_only", default["coded_only"], "Only frames with action units (bp4d).")


if __name__ == "__main__":
    define_flags()
    run(main)
