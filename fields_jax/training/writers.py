"""Where metrics go: the console, WORKDIR/metrics.jsonl and TensorBoard events."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping

import numpy as np
from etils import epath


class Writers:
    """Writes a run's numbers and pictures; silent on every process but the first.

    What a killed run had written of steps after `step`, where this one goes on, is dropped.
    """

    def __init__(self, workdir: str, *, active: bool, step: int = 0) -> None:
        self._active = active
        if not active:
            return
        root = epath.Path(workdir)
        root.mkdir(parents=True, exist_ok=True)
        self._file = root / "metrics.jsonl"
        # tensorboardX writes to local folders and buckets without tensorflow.
        from tensorboardX import SummaryWriter

        self._rewind(step)
        self._events = SummaryWriter(str(root / "tensorboard"), purge_step=step + 1)

    def scalars(self, step: int, phase: str, values: Mapping[str, float]) -> None:
        """One line of JSON and one event per value. NaN and infinities become null in JSON."""
        if not self._active:
            return
        row = {"step": step, "phase": phase}
        row |= {name: value if math.isfinite(value) else None for name, value in values.items()}
        self._append(json.dumps(row) + "\n")
        for name, value in values.items():
            self._events.add_scalar(name, value, step)

    def text(self, step: int, message: str) -> None:
        """A note for the console and TensorBoard."""
        if self._active:
            print(message, flush=True)
            self._events.add_text("log", message, step)

    def progress(self, line: str) -> None:
        """A progress line; on a terminal it replaces the one before."""
        if not self._active:
            return
        end = "\r" if sys.stdout.isatty() else "\n"
        print(line.ljust(110) if end == "\r" else line, end=end, flush=True)

    def image(self, step: int, name: str, picture: np.ndarray) -> None:
        """An [H, W, 3] uint8 picture for TensorBoard."""
        if self._active:
            self._events.add_image(name, picture, step, dataformats="HWC")

    def close(self) -> None:
        """Flushes everything."""
        if self._active:
            self._events.close()

    def _rewind(self, step: int) -> None:
        if not self._file.exists():
            return
        lines = self._file.read_text().splitlines(keepends=True)
        kept = [line for line in lines if _written_until(line, step)]
        if len(kept) < len(lines):
            fresh = self._file.with_name("metrics.jsonl.new")
            fresh.write_text("".join(kept))
            fresh.replace(self._file)

    def _append(self, line: str) -> None:
        if "://" in str(self._file):  # buckets cannot append
            before = self._file.read_text() if self._file.exists() else ""
            self._file.write_text(before + line)
        else:
            with self._file.open("a") as stream:
                stream.write(line)


def _written_until(line: str, step: int) -> bool:
    """Whether a line is whole and of a step up to `step`."""
    try:
        return json.loads(line)["step"] <= step
    except (ValueError, KeyError, TypeError):  # a line cut off when its process was killed
        return False
