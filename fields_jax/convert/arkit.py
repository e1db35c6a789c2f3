"""ARKit's 52 shapes for a head that lacks them, from ICT-FaceKit's or any head that has them."""

from __future__ import annotations

import dataclasses
import tempfile

import numpy as np
from etils import epath

from fields_jax import arkit
from fields_jax.convert.ict import convert_ict
from fields_jax.convert.ict_clone import LAYOUT, Layout
from fields_jax.disk import writing
from fields_jax.errors import MissingFile, UserError
from fields_jax.flame.io import load_flame, read_arrays, write_arrays
from fields_jax.registration.deformation import with_arkit
from fields_jax.registration.heads import correspond
from fields_jax.types import FlameModel

_TABLE = "arkit_basis"


@dataclasses.dataclass(frozen=True)
class Added:
    """What was written.

    Attributes:
      head, source: names of the heads.
      replaced: the head had shapes before.
      still: names of shapes that move nothing on it.
    """

    head: str
    source: str
    replaced: bool
    still: tuple[str, ...]

    def __str__(self) -> str:
        done = f"replace those of head {self.head}" if self.replaced else f"join head {self.head}"
        said = f"ARKit's shapes of {self.source} {done}"
        return f"{said}; it has nothing for {', '.join(self.still)} to move" if self.still else said


def convert_arkit(source: str, target: str, layout: Layout = LAYOUT) -> Added:
    """Adds the table of ARKit's shapes to a head file.

    Args:
      source: a clone of ICT-FaceKit, or the .npz of a head with such shapes.
      target: the .npz of the head; all else in it stays as it is.
      layout: of the clone, see `convert_ict`.

    Raises:
      MissingFile: one of the files is absent, by name.
      UserError: the source has no shapes, the heads cannot be registered, or a file is damaged;
        `target` is then untouched.
    """
    if not target:
        raise UserError("name the .npz of a head; the procedural head has ARKit's shapes already")
    head = load_flame(target)
    giver = _giver(source, layout)
    if giver.arkit_basis is None:
        raise UserError(
            f"{source} holds the head {giver.name}, which has no ARKit shapes: name a clone of "
            "github.com/ICT-VGL/ICT-FaceKit or a head of `python -m fields_jax.convert ict`"
        )
    if giver.sha256 == head.sha256:
        raise UserError(f"{source} and {target} are the same head, {head.name}")
    pair = correspond(head, giver, epath.Path(target).parent)
    basis = np.asarray(with_arkit(head, giver, pair.forward).arkit_basis)
    arrays, meta = read_arrays(target)
    with writing(target, instead="another head"):
        write_arrays(target, arrays | {_TABLE: basis}, meta)
    still = tuple(n for n, moves in zip(arkit.NAMES, basis.any((0, 1)), strict=True) if not moves)
    return Added(head.name, giver.name, _TABLE in arrays, still)


def _giver(source: str, layout: Layout) -> FlameModel:
    path = epath.Path(source)
    if not path.exists():
        raise MissingFile(
            f"{source} does not exist: name a clone of github.com/ICT-VGL/ICT-FaceKit, or the .npz "
            "of a head with ARKit's shapes"
        )
    if not path.is_dir():
        return load_flame(source)
    with tempfile.TemporaryDirectory(prefix="fields_jax_") as folder:
        made = f"{folder}/ict.npz"
        convert_ict(source, made, layout=layout)
        return load_flame(made)
