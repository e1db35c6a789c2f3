"""BP4D's files per sequence: tracked 2D points, codes of action units, and our FLAME fits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from etils import epath

from data_pipelines.bp4d.matlab import numbered_rows
from data_pipelines.building import table_cells
from fields_jax import batch
from fields_jax.errors import UserError, printable
from fields_jax.files import parse_json, read_lines, read_npz

TRACKED_POINTS = 49
# The action units that are coded in every sequence.
USUAL_UNITS = (1, 2, 4, 6, 7, 10, 12, 14, 15, 17, 23, 24)

# Arrays of a fit: shape of each row, or of the whole. T is the number of frames.
_FIT = {
    "expression": ("T", batch.N_EXPRESSION),
    "jaw": ("T", 3),
    "eyelid": ("T", 2),
    "shape": (batch.N_SHAPE,),
    "frame": ("T",),
    "ok": ("T",),
}


class OtherHead(UserError):
    """A fit belongs to another head than the one that is trained."""


def read_tracked_points(file: epath.Path) -> dict[int, np.ndarray | None]:
    """Points [49, 2] of each frame of a sequence, None where the tracker has lost the face.

    The file counts frames from 1, the pictures from 0; keys are the pictures' numbers.

    Raises:
      UserError: not such a file.
    """
    found = {}
    for number, row in numbered_rows(file, "2D features"):
        if "pts_2d" not in row:
            raise UserError(f"{file}: `fit` has no field pts_2d, such as a file of 2D features has")
        found[number] = _tracked(row["pts_2d"])
    return found


def _tracked(points: np.ndarray | None) -> np.ndarray | None:
    if points is None or points.shape != (TRACKED_POINTS, 2):
        return None
    with np.errstate(over="ignore", invalid="ignore"):
        points = points.astype(np.float32)
    return points if np.isfinite(points).all() and np.ptp(points) > 0 else None


def read_coded_frames(file: epath.Path) -> set[int]:
    """Numbers of the frames in which all usual action units are coded.

    The first row names the units, the first column the frames; 9 or nothing stands for not coded.
    Cells stand between commas or else blanks.

    Raises:
      FileNotFoundError: there is no such file.
      UserError: not such a table.
    """
    rows = list(_number_rows(file))
    if not rows:
        raise UserError(f"{file}: not a table of action units (it is empty)")
    (_, header), *frames = rows
    if missing := [unit for unit in USUAL_UNITS if unit not in header]:
        raise UserError(f"{file}: not a table of action units (it has none of number {missing[0]})")
    columns, found = [header.index(unit) for unit in USUAL_UNITS], set()
    for line, row in frames:
        if len(row) < len(header) or row[0] is None:
            raise UserError(
                f"{file}: not a table of action units (line {line} has {len(row)} cells)"
            )
        if all(row[column] in (0, 1) for column in columns):
            found.add(row[0])
    return found


def _number_rows(file: epath.Path) -> Iterator[tuple[int, list[int | None]]]:
    """(line, numbers) of each line, empty ones left out; a unit may be written as AU06."""
    for line, text in enumerate(read_lines(file), start=1):
        if not text.strip(" ,\t"):
            continue
        parts = text.split(",") if "," in text else text.split()
        names = (part.strip(' \t"').casefold().removeprefix("au") for part in parts)
        try:
            yield line, [table_cells.whole(name) for name in names]
        except UserError as error:
            raise UserError(
                f"{file}: not a table of action units (line {line}: {error})"
            ) from error


def fitted_head(arrays: Mapping[str, np.ndarray], file: epath.Path) -> tuple[str, str]:
    """Name and SHA-256 of the head that a file of fits was made with.

    Raises:
      UserError: the file does not say.
    """
    meta = parse_json(str(arrays.get("meta", "")), f"{file}: meta")
    head = meta.get("head")
    if not isinstance(head, dict) or not isinstance(head.get("sha256"), str):
        raise UserError(f"{file}: meta names no head with its sha256")
    return printable(head.get("name", "unnamed"))[:80], head["sha256"]


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
    """FLAME coefficients of a sequence, for the frames that passed the fit's checks.

    Args:
      file: .npz with the arrays of a sequence and a JSON text `meta`, whose `head` holds `name` and
        `sha256`.
      head: SHA-256 of the head that coefficients must belong to.

    Returns:
      By the number of the picture: expression [50], jaw [3], eyelid [2], shape [300].

    Raises:
      FileNotFoundError: there is no such file.
      OtherHead: fitted with another head.
      UserError: unreadable, of wrong shapes, or not finite.
    """
    return fit_of(read_npz(file), file, head)


def fit_of(
    arrays: Mapping[str, np.ndarray], file: epath.Path, head: str
) -> dict[int, dict[str, np.ndarray]]:
    """`read_fit` of the arrays that a file holds."""
    fitted = fitted_head(arrays, file)
    remedy = "name the head of the fits by --head=HEAD.npz or fit the scans again"
    refuse_other_head(file, fitted, head, remedy)
    fit = {key: numbers_of(arrays, key, file) for key in _FIT}
    count = fit["frame"].size
    for key, shape in _FIT.items():
        wanted = tuple(count if size == "T" else size for size in shape)
        if fit[key].shape != wanted:
            raise UserError(f"{file}: {key} must have the shape {wanted}, has {fit[key].shape}")
    frames = fit.pop("frame")
    if (frames != np.round(frames)).any() or len(set(frames.tolist())) < count:
        raise UserError(f"{file}: frame must hold whole numbers that differ")
    rows = np.flatnonzero(fit.pop("ok"))
    known = {key: values.astype(np.float32) for key, values in fit.items()}
    shape = known.pop("shape")
    return {
        int(frames[row]): {key: of_frames[row] for key, of_frames in known.items()}
        | {"shape": shape}
        for row in rows
    }


def numbers_of(arrays: Mapping[str, np.ndarray], key: str, file: epath.Path) -> np.ndarray:
    """An array of a file as float64; its values also fit into float32.

    Raises:
      UserError: there is no such array, or it does not hold finite numbers.
    """
    found = arrays.get(key)
    if found is None:
        raise UserError(f"{file}: has no array {key}")
    if found.dtype.kind not in "fiub":
        raise UserError(f"{file}: {key} must be numbers, is {found.dtype}")
    found = found.astype(np.float64)
    if not (np.abs(found) <= np.finfo(np.float32).max).all():  # NaN fails too
        raise UserError(f"{file}: {key} must be finite numbers")
    return found
