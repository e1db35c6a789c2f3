"""Whether the confidence of readings earns its name, on faces of known truth.

    python -m benchmarks.confidence --json OUT
    python -m benchmarks.confidence --photographs=DIR --json OUT

Takes generated faces of people that no training has seen (another seed), plain and damaged: blurred,
small, half hidden, badly framed, dark and noisy, turned in the picture. With --photographs it takes
pictures with mediapipe's points beside them as well, plain and damaged likewise. The true error is
the mean distance of the model's 105 landmarks from the true ones in inter-ocular distances. Even
people set the weights and thresholds that `outputs.confidence` should hold ("fitted"); what is told
of the constants that it does hold ("held") is measured on odd people alone. Pictures without a face
follow: noise, blank ones, faces of 30 pixels, faces upside down.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from absl import flags
from jaxtyping import Float
from PIL import Image, ImageFilter

from benchmarks.results import save
from fields_jax.cli import run
from fields_jax.finder import packaged
from fields_jax.flame import flame
from fields_jax.flame.landmark_head import landmark_head
from fields_jax.landmark_schemes import EYE_CORNERS_478, EYE_CORNERS_68
from fields_jax.outputs import confidence
from fields_jax.outputs.overlays import to_photograph
from fields_jax.photos.crops import bounding_box
from fields_jax.photos.faces import Face
from fields_jax.photos.files import read_photograph
from fields_jax.photos.finding import find_photographs
from fields_jax.photos.points import face_box, find_file, load_faces, select_105
from fields_jax.reconstruction import Model, load
from fields_jax.render import project

SEED = 977  # of the generated people; those of the trainings are below 100
SIZE = 192  # pixels of the generated pictures, about twice the face
_BATCH = 16
FEATURES = ("spread", "mirror", "again", "turn", "roll", "inside", "pixels")


class Case(NamedTuple):
    """A face whose true landmarks are known.

    Attributes:
      group: of the picture's origin and its damage, such as "generated, blurred".
      person: number; even ones set the thresholds.
      face: in its picture.
      truth: [105, 2] landmarks in pixels.
      eyes: inter-ocular distance in pixels.
    """

    group: str
    person: int
    face: Face
    truth: Float[np.ndarray, "105 2"]
    eyes: float


def define_flags() -> None:
    """The flags of the command."""
    flags.DEFINE_string("json", "", "file for the results")
    flags.DEFINE_string("workdir", "", "folder of a training run (default: embedded)")
    flags.DEFINE_integer("people", 75, "generated people, two pictures of each", 4)
    flags.DEFINE_string("photographs", "", "folder of photographs with mediapipe's points")
    flags.DEFINE_string("rows", "", "file for the evidence and error of every case")


def main(_: list[str]) -> None:
    """The command."""
    chosen = flags.FLAGS
    model = load(chosen.workdir or None)
    rng = np.random.default_rng(SEED)
    cases = list(generated(chosen.people, model.crop_scale, rng))
    if chosen.photographs:
        cases += photographed(chosen.photographs, model.crop_scale, rng)
    evidence, errors = examine(model, cases)
    report = score(cases, evidence, errors)
    report["no faces"] = without_faces(model, cases, rng)
    for name, value in report.items():
        print(f"{name}: {value}")
    save(chosen.json, report)
    rows = [
        {"group": c.group, "person": c.person, "error": float(e), **dataclasses.asdict(v)}
        for c, e, v in zip(cases, errors, evidence, strict=True)
    ]
    save(chosen.rows, rows, indent=0)


def generated(people: int, scale: float, rng: np.random.Generator) -> Iterator[Case]:
    """Two pictures of each person, each plain and with one damage."""
    from data_pipelines.synthetic import pictures, samples
    from data_pipelines.synthetic.studio import open_studio

    studio = open_studio(SIZE)
    drawn = samples.samples("wide", "test", samples.Size(people, 2), 0, SEED, studio)
    for record in pictures.records(drawn, studio.render, SIZE):
        image = record["image"]
        box = np.asarray(record["face_box"], np.float32)
        right, left = (np.asarray(record["landmarks_68"])[row] for row in EYE_CORNERS_68)
        truth = np.asarray(record["landmarks_105"], np.float64)
        face = Face("", str(record["id"]), image, None, box, scale, "")
        plain = Case("generated, plain", record["subject"], face, truth, np.hypot(*(left - right)))
        yield plain
        yield damaged(plain, rng)


def photographed(folder: str, scale: float, rng: np.random.Generator) -> Iterator[Case]:
    """Photographs with 478 points beside them, each plain and with every damage."""
    for number, photograph in enumerate(find_photographs([folder])[0]):
        if (file := find_file(photograph.path)) is None:
            continue
        points = load_faces(file)[0]
        image = read_photograph(photograph.path)
        right, left = (points[row] for row in EYE_CORNERS_478)
        face = Face("", photograph.name, image, None, face_box(points), scale, "")
        eyes = float(np.hypot(*(left - right)))
        plain = Case("photographs, plain", number, face, select_105(points), eyes)
        yield plain
        for damage in DAMAGES:
            yield damaged(plain, rng, damage)


def damaged(case: Case, rng: np.random.Generator, name: str = "") -> Case:
    """The case with a damage, by default any."""
    name = name or str(rng.choice(list(DAMAGES)))
    box = np.asarray(case.face.box, np.float64)
    image, moved, matrix = DAMAGES[name](case.face.image, box, rng)
    face = dataclasses.replace(case.face, image=image, box=np.float32(moved))
    truth = case.truth @ matrix[:, :2].T + matrix[:, 2]
    return case._replace(group=f"{case.group.split(',')[0]}, {name}", face=face, truth=truth)


_STILL = np.eye(3)[:2]


def _blurred(image: np.ndarray, box: np.ndarray, rng: np.random.Generator) -> tuple:
    radius = float(rng.uniform(0.02, 0.1) * (box[2] - box[0]))
    return np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(radius))), box, _STILL


def _small(image: np.ndarray, box: np.ndarray, rng: np.random.Generator) -> tuple:
    zoom = rng.uniform(18, 48) / (box[2:] - box[:2]).mean()
    size = [max(1, round(zoom * side)) for side in image.shape[1::-1]]
    small = Image.fromarray(image).resize(size, Image.Resampling.BOX)
    scale = np.array(size) / image.shape[1::-1]
    return np.asarray(small), box * np.tile(scale, 2), np.diag([*scale, 1])[:2]


def _hidden(image: np.ndarray, box: np.ndarray, rng: np.random.Generator) -> tuple:
    image, size = image.copy(), box[2:] - box[:2]
    share = rng.uniform(0.35, 0.8, 2)
    low = box[:2] + rng.uniform(0, 1, 2) * (1 - share) * size
    x0, y0, x1, y1 = np.clip(np.concatenate([low, low + share * size]), 0, None).astype(int)
    image[y0:y1, x0:x1] = rng.integers(0, 256, 3)
    return image, box, _STILL


def _framed(image: np.ndarray, box: np.ndarray, rng: np.random.Generator) -> tuple:
    size = box[2:] - box[:2]
    middle = (box[:2] + box[2:]) / 2 + rng.choice([-1, 1], 2) * rng.uniform(0.1, 0.45, 2) * size
    half = size * np.exp(rng.uniform(-0.4, 0.5)) / 2
    return image, np.concatenate([middle - half, middle + half]), _STILL


def _dark(image: np.ndarray, box: np.ndarray, rng: np.random.Generator) -> tuple:
    noisy = image * rng.uniform(0.05, 0.3) + rng.normal(0, rng.uniform(4, 20), image.shape)
    return np.uint8(np.clip(noisy, 0, 255)), box, _STILL


def _turned(image: np.ndarray, box: np.ndarray, rng: np.random.Generator) -> tuple:
    degrees = rng.choice([-1, 1]) * rng.uniform(30, 180)
    middle = (box[:2] + box[2:]) / 2
    turned = Image.fromarray(image).rotate(
        degrees, Image.Resampling.BILINEAR, center=tuple(middle.tolist())
    )
    cosine, sine = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    about = np.array([[cosine, sine], [-sine, cosine]])  # y points down
    matrix = np.column_stack([about, middle - about @ middle])
    corners = np.array([[x, y] for x in box[::2] for y in box[1::2]]) @ about.T + matrix[:, 2]
    spread = bounding_box(corners)
    side = np.sqrt(np.prod(box[2:] - box[:2])) / 2
    middle = (spread[:2] + spread[2:]) / 2
    return np.asarray(turned), np.concatenate([middle - side, middle + side]), matrix


# What each does to a picture and a box; and the map of points, [2, 3].
DAMAGES: Mapping[str, Callable[..., tuple]] = {
    "blurred": _blurred,
    "small": _small,
    "half hidden": _hidden,
    "badly framed": _framed,
    "dark and noisy": _dark,
    "turned": _turned,
}


def examine(
    model: Model, cases: Sequence[Case]
) -> tuple[list[confidence.Evidence], Float[np.ndarray, " N"]]:
    """The evidence about every reading, and its true error."""
    finder, small = packaged(), landmark_head(model.head)
    pose = jax.jit(lambda head, c: project(flame(head, c).landmarks_105, c.camera))
    found, errors = [], []
    for first in range(0, len(cases), _BATCH):
        part = list(cases[first : first + _BATCH])
        filled = [case.face for case in part + [part[-1]] * (_BATCH - len(part))]
        said, points, wavers = model.networks.examine(filled, _BATCH)
        marks = np.asarray(pose(small, said.coefficients))
        for row, case in enumerate(part):
            face, size = case.face, model.size
            read = to_photograph(marks[row], face.matrix(size), size)
            errors.append(np.linalg.norm(read - case.truth, axis=-1).mean() / case.eyes)
            found.append(
                confidence.evidence(
                    face,
                    to_photograph(points[row], face.matrix(size), size),
                    said.coefficients.pose[row],
                    spread=float(wavers.spread[row]),
                    mirror=float(wavers.mirror[row]),
                    again=confidence.look_again(finder, face),
                )
            )
    return found, np.array(errors)
