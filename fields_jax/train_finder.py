r"""Trains the finder of faces that ships in the package anew, on generated pictures alone.

    python -m fields_jax.train_finder --out=runs/finder

Renders heads (kept in OUT/heads.npz, so that a second run begins with the training), composes
scenes of them while the network learns, and measures it on scenes of other heads. OUT/finder.npz
and OUT/finder.json are what `fields_jax/assets/finder` holds. 30 minutes on two cores.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np
from absl import flags

from fields_jax.cli import run
from fields_jax.disk import check_folder
from fields_jax.errors import UserError
from fields_jax.progress import Progress

if TYPE_CHECKING:
    from fields_jax.evaluation.finding import Point
    from fields_jax.finder import Network

_THRESHOLDS = np.arange(0.1, 0.96, 0.05)
_APART = 10**6  # no step of the training has this number
_ALARMS = 0.02  # false ones per picture that the threshold is chosen for


def define_flags() -> None:
    """The command's flags."""
    flags.DEFINE_string("out", "", "folder to write to")
    flags.DEFINE_string(
        "start", "", "folder of an earlier run to go on from (default: from nothing)"
    )
    flags.DEFINE_integer("heads", 2400, "people that are rendered for the training", 1)
    flags.DEFINE_integer("walls", 300, "backdrops", 1)
    flags.DEFINE_integer("steps", 3000, "batches of 32 scenes", 1)
    flags.DEFINE_integer("tests", 400, "scenes of other people to measure on", 1)
    flags.DEFINE_integer("seed", 0, "of everything")


def main(argv: list[str]) -> int:
    """Entry point; see the module's docstring."""
    chosen = flags.FLAGS
    if len(argv) > 1:
        raise UserError(f"unknown argument {argv[1]!r}; see --help")
    if not chosen.out:
        raise UserError("--out is missing: name the folder to write to")
    from fields_jax.finder import read_network, write_network

    start = read_network(chosen.start).variables if chosen.start else None
    check_folder(chosen.out, "another --out")
    from data_pipelines.synthetic import crowds
    from fields_jax import __version__
    from fields_jax.cpu_tuning import tune
    from fields_jax.training import finder

    tune()
    seed, apart = chosen.seed, chosen.heads
    heads = _heads(chosen.out, "heads.npz", 0, chosen.heads)
    others = _heads(chosen.out, "other_heads.npz", apart, max(32, chosen.heads // 8))
    walls = crowds.backdrops(chosen.walls, seed)
    recipe = finder.Recipe(steps=chosen.steps, seed=seed)
    about: dict[str, Any] = {
        "version": __version__,
        "widths": list(recipe.widths),
        "threshold": 0.5,
        "recipe": f"{chosen.heads} heads, {chosen.walls} backdrops, {chosen.steps} steps of "
        f"{recipe.batch} scenes of {recipe.size} pixels, seed {seed}",
    }

    def report(step: int, losses: dict[str, float], variables: dict[str, Any]) -> None:
        said = ", ".join(f"{name} {value:.3f}" for name, value in losses.items())
        print(f"step {step}: {said}", flush=True)
        write_network(chosen.out, variables, about)

    def scene(rng: np.random.Generator, size: int) -> finder.Scene:
        return finder.Scene(*crowds.crowd(rng, heads, walls, size))

    variables = finder.train(recipe, scene, report, start)
    unseen = crowds.backdrops(max(20, chosen.walls // 8), seed + _APART)
    tests = [
        crowds.crowd(np.random.default_rng((seed, _APART, n)), others, unseen, 2 * recipe.size)
        for n in range(chosen.tests)
    ]
    points = measure(read_network(chosen.out), tests)
    best = min((p for p in points if p.alarms <= _ALARMS), default=points[-1])
    about |= {"threshold": round(best.threshold, 2), "measured": best._asdict()}
    write_network(chosen.out, variables, about)
    for point in points:
        print(f"score {point.threshold:.2f}: recall {point.recall:.3f}, {point.alarms:.3f} alarms")
    print(f"written: {chosen.out}, threshold {about['threshold']}")
    return 0


def measure(network: Network, scenes: list[Any]) -> list[Point]:
    """Recall and false alarms per picture at a row of thresholds, on scenes with true boxes."""
    from fields_jax.evaluation.finding import curve, match

    line, matched = Progress(len(scenes), "scenes"), []
    for one in scenes:
        matched.append(match(*network.look(one.picture, _THRESHOLDS[0]), one.boxes, one.unsure))
        line.step()
    return curve(matched, _THRESHOLDS)


def _heads(out: str, name: str, first: int, count: int) -> Any:
    """Rendered heads, from the file of an earlier run if it holds the same."""
    from etils import epath

    from data_pipelines.synthetic.cutouts import Cutouts, cut_outs
    from fields_jax.files import read_npz

    file, about = epath.Path(out) / name, np.array([first, count, flags.FLAGS.seed])
    if file.exists():
        arrays = read_npz(file)
        if np.array_equal(arrays.pop("made", None), about):
            return Cutouts(**arrays)
    line, parts = Progress(count, "heads"), []
    for part in cut_outs(first, count, flags.FLAGS.seed):
        parts.append(part)
        line.step(len(part.shows))
    heads = Cutouts(*(np.concatenate(column) for column in zip(*parts, strict=True)))
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("wb") as stream:
        np.savez(stream, **heads._asdict(), made=about)
    return heads


if __name__ == "__main__":
    define_flags()
    sys.exit(run(main))
