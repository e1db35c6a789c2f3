"""Carries the codes of one head to another head: the same faces, in the other's coefficients.

    python -m fields_jax.transfer --from=FLAME.npz --to=ICT.npz --out=moved faces/*/params.npz
    python -m fields_jax.transfer --from=FLAME.npz --clip --out=moved smirk.npz

Takes params.npz as `reconstruct` and `fit` write them, folders with such files in them, and
dictionaries of arrays (.npz or .npy) by the names that SMIRK, TEASER, DECA and EMOCA give them, [K]
for one face or [T, K] for T. An empty --from or --to is the procedural head. With --clip all faces
are of one person and get one shape.

OUT/NAME holds params.npz, and mesh.obj where it is one face; pose and camera are such that the face
stays where it was in the image. OUT/summary.csv lists how far each face is from the one it was.
The first transfer between two heads registers them, which takes a minute, and keeps the result
beside the head --to (or --from).
"""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from absl import flags
from etils import epath

from fields_jax import __version__
from fields_jax.cli import run
from fields_jax.errors import UserError
from fields_jax.files import read_npz, write_whole
from fields_jax.photos.names import unique_name

if TYPE_CHECKING:
    from fields_jax.registration.codes import Codes
    from fields_jax.types import FlameModel

_PARAMS = "params.npz"
_FLAT = 1e-12  # determinant of a crop's matrix up to which it shows nothing


class Source(NamedTuple):
    """A file of codes.

    Attributes:
      name: of its folder in OUT.
      codes: in it.
      arrays: all that it holds.
    """

    name: str
    codes: Codes
    arrays: Mapping[str, np.ndarray]


def define_flags() -> None:
    """The command's flags."""
    flags.DEFINE_string("from", "", "head .npz of the codes (default: the procedural head)")
    flags.DEFINE_string("to", "", "head .npz to carry them to (default: the procedural head)")
    flags.DEFINE_string("out", "", "folder to write to")
    flags.DEFINE_bool("clip", False, "all faces are of one person and get one shape")
    flags.DEFINE_integer("batch_size", 16, "faces that are worked on at once", 1)


def main(argv: list[str]) -> None:
    """The command."""
    chosen = flags.FLAGS
    if not chosen.out:
        raise UserError("--out is missing: name the folder to write to")
    if len(argv) < 2:
        raise UserError("name files of codes or folders with params.npz in them; see --help")
    from fields_jax.disk import writing
    from fields_jax.flame.io import resolve_head
    from fields_jax.registration.codes import joined
    from fields_jax.registration.heads import correspond
    from fields_jax.registration.transfer import Settings, transfer

    a, b = resolve_head(chosen["from"].value), resolve_head(chosen.to)
    sources = _read(argv[1:], a)
    named = chosen.to or chosen["from"].value
    pair = correspond(a, b, epath.Path(named).parent if named else None)
    settings = Settings(clip=chosen.clip, batch_size=chosen.batch_size)
    moved = transfer(joined([source.codes for source in sources]), a, b, pair, settings)
    with writing(chosen.out, instead="another --out"):
        _write(chosen.out, sources, (a, b), moved)
    mean, high = moved.error_mm.mean(0)
    print(
        f"done: {len(moved.error_mm)} faces in {chosen.out}, off by {mean:.2f} mm in the mean and "
        f"{high:.2f} mm at the 95th percentile"
    )


def _read(arguments: Sequence[str], head: FlameModel) -> list[Source]:
    """The codes of the files and folders that were named."""
    from fields_jax.outputs.bundle import params_within

    sources, taken = [], set()
    for argument in arguments:
        path = epath.Path(argument)
        files = list(params_within(path)) if path.is_dir() else [path]
        if not files:
            raise UserError(f"there is no {_PARAMS} in {argument}")
        for file in files:
            name = file.parent.name if file.name == _PARAMS else file.stem
            sources.append(_read_file(file, head, unique_name(name or "face", taken)))
    return sources


def _read_file(file: epath.Path, head: FlameModel, name: str) -> Source:
    from fields_jax.convert.dictionaries import read_dictionary
    from fields_jax.outputs.bundle import load_params, require_head
    from fields_jax.registration.codes import read_codes

    if file.name == _PARAMS or _tells_its_head(file):
        arrays, meta = load_params(file)
        require_head(str(file), meta.get("head"), head, "name its head with --from=HEAD.npz")
    else:
        arrays = read_dictionary(file)
    codes = read_codes(arrays, str(file), head)
    if codes.single:  # where its points are in the photograph is told as well
        _check_crop(arrays, str(file))
    return Source(name, codes, arrays)


def _tells_its_head(file: epath.Path) -> bool:
    """Whether a file is one that this program wrote, such as a clip.npz or a renamed params.npz."""
    return file.suffix == ".npz" and {"conventions", "meta"} <= set(read_npz(file))


def _check_crop(arrays: Mapping[str, np.ndarray], file: str) -> None:
    """Refuses a crop that no photograph has.

    Raises:
      UserError: naming file and array.
    """
    shapes = {"crop_matrix": (3, 3), "crop_size": ()}
    for name, shape in shapes.items():
        if name not in arrays:
            continue
        array = arrays[name]
        sound = array.shape == shape and array.dtype.kind in "iuf"
        sound = sound and np.isfinite(array).all()
        if sound and name == "crop_matrix":
            sound = abs(np.linalg.det(np.float64(array))) > _FLAT
        if not sound or (name == "crop_size" and array <= 0):
            raise UserError(f"{file}: {name} is no photograph's; mend it or leave it out")


def _write(
    out: str, sources: Sequence[Source], heads: tuple[FlameModel, FlameModel], moved: Any
) -> None:
    """One folder for each file, and the summary."""
    import jax

    from fields_jax.outputs.transferred import transferred_files

    before, head = (each.identity for each in heads)
    table, start = [], 0
    for source in sources:
        rows = slice(start, start + source.codes.count)
        start = rows.stop
        own = jax.tree.map(lambda column, rows=rows: column[rows], moved.coefficients)
        meta = {"version": __version__, "head": head}
        meta["transferred"] = {"from": before, "file": epath.Path(source.codes.source).name}
        error, single = moved.error_mm[rows], source.codes.single
        files = transferred_files(heads[1], own, error, source.arrays, meta, single)
        for name, content in files.items():
            write_whole(epath.Path(out) / source.name / name, content)
        table += [(source.name, row, *np.round(pair, 3)) for row, pair in enumerate(error)]
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(("name", "row", "error_mm_mean", "error_mm_95"))
    writer.writerows(table)
    write_whole(epath.Path(out) / "summary.csv", text.getvalue())


if __name__ == "__main__":
    define_flags()
    sys.exit(run(main))
