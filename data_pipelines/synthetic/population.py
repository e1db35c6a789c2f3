"""Subjects and what their faces do: expressions and sequences, in FLAME coefficients.

Everything is drawn with numpy generators. Emotion and intensity act through non-linear growth, two
prototypes per class, personal style and random movements on top, so that valence and arousal are in
the face without being a linear function of its coefficients.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from data_pipelines.synthetic import labels, movements
from data_pipelines.synthetic.movements import NOTHING, SIDES, Prototype
from fields_jax.batch import N_EXPRESSION, N_SHAPE
from fields_jax.emotions import EMOTIONS

# Standard deviations of movements that mean nothing, in units of each component (ours): the named
# ones, the unnamed tail, and what a person's face at rest adds to both.
NAMED_NOISE, TAIL_NOISE, REST_NOISE = 0.2, 0.6, 0.12
STYLE_SPREAD = 0.18  # log of a person's gain on each movement
SHAPE_LIMIT = 2.5  # standard deviations
MAX_JAW = 0.5  # radians
_LAUGHING = 0.3  # share of the faces of `varied`: people who know of the camera show their teeth
_LAUGH = {  # greatest strengths
    "lip_corner_up": 3.6,
    "cheek_raise": 3.0,
    "upper_lip_raise": 2.0,
    "lip_stretch": 1.5,
    "lower_lip_down": 1.5,
}
JAW_NOISE = (0.008, 0.006, 0.006)  # radians
FRAME_CORRELATION = 0.85  # of one frame's noise with the next
APEX = (0.10, 0.85)  # of a spontaneous sequence; its frames average about 0.3


class Person(NamedTuple):
    """What stays the same over all images of a subject.

    Attributes:
      shape: [300] identity.
      gain: [50] how strongly the person moves, 1 on average.
      rest: [50] expression of the face at rest.
    """

    shape: Float[np.ndarray, "300"]
    gain: Float[np.ndarray, "50"]
    rest: Float[np.ndarray, "50"]


class Performance(NamedTuple):
    """What the face does in one image.

    Attributes:
      expression: [50], or as many coefficients as another head has.
      jaw: [3] radians.
      eyelid: [2] (left, right) closure in [0, 1].
    """

    expression: Float[np.ndarray, " E"]
    jaw: Float[np.ndarray, "3"]
    eyelid: Float[np.ndarray, "2"]


class Acting(NamedTuple):
    """What a person shows on purpose.

    Attributes:
      prototype: the expression at full strength.
      strength: intensity in [0, 1]; each movement grows with it in its own way.
      swapped: exchange left and right.
      nuance: movements, jaw and lids that are added whatever the strength.
      blink: further closure of both lids in [0, 1].
    """

    prototype: Prototype
    strength: float
    swapped: bool = False
    nuance: Prototype = NOTHING
    blink: float = 0.0


class Noise(NamedTuple):
    """Movement that means nothing: added to a performance, and correlated between frames."""

    expression: Float[np.ndarray, "50"]
    jaw: Float[np.ndarray, "3"]
    lids: Float[np.ndarray, "2"]


def person(rng: np.random.Generator) -> Person:
    """Draws a subject."""
    return Person(
        shape=np.clip(rng.standard_normal(N_SHAPE), -SHAPE_LIMIT, SHAPE_LIMIT),
        gain=np.exp(STYLE_SPREAD * rng.standard_normal(N_EXPRESSION)),
        rest=REST_NOISE * rng.standard_normal(N_EXPRESSION),
    )


def noise_spread(names: tuple[str, ...]) -> Float[np.ndarray, "50"]:
    """Standard deviation of the meaningless movement of each component."""
    return np.where(np.arange(N_EXPRESSION) < len(names), NAMED_NOISE, TAIL_NOISE)


def noise(rng: np.random.Generator, names: tuple[str, ...]) -> Noise:
    """Draws meaningless movement; the two lids move nearly together."""
    return Noise(
        expression=noise_spread(names) * rng.standard_normal(N_EXPRESSION),
        jaw=np.array(JAW_NOISE) * rng.standard_normal(3),
        lids=0.05 * rng.standard_normal() + 0.015 * rng.standard_normal(2),
    )


def next_noise(rng: np.random.Generator, previous: Noise, names: tuple[str, ...]) -> Noise:
    """The next frame's noise: autoregressive of order 1 with the same spread."""
    fresh = noise(rng, names)
    keep = FRAME_CORRELATION
    return Noise(
        *(keep * a + np.sqrt(1 - keep**2) * b for a, b in zip(previous, fresh, strict=True))
    )


def perform(names: tuple[str, ...], who: Person, acting: Acting, extra: Noise) -> Performance:
    """The face of a person who shows something.

    Args:
      names: names of the head's leading expression components.
      who: the person.
      acting: what is shown.
      extra: meaningless movement on top.
    """
    prototype, strength, swapped, nuance, blink = acting
    grown = {m: s * movements.growth(m, strength) for m, s in prototype.movements.items()}
    shown = movements.components(names, grown, N_EXPRESSION)
    if swapped:
        shown = shown[movements.mirror(names, N_EXPRESSION)]
    shown = shown + movements.components(names, nuance.movements, N_EXPRESSION)
    jaw = extra.jaw.copy()
    jaw[0] += prototype.jaw * movements.jaw_growth(strength) + nuance.jaw
    lids = prototype.lids * strength + nuance.lids + extra.lids
    lids = lids + blink * (1 - lids)
    return Performance(
        expression=(who.rest + who.gain * shown + extra.expression).astype(np.float32),
        jaw=np.clip(jaw, [0, -0.05, -0.05], [MAX_JAW, 0.05, 0.05]).astype(np.float32),
        eyelid=np.clip(lids, 0, 1).astype(np.float32),
    )


def nuance(emotion: int, va: Float[np.ndarray, "2"]) -> Prototype:
    """Movements that show valence and arousal within a class."""
    valence, arousal = np.tanh((va - labels.VA_MEAN[emotion]) / labels.VA_SD[emotion])
    shown: dict[str, float] = {}
    for amount, tables in (
        (valence, movements.VALENCE_MOVEMENTS),
        (arousal, movements.AROUSAL_MOVEMENTS),
    ):
        for movement, strength in tables[int(amount < 0)].items():
            shown[movement] = shown.get(movement, 0.0) + abs(amount) * strength
    jaw = movements.AROUSAL_JAW * max(arousal, 0.0)
    lids = movements.AROUSAL_LIDS * max(-arousal, 0.0)
    return Prototype(shown, jaw, lids)


def emotional(
    rng: np.random.Generator,
    names: tuple[str, ...],
    who: Person,
    emotion: int,
    va: Float[np.ndarray, "2"],
) -> Performance:
    """A face in the wild: a class, its valence and arousal, and everything else at random."""
    prototype = movements.PROTOTYPES[EMOTIONS[emotion]][rng.integers(2)]
    extra = noise(rng, names)
    acting = Acting(
        prototype,
        float(labels.intensity(va)),
        swapped=rng.random() < 0.5,
        nuance=nuance(emotion, va),
        blink=rng.uniform(0.3, 1) if rng.random() < 0.03 else 0.0,
    )
    return perform(names, who, acting, extra)


def varied(rng: np.random.Generator, names: tuple[str, ...], who: Person) -> Performance:
    """Any face: movements of either side or both at any strength, or a laugh; any jaw and lids."""
    stems = sorted({name.removesuffix("_left").removesuffix("_right") for name in names})
    shown: dict[str, float] = {}
    laughs = rng.random() < _LAUGHING
    for stem in rng.choice(stems, size=rng.integers(0, 6), replace=False):
        strength = rng.uniform(0.3, 3.2)
        sides = [stem] if stem in names else [f"{stem}_left", f"{stem}_right"]
        uneven = rng.random() < 0.3
        for side in sides:
            shown[side] = strength * (rng.uniform(0, 1) if uneven else 1)
    if laughs:
        for stem, most in _LAUGH.items():
            shown |= dict.fromkeys((f"{stem}_{side}" for side in SIDES), rng.uniform(0.3, 1) * most)
    jaw = rng.beta(1.2, 1.8) * MAX_JAW if rng.random() < 0.6 else 0.0
    lids = rng.uniform(0, 1) if rng.random() < 0.3 else 0.0
    extra = noise(rng, names)
    if rng.random() < 0.04:  # a wink
        extra = extra._replace(lids=extra.lids + rng.permutation([1.0, 0.0]))
    return perform(names, who, Acting(NOTHING, 0.0, nuance=Prototype(shown, jaw, lids)), extra)


def graded(
    rng: np.random.Generator,
    names: tuple[str, ...],
    who: Person,
    emotion: int,
    strengths: tuple[float, ...],
) -> list[Performance]:
    """The same person and emotion at several strengths, the rest of the face nearly the same."""
    prototype = movements.PROTOTYPES[EMOTIONS[emotion]][rng.integers(2)]
    swapped = rng.random() < 0.5
    base = noise(rng, names)
    return [
        perform(names, who, Acting(prototype, strength, swapped), next_noise(rng, base, names))
        for strength in strengths
    ]


def spontaneous(
    rng: np.random.Generator,
    names: tuple[str, ...],
    who: Person,
    task: int,
    frames: int,
) -> list[Performance]:
    """A short sequence of one induced emotion, with a blink in every other one."""
    strengths = sequence_strengths(rng, frames)
    blinks = blink_envelope(rng, frames)
    swapped = rng.random() < 0.5
    extra = noise(rng, names)
    shown = []
    for strength, blink in zip(strengths, blinks, strict=True):
        acting = Acting(movements.TASKS[task], strength, swapped, blink=float(blink))
        shown.append(perform(names, who, acting, extra))
        extra = next_noise(rng, extra, names)
    return shown


def sequence_strengths(rng: np.random.Generator, frames: int) -> Float[np.ndarray, " T"]:
    """Onset, apex and offset of a spontaneous expression; mostly weak, seldom strong."""
    low, high = APEX
    apex = low + (high - low) * rng.beta(1.5, 1.8)
    time = np.linspace(0, 1, frames)
    onset, offset = rng.uniform(0.1, 0.4), rng.uniform(0.6, 0.9)
    rise, fall = np.clip(time / onset, 0, 1), np.clip((1 - time) / (1 - offset), 0.15, 1)
    return apex * rise * fall


def blink_envelope(rng: np.random.Generator, frames: int) -> Float[np.ndarray, " T"]:
    """Closure of the lids by a blink at some moment of every other sequence."""
    moment = rng.random()
    if rng.random() < 0.5:
        return np.zeros(frames)
    return np.exp(-(((np.linspace(0, 1, frames) - moment) / 0.05) ** 2))
