"""How well faces are found: by the small finder alone, and confirmed by reading them.

    python -m benchmarks.finding --json OUT
    python -m benchmarks.finding --photographs=DIR --json OUT

Takes scenes that are composed as the finder's training composes them, of people and backdrops that
no training has seen, half of them without a face or nearly so, and with --photographs pictures with
mediapipe's points beside them. A face is found where a box shares half of its union with the true
one. Every second picture sets the weights that `fields_jax.confirming` should hold ("fitted"); what
is told of those that it does hold is measured on the other pictures alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from absl import flags
from jaxtyping import Float, UInt8

from benchmarks.results import save
from fields_jax import confirming, finder
from fields_jax.cli import run
from fields_jax.evaluation.finding import SAME, Matched, curve, match
from fields_jax.geometry.boxes import overlap
from fields_jax.outputs import confidence
from fields_jax.photos.faces import Face
from fields_jax.photos.files import read_photograph
from fields_jax.photos.finding import find_photographs
from fields_jax.photos.points import face_box, find_file, load_faces
from fields_jax.progress import progress

SEED = 977  # of heads and scenes; those of the trainings are below 100
SIZE = 320  # pixels of a scene
_HEADS, _WALLS = 96, 40
_LEAST = 0.2  # score of the proposals that the weights are fitted on
_RIDGE = 0.5


class Scene(NamedTuple):
    """A picture whose faces are known.

    Attributes:
      kind: "generated" or "photographs".
      number: even ones set the weights.
      picture: [H, W, 3].
      boxes: [F, 4] of its faces.
      unsure: [U, 4] of faces that are neither to be found nor to be passed over.
    """

    kind: str
    number: int
    picture: UInt8[np.ndarray, "H W 3"]
    boxes: Float[np.ndarray, "F 4"]
    unsure: Float[np.ndarray, "U 4"]


def define_flags() -> None:
    """The flags of the command."""
    flags.DEFINE_string("json", "", "file for the results")
    flags.DEFINE_integer("scenes", 400, "generated scenes", 4)
    flags.DEFINE_string("photographs", "", "folder of photographs with mediapipe's points")


def main(_: list[str]) -> None:
    """The command."""
    chosen = flags.FLAGS
    scenes = list(generated(chosen.scenes))
    if chosen.photographs:
        scenes += photographed(chosen.photographs)
    proposer = finder.read_network(finder.PACKAGED)
    confirmer = confirming.embedded()
    weighed = [
        confirmer.weigh(scene.picture, _LEAST)
        for scene in progress(scenes, len(scenes), "pictures")
    ]
    report: dict[str, Any] = {"pictures": len(scenes), "fitted on": "even", "told of": "odd"}
    for kind in dict.fromkeys(scene.kind for scene in scenes):
        rows = [n for n, s in enumerate(scenes) if s.kind == kind and s.number % 2]
        odd = [scenes[n] for n in rows]
        found = [confirmed(weighed[n]) for n in rows]
        alone = [proposer.look(scene.picture) for scene in odd]
        report[kind] = {
            "pictures": len(odd),
            "without a face": sum(not len(s.boxes) and not len(s.unsure) for s in odd),
            "finder alone": told(odd, alone),
            "confirmed": told(odd, found),
            "confirmed, and the reading is ok": told(
                odd, [believed(confirmer, *pair) for pair in zip(odd, found, strict=True)]
            ),
        }
    report["fitted"] = fitted(scenes, weighed)
    for name, value in report.items():
        print(f"{name}: {value}")
    save(chosen.json, report)


def generated(count: int) -> Iterator[Scene]:
    """Scenes of heads of people that no training has seen."""
    from data_pipelines.synthetic import crowds
    from data_pipelines.synthetic.cutouts import Cutouts, cut_outs

    parts = zip(*cut_outs(0, _HEADS, SEED), strict=True)
    heads = Cutouts(*(np.concatenate(column) for column in parts))
    walls = crowds.backdrops(_WALLS, SEED)
    for number in range(count):
        rng = np.random.default_rng((SEED, number))
        yield Scene("generated", number, *crowds.crowd(rng, heads, walls, SIZE))


def photographed(folder: str) -> Iterator[Scene]:
    """Photographs with 478 points beside them."""
    for number, photograph in enumerate(find_photographs([folder])[0]):
        if (file := find_file(photograph.path)) is not None:
            boxes = np.stack([face_box(points) for points in load_faces(file)])
            picture = read_photograph(photograph.path)
            yield Scene("photographs", number, picture, boxes, np.zeros((0, 4)))


def confirmed(weighed: confirming.Weighed) -> finder.Found:
    """The faces that are taken for such, as `Confirmer.detect` does."""
    rows, sure = confirming.choose(weighed)
    return finder.Found(weighed.boxes[rows], sure)


def believed(confirmer: confirming.Confirmer, scene: Scene, found: finder.Found) -> finder.Found:
    """The faces whose readings are judged "ok"."""
    rows = []
    for row, (box, chance) in enumerate(zip(found.boxes, found.scores, strict=True)):
        face = Face("", "", scene.picture, None, box, confirmer.scale, "")
        known = confirmer.evidence(face, upside=True, found=float(chance))
        if confidence.judge(known).verdict == confidence.OK:
            rows.append(row)
    return finder.Found(found.boxes[rows], found.scores[rows])


def told(scenes: list[Scene], found: list[finder.Found]) -> dict[str, Any]:
    """Recall, false alarms, and how well the boxes of found faces fit."""
    matched = [
        match(np.asarray(each.boxes), np.asarray(each.scores), scene.boxes, scene.unsure)
        for scene, each in zip(scenes, found, strict=True)
    ]
    faces = sum(len(scene.boxes) for scene in scenes)
    (point,) = curve(matched, [1e-6])
    return {
        "faces": faces,
        "found": round(point.recall * faces),
        "false alarms": round(point.alarms * len(scenes)),
        "median union of boxes": _median(matched),
    }


def _median(matched: list[Matched]) -> float | None:
    shared = np.concatenate([one.union[one.found > 0] for one in matched])
    return round(float(np.median(shared)), 3) if len(shared) else None


def fitted(scenes: list[Scene], weighed: list[confirming.Weighed]) -> dict[str, Any]:
    """Weights of a logistic regression with a ridge on even pictures.

    Each kind of pictures counts as much as the other.
    """
    table, faces, share = [], [], []
    for scene, each in zip(scenes, weighed, strict=True):
        if scene.number % 2 or not len(each.boxes):
            continue
        is_face = _shared(overlap(each.boxes, scene.boxes).union)
        known = is_face | ~_shared(overlap(each.boxes, scene.unsure).smaller)
        table.append(confirming.features(each.scores, each.errors)[known])
        faces.append(is_face[known])
        share += [scene.kind] * int(known.sum())
    if not table:
        return {"proposals": 0}
    rows, wanted, kinds = np.concatenate(table), np.concatenate(faces), np.array(share)
    share = np.array([1 / (kinds == kind).sum() for kind in kinds])
    share /= share.mean()
    weights = np.zeros(rows.shape[1])
    for _ in range(100):  # Newton's steps, of which ten are enough
        chance = 1 / (1 + np.exp(-rows @ weights))
        bend = (rows * (share * chance * (1 - chance))[:, None]).T @ rows
        pull = rows.T @ (share * (wanted - chance)) - _RIDGE * weights
        weights += np.linalg.solve(bend + _RIDGE * np.eye(len(weights)), pull)
    chance = 1 / (1 + np.exp(-rows @ weights))
    return {
        "proposals": len(rows),
        "faces among them": int(wanted.sum()),
        "weights": [round(float(weight), 2) for weight in weights],
        "share of faces by probability": {
            f"{low:.1f} to {low + 0.2:.1f}": round(float(wanted[within].mean()), 2)
            for low in np.arange(0, 1, 0.2)
            if (within := (chance >= low) & (chance < low + 0.2)).any()
        },
    }


def _shared(share: Float[np.ndarray, "N F"]) -> np.ndarray:
    return (share >= SAME).any(axis=1)


if __name__ == "__main__":
    define_flags()
    run(main)
