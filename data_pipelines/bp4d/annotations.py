"""BP4D's files per sequence: tracked 2D points, codes of action units, and our FLAME fits."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import scipy.io
from etils import epath

from data_pipelines import spec

TRACKED_POINTS = 49
# The action units that are coded in every sequence.
USUAL_UNITS = (1, 2, 4, 6, 7, 10, 12, 14, 15, 17, 23, 24)
_NOT_CODED = 9

# Arrays of a fit: what each row or the whole holds. T is the number of frames.
_FIT = {
    "expression": ("T", spec.N_EXPRESSION),
    "jaw": ("T", 3),
    "eyelid": ("T", 2),
    "shape": (spec.N_SHAPE,),
    "frame": ("T",),
    "ok": ("T",),
}


class OtherHead(ValueError):
    """A fit belongs to another head than the one that is trained."""


def read_tracked_points(file: epath.Path) -> dict[int, np.ndarray | None]:
    """Points [49, 2] of each frame of a sequence, None where the tracker has lost the face.

    The file counts frames from 1, the pictures from 0; keys are the pictures' numbers.

    Raises:
      ValueError: not such a file.
    """
    try:
        with file.open("rb") as stored:
            fit = scipy.io.loadmat(stored, squeeze_me=True, struct_as_record=True)["fit"]
        frames = (row for row in np.atleast_1d(fit) if np.size(row["frame"]) == 1)
        return {int(row["frame"]) - 1: _tracked(row["pts_2d"]) for row in frames}
    except Exception as error:  # scipy raises whatever a damaged file makes it trip over
        raise ValueError(
            f"{file}: not a readable file of 2D features ({type(error).__name__})"
        ) from error


def _tracked(points: Any) -> np.ndarray | None:
    points = np.asarray(points)
    if points.shape != (TRACKED_POINTS, 2) or points.dtype.kind not in "fiu":
        return None
    points = points.astype(np.float32)
    return points if np.isfinite(points).all() and np.ptp(points) > 0 else None


def read_coded_frames(file: epath.Path) -> set[int]:
    """Numbers of the frames whose usual action units are all coded.

    The first row names the units, the first column the frames; 9 stands for not coded.

    Raises:
      ValueError: not such a table.
    """
    try:
        lines = file.read_text().replace(",", " ").splitlines()
        header = [int(cell) for cell in lines[0].split()]
        columns = [header.index(unit) for unit in USUAL_UNITS]
        rows = [[int(float(cell)) for cell in line.split()] for line in lines[1:] if line.strip()]
        return {row[0] for row in rows if all(row[column] in (0, 1) for column in columns)}
    except (OSError, ValueError, IndexError, OverflowError) as error:
        raise ValueError(f"{file}: not a table of action units ({error})") from error


def fitted_head(arrays: Mapping[str, np.ndarray]) -> tuple[str, str]:
    """Name and SHA-256 of the head that the arrays of a fit's file belong to."""
    fitted = json.loads(str(arrays["meta"]))["head"]
    return str(fitted.get("name", "unnamed")), str(fitted["sha256"])


def refuse_other_head(file: epath.Path, fitted: tuple[str, str], head: str, remedy: str) -> None:
    """Compares the `fitted_head` of a file with the SHA-256 of the head in use.

    Raises:
      OtherHead: they differ.
    """
    name, sha256 = fitted
    if sha256 != head:
        raise OtherHead(
            f"{file}: fitted with the head {name} {sha256[:12]}, not with {head[:12]}; {remedy}"
        )


def read_fit(file: epath.Path, head: str) -> dict[int, dict[str, np.ndarray]]:
    """FLAME coefficients of the frames of a sequence that passed the fit's checks.

    Args:
      file: .npz with the arrays of a sequence and a JSON text `meta`, whose `head` holds `name` and
        `sha256`.
      head: SHA-256 of the head that coefficients must belong to.

    Returns:
      By the number of the picture: expression [50], jaw [3], eyelid [2], shape [300].

    Raises:
      OtherHead: fitted with another head.
      ValueError: unreadable, of wrong shapes, or not finite.
    """
    try:
        with file.open("rb") as stored, np.load(stored, allow_pickle=False) as arrays:
            fit = {key: np.asarray(arrays[key], np.float64) for key in _FIT}
            fitted = fitted_head(arrays)
    except Exception as error:  # numpy raises whatever a damaged archive makes it trip over
        raise ValueError(f"{file}: not a readable fit ({type(error).__name__}: {error})") from error
    remedy = "name the head of the fits by --head=HEAD.npz or fit the scans again"
    refuse_other_head(file, fitted, head, remedy)
    count = fit["frame"].size
    for key, shape in _FIT.items():
        wanted = tuple(count if size == "T" else size for size in shape)
        if fit[key].shape != wanted or not np.isfinite(fit[key]).all():
            raise ValueError(f"{file}: {key} must be finite numbers {wanted}, is {fit[key].shape}")
    shape = fit["shape"].astype(np.float32)
    per_frame = {key: fit[key].astype(np.float32) for key in ("expression", "jaw", "eyelid")}
    return {
        int(fit["frame"][row]): {key: rows[row] for key, rows in per_frame.items()}
        | {"shape": shape}
        for row in np.flatnonzero(fit["ok"])
    }
