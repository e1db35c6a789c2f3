"""Whether the confidence of readings earns its name, on faces of known truth.

    python -m benchmarks.confidence --json OUT
    python -m benchmarks.confidence --photographs=DIR --json OUT

Takes generated faces of people that no training has seen (another seed), plain and damaged:
blurred, small, half hidden, badly framed, dark and noisy, turned in the picture. With --photographs
it takes pictures with mediapipe's points beside them as well, plain and damaged likewise. The true
error is the mean distance of the model's 105 landmarks from the true ones in inter-ocular
distances. Even people set the weights and limits that `outputs.confidence` should hold ("fitted");
what is told of those that it does hold is measured on odd people alone. Pictures without a face
that could be read follow: noise, blank ones, faces of 30 pixels, faces upside down.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from absl import flags
from jaxtyping import Float
from PIL import Image, ImageFilter
from scipy.stats import spearmanr

from benchmarks.results import save
from fields_jax.cli import run
from fields_jax.finder import packaged
from fields_jax.flame import flame
from fields_jax.flame.landmark_head import landmark_head
from fields_jax.landmark_schemes import EYE_CORNERS_68, EYE_CORNERS_478
from fields_jax.outputs import confidence
from fields_jax.photos.crops import bounding_box, to_photograph
from fields_jax.photos.faces import Face
from fields_jax.photos.files import read_photograph
from fields_jax.photos.finding import find_photographs
from fields_jax.photos.points import face_box, find_file, load_faces, select_105
from fields_jax.reconstruction import Model, load
from fields_jax.render import project

SEED = 977  # of the generated people; those of the trainings are below 100
SIZE = 192  # pixels of the generated pictures, about twice the face
BAD = 0.15  # error of a reading that should not have been called ok
_BATCH, _RIDGE = 16, 0.25


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
        {"group": c.group, "person": int(c.person), "error": float(e), **dataclasses.asdict(v)}
        for c, e, v in zip(cases, errors, evidence, strict=True)
    ]
    save(chosen.rows, rows, indent=0)


def generated(people: int, scale: float, rng: np.random.Generator) -> Iterator[Case]:
    """Two pictures of each person, each plain and with one damage."""
    from data_pipelines.synthetic import pictures, samples
    from data_pipelines.synthetic.studio import open_studio

    studio = open_studio(SIZE, bite=samples.BITES["wide"])
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
    eyes = case.eyes * float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))
    group = f"{case.group.split(',')[0]}, {name}"
    return case._replace(group=group, face=face, truth=truth, eyes=eyes)


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
                    **wavers.of(row),
                    **confidence.look_again(finder, face),
                )
            )
    return found, np.array(errors)


def score(
    cases: Sequence[Case],
    evidence: Sequence[confidence.Evidence],
    errors: Float[np.ndarray, " N"],
) -> dict[str, Any]:
    """What the verdicts are worth on odd people, and what even ones would have them hold."""
    groups = np.array([case.group for case in cases])
    kinds = np.array([case.group.split(",")[0] for case in cases])
    odd = np.array([case.person % 2 == 1 for case in cases])
    verdicts = np.array([confidence.judge(each).verdict for each in evidence])
    expected = np.array([confidence.expected_error(each) for each in evidence])
    report: dict[str, Any] = {"faces": len(cases), "people fitted on": "even", "told of": "odd"}
    for kind in dict.fromkeys(kinds):
        rows = odd & (kinds == kind)
        plain = odd & (groups == f"{kind}, plain")
        report[kind] = {
            "faces": int(rows.sum()),
            "rank correlation": _rank(expected[rows], errors[rows]),
            "rank correlation, undamaged": _rank(expected[plain], errors[plain]),
            "median error by verdict": {
                verdict: _rounded(np.median(errors[rows & (verdicts == verdict)]))
                for verdict in confidence.VERDICTS
                if (rows & (verdicts == verdict)).any()
            },
            "share by verdict": {
                verdict: _rounded((verdicts[rows] == verdict).mean())
                for verdict in confidence.VERDICTS
            },
            f"ok with an error above {BAD:g}": int(
                (rows & (verdicts == confidence.OK) & (errors > BAD)).sum()
            ),
        }
    report["ok by group"] = {
        group: _rounded((verdicts[odd & (groups == group)] == confidence.OK).mean())
        for group in dict.fromkeys(groups[odd])  # of few people some groups are all even
    }
    report["fitted"] = fitted(evidence, errors, ~odd, kinds)
    return report


def fitted(
    evidence: Sequence[confidence.Evidence],
    errors: Float[np.ndarray, " N"],
    rows: np.ndarray,
    kinds: np.ndarray,
) -> dict[str, Any]:
    """Weights and limits by some cases; each kind of pictures counts as much as the other.

    A ridge on all weights but the constant. The first limit is the largest expected error below
    which a twentieth of the readings at most is BAD; the second the smallest above which nine
    tenths are.
    """
    table = np.stack([confidence.features(each) for each in evidence])[rows]
    share = np.array([1 / (kinds[rows] == kind).sum() for kind in kinds[rows]])
    share = np.sqrt(share / share.mean())[:, None]
    ridge = np.sqrt(_RIDGE) * np.diag([*[1.0] * (table.shape[1] - 1), 0.0])
    wanted = np.log(errors[rows])[:, None]
    system = np.concatenate([share * table, ridge])
    weights = np.linalg.lstsq(system, np.r_[share * wanted, np.zeros((len(ridge), 1))])[0][:, 0]
    expected = np.exp(table @ weights)
    order = np.argsort(expected)
    bad, count = (errors[rows] > BAD)[order], np.arange(1, len(order) + 1)
    below, above = np.cumsum(bad) / count, (np.cumsum(bad[::-1]) / count)[::-1]
    first = np.flatnonzero(below <= 0.05)
    last = np.flatnonzero(above >= 0.9)
    return {
        "weights": [_rounded(weight) for weight in weights],
        "limits": [
            _rounded(expected[order][first[-1]]) if len(first) else None,
            _rounded(expected[order][last[0]]) if len(last) else None,
        ],
    }


def without_faces(model: Model, cases: Sequence[Case], rng: np.random.Generator) -> dict[str, Any]:
    """How often the verdict is "ok" where there is no face that could be read."""
    made: dict[str, list[Face]] = {"noise": [], "blank": [], "30 pixels": [], "upside down": []}
    plain = [case for case in cases if case.group.endswith("plain")][:40]
    for case in plain:
        face = case.face
        shape = face.image.shape
        noise = rng.integers(0, 256, shape, np.uint8)
        blank = np.full(shape, rng.integers(0, 256), np.uint8)
        made["noise"].append(dataclasses.replace(face, image=noise))
        made["blank"].append(dataclasses.replace(face, image=blank))
        zoom = 30 / float((face.box[2:] - face.box[:2]).mean())
        size = [max(1, round(zoom * side)) for side in shape[1::-1]]
        small = np.asarray(Image.fromarray(face.image).resize(size, Image.Resampling.BOX))
        box = np.float32(face.box * np.tile(np.array(size) / shape[1::-1], 2))
        made["30 pixels"].append(dataclasses.replace(face, image=small, box=box))
        box = np.float32([*(shape[1::-1] - face.box[2:]), *(shape[1::-1] - face.box[:2])])
        turned = np.ascontiguousarray(face.image[::-1, ::-1])
        made["upside down"].append(dataclasses.replace(face, image=turned, box=box))
    report = {}
    for name, faces in made.items():
        known = [Case(name, 0, face, np.zeros((105, 2)), 1.0) for face in faces]
        verdicts = [confidence.judge(each).verdict for each in examine(model, known)[0]]
        report[name] = {each: verdicts.count(each) for each in confidence.VERDICTS}
    return report


def _rank(one: np.ndarray, other: np.ndarray) -> float:
    """Spearman's."""
    return _rounded(spearmanr(one, other).statistic)


def _rounded(value: Any) -> float:
    return round(float(value), 3)


if __name__ == "__main__":
    define_flags()
    run(main)
