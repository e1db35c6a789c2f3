"""Codes of a head out of dictionaries of arrays: ours, and those that other programs write.

SMIRK and TEASER call them `shape_params`, `expression_params`, `jaw_params`, `eyelid_params`,
`pose_params` and `cam`; DECA `shape`, `exp`, `pose` and `cam`, EMOCA `shapecode`, `expcode`,
`posecode` and `cam`, with the jaw behind the head in a pose of six numbers. All are FLAME's
coefficients as ours are, whose names are those of `types.FlameCoefficients`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from fields_jax.errors import UserError
from fields_jax.types import FlameCoefficients, FlameModel

_NAMES = {
    "shape": ("shape", "shape_params", "shapecode", "betas"),
    "expression": ("expression", "expression_params", "exp", "expcode"),
    "jaw": ("jaw", "jaw_params", "jaw_pose"),
    "eyelid": ("eyelid", "eyelid_params"),
    "pose": ("pose", "pose_params", "posecode", "global_orient"),
    "camera": ("camera", "cam", "cam_params"),
    "neck": ("neck", "neck_pose_params", "neck_pose"),
    "eyes": ("eyes", "eye_pose_params"),
}
_SIZES = {"jaw": 3, "eyelid": 2, "pose": 3, "camera": 3, "neck": 3, "eyes": 6}
_NEEDED = ("shape", "expression")
_NO_CAMERA = (1.0, 0.0, 0.0)  # where codes come without one


class Codes(NamedTuple):
    """The codes of one file.

    Attributes:
      source: what to call the file in messages.
      arrays: by the names of FlameCoefficients, [T, ...] each; only those that the file has.
      single: the file holds one face, without a leading axis.
    """

    source: str
    arrays: dict[str, np.ndarray]
    single: bool

    @property
    def count(self) -> int:
        """How many faces there are."""
        return len(self.arrays["expression"])


def read_codes(arrays: Mapping[str, np.ndarray], source: str, head: FlameModel) -> Codes:
    """The codes in a dictionary of arrays; what is not of a head is passed over.

    Args:
      arrays: [K] each for one face, [T, K] for T; rows of one face serve all T.
      source: what to call the dictionary in messages.
      head: whose codes they are to be.

    Raises:
      UserError: codes missing, named twice, misshapen, not finite, or longer than the head's. It
        names the source and the array.
    """
    found: dict[str, np.ndarray] = {}
    single = True
    for name, aliases in _NAMES.items():
        there = [alias for alias in aliases if alias in arrays]
        if len(there) > 1:
            raise UserError(
                f"{source} has both {there[0]!r} and {there[1]!r}: which is the {name}?"
            )
        if there:
            found[name] = _rows(arrays[there[0]], f"{source}: {there[0]!r}")
            single &= np.ndim(arrays[there[0]]) == 1
    for name in _NEEDED:
        if name not in found:
            raise UserError(f"{source} has no {name}; looked for {', '.join(_NAMES[name])}")
    if found.get("pose", np.zeros((1, 3))).shape[1] == 6:
        if "jaw" in found:
            raise UserError(f"{source} has a jaw by itself and one behind the pose's first three")
        found["pose"], found["jaw"] = np.split(found["pose"], 2, axis=1)
    for name, array in found.items():
        size, most = array.shape[1], _SIZES.get(name)
        if most is not None and size != most:
            raise UserError(f"{source}: the {name} has {size} numbers, expected {most}")
        most = most or getattr(head, f"{name}_basis").shape[-1]
        if size > most:
            raise UserError(
                f"{source}: the {name} has {size} numbers, head {head.name} only {most}: it is of "
                "another head; name that one by --from"
            )
    count = max(len(array) for array in found.values())
    for name, array in found.items():
        if len(array) not in (1, count):
            raise UserError(f"{source}: {len(array)} rows of {name}, {count} of others")
        found[name] = np.broadcast_to(array, (count, array.shape[1]))
    return Codes(source, found, single)


def joined(codes: Sequence[Codes]) -> FlameCoefficients:
    """The faces of all files one after the other, with zeros for what a file lacks."""
    groups = {name for each in codes for name in each.arrays} | set(_SIZES) - {"neck", "eyes"}
    columns = {}
    for name in groups:
        size = _SIZES.get(name) or max(each.arrays[name].shape[1] for each in codes)
        blank = np.array(_NO_CAMERA if name == "camera" else np.zeros(size))
        rows = []
        for each in codes:
            own = each.arrays.get(name, np.tile(blank, (each.count, 1)))
            rows.append(np.pad(own, ((0, 0), (0, size - own.shape[1]))))
        columns[name] = np.concatenate(rows).astype(np.float32)
    return FlameCoefficients(**columns)


def _rows(array: np.ndarray, what: str) -> np.ndarray:
    """An array of codes as [T, K]."""
    if array.dtype.kind not in "iuf" or array.ndim not in (1, 2) or not array.size:
        raise UserError(f"{what} has shape {array.shape} of {array.dtype}, expected [K] or [T, K]")
    if not np.isfinite(array).all():
        raise UserError(f"{what} holds numbers that are not finite")
    return np.atleast_2d(array).astype(np.float32)
