"""Files of a few points in space: MeshLab's picked points, .npy, and rows of numbers."""

from __future__ import annotations

import re

import numpy as np
from etils import epath
from jaxtyping import Float

from fields_jax.errors import UserError
from fields_jax.files import damage_named, read_npy, read_text

SUFFIXES = (".pp", ".npy", ".txt")
_POINT = re.compile(r"<point\b([^>]*)>")
_ATTRIBUTE = re.compile(r"""(\w+)\s*=\s*["']([^"']*)["']""")


def read_points(path: epath.PathLike, count: int = 0) -> Float[np.ndarray, "N 3"]:
    """The points of a file, in its order and unit.

    Args:
      path: MeshLab's .pp, an .npy of [N, 3] or [1, N, 3], or a .txt with three numbers a line.
      count: how many there must be; 0 for any number of at least three.

    Raises:
      MissingFile: there is no such file.
      UserError: another format or damage, another number of points, points that were never set or
        that are not finite.
    """
    suffix = epath.Path(path).suffix.lower()
    if suffix not in SUFFIXES:
        raise UserError(f"{path} holds no landmarks that can be read: name a .pp, .npy or .txt")
    with damage_named(f"{path} holds no landmarks"):
        if suffix == ".npy":
            points = read_npy(path)
            points = np.asarray(points[0] if points.shape[:-2] == (1,) else points, np.float64)
        elif suffix == ".pp":
            points = np.array([_picked(match[1]) for match in _POINT.finditer(read_text(path))])
        else:
            lines = filter(str.strip, read_text(path).replace(",", " ").splitlines())
            points = np.array([[float(word) for word in line.split()] for line in lines])
        if points.ndim != 2 or points.shape[1] != 3:
            raise ValueError(f"an array of {points.shape} instead of three numbers a point")
    if len(points) != count if count else len(points) < 3:
        wanted = f"{count} are" if count else "at least 3 are"
        raise UserError(f"{path} holds {len(points)} landmarks, where {wanted} needed")
    if not np.isfinite(points).all():
        raise UserError(f"{path}: some landmarks are not finite")
    return points


def _picked(text: str) -> list[float]:
    """The place of one <point .../> of a .pp."""
    values = dict(_ATTRIBUTE.findall(text))
    if values.get("active", "1") == "0":
        raise ValueError(f"point {values.get('name', '')!r} was never set (active=0)")
    return [float(values[axis]) for axis in "xyz"]
