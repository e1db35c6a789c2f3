"""Which head the coefficients in a prepared set are of."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from etils import epath

from fields_jax.errors import UserError, printable, quoted
from fields_jax.files import read_json
from fields_jax.types import FlameModel

METADATA = "metadata.json"  # TFDS's, beside the shards
_FIELDS = ("name", "version", "sha256")


def in_words(head: dict[str, str]) -> str:
    """The identity of a head as messages and descriptions show it."""
    return printable(f"{head['name']} {head['version']} ({head['sha256'][:12]})")


class Labels(NamedTuple):
    """What a set says of the coefficients in its records.

    Attributes:
      head: identity of the head that they are of.
      learnt: they are there to be learnt, not for evaluation alone.
      fitted: they come from a landmark fit.
    """

    head: dict[str, str]
    learnt: bool
    fitted: bool


def labels_of(folder: epath.Path) -> Labels | None:
    """What a set says of its coefficients; None if it says nothing.

    Args:
      folder: of the set's version.

    Raises:
      UserError: its metadata are damaged.
    """
    file = folder / METADATA
    stored = read_json(file) if file.exists() else {}
    head = stored.get("labels_of")
    if head is None:
        return None
    if not isinstance(head, dict) or not all(isinstance(head.get(key), str) for key in _FIELDS):
        raise UserError(f"{file}: labels_of is {quoted(head)}, no head; remove {folder}")
    return Labels(head, stored.get("learnt") is True, stored.get("fitted") is True)


def fitted(folders: Iterable[epath.Path]) -> list[epath.Path]:
    """The sets whose coefficients come from a landmark fit.

    Raises:
      UserError: the metadata of a set are damaged.
    """
    return [folder for folder in folders if (told := labels_of(folder)) and told.fitted]


def compare(
    folders: Iterable[epath.Path], head: FlameModel, *, learnt: bool, fits_learnt: bool = False
) -> list[str]:
    """Warnings about sets whose coefficients are of another head.

    Args:
      folders: of the sets.
      head: that is trained.
      learnt: whether a loss compares with the coefficients of the sets.
      fits_learnt: whether it does so with those of a landmark fit too.

    Raises:
      UserError: a loss would learn coefficients of another head.
    """
    warnings = []
    for folder in folders:
        told = labels_of(folder)
        if told is None or told.head["sha256"] == head.sha256:
            continue
        words = f"{folder} tells coefficients of the head {in_words(told.head)}"
        here = in_words(head.identity)
        if told.learnt and learnt and (fits_learnt or not told.fitted):
            raise UserError(
                f"{words}, and the head to train is {here}: name that one with --config.head, or "
                f"make a set of this one with `python -m data_pipelines.prepare {_made(folder)} "
                "--head=HEAD.npz --out=DIR` and name it with --config.data.root=DIR"
            )
        warnings.append(f"{words}, the head here is {here}: errors of its expressions mean nothing")
    return warnings


def _made(folder: epath.Path) -> str:
    """What `prepare` is told to make a set like this one."""
    kinds = {"faces": "faces --fitted", "bp4d": "bp4d --fits=FITS"}
    return next((kinds[part] for part in folder.parts[-3:] if part in kinds), "synthetic")
