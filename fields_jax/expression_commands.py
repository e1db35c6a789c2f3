"""What `reconstruct` and `fit` share about other expressions: flags, and whose it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from absl import flags
from etils import epath

from fields_jax.errors import UserError

if TYPE_CHECKING:
    from fields_jax.face3d import Face3D
    from fields_jax.outputs.bundle import Result
    from fields_jax.types import FlameModel

Put = Callable[[Sequence["Result"], int], list["Result"]]


def define_flags() -> None:
    """Flags about other expressions."""
    flags.DEFINE_string(
        "expression_from",
        "",
        "a face, whose expression all others get: its params.npz or folder, or a picture of one",
    )
    flags.DEFINE_alias("expression-from", "expression_from")
    flags.DEFINE_bool("neutral", False, "all faces relaxed: no expression, mouth shut, eyes open")


def chosen(head: FlameModel, read: Callable[[Any], list[Face3D]], named: Any) -> Put:
    """What puts the expression of the flags on faces of a batch; without the flags, nothing.

    Args:
      head: of the faces.
      read: the faces of a picture.
      named: the `photo_commands.Named` of the command line.

    Raises:
      UserError: both flags, clips, or a face that cannot be taken.
    """
    source = flags.FLAGS.expression_from
    if not source and not flags.FLAGS.neutral:
        return lambda results, batch_size: list(results)
    flag = f"--expression_from={source}" if source else "--neutral"
    if source and flags.FLAGS.neutral:
        raise UserError(f"{flag} and --neutral are two expressions: choose one")
    if named.clips:
        raise UserError(f"{flag}: {named.clips[0].path} is a clip, which keeps its own expressions")
    from fields_jax.outputs.bundle import PARAMS
    from fields_jax.outputs.worn import expression_of, neutral, put_on, read_expression

    path = epath.Path(source)
    if not source:
        expression = neutral()
    elif path.suffix == ".npz" or (path / PARAMS).exists():
        expression = read_expression(path if path.suffix == ".npz" else path / PARAMS, head)
    else:
        found = read(source)
        if len(found) != 1:
            raise UserError(f"{flag} shows {len(found)} faces: name the {PARAMS} of one of them")
        expression = expression_of(found[0].bundle, head)
    return lambda results, batch_size: put_on(head, results, expression, batch_size)
