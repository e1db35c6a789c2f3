"""Scores on a folder of photographs, as files: what `evaluate --photographs=DIR` does."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from etils import epath
from PIL import Image

from fields_jax.disk import writing
from fields_jax.errors import MissingFile, UserError, printable
from fields_jax.evaluation import photographs
from fields_jax.evaluation.expression_measures import MEASURES
from fields_jax.files import write_whole
from fields_jax.fitting.refine import SPREAD, Refiner
from fields_jax.flame.io import resolve_head
from fields_jax.landmark_schemes import N_DETECTED
from fields_jax.models.fields import predict
from fields_jax.networks import Networks
from fields_jax.photos.faces import Face, find_faces
from fields_jax.photos.files import Unusable
from fields_jax.photos.finding import find_photographs
from fields_jax.photos.names import unique_name
from fields_jax.photos.points import find_file
from fields_jax.progress import progress
from fields_jax.types import FlameCoefficients, FlameModel
from fields_jax.workdir.inference import check_head, load_inference

ONE_CROP = "one crop"  # the networks' reading of the plain crop alone
SCORES, TABLE, PICTURES = "photographs.json", "photographs.csv", "pictures"
_LEGEND = """eye: mean distance of the landmarks as a share of the inter-ocular distance
failed: share of the faces beyond 0.1 of it
rank: rank correlation of a measure on the head with the same on the picture"""


def score_folder(
    folder: str,
    out: str,
    *,
    workdir: str = "",
    head: str = "",
    ema: bool = False,
    fit: bool = True,
) -> dict[str, Any]:
    """Scores the landmark fit, networks, and the fit from their reading, on marked photographs.

    Writes OUT/photographs.json, photographs.csv with a row for each face and method, and
    pictures/NAME.png: the face, and what each method lays over it.

    Args:
      folder: of photographs, with landmark files beside them (see `fields_jax.fit`).
      out: folder to write to.
      workdir: of a training run or a converted checkpoint; empty: the landmark fit alone.
      head: path of a head; empty: that of the run's config, or the procedural one.
      ema: score the mean of the parameters (config.ema).
      fit: score the landmark fits too; without them a workdir is needed.

    Returns:
      What photographs.json holds.

    Raises:
      UserError: no photograph with landmarks, or the workdir and the head do not fit.
    """
    inference = load_inference(workdir, ema=ema) if workdir else None
    chosen = resolve_head(head or (inference.config.head if inference else ""))
    if inference:
        check_head(inference.meta, chosen)
    faces, unusable = _faces(folder)
    truth = photographs.marked(faces)
    readings = {}
    if inference:
        networks = Networks(inference, chosen, str(workdir))
        crop = inference.config.data.eval_crop_scale, inference.config.image_size
        ways = {"network": partial(_read, networks), ONE_CROP: partial(_read_once, networks)}
        readings = {
            name: photographs.predicted(read, chosen, faces, *crop) for name, read in ways.items()
        }
    if fit:
        readings["fit"] = photographs.fitted(chosen, faces)
    if inference and fit:
        options = inference.config.image_size, photographs.BATCH, inference.meta.get(SPREAD)
        said = partial(predict, inference.model, inference.variables)
        refiner = Refiner(said, chosen, *options)
        readings["refined"] = photographs.refined(refiner, faces, readings["network"])
    scores = {
        "photographs": len(faces),
        "unusable": {printable(each.path): printable(each.reason) for each in unusable},
        "head": chosen.identity,
        "measures": MEASURES,
        "methods": {name: photographs.score(truth, each) for name, each in readings.items()},
    }
    if inference:
        scores |= {"workdir": str(workdir), "step": inference.step, "ema": ema}
    target = epath.Path(out)
    with writing(target, instead="another --out"):
        (target / PICTURES).mkdir(parents=True, exist_ok=True)
        _write_pictures(target / PICTURES, chosen, faces, readings)
        write_whole(target / TABLE, _csv(photographs.rows(faces, truth, readings)))
        write_whole(target / SCORES, json.dumps(scores, indent=1, allow_nan=False))
    return scores


def _read(networks: Networks, faces: Sequence[Face]) -> FlameCoefficients:
    """As `reconstruct` reads faces, from several crops of each."""
    return networks.examine(faces, photographs.BATCH, upside=False).said.coefficients


def _read_once(networks: Networks, faces: Sequence[Face]) -> FlameCoefficients:
    crops = [face.crop(networks.size) for face in faces]
    return networks.say(crops, photographs.BATCH).coefficients


def table(scores: Mapping[str, Any]) -> str:
    """The scores for a terminal, one line per method."""
    rows = [["", "n", "eye 105", "eye 68", "failed", *(f"rank {name}" for name in MEASURES)]]
    for name, found in scores["methods"].items():
        sets = [found[f"landmarks_{count}"] for count in (105, 68)]
        failed = next((each["failed"] for each in sets if each["n"]), None)
        values = [found["n"], *(each["mean"] for each in sets), failed]
        values += [found["measures"][measure]["rank"] for measure in MEASURES]
        rows.append([name, *map(_number, values)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        for row in rows
    ]
    return "\n".join([f"{scores['photographs']} faces of photographs", *lines, _LEGEND])


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return str(value) if isinstance(value, int) else f"{value:.3f}"


def _faces(folder: str) -> tuple[list[Face], list[Unusable]]:
    """Every face that has landmarks, and what cannot be used."""
    if not epath.Path(folder).is_dir():
        raise MissingFile(f"--photographs={folder}: no such folder")
    found, unusable = find_photographs([folder])
    faces: list[Face] = []
    for photograph in progress(found, len(found), "photographs"):
        if find_file(photograph.path) is None:
            unusable.append(Unusable(photograph.path, "no landmark file beside it"))
            continue
        for face in find_faces(photograph, scale=photographs.CROP_SCALE):
            if isinstance(face, Unusable):
                unusable.append(face)
            elif len(face.points) == N_DETECTED:
                unusable.append(Unusable(photograph.path, "5 landmarks are too few to score by"))
            else:
                faces.append(face)
    if not faces:
        raise UserError(
            f"--photographs={folder}: none of the {len(found)} photographs has usable landmarks "
            "beside it; `python -m data_pipelines.landmarks` makes them"
        )
    taken: set[str] = set()
    return [
        dataclasses.replace(face, name=unique_name(face.name, taken)) for face in faces
    ], unusable


def _write_pictures(
    folder: epath.Path, head: FlameModel, faces: list[Face], readings: Mapping[str, Any]
) -> None:
    drawn = {name: reading for name, reading in readings.items() if name != ONE_CROP}
    for index, face in enumerate(progress(faces, len(faces), "pictures")):
        stored = io.BytesIO()
        Image.fromarray(photographs.strip(head, face, index, drawn)).save(stored, "PNG")
        write_whole(folder / f"{face.name}.png", stored.getvalue())


def _csv(rows: Any) -> str:
    rows = [
        {key: "" if isinstance(v, float) and np.isnan(v) else v for key, v in row.items()}
        for row in rows
    ]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
