"""The files of one person of a clip: arrays, tables, what was measured."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from fields_jax import arkit
from fields_jax.clips.livelink import live_link
from fields_jax.clips.person import Person
from fields_jax.emotions import EMOTIONS
from fields_jax.files import npz_bytes
from fields_jax.geometry.rotations import angles
from fields_jax.outputs.bundle import CONVENTIONS

_OF_FRAMES = {
    "frame": "[T] number of the frame in the clip, from 0",
    "time": "[T] seconds since the clip's first frame, by presentation times",
    "seen": "[T] whether the face was read in the frame; interpolated where not",
    "verdict": "[T] 0 ok, 1 suspect, 2 fail: how far the frame's reading is believed; "
    "interpolated frames are 1 at best",
    "expected_error": "[T] mean distance of the landmarks from the true ones that is expected, "
    "share of the inter-ocular distance; NaN in interpolated frames",
    "crop_matrix": "[T, 3, 3] " + CONVENTIONS["crop_matrix"].removeprefix("[3, 3] "),
    "box": "[T, 4] " + CONVENTIONS["box"].removeprefix("[4] "),
    "landmarks_68_image": "[T, 68, 2] in pixels of the frame",
    "probabilities": "[T, 8] of the emotions, in the order of meta's `emotions`",
    "valence": "[T] in [-1, 1]",
    "arousal": "[T] in [-1, 1]",
    "residual": "[T] " + CONVENTIONS["residual"],
    "arkit": "[T, 52] weights of ARKit's shapes in [0, 1], in the order of meta's `arkit`",
    "arkit_error_mm": "[T] root mean square distance, over the face, that the weights leave, mm",
}


class Clip(NamedTuple):
    """All that the files of one person are made of.

    Attributes:
      person: with one identity, smoothed.
      landmarks: [T, 68, 2] in pixels of each frame.
      verdicts: [T] rows of `confidence.VERDICTS`.
      reasons: of each frame's verdict.
      arkit: weights [T, 52] and their errors in mm [T]; or None for heads without the shapes.
      rate: frames per second, about.
      about: JSON: what the files say of program, head, weights, clip and measures.
    """

    person: Person
    landmarks: Float[np.ndarray, "T 68 2"]
    verdicts: np.ndarray
    reasons: list[str]
    arkit: tuple[Float[np.ndarray, "T 52"], Float[np.ndarray, " T"]] | None
    rate: float
    about: Mapping[str, Any]


def arrays(clip: Clip) -> bytes:
    """clip.npz: every number of every frame, and the conventions it follows."""
    person = clip.person
    columns: dict[str, np.ndarray] = {
        "frame": person.frames,
        "time": person.times,
        "seen": person.seen,
        "verdict": np.int8(clip.verdicts),
        "expected_error": np.float32(person.readings["expected_error"]),
        **person.coefficients,
        "camera": person.camera,
        "crop_matrix": np.float32(person.matrices),
        "crop_size": np.int32(person.size),
        "box": np.float32(person.boxes),
        "landmarks_68_image": np.float32(clip.landmarks),
    }
    for name in ("probabilities", "valence", "arousal", "residual"):
        if name in person.readings:
            columns[name] = np.float32(person.readings[name])
    if clip.arkit is not None:
        columns["arkit"], columns["arkit_error_mm"] = map(np.float32, clip.arkit)
    said = {name: _convention(name) for name in (*columns, "meta")}
    meta = {**clip.about, "emotions": list(EMOTIONS), "arkit": list(arkit.NAMES)}
    texts = {"meta": json.dumps(meta), "conventions": json.dumps(said)}
    return npz_bytes(columns | texts)


def table(clip: Clip) -> str:
    """clip.csv: a row for each frame, to look at and to plot."""
    person, reads = clip.person, clip.person.readings
    names = ["frame", "time", "seen", "verdict", "expected_error", "reason"]
    if "probabilities" in reads:
        names += ["emotion", "confidence", "valence", "arousal"]
    if "residual" in reads:
        names.append("residual")
    names += ["yaw", "pitch", "roll", *(arkit.NAMES if clip.arkit is not None else ())]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    turned = np.rad2deg(angles(person.coefficients["pose"]))
    for row, frame in enumerate(person.frames):
        cells: list[Any] = [int(frame), f"{person.times[row]:.4f}", int(person.seen[row])]
        cells += [_VERDICTS[int(clip.verdicts[row])], _number(reads["expected_error"][row])]
        cells.append(clip.reasons[row])
        if "probabilities" in reads:
            cells += _emotion(reads["probabilities"][row])
            cells += [_number(reads[name][row]) for name in ("valence", "arousal")]
        if "residual" in reads:
            cells.append(_number(reads["residual"][row]))
        cells += [f"{angle:.2f}" for angle in turned[row]]
        if clip.arkit is not None:
            cells += [f"{weight:.4f}" for weight in clip.arkit[0][row]]
        writer.writerow(cells)
    return text.getvalue()


def live_link_table(clip: Clip) -> str | None:
    """clip_livelink.csv, see `livelink`; None for heads without ARKit's shapes."""
    if clip.arkit is None:
        return None
    person = clip.person
    still = np.zeros((len(person.times), 6), np.float32)
    eyes = np.asarray(person.coefficients.get("eyes", still))
    parts = [person.coefficients["pose"], eyes[:, :3], eyes[:, 3:]]
    turns = np.stack([angles(part) for part in parts], axis=1)
    return live_link(person.times, clip.arkit[0], turns, clip.rate)


def facts(clip: Clip) -> str:
    """clip.json: what was measured, and of what."""
    return json.dumps(clip.about, indent=1) + "\n"


_VERDICTS = ("ok", "suspect", "fail")


def _convention(name: str) -> str:
    if name in _OF_FRAMES:
        return _OF_FRAMES[name]
    if name in ("crop_size", "meta"):
        return CONVENTIONS[name]
    return "[T, " + CONVENTIONS[name].removeprefix("[")


def _emotion(probabilities: Float[np.ndarray, "8"]) -> list[str]:
    if not np.isfinite(probabilities).all():
        return ["", ""]
    best = int(probabilities.argmax())
    return [EMOTIONS[best], f"{probabilities[best]:.4f}"]


def _number(value: Any) -> str:
    return f"{float(value):.4f}" if np.isfinite(value) else ""
