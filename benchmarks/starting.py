"""What a user waits before a command does its work: `python -m benchmarks.starting --json OUT`.

Every command's --help; training (stage 1 at the size of the demo, on generated pictures) to its
first step; reconstruction with what it left, and with the model in the package, to its first face.
Training and reconstruction start with an empty compilation cache, and again with what the first
start has put there. Each is a process of its own, as a user starts it.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, NamedTuple

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
_FACE = """
import sys
from PIL import Image
from data_pipelines.synthetic import pictures, samples, studio
stage = studio.open_studio(256)
drawn = samples.samples("wild2d", "test", samples.Size(1, 1), 0, 0, stage)
record = next(pictures.records(drawn, stage.render, 256))
Image.fromarray(record["image"]).save(sys.argv[1])
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
    bare = {"python -c pass": min(_start(["-c", "pass"]).seconds for _ in range(3))}
    found = []
    for name in commands:
        command = ["-m", name, "--help"]
        seconds = min(_start(command, expected=(0, 1)).seconds for _ in range(2))
        found.append(Figure(f"{name} --help", seconds, against=bare))
    if not work:
        return found
    if importlib.util.find_spec("tensorflow") is None:
        raise UserError("tensorflow is not installed, and training reads its data by it")
    with tempfile.TemporaryDirectory() as folder:
        return found + _at_work(Path(folder)) + _with_the_packaged_model(Path(folder))


def _at_work(folder: Path) -> list[Figure]:
    data, cache = folder / "data", folder / "cache"
    data.mkdir()
    _start(["-c", _PICTURES, str(data)])
    picture = np.random.default_rng(0).random((96, 96, 3))
    save_png(folder / "picture.png", picture)
    imports = {
        name: {"its imports": min(_start(["-c", f"import {modules}"]).seconds for _ in range(2))}
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
        spent = _start(train, done=lambda text: "\npretrain 1/1 " in text)
        name = f"train to its first step, {state} cache"
        found.append(Figure(name, spent.seconds, against=imports["train"], note=spent.memory))
    for state in ("empty", "warm"):
        faces = folder / f"faces-{state}"
        read = ["-m", "fields_jax.reconstruct", f"--workdir={folder / 'empty'}", f"--out={faces}"]
        read += ["--box=10,10,86,86", str(folder / "picture.png")]
        spent = _start(
            read,
            done=lambda _, faces=faces: any(faces.rglob("params.npz")),
            home=str(folder / "reads"),
        )
        name = f"reconstruct to its first face, {state} cache"
        found.append(Figure(name, spent.seconds, against=imports["reconstruct"], note=spent.memory))
    return found


def _with_the_packaged_model(folder: Path) -> list[Figure]:
    """As after an install: no workdir, no box, a cache that nothing was put into."""
    picture, home = folder / "face.png", folder / "home"
    _start(["-c", _FACE, str(picture)])
    found = []
    for state in ("empty", "warm"):
        faces = folder / f"packaged-{state}"
        read = ["-m", "fields_jax.reconstruct", f"--out={faces}", str(picture)]
        spent = _start(
            read, done=lambda _, faces=faces: any(faces.rglob("params.npz")), home=str(home)
        )
        name = f"reconstruct by the model in the package to its first face, {state} cache"
        found.append(Figure(name, spent.seconds, note=spent.memory))
    return found


class Start(NamedTuple):
    """What a process took.

    Attributes:
      seconds: until it had ended, or done what was waited for.
      gib: of memory at its most, seen every few milliseconds; 0 where the system does not tell.
    """

    seconds: float
    gib: float

    @property
    def memory(self) -> str:
        """For the note of a figure."""
        return f"at most {self.gib:.1f} GiB" if self.gib else ""


def _start(
    arguments: Sequence[str],
    *,
    done: Callable[[str], bool] | None = None,
    expected: Sequence[int] = (0,),
    home: str = "",
) -> Start:
    """Runs a Python process, and sees how long it takes to end or to do something.

    Args:
      arguments: of the interpreter.
      done: a function of its output so far that says whether the clock stops.
      expected: exit statuses that are no failure.
      home: folder that compiled programs are kept below; "": where the user's are.

    Raises:
      UserError: it failed, with the end of its output.
    """
    paths = [str(_ROOT), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
    # Installed packages are compiled to bytecode, once.
    for name in ("JAX_COMPILATION_CACHE_DIR", "PYTHONDONTWRITEBYTECODE"):
        environment.pop(name, None)
    environment |= {"XDG_CACHE_HOME": home} if home else {}
    with tempfile.TemporaryFile("w+") as output:
        began, stopped, gib = time.perf_counter(), None, 0.0
        with subprocess.Popen(
            [sys.executable, *arguments], stdout=output, stderr=output, env=environment
        ) as process:
            while process.poll() is None:
                if done and stopped is None and done(_written(output)):
                    stopped = time.perf_counter()
                gib = max(gib, _most_memory(process.pid))
                time.sleep(0.005)
            ended = time.perf_counter()
        output.seek(0)
        text = output.read()
    # Status 1 is absl's for --help, and Python's for an uncaught error.
    if process.returncode not in expected or "\nTraceback (most" in f"\n{text}":
        raise UserError(f"{' '.join(arguments)[:100]} failed: {text[-500:]}")
    return Start((stopped or ended) - began, gib)


def _most_memory(pid: int) -> float:
    """GiB that a process has had at its most, or 0 where the system does not tell or it is gone."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 2**20
    return 0.0


def _written(output: IO[str]) -> str:
    """What a process has written to a file so far; its place in the file is kept."""
    return os.pread(output.fileno(), 2**20, 0).decode(errors="replace")


if __name__ == "__main__":
    define_flags()
    run(main)
