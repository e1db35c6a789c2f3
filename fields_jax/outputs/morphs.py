"""What moves the head of a GLB: its morph targets, and the weights and turns that make a face.

ARKit's 52 shapes where the head has them, or the head's own expression components and lids.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from fields_jax import arkit
from fields_jax.errors import UserError
from fields_jax.registration.arkit import Tables, arkit_tables, arkit_weights
from fields_jax.types import FlameCoefficients, FlameModel

MORPHS = ("arkit", "expression")
_EYELIDS = ("eyelid_left", "eyelid_right")


class State(NamedTuple):
    """What moves T faces.

    Attributes:
      weights: [T, K] of the morph targets.
      turns: [T, J, 3] axis-angle of the head's joints, radians; that of the root is 0.
      error_mm: [T] root mean square over the face of what the weights leave out, or None where
        they are the coefficients themselves.
    """

    weights: Float[np.ndarray, "T K"]
    turns: Float[np.ndarray, "T J 3"]
    error_mm: Float[np.ndarray, " T"] | None


def choose_morphs(head: FlameModel, wanted: str = "") -> str:
    """The kind of morph targets that a head gets.

    Args:
      head: of the faces.
      wanted: one of MORPHS; "" is ARKit's where the head has them, else the head's own.

    Raises:
      UserError: the head has no ARKit shapes, or there is no such kind.
    """
    if wanted not in ("", *MORPHS):
        raise UserError(f"morphs={wanted}: choose among {', '.join(MORPHS)}")
    if wanted == "arkit" and head.arkit_basis is None:
        raise UserError(
            f"morphs=arkit: head {head.name} has no ARKit shapes; take expression, or "
            "add them with `python -m fields_jax.convert arkit ICT-FaceKit HEAD.npz`"
        )
    return wanted or ("expression" if head.arkit_basis is None else "arkit")


def targets(head: FlameModel, kind: str, count: int) -> Iterator[tuple[str, np.ndarray]]:
    """Names and displacements [V, 3] in metres of the morph targets, in the order of `State`.

    Args:
      head: any; with ARKit's shapes where they are wanted.
      kind: one of MORPHS.
      count: how many expression components the faces have.
    """
    if kind == "arkit":
        basis = np.moveaxis(np.asarray(head.arkit_basis), -1, 0)
        yield from zip(arkit.NAMES, basis, strict=True)
        return
    names = [*head.expression_names[:count]]
    names += [f"expression_{row:03d}" for row in range(len(names), count)]
    basis = np.moveaxis(np.asarray(head.expression_basis)[..., :count], -1, 0)
    yield from zip(names, basis, strict=True)
    yield from zip(_EYELIDS, np.asarray(head.eyelid_basis), strict=True)


def state_of(head: FlameModel, kind: str, coefficients: FlameCoefficients) -> State:
    """What moves faces: weights of morph targets and turns of joints.

    ARKit's weights hold what jaw and eyes do, so that those joints stay still.

    Args:
      head: of the faces.
      kind: one of MORPHS.
      coefficients: of T faces.
    """
    expression = np.asarray(coefficients.expression, np.float32)
    roles = dict(neck=coefficients.neck)
    error = None
    if kind == "arkit":
        tables = _tables(_Same(head), expression.shape[1])
        weights, error = arkit_weights(head, coefficients, tables)
    else:
        weights = np.concatenate([expression, np.asarray(coefficients.eyelid)], axis=1)
        eyes = coefficients.eyes
        roles["jaw"] = coefficients.jaw
        roles["left_eye"], roles["right_eye"] = (
            (None, None) if eyes is None else np.split(np.asarray(eyes), 2, axis=1)
        )
    turns = np.zeros((len(expression), len(head.joint_names), 3), np.float32)
    for role, values in roles.items():
        joint = head.joint(role)
        if joint is not None and values is not None:
            turns[:, joint] = values
    return State(np.asarray(weights, np.float32), turns, error)


class _Same:
    """A head as a key: the same object, for arrays cannot be hashed."""

    def __init__(self, head: FlameModel) -> None:
        self.head = head

    def __hash__(self) -> int:
        return id(self.head)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.head is self.head


@functools.lru_cache(maxsize=2)
def _tables(same: _Same, n_expression: int) -> Tables:
    return arkit_tables(same.head, n_expression)
