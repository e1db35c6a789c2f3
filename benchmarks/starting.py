"""What a user waits before a command does its work: `python -m benchmarks.starting --json OUT`.

Every command's --help; training (stage 1 at the size of the demo, on generated pictures) to its
first step; reconstruction with what it left to its first face. The last two start with an empty
compilation cache, and again with what the first start has put there. Each is a process of its own,
as a user starts it.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

import numpy as np
from absl import flags

from benchmarks import machine
from benchmarks.figures import Figure
from benchmarks.results import save
from fields_jax.cli import run
from fields_jax.errors import UserError
from fields_jax.render.draw import save_png

COMMANDS = (
    *("fields_jax.train", "fields_jax.evaluate", "fields_jax.reconstruct", "fields_jax.fit"),
    *("fields_jax.convert", "fields_jax.export", "fields_jax.report", "fields_jax.doctor"),
    "data_pipelines.prepare",
)
_ROOT = Path(__file__).parents[1]
_STEPS = "--config.steps_scale=1e-6"  # one step
_PICTURES = """
import sys
from etils import epath
from data_pipelines.reading.baseline import write_pictures
write_pictures(epath.Path(sys.argv[1]))
"""


def define_flags() -> None:
    """The flags of the command."""
    flags.DEFINE_string("json", "", "file for the results")
    flags.DEFINE_bool("help_only", False, "leave out training and reconstruction")


def main(_: list[str]) -> None:
    """The command."""
    chosen, before = flags.FLAGS, machine.load()
    found = measure(COMMANDS, work=not chosen.help_only)
    lines = {figure.name: figure.seconds for figure in found}
    report = {"machine": machine.describe(), "load": [before, machine.load()], "seconds": lines}
    print(json.dumps(report, indent=1))
    save(chosen.json, report)


def measure(commands: Sequence[str], *, work: bool) -> list[Figure]:
    """Seconds of each start.

    Args:
      commands: modules whose --help is timed.
      work: whether training and reconstruction are timed, too.

    Raises:
      UserError: a command failed.
    """
    bare = {"python -c pass": min(_seconds(["-c", "pass"]) for _ in range(3))}
    found = []
    for name in commands:
        command = ["-m", name, "--help"]
        seconds = min(_seconds(command, expected=(0, 1)) for _ in range(2))
        found.append(Figure(f"{name} --help", seconds, against=bare))
    if not work:
        return found
    if importlib.util.find_spec("tensorflow") is None:
        raise UserError("tensorflow is not installed, and training reads its data by it")
    with tempfile.TemporaryDirectory() as folder:
        return found + _at_work(Path(folder))


def _at_work(folder: Path) -> list[Figure]:
    data, cache = folder / "data", folder / "cache"
    data.mkdir()
    _seconds(["-c", _PICTURES, str(data)])
    picture = np.random.default_rng(0).random((96, 96, 3))
    save_png(folder / "picture.png", picture)
    imports = {
        name: {"its imports": min(_seconds(["-c", f"import {modules}"]) for _ in range(2))}
        for name, modules in (
            ("train", "fields_jax.train, data_pipelines.reading.mixture"),
            ("reconstruct", "fields_jax.reconstruct"),
        )
    }
    found = []
    for state in ("empty", "warm"):
        train = ["-m", "fields_jax.train", f"--config={_ROOT / 'configs/stage1.py'}", _STEPS]
        train += [f"--workdir={folder / state}", f"--config.data.root={data}"]
        train += ["--config.data.mixture=pictures=1", "--config.log.images=0"]
        train += [f"--config.compilation_cache={cache}"]
        seconds = _seconds(train, done=lambda text: "\npretrain 1/1 " in text)
        name = f"train to its first step, {state} cache"
        found.append(Figure(name, seconds, against=imports["train"]))
    for state in ("empty", "warm"):
        faces = folder / f"faces-{state}"
        read = ["-m", "fields_jax.reconstruct", f"--workdir={folder / 'empty'}", f"--out={faces}"]
        read += ["--box=10,10,86,86", str(folder / "picture.png")]
        seconds = _seconds(read, done=lambda _, faces=faces: any(faces.rglob("params.npz")))
        name = f"reconstruct to its first face, {state} cache"
        found.append(Figure(name, seconds, against=imports["reconstruct"]))
    return found


def _seconds(
    arguments: Sequence[str],
    *,
    done: Callable[[str], bool] | None = None,
    expected: Sequence[int] = (0,),
) -> float:
    """Seconds until a Python process has ended, or done something.

    Args:
      arguments: of the interpreter.
      done: a function of its output so far that says whether the clock stops.
      expected: exit statuses that are no failure.

    Raises:
      UserError: it failed, with the end of its output.
    """
    paths = [str(_ROOT), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)
    with tempfile.TemporaryFile("w+") as output:
        began, stopped = time.perf_counter(), None
        with subprocess.Popen(
            [sys.executable, *arguments], stdout=output, stderr=output, env=environment
        ) as process:
            while process.poll() is None:
                if done and stopped is None and done(_written(output)):
                    stopped = time.perf_counter()
                time.sleep(0.005)
            ended = time.perf_counter()
        output.seek(0)
        text = output.read()
    if process.returncode not in expected:
        raise UserError(f"{' '.join(arguments)[:100]} failed: {text[-500:]}")
    return (stopped or ended) - began


def _written(output: IO[str]) -> str:
    """What a process has written to a file so far; its place in the file is kept."""
    return os.pread(output.fileno(), 2**20, 0).decode(errors="replace")


if __name__ == "__main__":
    define_flags()
    run(main)
