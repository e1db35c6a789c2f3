"""The files that a scan fit writes: one .npz per sequence, one per subject's identity."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from etils import epath
from jaxtyping import Float

from data_pipelines.bp4d.annotations import (
    OtherHead,
    fit_of,
    fitted_head,
    numbers_of,
    refuse_other_head,
)
from fields_jax import batch
from fields_jax.errors import UserError, printable
from fields_jax.files import parse_json, read_lines, read_npz, write_npz, write_whole
from fields_jax.fitting.scan_types import SequenceFit
from fields_jax.types import FlameModel

FAILURES = "failures.csv"
_MEASURED = ("median_mm", "p95_mm", "landmark_mm", "kept", "coverage")


class OtherUnit(UserError):
    """A fit took the meshes to be in another unit than the one that is named."""


def write_sequence(
    file: epath.Path,
    head: FlameModel,
    unit: float,
    shape: Float[np.ndarray, " S"],
    fits: SequenceFit | None,
    frames: dict[int, str],
) -> None:
    """Writes a sequence as `annotations.read_fit` takes it, at once or not at all.

    Args:
      file: to write.
      head: that was fitted.
      unit: of the meshes, metres.
      shape: the subject's identity.
      fits: of the frames that could be read; None if there are none.
      frames: by its number why a frame could not be read, "" for those that could.
    """
    numbers = sorted(frames)
    rows = np.array([row for row, number in enumerate(numbers) if not frames[number]], int)
    reasons = np.array([frames[number] for number in numbers], dtype=object)
    arrays = {
        "expression": np.zeros((len(numbers), batch.N_EXPRESSION), np.float32),
        "jaw": np.zeros((len(numbers), 3), np.float32),
        "eyelid": np.zeros((len(numbers), 2), np.float32),
        "rotation": np.zeros((len(numbers), 3), np.float32),
        "translation": np.zeros((len(numbers), 3), np.float32),
        **{name: np.full(len(numbers), np.nan, np.float32) for name in _MEASURED},
        "ok": np.zeros(len(numbers), bool),
    }
    if fits is not None:
        found = fits.coefficients
        arrays["expression"][rows, : found.expression.shape[1]] = found.expression
        arrays["jaw"][rows], arrays["eyelid"][rows] = found.jaw, found.eyelid
        for name in ("rotation", "translation", *_MEASURED):
            arrays[name][rows] = getattr(fits, name)
        arrays["ok"][rows], reasons[rows] = fits.accepted, fits.reasons
    arrays |= {
        "shape": _filled(shape),
        "frame": np.array(numbers),
        "reason": reasons.astype(str),
        "meta": json.dumps(_meta(head, unit) | {"n_shape": len(shape)}),
    }
    write_npz(file, arrays, compressed=False)


def is_finished(file: epath.Path, head: FlameModel, unit: float) -> bool:
    """Whether a sequence is there and whole, with a frame that passed the checks.

    One without such a frame is fitted again: what was wrong with the scans may be mended by then.

    Raises:
      OtherHead: it was fitted with another head.
      OtherUnit: its meshes were taken to be in another unit, and frames passed.
    """
    try:
        arrays = read_npz(file)
        if not fit_of(arrays, file, head.sha256):
            return False
        known = _unit(arrays, file)
    except OtherHead:
        raise
    except UserError:
        return False
    if known not in (None, unit):
        raise OtherUnit(
            f"{file}: fitted to meshes in units of {known:g} m, not of {unit:g} m; name that unit "
            "by --unit or another --out"
        )
    return True


def write_identity(
    file: epath.Path, head: FlameModel, unit: float, shape: Float[np.ndarray, " S"]
) -> None:
    """Writes the shape of a subject, found from meshes in a unit of so many metres."""
    arrays = {"shape": shape, "meta": json.dumps(_meta(head, unit))}
    write_npz(file, arrays, compressed=False)


def read_identity(
    file: epath.Path, head: FlameModel, unit: float
) -> Float[np.ndarray, " S"] | None:
    """The shape of a subject; None where there is none, an unreadable one, or of another unit.

    Raises:
      OtherHead: it was fitted with another head.
    """
    try:
        arrays = read_npz(file)
        if _unit(arrays, file) not in (None, unit):
            return None
        shape, fitted = numbers_of(arrays, "shape", file), fitted_head(arrays, file)
    except UserError:
        return None
    remedy = "name that head by --head=HEAD.npz or another --out"
    refuse_other_head(file, fitted, head.sha256, remedy)
    return shape.astype(np.float32) if shape.ndim == 1 else None


def write_failures(folder: epath.Path, sequences: dict[str, str]) -> dict[str, int]:
    """Writes failures.csv of every sequence below a folder, and counts the frames by reason.

    Args:
      folder: of the fits.
      sequences: those of this run without a fit, each with the reason. Those of runs before, of
        other subjects, stay in the table until they have one.
    """
    sequences = _failed_before(folder) | sequences
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("sequence", "frame", "reason"))
    counts: dict[str, int] = {}
    for name, reason in sorted(sequences.items()):
        writer.writerow((name, "", reason))
    for file in sorted(folder.glob("*.npz")):
        for frame, reason in _reasons(file):
            writer.writerow((file.stem, frame, reason))
            counts[_kind(reason)] = counts.get(_kind(reason), 0) + 1
    write_whole(folder / FAILURES, text.getvalue())
    return counts


def _reasons(file: epath.Path) -> list[tuple[int | str, str]]:
    """(frame, reason) of the frames without a usable fit."""
    try:
        arrays = read_npz(file)
        frames, reasons = numbers_of(arrays, "frame", file), arrays.get("reason")
        if reasons is None or reasons.dtype.kind != "U" or reasons.shape != (frames.size,):
            raise UserError(f"{file}: reason must be one text for each frame")
    except UserError as error:
        return [("", f"fit unreadable: {error}")]
    rows = zip(frames.ravel().tolist(), reasons.tolist(), strict=True)
    return [(f"{frame:g}", printable(reason)) for frame, reason in rows if reason]


def _failed_before(folder: epath.Path) -> dict[str, str]:
    """The sequences that failures.csv names as a whole, each with the reason, without a fit yet."""
    try:
        rows = list(csv.DictReader(read_lines(folder / FAILURES)))
    except (UserError, csv.Error):  # none, or a damaged one
        return {}
    known = ((row.get("sequence"), row.get("frame"), row.get("reason")) for row in rows)
    return {
        name: printable(reason)
        for name, frame, reason in known
        if name and not frame and reason and not (folder / f"{name}.npz").exists()
    }


def _kind(reason: str) -> str:
    """A reason without its details, which stand behind a colon, or its measured number."""
    first = reason.split(": ")[0].split("; ")[0]
    for mark in (" > ", " < "):
        first = first.split(mark)[0].rsplit(" ", 1)[0] if mark in first else first
    return first


def _meta(head: FlameModel, unit: float) -> dict[str, Any]:
    named = {"name": head.name, "version": head.version, "sha256": head.sha256}
    return {"head": named, "unit": unit}


def _unit(arrays: Mapping[str, np.ndarray], file: epath.Path) -> float | None:
    """Metres; None in files from before it was stored.

    Raises:
      UserError: damage.
    """
    unit = parse_json(str(arrays.get("meta", "")), f"{file}: meta").get("unit")
    return unit if isinstance(unit, float) else None


def _filled(shape: Float[np.ndarray, " S"]) -> Float[np.ndarray, "300"]:
    return np.pad(np.asarray(shape, np.float32), (0, batch.N_SHAPE - len(shape)))
