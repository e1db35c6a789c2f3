"""Where metrics go: the console, WORKDIR/metrics.jsonl and TensorBoard events."""

from __future__ import annotations

import contextlib
import json
import math
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from absl import logging
from etils import epath

from fields_jax.disk import writing
from fields_jax.errors import first_line, printable
from fields_jax.files import is_remote, parse_json, read_lines, write_whole
from fields_jax.training.events import Events

RESUME = "the same command then goes on from the last checkpoint"

_WIDTH = 110  # of lines at a terminal, padded so that they cover the progress line before


class Writers:
    """Writes a run's numbers and pictures; silent on every process but the first.

    Lines about steps after `step`, written by a run that was killed, are dropped.

    Buckets cannot append: for a workdir in one, files grow in a temporary local folder, and
    `publish` and `close` copy them.
    """

    def __init__(self, workdir: str, *, active: bool, step: int = 0) -> None:
        self._active = active
        if not active:
            return
        self._workdir = epath.Path(workdir)
        self._remote = is_remote(workdir)
        self._folder = Path(tempfile.mkdtemp(prefix="fields-") if self._remote else workdir)
        self._file = self._folder / "metrics.jsonl"
        with self._writing(self._file):
            self._folder.mkdir(parents=True, exist_ok=True)
            self._rewind(step)
        with self._writing(self._folder / "tensorboard"):
            self._events = Events(self._folder / "tensorboard", first_step=step + 1)

    def scalars(self, step: int, phase: str, values: Mapping[str, float]) -> None:
        """One line of JSON and one event per value. NaN and infinities become null in JSON."""
        if not self._active:
            return
        row = {"step": step, "phase": phase}
        row |= {name: value if math.isfinite(value) else None for name, value in values.items()}
        with self._writing(self._file), self._file.open("a") as stream:
            stream.write(json.dumps(row) + "\n")
        with self._writing(self._folder / "tensorboard"):
            self._events.scalars(step, values)

    def text(self, step: int, message: str) -> None:
        """A note for the console and TensorBoard."""
        if self._active:
            line = printable(message)
            print(line.ljust(_WIDTH) if sys.stdout.isatty() else line, flush=True)
            with self._writing(self._folder / "tensorboard"):
                self._events.text(step, "log", printable(message))

    def progress(self, line: str) -> None:
        """A progress line; on a terminal it replaces the one before."""
        if not self._active:
            return
        end = "\r" if sys.stdout.isatty() else "\n"
        print(line.ljust(_WIDTH) if end == "\r" else line, end=end, flush=True)

    def image(self, step: int, name: str, picture: np.ndarray) -> None:
        """An [H, W, 3] uint8 picture for TensorBoard."""
        if self._active:
            with self._writing(self._folder / "tensorboard"):
                self._events.image(step, name, picture)

    def publish(self) -> None:
        """Copies what was written so far to a workdir in a bucket; call it at each checkpoint.

        A failure is only a warning: the next call copies everything again.
        """
        if self._active and self._remote:
            self._copy("it is tried again at the next checkpoint")

    def close(self) -> None:
        """Publishes everything; what cannot be published is left where it is."""
        if not self._active:
            return
        self._events.close()
        if self._remote and self._copy(f"all is left in {self._folder}"):
            shutil.rmtree(self._folder, ignore_errors=True)

    def _rewind(self, step: int) -> None:
        """Starts metrics.jsonl with the workdir's lines about steps up to `step`."""
        before = self._workdir / self._file.name
        if before.exists():
            kept = [f"{line}\n" for line in read_lines(before) if _written_until(line, step)]
            write_whole(self._file, "".join(kept))

    def _writing(self, path: Path) -> contextlib.AbstractContextManager[None]:
        if self._remote:
            return writing(path, instead="another TMPDIR", then=RESUME)
        return writing(path, instead="another --workdir", then=RESUME)

    def _copy(self, remedy: str) -> bool:
        """Copies all files to the workdir; else warns, ending in `remedy`, and returns False."""
        target = self._workdir
        try:
            for file in sorted(self._folder.rglob("*")):
                if file.is_file():
                    target = self._workdir / str(file.relative_to(self._folder))
                    write_whole(target, file.read_bytes())
        except Exception as error:  # the libraries that know buckets raise many types
            logging.warning("cannot write %s (%s): %s", target, first_line(error), remedy)
            return False
        return True


def _written_until(line: str, step: int) -> bool:
    """Whether a line is whole and of a step up to `step`."""
    try:
        return parse_json(line, "line")["step"] <= step
    except (ValueError, KeyError, TypeError):  # a line cut off when its process was killed
        return False
