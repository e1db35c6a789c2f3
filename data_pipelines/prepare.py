"""Writes training sets as TFDS shards.

    python -m data_pipelines.prepare synthetic --out=data
    python -m data_pipelines.prepare faces --source=photographs --out=data

`faces` wants photographs with mediapipe's 478 points beside each, NAME.jpg and NAME.npy.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import io
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import tensorflow_datasets as tfds
from absl import flags, logging
from etils import epath

from fields_jax.cli import UserError, run

_PROGRESS_SECONDS = 5.0


class PreparedSet(NamedTuple):
    """A set this command can make."""

    module: str  # holds a class `Builder`; imported only when wanted
    configs: tuple[str | None, ...]  # names of its builder configs, made one after another
    needs_source: bool


SETS = {
    "synthetic": PreparedSet(
        "data_pipelines.synthetic.synthetic_dataset_builder",
        ("spont4d", "wild2d", "levels"),
        needs_source=False,
    ),
    "faces": PreparedSet("data_pipelines.faces.faces_dataset_builder", (None,), needs_source=True),
}


# Licensed sets that configs name and this version cannot make yet.
PLANNED = ("affectnet", "bp4d")


def remedy(name: str, root: epath.PathLike) -> str:
    """How to make the set of that name, as the end of an error line."""
    kind = name.split("/")[0]
    if kind in PLANNED:
        return (
            f"`python -m data_pipelines.prepare {kind} --source=DIR --out={root}` will make it "
            "once its builder is part of fields_jax; until then write the shards with a TFDS "
            "builder on data_pipelines/records.py, or name other sets: "
            "--config.data.mixture=faces=1"
        )
    if kind not in SETS:
        return f"known sets: {', '.join(SETS)}"
    source = " --source=DIR" if SETS[kind].needs_source else ""
    return f"make it with `python -m data_pipelines.prepare {kind}{source} --out={root}`"


def prepare(
    kind: str, out: epath.PathLike, *, source: str = "", **options: Any
) -> list[epath.Path]:
    """Makes a set, or leaves alone what is there.

    Args:
      kind: a key of `SETS`.
      out: TFDS data directory; the set goes to OUT/KIND[/CONFIG]/VERSION.
      source: folder of the raw data, for sets that have any.
      **options: handed to the builder.

    Returns:
      One folder per builder config.

    Raises:
      ValueError, FileNotFoundError: unknown set, or a source that is not there or unusable.
    """
    if kind not in SETS:
        raise ValueError(f"unknown set {kind!r}; known: {', '.join(SETS)}")
    made = SETS[kind]
    if made.needs_source and not source:
        raise ValueError(f"{kind} needs --source=DIR, the folder of its raw data")
    if source and not (epath.Path(source).is_dir() and any(epath.Path(source).iterdir())):
        raise FileNotFoundError(f"--source={source}: no such folder, or an empty one")
    builder_class = importlib.import_module(made.module).Builder
    download = tfds.download.DownloadConfig(manual_dir=source or None, try_download_gcs=False)
    folders = []
    for config in made.configs:
        builder = builder_class(data_dir=out, config=config, **options)
        folders.append(epath.Path(builder.data_path))
        if builder.is_prepared():
            _say(f"{builder.data_path} is there already; remove it to make it anew")
            continue
        _report_progress(builder)
        # The lines of `_counted` say what tfds's bars cannot: how much is left.
        tfds.disable_progress_bar()
        with contextlib.redirect_stdout(io.StringIO()):
            builder.download_and_prepare(download_config=download)
        sizes = ", ".join(f"{n} {info.num_examples}" for n, info in builder.info.splits.items())
        _say(f"{builder.data_path}: {sizes}")
    return folders


def prepare_synthetic(out: epath.PathLike, *, size: str = "demo") -> list[epath.Path]:
    """Makes the embedded faces where they are absent."""
    return prepare("synthetic", out, size=size)


def _report_progress(builder: tfds.core.DatasetBuilder) -> None:
    """Makes the builder's splits print a progress line while they are generated."""
    split_generators = builder._split_generators

    @functools.wraps(split_generators)
    def counted(*args: Any, **kwargs: Any) -> dict[str, Iterator]:
        splits = split_generators(*args, **kwargs)
        totals = getattr(builder, "expected_examples", {})
        return {
            split: _counted(examples, f"{builder.info.full_name} {split}", totals.get(split))
            for split, examples in splits.items()
        }

    builder._split_generators = counted


def _counted(examples: Iterable, label: str, total: int | None) -> Iterator:
    """Passes examples on; says done/total, rate and time left, at a terminal and in a log alike."""
    started = said = time.monotonic()
    for done, example in enumerate(examples):
        yield example
        now = time.monotonic()
        if done == 0:
            started = said = now  # the first one also waits for imports and compilation
        elif now - said >= _PROGRESS_SECONDS:
            said, rate = now, done / (now - started)
            left = f", {(total - done - 1) / rate:.0f} s left" if total else ""
            _say(f"{label}: {done + 1}/{total or '?'}, {rate:.1f}/s{left}")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main(argv: list[str]) -> None:
    """Entry point; see the module's docstring."""
    # tfds and jax note every step; what our builders say of their files is enough.
    logging.set_verbosity(logging.WARNING)
    logging.get_absl_handler().addFilter(lambda line: "tensorflow_datasets" not in line.pathname)
    if len(argv) != 2:
        raise UserError(f"name one set to prepare: {', '.join(SETS)} (see --help)")
    values = flags.FLAGS
    if not values.out:
        raise UserError("--out=DIR is required: where prepared sets go (config.data.root)")
    options = {"synthetic": {"size": values.size}, "faces": {"test_share": values.test_share}}
    prepare(argv[1], values.out, source=values.source, **options.get(argv[1], {}))


def _define_flags() -> None:
    """Only when run as a command: `--out` and the like mean other things in other commands."""
    flags.DEFINE_string("source", "", "Folder of the raw data (faces).")
    flags.DEFINE_string(
        "out", "", "TFDS data directory to write to; config.data.root when training."
    )
    flags.DEFINE_enum("size", "demo", ["demo", "tiny"], "How much to render (synthetic).")
    flags.DEFINE_float("test_share", 0.0, "Share of photographs for the test split (faces).", 0, 1)


if __name__ == "__main__":
    _define_flags()
    run(main)
