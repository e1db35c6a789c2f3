"""The One-Euro filter over a whole clip, on vectors and on rotations, without lag.

One-Euro (Casiez, Roussel, Vogel: "1 euro filter", CHI 2012) is a low-pass filter whose cutoff grows
with speed: a still face is smoothed much, a blink hardly. It runs forwards and backwards in time
here, since clips are files, and the mean of both is taken: what one pass delays the other advances.
Frames may come at any times.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

_SPEED_CUTOFF = 1.0  # Hz, of the low-pass filter of the speed, as its authors have it
_SMALL = 1e-8  # radians


class Strength(NamedTuple):
    """How much a quantity is smoothed.

    Attributes:
      cutoff: Hz, of a quantity at rest.
      slope: by how many Hz the cutoff grows with each unit per second.
    """

    cutoff: float
    slope: float

    def times(self, strength: float) -> Strength:
        """The same with `strength` times the smoothing, which must be above 0."""
        return Strength(self.cutoff / strength, self.slope / strength)


class Space(NamedTuple):
    """A space in which values lie: vectors, or rotations.

    Attributes:
      difference: the vector that leads from one value to another.
      moved: a value moved by such a vector.
    """

    difference: Callable[[np.ndarray, np.ndarray], np.ndarray]
    moved: Callable[[np.ndarray, np.ndarray], np.ndarray]


class OneEuro:
    """The filter for values that arrive one by one."""

    def __init__(self, strength: Strength, space: Space, *, together: bool = True):
        """Starts without a value.

        Args:
          strength: of the smoothing.
          space: of the values.
          together: whether one speed, the length of the velocity, serves all entries of a value;
            else each has its own.
        """
        self._strength, self._space, self._together = strength, space, together
        self._time = -np.inf
        self._raw = self._velocity = self._value = np.zeros(0)

    def step(self, time: float, value: np.ndarray) -> np.ndarray:
        """The filtered value at a time after the last one."""
        if np.isneginf(self._time):
            self._value, self._velocity = value, np.zeros_like(self._space.difference(value, value))
        else:
            passed = time - self._time
            velocity = self._space.difference(self._raw, value) / passed
            self._velocity = self._velocity + _share(_SPEED_CUTOFF, passed) * (
                velocity - self._velocity
            )
            speed = np.abs(self._velocity)
            if self._together:
                speed = np.linalg.norm(self._velocity)
            share = _share(self._strength.cutoff + self._strength.slope * speed, passed)
            away = self._space.difference(self._value, value)
            self._value = self._space.moved(self._value, share * away)
        self._time, self._raw = time, value
        return self._value


def smoothed(
    times: Float[np.ndarray, " T"],
    values: Float[np.ndarray, "T K"],
    strength: Strength,
    space: Space,
    *,
    together: bool = True,
) -> Float[np.ndarray, "T K"]:
    """A clip's values filtered in both directions.

    Args:
      times: seconds, rising.
      values: as of `space`.
      strength: of the smoothing.
      space: `VECTORS` or `ROTATIONS`.
      together: see `OneEuro`.
    """
    ahead = _pass(times, values, OneEuro(strength, space, together=together))
    back = _pass(-times[::-1], values[::-1], OneEuro(strength, space, together=together))[::-1]
    pairs = zip(ahead, back, strict=True)
    return np.stack([space.moved(a, 0.5 * space.difference(a, b)) for a, b in pairs])


def between(
    first: Float[np.ndarray, " K"],
    second: Float[np.ndarray, " K"],
    shares: Sequence[float],
    space: Space,
) -> Float[np.ndarray, "N K"]:
    """Values on the way from one to another, by the shares of the way that are gone."""
    way = space.difference(first, second)
    return np.stack([space.moved(first, share * way) for share in shares])


def compose(
    first: Float[np.ndarray, "*N 3"], second: Float[np.ndarray, "*N 3"]
) -> Float[np.ndarray, "*N 3"]:
    """The axis-angle of the rotation by `second`, then by `first`; by quaternions."""
    real_a, part_a = _quaternion(np.asarray(first, np.float64))
    real_b, part_b = _quaternion(np.asarray(second, np.float64))
    real = real_a * real_b - (part_a * part_b).sum(axis=-1, keepdims=True)
    part = real_a * part_b + real_b * part_a + np.cross(part_a, part_b)
    sign = np.where(real < 0, -1.0, 1.0)  # the shorter way round
    length = np.linalg.norm(part, axis=-1, keepdims=True)
    angle = 2 * np.arctan2(length, sign * real)
    scale = np.where(length > _SMALL, angle / np.maximum(length, _SMALL), 2.0)
    return sign * scale * part


def _quaternion(turn: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Real part [..., 1] and imaginary part [..., 3]."""
    half = np.linalg.norm(turn, axis=-1, keepdims=True) / 2
    return np.cos(half), 0.5 * np.sinc(half / np.pi) * turn


def _pass(times: np.ndarray, values: np.ndarray, filtered: OneEuro) -> np.ndarray:
    pairs = zip(times, np.asarray(values, np.float64), strict=True)
    return np.stack([filtered.step(time, value) for time, value in pairs])


def _share(cutoff: float | np.ndarray, passed: float) -> float | np.ndarray:
    """The share of the way to a new value that a low-pass filter of first order goes."""
    return 1 / (1 + 1 / (2 * np.pi * cutoff * passed))


VECTORS = Space(lambda a, b: b - a, lambda a, away: a + away)
# Axis-angles; differences are axis-angles in the frame of the first rotation.
ROTATIONS = Space(lambda a, b: compose(-a, b), compose)
