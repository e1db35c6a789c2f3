"""The 83 points of Binghamton's 3D sets, as the 51 inner points of the 68-point scheme.

Sets differ in the order of the groups, in where a loop of points starts and which way it goes. So
only the groups are relied on: a loop around each brow and eye, the outer lips and the inner lips.
Corners are the ends of a loop along the line between the eyes, the upper and lower arcs lie between
them, and the points of our scheme are spread over the arcs. The order of groups whose points fit a
head best is taken. The points of the nose have no counterparts.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import numpy as np
from etils import epath
from jaxtyping import Float

from data_pipelines.bp4d.matlab import numbered_rows
from fields_jax.errors import UserError, quoted
from fields_jax.files import read_lines
from fields_jax.geometry.similarity import rigid_motion
from fields_jax.landmark_schemes import (
    BROW_PAIR_68,
    EYE_PAIR_68,
    INNER_LIPS_68,
    OUTER_LIPS_68,
    among_51,
)

COUNT = 83
_MISFIT = 0.012  # metres from a head's mean landmarks; faces differ by 5 mm, other orders by 20
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?|[-+]?nan", re.IGNORECASE)


class _Groups(NamedTuple):
    """Rows of the loops; which of two sides comes first differs between files."""

    brows: tuple[slice, slice]
    eyes: tuple[slice, slice]


_LIPS = (slice(48, 60), slice(60, 68))  # of the 83: outer, inner
# BP4D's order, and that of the older sets of faces at rest.
_ORDERS = (
    _Groups((slice(0, 10), slice(10, 20)), (slice(20, 28), slice(28, 36))),
    _Groups((slice(16, 26), slice(26, 36)), (slice(0, 8), slice(8, 16))),
)


def read_points(file: epath.Path) -> Float[np.ndarray, "83 3"]:
    """Reads .bnd or .bndplus: 83 lines of x, y, z, with or without the number of the point before.

    Later lines are ignored. Units are the file's.

    Raises:
      UserError: not such a file.
    """
    rows = []
    for line in read_lines(file):
        numbers = [float(n) for n in _NUMBER.findall(line)]
        if len(numbers) in (3, 4) and len(rows) < COUNT:
            rows.append(numbers[-3:])
        elif rows and len(rows) < COUNT:
            raise UserError(f"{file}: line {len(rows) + 1} is {quoted(line)}, not x, y and z")
    if len(rows) != COUNT:
        raise UserError(f"{file}: {len(rows)} points, expected {COUNT}")
    return np.array(rows)


def read_sequence(file: epath.Path) -> dict[int, Float[np.ndarray, "83 3"]]:
    """Reads 3D features of a sequence: a .mat with `fit`, whose rows hold `frame` and 83 points.

    As in the files of 2D features, frames count from 1; keys are the pictures' numbers.

    Raises:
      UserError: not such a file.
    """
    found = {}
    for number, row in numbered_rows(file, "3D features"):
        points = [field for field in row.values() if np.shape(field) == (COUNT, 3)]
        if points:
            found[number] = points[0].astype(np.float64)
    return found


def inner_51(
    points: Float[np.ndarray, "83 3"], mean: Float[np.ndarray, "51 3"]
) -> Float[np.ndarray, "51 3"]:
    """The 51 points computed from the 83, in metres; those of the nose are NaN.

    Args:
      points: metres.
      mean: the 51 points of a mean head, metres, to tell the orders and the sides apart.

    Raises:
      UserError: points that are not finite, or no face in any order.
    """
    if not np.isfinite(points).all():
        raise UserError("some of the 83 points are not finite")
    candidates = [
        _in_order(points, order, swapped) for order in _ORDERS for swapped in (False, True)
    ]
    misfits = [_misfit(candidate, mean) for candidate in candidates]
    if not min(misfits) < _MISFIT:
        raise UserError(
            f"the 83 points lie {1e3 * min(misfits):.0f} mm from a face's in any known order"
        )
    return candidates[int(np.argmin(misfits))]


def _in_order(points: np.ndarray, groups: _Groups, swapped: bool) -> Float[np.ndarray, "51 3"]:
    """One reading: the subject's right is the first of each pair, or the second."""
    side = -1 if swapped else 1
    brows, eyes = ([points[group] for group in pair][::side] for pair in groups)
    lips = [points[group] for group in _LIPS]
    across = _unit(eyes[1].mean(axis=0) - eyes[0].mean(axis=0))  # toward the subject's left
    up = np.mean([eye.mean(axis=0) for eye in eyes], axis=0) - lips[0].mean(axis=0)
    up = _unit(up - across * (up @ across))
    found = np.full((51, 3), np.nan)
    for rows, brow in zip(map(among_51, BROW_PAIR_68), brows, strict=True):
        upper, lower = _arcs(brow, across, up)
        share = np.linspace(0, 1, 5)
        found[rows] = (_along(upper, share) + _along(lower, share)) / 2
    loops = (*EYE_PAIR_68, OUTER_LIPS_68, INNER_LIPS_68)
    for rows, loop in zip(map(among_51, loops), (*eyes, *lips), strict=True):
        upper, lower = _arcs(loop, across, up)
        share = np.linspace(0, 1, (rows.stop - rows.start) // 2 + 1)
        found[rows] = np.concatenate([_along(upper, share), _along(lower, share)[-2:0:-1]])
    return found


def _arcs(loop: np.ndarray, across: np.ndarray, up: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Upper and lower half of a loop, both from the subject's right corner to the left."""
    place = loop @ across
    loop = np.roll(loop, -int(np.argmin(place)), axis=0)
    far = int(np.argmax(loop @ across))
    halves = loop[: far + 1], np.concatenate([loop[far:], loop[:1]])[::-1]
    heights = [half.mean(axis=0) @ up for half in halves]
    return halves if heights[0] > heights[1] else halves[::-1]


def _along(line: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Points of a polyline at fractions of its length."""
    length = np.linalg.norm(np.diff(line, axis=0), axis=1)
    place = np.concatenate([[0], np.cumsum(length)]) / max(length.sum(), 1e-12)
    return np.stack([np.interp(share, place, column) for column in line.T], axis=1)


def _misfit(points: np.ndarray, mean: np.ndarray) -> float:
    """Root mean square distance after the best similarity; metres on the mean head."""
    rows = np.isfinite(points).all(axis=1)
    source, target = np.asarray(mean, np.float64)[rows], points[rows]
    rotation, _, size = rigid_motion(source, target)
    a, b = source - source.mean(axis=0), target - target.mean(axis=0)
    return float(np.sqrt(np.mean(np.sum((b / max(size, 1e-9) - a @ rotation.T) ** 2, axis=1))))


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / max(np.linalg.norm(vector), 1e-12)
