"""What each part of the embedded data holds: subjects, expressions and labels.

    spont4d  weak spontaneous expressions in the laboratory; exact FLAME coefficients, no emotion
    wild2d   emotions in the wild; class, valence and arousal with annotation noise, no coefficients
    levels   one subject and emotion at three intensities; class and level
    wide     any face before any camera; exact coefficients, and the emotion where one is shown

Each draw has its own generator, seeded by (seed, part, subject, stream), so that an example does
not depend on how many others are made.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from data_pipelines.synthetic import labels, population, views
from data_pipelines.synthetic.appearance import Appearance, appearance, wide_appearance
from data_pipelines.synthetic.movements import TASKS
from data_pipelines.synthetic.population import Performance, Person
from data_pipelines.synthetic.studio import Studio
from data_pipelines.synthetic.teeth import FULL, SHORT
from fields_jax.emotions import EMOTIONS, N_EMOTIONS

PARTS = ("spont4d", "wild2d", "levels", "wide")
LEARNT = ("spont4d", "wide")  # parts whose coefficients are there to be learnt
SPLITS = ("train", "test")
BITES = dict.fromkeys(PARTS, SHORT) | {"wide": FULL}  # teeth of a head that has none
STRENGTHS = (0.33, 0.66, 1.0)  # of the three levels
_SUBJECTS_PER_PART = 100_000  # offset that keeps the subject ids of the parts distinct
_FURTHER = 90_000  # number of the first test subject beyond those of a set of the default size
MOST_PEOPLE = 80_000  # to train on; more would be test subjects, or those of another part
_DETECTOR_NOISE = 0.01  # of a landmark in the wild, as a fraction of the face box
_LAB_YAW = 20.0  # degrees
_EMOTIONAL = 0.5  # of the wide faces: the share that shows an emotion


class Size(NamedTuple):
    """How many subjects a split has, and images of each."""

    subjects: int
    images: int


SIZES: dict[str, dict[str, dict[str, Size]]] = {
    "demo": {
        "spont4d": {"train": Size(36, 8 * 14), "test": Size(5, 8 * 10)},  # 41, as in BP4D
        "wild2d": {"train": Size(1000, 5), "test": Size(160, 5)},
        "levels": {"train": Size(125, 4 * 3), "test": Size(25, 4 * 3)},
    },
    "tiny": {
        "spont4d": {"train": Size(3, 8), "test": Size(1, 8)},
        "wild2d": {"train": Size(16, 2), "test": Size(8, 2)},
        "levels": {"train": Size(4, 6), "test": Size(2, 6)},
    },
    "wide": {"wide": {"train": Size(5000, 4), "test": Size(250, 2)}},
}


class Sample(NamedTuple):
    """Everything about one image before it is rendered.

    Attributes:
      id: unique in its part.
      shape: [300] identity, or as many coefficients as another head has.
      look, performance, view: see their classes.
      scene: "laboratory", "wild" or "wide": what is about the head, and the camera.
      landmark_noise: standard deviation of the recorded landmarks, as a fraction of the face box.
      labels: of the record, without landmarks.
      rng: for random effects on the pixels.
    """

    id: str
    shape: Float[np.ndarray, " S"]
    look: Appearance
    performance: Performance
    view: views.View
    scene: str
    landmark_noise: float
    labels: dict[str, Any]
    rng: np.random.Generator


class Subject(NamedTuple):
    """One subject of a part, and the generators of what it shows.

    Attributes:
      number: of its part, see `numbers`.
      label: the `subject` of its records.
      person, look: of the subject.
      seed: of the generators of this subject.
    """

    number: int
    label: int
    person: Person
    look: Appearance
    seed: tuple[int, int, int]

    def rng(self, *stream: int) -> np.random.Generator:
        """The generator of an image, sequence or triple, or of one image's pixels in these."""
        return np.random.default_rng((*self.seed, *(1 + index for index in stream)))


def numbers(part: str, split: str, start: int, stop: int) -> list[range]:
    """The numbers of the subjects `start` to `stop` of a split, in runs.

    Whom a set of the default size tests on, any other set tests on first, and no set of the seed
    trains on, however many people it has.
    """
    sizes = SIZES["wide" if part == "wide" else "demo"][part]
    first, kept = (sizes[name].subjects for name in ("train", "test"))
    row, number, later = (first, 0, first + kept) if split == "train" else (kept, first, _FURTHER)
    runs = (
        range(number + start, number + min(stop, row)),
        range(later + max(start - row, 0), later + stop - row),
    )
    return [run for run in runs if run]


def samples(
    part: str, split: str, size: Size, first: int, seed: int, studio: Studio
) -> Iterator[Sample]:
    """Draws all samples of a split, subject by subject.

    Args:
      part: one of `PARTS`.
      split: "train" or "test", whose class, valence and arousal are clean.
      size: of the split.
      first: number of its first subject.
      seed: of the whole set.
      studio: where they will be rendered; its head has the named expressions.
    """
    make = {"spont4d": _spontaneous, "wild2d": _wild, "levels": _levels, "wide": _wide}[part]
    look = wide_appearance if part == "wide" else appearance
    index = PARTS.index(part)
    for number in range(first, first + size.subjects):
        rng = np.random.default_rng((seed, index, number, 0))
        subject = Subject(
            number=number,
            label=index * _SUBJECTS_PER_PART + number,
            person=population.person(rng),
            look=look(rng, studio.surface),
            seed=(seed, index, number),
        )
        yield from make(subject, split, size.images, studio.names)


def _spontaneous(who: Subject, split: str, images: int, names: tuple) -> Iterator[Sample]:
    frames = images // len(TASKS)
    for task in range(len(TASKS)):
        rng = who.rng(task)
        yaw = rng.uniform(-_LAB_YAW, _LAB_YAW)
        for frame, shown in enumerate(population.spontaneous(rng, names, who.person, task, frames)):
            yield Sample(
                id=f"spont4d-{who.number:05d}-{task}-{frame:03d}",
                shape=who.person.shape,
                look=who.look,
                performance=shown,
                view=views.laboratory_view(rng, yaw),
                scene="laboratory",
                landmark_noise=0.0,
                labels={
                    "subject": who.label,
                    "expression": shown.expression,
                    "jaw": shown.jaw,
                    "eyelid": shown.eyelid,
                    "shape": who.person.shape,
                },
                rng=who.rng(task, frame),
            )


def _wild(who: Subject, split: str, images: int, names: tuple) -> Iterator[Sample]:
    for index in range(images):
        rng = who.rng(index)
        if split == "train":
            emotion = int(rng.choice(N_EMOTIONS, p=labels.CLASS_PRIOR))
        else:  # every class alike often
            emotion = (who.number * images + index) % N_EMOTIONS
        va = labels.valence_arousal(rng, np.array([emotion]))[0]
        shown = population.emotional(rng, names, who.person, emotion, va)
        told, told_va = emotion, va
        if split == "train":
            told, told_va = labels.annotate_class(rng, emotion), labels.annotate_va(rng, va)
        yield Sample(
            id=f"wild2d-{who.number:05d}-{index:03d}",
            shape=who.person.shape,
            look=who.look,
            performance=shown,
            view=views.wild_view(rng),
            scene="wild",
            landmark_noise=_DETECTOR_NOISE,
            labels={
                "subject": who.label,
                "emotion": told,
                "valence": told_va[0],
                "arousal": told_va[1],
                **_for_evaluation(shown),
            },
            rng=who.rng(index, 0),
        )


def _levels(who: Subject, split: str, images: int, names: tuple) -> Iterator[Sample]:
    emotions = images // len(STRENGTHS)
    for index in range(emotions):
        rng = who.rng(index)
        # Neutral has no intensity.
        emotion = 1 + (who.number * emotions + index) % (N_EMOTIONS - 1)
        faces = population.graded(rng, names, who.person, emotion, STRENGTHS)
        yaw = rng.uniform(-_LAB_YAW, _LAB_YAW)
        for level, shown in enumerate(faces):
            yield Sample(
                id=f"levels-{who.number:05d}-{EMOTIONS[emotion]}-{level}",
                shape=who.person.shape,
                look=who.look,
                performance=shown,
                view=views.laboratory_view(rng, yaw),
                scene="laboratory",
                landmark_noise=0.0,
                labels={
                    "subject": who.label,
                    "emotion": emotion,
                    "level": level,
                    **_for_evaluation(shown),
                },
                rng=who.rng(index, level),
            )


def _wide(who: Subject, split: str, images: int, names: tuple) -> Iterator[Sample]:
    for index in range(images):
        rng = who.rng(index)
        labels_ = {"subject": who.label, "shape": who.person.shape}
        if rng.random() < _EMOTIONAL:
            emotion = int(rng.integers(N_EMOTIONS))
            va = labels.valence_arousal(rng, np.array([emotion]))[0]
            shown = population.emotional(rng, names, who.person, emotion, va)
            labels_ |= {"emotion": emotion, "valence": va[0], "arousal": va[1]}
        else:
            shown = population.varied(rng, names, who.person)
        labels_ |= {name: getattr(shown, name) for name in ("expression", "jaw", "eyelid")}
        yield Sample(
            id=f"wide-{who.number:06d}-{index:03d}",
            shape=who.person.shape,
            look=who.look,
            performance=shown,
            view=views.wide_view(rng),
            scene="wide",
            landmark_noise=0.0,
            labels=labels_,
            rng=who.rng(index, 0),
        )


def _for_evaluation(shown: Performance) -> dict[str, np.ndarray]:
    return {
        "eval_expression": shown.expression,
        "eval_jaw": shown.jaw,
        "eval_eyelid": shown.eyelid,
    }
