"""One face's expression on another face: the coefficients that move a face, exchanged.

Shape, pose and camera stay the wearer's; expression, jaw and lids, and the eyes where they are
known, are the other's. What the photograph itself shows stays beside the result, for its texture.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from etils import epath

from fields_jax.errors import UserError
from fields_jax.outputs.bundle import Bundle, Result, Worn, load_params, pose_heads, require_head
from fields_jax.registration.codes import read_codes
from fields_jax.types import FlameCoefficients, FlameModel

_MOVING = ("expression", "jaw", "eyelid", "eyes")
_SIZES = {"expression": 1, "jaw": 3, "eyelid": 2, "eyes": 6}  # of a face at rest
_REMEDY = "carry it over by `python -m fields_jax.transfer --from=ITS_HEAD.npz --to=THIS_HEAD.npz`"


class Expression(NamedTuple):
    """What a face does.

    Attributes:
      source: what to call it in outputs.
      values: "expression" [E], "jaw" [3] and "eyelid" [2] as of FlameCoefficients; "eyes" [6] only
        where it is known.
    """

    source: str
    values: Mapping[str, np.ndarray]


def neutral() -> Expression:
    """Nothing: mouth shut, eyes open and ahead."""
    still = {name: np.zeros(size, np.float32) for name, size in _SIZES.items()}
    return Expression("neutral", still)


def expression_of(bundle: Bundle, head: FlameModel) -> Expression:
    """What a face does.

    Args:
      bundle: of the face.
      head: of the faces that are to do the same.

    Raises:
      UserError: the face is of another head.
    """
    require_head(bundle.face.name, bundle.head.identity, head, _REMEDY)
    return _of(bundle.face.name, bundle.result.coefficients)


def read_expression(file: epath.Path, head: FlameModel) -> Expression:
    """What the face of a params.npz does.

    Args:
      file: as `reconstruct` and `fit` write it.
      head: of the faces that are to do the same.

    Raises:
      UserError: no such file, a damaged one, or one of another head.
    """
    if not file.exists():
        raise UserError(f"--expression_from={file}: no such file")
    arrays, meta = load_params(file)
    require_head(str(file), meta.get("head"), head, _REMEDY)
    codes = read_codes(arrays, str(file), head)
    if codes.count != 1:
        raise UserError(f"{file} holds {codes.count} faces: name a file of one")
    return _of(str(file), {name: rows[0] for name, rows in codes.arrays.items()})


def put_on(
    head: FlameModel, results: Sequence[Result], expression: Expression, batch_size: int
) -> list[Result]:
    """Faces with another expression, posed and drawn anew.

    Emotion and residual, which are of the photograph's expression, are left out.

    Args:
      head: of all.
      results: at most `batch_size` faces; they may differ in whether their eyes are known.
      expression: of the same head.
      batch_size: see `bundle.pose_heads`.
    """
    own = [result.coefficients for result in results]
    looking = ["eyes" in each or "eyes" in expression.values for each in own]
    still = {"eyes": np.zeros(6, np.float32)}
    columns = {
        name: np.stack([each.get(name, still.get(name)) for each in own])
        for name in {name for each in own for name in each}
    }
    for name, value in expression.values.items():
        columns[name] = np.tile(value, (len(results), 1)).astype(np.float32)
    short = max(0, len(own[0]["expression"]) - columns["expression"].shape[1])
    columns["expression"] = np.pad(columns["expression"], ((0, 0), (0, short)))
    posed = pose_heads(head, FlameCoefficients(**columns), batch_size, looking)
    return [
        dataclasses.replace(
            after,
            verdict=before.verdict,
            evidence=before.evidence,
            worn=Worn(before if before.worn is None else before.worn.reading, expression.source),
        )
        for before, after in zip(results, posed, strict=True)
    ]


def _of(source: str, coefficients: Mapping[str, np.ndarray]) -> Expression:
    known = {name: np.asarray(coefficients[name]) for name in _MOVING if name in coefficients}
    rest = {name: value for name, value in neutral().values.items() if name != "eyes"}
    return Expression(source, rest | known)
