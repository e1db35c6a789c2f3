"""What a face does for each emotion, in the named movements of the procedural head.

A movement is a name of `FlameModel.expression_names` without its side ("lip_corner_up" moves both
corners) or with it ("lip_corner_up_left"). Strengths are standard deviations of the component.
Every emotion has two prototypes, so that its faces do not lie on one line; the choice of movements
follows the descriptions of the Facial Action Coding System, their strengths are ours.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

SIDES = ("left", "right")


class Prototype(NamedTuple):
    """A full-strength expression.

    Attributes:
      movements: strength by movement.
      jaw: opening in radians.
      lids: closure of both eyelids in [0, 1].
    """

    movements: dict[str, float]
    jaw: float = 0.0
    lids: float = 0.0


NOTHING = Prototype({})
PROTOTYPES: dict[str, tuple[Prototype, Prototype]] = {
    "neutral": (
        Prototype({}),
        Prototype({"lip_press": 0.5, "brow_down": 0.3}, lids=0.08),
    ),
    "happy": (  # open and closed smile
        Prototype(
            {"lip_corner_up": 3.0, "cheek_raise": 2.2, "upper_lip_raise": 1.0, "lid_tighten": 0.8},
            jaw=0.14,
        ),
        Prototype(
            {"lip_corner_up": 2.7, "lip_stretch": 1.2, "cheek_raise": 1.5, "brow_outer_up": 0.5},
            lids=0.1,
        ),
    ),
    "sad": (
        Prototype({"brow_inner_up": 2.7, "lip_corner_down": 2.6, "chin_raise": 1.6}, lids=0.3),
        Prototype(
            {"brow_inner_up": 1.8, "brow_down": 0.7, "lip_corner_down": 3.0, "lip_press": 1.2},
            lids=0.45,
        ),
    ),
    "surprise": (  # open mouth, rounded mouth
        Prototype({"brow_inner_up": 2.6, "brow_outer_up": 2.8, "lid_raise": 2.6}, jaw=0.42),
        Prototype(
            {"brow_inner_up": 2.2, "brow_outer_up": 2.6, "lid_raise": 2.4, "lip_pucker": 2.0},
            jaw=0.26,
        ),
    ),
    "fear": (
        Prototype(
            {
                "brow_inner_up": 2.8,
                "brow_down": 1.6,
                "lid_raise": 2.6,
                "lip_stretch": 2.8,
                "lower_lip_down": 1.2,
            },
            jaw=0.14,
        ),
        Prototype(
            {
                "brow_inner_up": 2.2,
                "brow_down": 0.8,
                "lid_raise": 2.0,
                "lid_tighten": 0.6,
                "lip_stretch": 2.4,
                "lip_corner_down": 1.2,
            },
            jaw=0.24,
        ),
    ),
    "disgust": (
        Prototype(
            {
                "nose_wrinkle": 3.0,
                "upper_lip_raise": 2.6,
                "brow_down": 1.4,
                "cheek_raise": 1.2,
                "lid_tighten": 1.2,
            },
            lids=0.15,
        ),
        Prototype(
            {
                "nose_wrinkle": 2.2,
                "upper_lip_raise": 2.8,
                "lower_lip_down": 1.6,
                "lip_corner_down": 1.4,
                "chin_raise": 0.6,
            },
            jaw=0.12,
            lids=0.25,
        ),
    ),
    "anger": (  # pressed lips, bared teeth
        Prototype({"brow_down": 3.0, "lid_tighten": 1.8, "lip_press": 2.8, "chin_raise": 0.8}),
        Prototype(
            {
                "brow_down": 2.8,
                "lid_raise": 1.4,
                "upper_lip_raise": 1.4,
                "lower_lip_down": 2.4,
                "lip_stretch": 1.2,
                "nose_wrinkle": 0.8,
            },
            jaw=0.22,
        ),
    ),
    "contempt": (  # one-sided; the side is drawn anew for each face
        Prototype(
            {
                "lip_corner_up_left": 2.8,
                "cheek_raise_left": 1.4,
                "lip_press_left": 1.2,
                "lip_press_right": 0.6,
            },
            lids=0.25,
        ),
        Prototype(
            {
                "upper_lip_raise_left": 2.4,
                "lip_corner_up_left": 1.6,
                "nose_wrinkle_left": 0.8,
                "brow_outer_up_right": 2.2,
                "lip_corner_down_right": 0.8,
            },
            lids=0.2,
        ),
    ),
}

# What eight induced emotions look like in the laboratory (the tasks of BP4D-Spontaneous): four are
# emotions above, by their first prototype; the others are blends.
TASKS: tuple[Prototype, ...] = (
    PROTOTYPES["happy"][0],
    PROTOTYPES["sad"][0],
    PROTOTYPES["surprise"][0],
    Prototype(  # embarrassment
        {
            "lip_corner_up_right": 2.4,
            "lip_corner_up_left": 1.2,
            "lip_press": 2.0,
            "lip_pucker": 0.6,
        },
        lids=0.4,
    ),
    Prototype(  # fear
        {"brow_inner_up": 2.4, "lid_raise": 2.2, "lip_stretch": 2.4, "lip_pucker": 1.0}, jaw=0.18
    ),
    Prototype(  # physical pain
        {
            "brow_down": 2.4,
            "lid_tighten": 2.4,
            "cheek_raise": 2.0,
            "nose_wrinkle": 1.4,
            "lip_stretch": 2.0,
            "lower_lip_down": 1.2,
        },
        jaw=0.2,
        lids=0.5,
    ),
    PROTOTYPES["anger"][0],
    PROTOTYPES["disgust"][1],
)

# Within a class, valence and arousal move the face too: strength per unit of the tanh of their
# deviation from the class mean in standard deviations; negative deviations use the second entry.
AROUSAL_MOVEMENTS = (
    {"lid_raise": 0.9, "brow_outer_up": 0.6, "lower_lip_down": 0.5},
    {"lip_press": 0.3, "brow_outer_up": -0.2},
)
AROUSAL_JAW = 0.06  # radians, for positive deviations
AROUSAL_LIDS = 0.22  # lids sink, for negative deviations
VALENCE_MOVEMENTS = (
    {"lip_corner_up": 0.9, "cheek_raise": 0.5},
    {"lip_corner_down": 0.9, "brow_down": 0.5, "nose_wrinkle": 0.3},
)

# Growth with intensity (ours): the upper face starts early, the mouth gathers way, the jaw waits.
_UPPER_FACE = ("brow", "lid", "cheek")
UPPER_GROWTH = 0.6  # exponent
JAW_ONSET = 0.2  # intensity below which the jaw stays closed


def growth(movement: str, strength: float) -> float:
    """How strong a movement is at an intensity in [0, 1], as a fraction of its full strength."""
    if movement.startswith(_UPPER_FACE):
        return float(strength**UPPER_GROWTH)
    return _smooth_step(strength)


def jaw_growth(strength: float) -> float:
    """How far the jaw opens at an intensity in [0, 1], as a fraction of its full opening."""
    return _smooth_step(max(0.0, (strength - JAW_ONSET) / (1 - JAW_ONSET)))


def _smooth_step(x: float) -> float:
    return x * x * (3 - 2 * x)


def components(
    names: tuple[str, ...], movements: dict[str, float], size: int
) -> Float[np.ndarray, " E"]:
    """Expression coefficients of a set of movements.

    Raises:
      ValueError: the head has no such movement among its first `size` components.
    """
    vector = np.zeros(size)
    for movement, strength in movements.items():
        for name in _sided(movement, names):
            if name not in names[:size]:
                raise ValueError(
                    f"the head names no expression component {name!r}; the embedded faces need "
                    "the procedural head"
                )
            vector[names.index(name)] += strength
    return vector


def _sided(movement: str, names: tuple[str, ...]) -> tuple[str, ...]:
    if movement.endswith(SIDES) or movement in names:
        return (movement,)
    return tuple(f"{movement}_{side}" for side in SIDES)


def mirror(names: tuple[str, ...], size: int) -> np.ndarray:
    """Order of the components with the two sides of every named movement swapped."""
    order = np.arange(size)
    for index, name in enumerate(names[:size]):
        stem, _, side = name.rpartition("_")
        if side in SIDES:
            other = SIDES[1 - SIDES.index(side)]
            order[index] = names.index(f"{stem}_{other}")
    return order
