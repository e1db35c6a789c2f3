"""ARKit's 52 shapes on other heads: how they arrive, and what comes back of weights.

    python -m benchmarks.arkit --reference=ICT.npz --json OUT
    python -m benchmarks.arkit --reference=ICT.npz --heads=FLAME.npz --json OUT

The reference is a head with shapes, of `python -m fields_jax.convert ict`. Its shapes are carried
to the procedural head and to the others, without the heads' own lids and jaw, and measured over the
face mask: against the head's own shapes, where it has them, and, carried back, against the
reference's. Weights are put in singly and in mixtures of five, as the coefficients that make them,
and told from the faces that result.
"""

from __future__ import annotations

import json
import time

import numpy as np
from absl import flags
from etils import epath
from jaxtyping import Float

from benchmarks.results import save
from fields_jax import arkit
from fields_jax.cli import run
from fields_jax.errors import UserError
from fields_jax.flame.io import load_flame
from fields_jax.flame.procedural import procedural_head
from fields_jax.registration.arkit import arkit_tables, arkit_weights, from_arkit
from fields_jax.registration.deformation import with_arkit
from fields_jax.registration.heads import Pair, correspond
from fields_jax.types import FlameModel

_MIXED = 5
# Of two movements that undo each other only one is put in.
_OPPOSED = ("eyeLookDown", "eyeLookIn", "jawRight", "mouthRight")
_MADE = 0.1  # share of a shape that the head's own movements may leave unmade


def define_flags() -> None:
    """The flags of the command."""
    flags.DEFINE_string("json", "", "file for the results")
    flags.DEFINE_string("reference", "", "head .npz with ARKit's shapes, of `convert ict`")
    flags.DEFINE_list("heads", [], "head .npz files to measure beside the procedural one")
    flags.DEFINE_integer("frames", 300, "mixtures of weights that are put in", 1)


def main(_: list[str]) -> None:
    """The command."""
    chosen = flags.FLAGS
    if not chosen.reference:
        raise UserError("--reference is missing: name a head of `convert ict`")
    reference = load_flame(chosen.reference)
    if reference.arkit_basis is None:
        raise UserError(f"{chosen.reference} has no ARKit shapes: name a head of `convert ict`")
    folder = epath.Path(chosen.reference).parent
    report = {"reference": reference.name, "heads": {}}
    procedural = procedural_head()
    report["weights"] = {
        head.name: returned(head, chosen.frames) for head in (reference, procedural)
    }
    for head in (procedural, *map(load_flame, chosen.heads)):
        pair = correspond(head, reference, folder)
        report["heads"][head.name] = carried(head, reference, pair)
    print(table(report))
    for name, figures in report["weights"].items():
        print(f"weights of {name}: {json.dumps(figures)}")
    save(chosen.json, report)


def carried(head: FlameModel, reference: FlameModel, pair: Pair) -> dict:
    """How the reference's shapes arrive on a head: {shape: figures}, lengths in mm.

    `moves` is the root mean square of the shape; `own_...` compares it with the head's own, and
    `back_...` the reference's with what comes back; `cosine` is that of the angle between the two
    as vectors, `rms` the distance. None where a shape moves nothing.
    """
    bare = with_arkit(head, reference, pair.forward, own=False)
    home = with_arkit(reference, bare, pair.backward, own=False)
    there, back, truth = (_face(each) for each in (bare, home, reference))
    own = None if head.arkit_basis is None else _face(head)
    found = {}
    for row, name in enumerate(arkit.NAMES):
        figures = {"moves": _rms(there[..., row])}
        if own is not None:
            figures |= _compared("own", there[..., row], own[..., row])
        found[name] = figures | _compared("back", back[..., row], truth[..., row])
    return found


def returned(head: FlameModel, frames: int) -> dict:
    """Weights put into a head with shapes, and what is told of the faces.

    Args:
      head: with shapes.
      frames: mixtures that are put in.

    Returns:
      Names of shapes that the head's own movements do not make, which are left out; the largest
      difference of any weight for single ones, and for mixtures at the 95th percentile and at most;
      the share of mixtures with all within 0.02; the seconds that a clip of so many frames takes.
    """
    tables = arkit_tables(head, head.expression_basis.shape[-1])
    size = np.array([_rms(shape) or 0 for shape in np.moveaxis(_face(head), -1, 0)])
    alone = np.eye(len(arkit.NAMES), dtype=np.float32)
    made = (size > 0) & (from_arkit(head, alone, tables).error_mm < _MADE * size)
    rng = np.random.default_rng(0)
    allowed = [i for i, name in enumerate(arkit.NAMES) if made[i] and not name.startswith(_OPPOSED)]
    mixed = np.zeros((frames, len(arkit.NAMES)), np.float32)
    for frame in mixed:
        frame[rng.choice(allowed, _MIXED, replace=False)] = rng.uniform(0, 1, _MIXED)
    off = {}
    for name, weights in (("single", alone[made]), ("mixed", mixed)):
        faces = from_arkit(head, weights, tables).coefficients
        off[name] = np.abs(arkit_weights(head, faces, tables).weights - weights).max(1)
    began = time.perf_counter()
    arkit_weights(head, faces, tables)
    return {
        "not_made": [name for name, known in zip(arkit.NAMES, made, strict=True) if not known],
        "single": float(off["single"].max()),
        "mixed_95": float(np.percentile(off["mixed"], 95)),
        "mixed": float(off["mixed"].max()),
        "mixed_within": float((off["mixed"] < 0.02).mean()),
        "seconds": time.perf_counter() - began,
    }


def table(report: dict) -> str:
    """The figures as lines of a Markdown table."""
    heads = report["heads"]
    columns, titles = [], []
    for head, shapes in heads.items():
        keys = list(next(iter(shapes.values())))
        columns += [(head, key) for key in keys]
        titles += [f"{head}: {key.replace('_', ' ')}" for key in keys]
    lines = ["| shape | " + " | ".join(titles) + " |", "|---" * (len(titles) + 1) + "|"]
    rows = []
    for name in arkit.NAMES:
        values = [heads[head][name][key] for head, key in columns]
        rows.append(values)
        lines.append(_line(name, values))
    medians = [
        float(np.median([value for value in column if value is not None]))
        for column in zip(*rows, strict=True)
    ]
    return "\n".join([*lines, _line("median", medians)])


def _line(name: str, values: list[float | None]) -> str:
    cells = ["-" if value is None else f"{value:.2f}" for value in values]
    return f"| {name} | " + " | ".join(cells) + " |"


def _face(head: FlameModel) -> Float[np.ndarray, "K 3 52"]:
    """Shapes over the face mask, mm."""
    return 1e3 * np.asarray(head.arkit_basis, np.float64)[np.asarray(head.face_vertices)]


def _rms(moved: Float[np.ndarray, "K 3"]) -> float | None:
    return float(np.sqrt((moved**2).sum(1).mean())) if moved.any() else None


def _compared(
    name: str, one: Float[np.ndarray, "K 3"], other: Float[np.ndarray, "K 3"]
) -> dict[str, float | None]:
    if not one.any() or not other.any():
        return {f"{name}_cosine": None, f"{name}_rms": None}
    cosine = (one * other).sum() / np.linalg.norm(one) / np.linalg.norm(other)
    return {f"{name}_cosine": float(cosine), f"{name}_rms": _rms(one - other)}


if __name__ == "__main__":
    define_flags()
    run(main)
