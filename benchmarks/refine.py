"""What a landmark fit from the networks' reading gains over either alone, on faces of known truth.

    python -m benchmarks.refine --workdir=runs/demo/stage2 --json OUT
    python -m benchmarks.refine --workdir=DIR --sets=synthetic/levels --spread=spread.json

Takes held-out faces of the embedded sets with their true landmarks, 68 or 105, plain and with noise
of 1 % of the inter-ocular distance, or the five points of a face detector. Expression errors are
those of `fields_jax.evaluate`, in mm; landmark errors are to the 105 true points, whichever points
were given. Half of the people measure the networks' own error, coefficient by coefficient; the
other half is scored, without that spread ("refined") and with it ("refined, spread known").
--spread writes it, as a checkpoint's meta item holds it under "spread".
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import numpy as np
from absl import flags
from jaxtyping import Float

from benchmarks.results import save
from fields_jax.cli import run
from fields_jax.evaluation import geometry
from fields_jax.evaluation.predict import predict_set
from fields_jax.fitting.photographs import fit_faces
from fields_jax.fitting.refine import Refiner, spread_of
from fields_jax.flame.io import resolve_head
from fields_jax.landmark_schemes import (
    AVERAGED_5,
    EYE_CORNERS_68,
    MEDIAPIPE_105,
    N_MEDIAPIPE,
)
from fields_jax.models.fields import predict
from fields_jax.photos.faces import Face
from fields_jax.types import FlameCoefficients, FlameModel
from fields_jax.workdir.inference import Inference, check_head, load_inference

NOISE = 0.01  # of the inter-ocular distance, standard deviation of each coordinate
CASES = {"105": (105, 0), "105, noise": (105, NOISE), "68": (68, 0), "68, noise": (68, NOISE)}
CASES |= {"5": (5, 0), "5, noise": (5, NOISE)}
_BATCH = 32

Labels = Mapping[str, np.ndarray]


def define_flags() -> None:
    """The flags of the command."""
    flags.DEFINE_string("json", "", "file for the results")
    flags.DEFINE_string("workdir", None, "folder of a training run", required=True)
    flags.DEFINE_string("data_root", "", "folder of the sets (default: that of the training)")
    flags.DEFINE_string("sets", "synthetic/spont4d,synthetic/levels", "NAME,NAME to take faces of")
    flags.DEFINE_integer("faces", 200, "of each set, evenly spaced", 8)
    flags.DEFINE_string("cases", ",".join(CASES).replace(", noise", "+noise"), "which to measure")
    flags.DEFINE_string("spread", "", "file for the networks' error of each coefficient")


def main(_: list[str]) -> None:
    """The command."""
    chosen = flags.FLAGS
    inference = load_inference(chosen.workdir)
    head = resolve_head(inference.config.head)
    check_head(inference.meta, head)
    if chosen.data_root:
        inference.config.data.root = chosen.data_root
    cases = [name.replace("+", ", ") for name in chosen.cases.split(",")]
    report, spread = {}, {}
    for name in chosen.sets.split(","):
        images, labels = read_set(inference, name, chosen.faces)
        report[name], spread[name] = measure(inference, head, images, labels, cases)
    print(table(report))
    save(chosen.json, {"workdir": chosen.workdir, "step": inference.step, "sets": report})
    save(chosen.spread, spread[chosen.sets.split(",")[0]], indent=0)


def read_set(inference: Inference, name: str, faces: int) -> tuple[np.ndarray, Labels]:
    """Images [N, S, S, 3] and labels of held-out faces with known expression and landmarks."""
    from data_pipelines.reading import mixture

    config = inference.config
    batches = mixture.evaluation_batches(
        config.data, name, "test", image_size=config.image_size, batch_size=_BATCH
    )
    pictures: list[np.ndarray] = []

    def passing():
        for batch in batches:
            pictures.append(batch["image"])
            yield batch

    _, labels = predict_set(lambda images: images[:, :1, :1], passing(), _BATCH)
    _, known = geometry.true_coefficients(labels)
    usable = np.flatnonzero(known & labels["has_landmarks_68"] & labels["has_landmarks_105"])
    rows = usable[np.unique(np.linspace(0, len(usable) - 1, faces).round().astype(int))]
    return np.concatenate(pictures)[rows], {key: values[rows] for key, values in labels.items()}


def measure(
    inference: Inference, head: FlameModel, images: np.ndarray, labels: Labels, cases: list[str]
) -> tuple[dict[str, Any], dict[str, list[float]]]:
    """Scores of every case and method, and the networks' error of each coefficient."""
    networks = partial(predict, inference.model, inference.variables)
    parts = [pad(images[i : i + _BATCH]) for i in range(0, len(images), _BATCH)]
    read = [jax.device_get(networks(part).coefficients) for part in parts]
    readings = jax.tree.map(lambda *leaves: np.concatenate(leaves)[: len(images)], *read)
    truth, _ = geometry.true_coefficients(labels)
    people = np.unique(labels["subject"])
    scored = np.isin(labels["subject"], people[1::2])
    if scored.all() or not scored.any():
        scored = np.arange(len(images)) % 2 == 1
    spread = spread_of(take(readings, ~scored), take(truth, ~scored))
    images, labels = images[scored], {key: values[scored] for key, values in labels.items()}
    readings, truth = take(readings, scored), take(truth, scored)
    plain = Refiner(networks, head, images.shape[1], _BATCH)
    known = Refiner(networks, head, images.shape[1], _BATCH, spread)
    judge = partial(scores, head, truth, labels)
    report: dict[str, Any] = {"faces": len(images), "networks": judge(readings), "cases": {}}
    report["no expression"] = judge(jax.tree.map(np.zeros_like, readings))
    for name in cases:
        faces = faces_of(images, labels, *CASES[name])
        found = report["cases"][name] = {}
        if CASES[name][0] != 5:
            found["fit"] = judge(fit_faces(head, faces).coefficients)
        found["refined"] = judge(plain.refine(faces, readings).coefficients)
        found["refined, spread known"] = judge(known.refine(faces, readings).coefficients)
    return report, spread


def take(coefficients: FlameCoefficients, rows: np.ndarray) -> FlameCoefficients:
    """The coefficients of some faces."""
    return jax.tree.map(lambda column: np.asarray(column)[rows], coefficients)


def pad(images: np.ndarray) -> np.ndarray:
    """Images filled up to a batch."""
    return np.concatenate([images, np.repeat(images[-1:], _BATCH - len(images), axis=0)])


def scores(
    head: FlameModel, truth: FlameCoefficients, labels: Labels, found: FlameCoefficients
) -> dict[str, float]:
    """Mean expression error in mm and mean error of the 105 true landmarks."""
    found = jax.tree.map(np.asarray, found)
    movement = geometry.measure_expression(head, truth, found, batch_size=_BATCH)
    marks = geometry.landmark_errors(head, found, labels, batch_size=_BATCH)
    return {
        "expression_error_mm": round(float(movement.error.mean()), 3),
        "landmarks_105": round(float(marks["landmarks_105"]["interocular"].mean()), 4),
    }


def faces_of(
    images: np.ndarray, labels: Labels, count: int, noise: float, seed: int = 0
) -> list[Face]:
    """The images as photographs that are their own crops, with some of their landmarks."""
    rng, size = np.random.default_rng(seed), images.shape[1]
    faces = []
    for row, image in enumerate(images):
        marks = labels["landmarks_68"][row].astype(np.float64)
        right, left = EYE_CORNERS_68
        unit = noise * np.linalg.norm(marks[left] - marks[right])
        if count == 105:
            marks = labels["landmarks_105"][row].astype(np.float64)
        elif count == 5:
            marks = np.stack([marks[list(rows)].mean(axis=0) for rows in AVERAGED_5])
        pixels = (marks + rng.normal(0, 1, marks.shape) * unit + 1) * size / 2
        box = np.array([0, 0, size, size], np.float32)
        faces.append(Face("", str(row), image, _dense(pixels), box, 1.0, ""))
    return faces


def _dense(pixels: Float[np.ndarray, "N 2"]) -> Float[np.ndarray, "M 2"]:
    """Of mediapipe's points the 105 alone, the others unseen; other schemes as they are."""
    if len(pixels) != len(MEDIAPIPE_105):
        return pixels.astype(np.float32)
    points = np.zeros((N_MEDIAPIPE, 2), np.float32)
    points[MEDIAPIPE_105] = pixels
    return points


def table(report: Mapping[str, Any]) -> str:
    """The scores for a terminal."""
    lines = []
    for name, found in report.items():
        lines.append(f"{name}, {found['faces']} faces: expression error in mm, landmarks of 105")
        flat = {"no expression": found["no expression"], "networks": found["networks"]}
        for case, methods in found["cases"].items():
            flat |= {f"{case}: {method}": values for method, values in methods.items()}
        for label, values in flat.items():
            mm, marks = values["expression_error_mm"], values["landmarks_105"]
            lines.append(f"  {label:36} {mm:6.3f} {marks:8.4f}")
    return "\n".join(lines)


if __name__ == "__main__":
    define_flags()
    run(main)
